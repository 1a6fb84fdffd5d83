/**
 * One connection kept up for as long as the signal lets it: prepare, dial, catch up, read, and again.
 *
 * Knows connections and waiting, not spaces or events. The one rule: nothing but the signal ends it; a refusal
 * that time seldom mends only makes it look less often.
 */
import { Backoff, ENDLESS_MS, limit, sleep } from '../retry.ts'
import type { FeedConfig } from './config.ts'
import { type Connection, type DialOptions, dial, type Ending } from './connection.ts'
import { faultAt, type Refusal, type Reply } from './refusal.ts'

/** What the owner of the connection does at each stage. */
export interface Stages {
  /** Before each dialing: what must be known first. A refusal is retried like a failed dialing. */
  prepare(signal: AbortSignal): Promise<Reply<unknown>>
  /**
   * The connection is open, until `signal`, and its frames wait: bring up to date what was missed. A refusal
   * drops it.
   */
  opened(connection: Connection, signal: AbortSignal): Promise<Reply<unknown>>
  /** One frame; the next comes when this has resolved. */
  frame(text: string): Promise<void>
  /** A connection that `opened` had accepted is over. */
  lost(ending: Ending): void
  /** An attempt failed; another comes in `delayMs`. */
  failed(refusal: Refusal, delayMs: number): void
}

/** Where to; `url` is asked for each time, for the key in it. */
export type Way = Pick<DialOptions, 'what' | 'proxy' | 'setting'> & { readonly url: () => string }

/** Time for the goodbye of a connection whose space was unsubscribed, or at the end of the process. */
const GOODBYE_MS = 250
/** In the middle of a redeploy a proxy may well say 404 or 403: only the next one is taken at its word. */
const HASTY_REFUSALS = 3
const HEARTBEAT = JSON.stringify({ type: 'heartbeat' })

export class KeptSocket {
  readonly #config: FeedConfig
  readonly #way: Way
  readonly #stages: Stages
  #pause = new AbortController()
  /** The key of the connection that is open or asked for. */
  #used = ''
  #open: { readonly connection: Connection; readonly life: AbortController } | undefined

  constructor(config: FeedConfig, way: Way, stages: Stages) {
    this.#config = config
    this.#way = way
    this.#stages = stages
  }

  /** Tries again now instead of later. */
  hurry(): void {
    this.#pause.abort()
  }

  /** Something was refused on the open connection, which goes on under its key. True: there is another, it is replaced. */
  replaced(refusal: Refusal): boolean {
    if (this.#open === undefined || !this.#config.apiKey.renew(this.#used, refusal)) return false
    void this.#open.connection.close(GOODBYE_MS, 'it is opened again with another key')
    this.#open.life.abort()
    return true
  }

  /** Resolves once `signal` is aborted and the connection is gone. */
  async run(signal: AbortSignal): Promise<void> {
    const { apiKey: key, clock, backoff: options, random } = this.#config
    const backoff = new Backoff(options, random)
    let downSince = clock.uptime()
    let refusals = 0
    while (!signal.aborted) {
      this.#used = key.value
      const over = (upMs: number): void => {
        backoff.settled(upMs)
        // One that was closed soon after it was let in was refused all the same.
        if (backoff.attempts > 0) return
        downSince = clock.uptime()
        refusals = 0
      }
      const refusal = await this.#live(signal, over).catch((cause: unknown) => this.#broke(cause, signal))
      if (signal.aborted) return
      if (refusal !== undefined && key.renew(this.#used, refusal)) continue
      const failingMs = clock.uptime() - downSince
      refusals = refusal?.lasting === true ? refusals + 1 : 0
      const delayMs =
        refusals > HASTY_REFUSALS ? backoff.slow() : backoff.next(failingMs, refusal?.retryAfterMs ?? 0)
      if (refusal !== undefined) this.#stages.failed(refusal, delayMs)
      this.#pause = new AbortController()
      await sleep(delayMs, signal, this.#pause.signal)
    }
  }

  /** What was to come on the connection is asked for again on the next. */
  #broke(cause: unknown, signal: AbortSignal): Refusal | undefined {
    if (signal.aborted) return undefined
    const refusal = faultAt(this.#way.what, cause)
    this.#stages.lost({ reason: refusal.error.message, since: this.#config.clock.now() })
    return refusal
  }

  /** One life of a connection: why it could not begin, or undefined after one that did. */
  async #live(signal: AbortSignal, over: (upMs: number) => void): Promise<Refusal | undefined> {
    const ready = await this.#stages.prepare(signal)
    if (!ready.ok) return ready.no
    const { apiKey: key, clock, limits, secureContext } = this.#config
    this.#used = key.value
    const way = { ...this.#way, url: this.#way.url() }
    const dialed = await dial({ ...limits, ...way, secureContext, clock, clean: key.clean }, signal)
    if (!dialed.ok) return dialed.no
    const connection = dialed.value
    const life = new AbortController()
    this.#open = { connection, life }
    const whole = limit(ENDLESS_MS, signal, life.signal).signal
    const began = clock.uptime()
    // Closing by the signal must not wait for the reader, who may be waiting for the client.
    const leaving = leave(connection, signal)
    const beating = this.#beat(connection, whole)
    try {
      // Ended while it was let in.
      if (signal.aborted) return undefined
      const accepted = await this.#stages.opened(connection, whole)
      if (!accepted.ok) return accepted.no
      for await (const frame of connection.frames) {
        if (signal.aborted) break
        await this.#stages.frame(frame)
      }
      const ending = await connection.ended
      over(clock.uptime() - began)
      if (signal.aborted) return undefined
      this.#stages.lost(ending)
      return ending.refusal
    } finally {
      life.abort()
      this.#open = undefined
      await connection.close(GOODBYE_MS)
      await Promise.all([leaving, beating])
    }
  }

  async #beat(connection: Connection, signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(this.#config.limits.heartbeatMs, signal)
      if (signal.aborted) return
      connection.send(HEARTBEAT)
    }
  }
}

/** Closes `connection` as soon as `signal` is aborted; resolves when it is over either way. */
async function leave(connection: Connection, signal: AbortSignal): Promise<void> {
  const close = (): void => {
    closing = connection.close(GOODBYE_MS)
  }
  let closing: Promise<void> = Promise.resolve()
  signal.addEventListener('abort', close, { once: true })
  if (signal.aborted) close()
  await connection.ended
  signal.removeEventListener('abort', close)
  await closing
}

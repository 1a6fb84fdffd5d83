/**
 * One open push stream: read to its end, and watched while it is silent.
 *
 * Not a retry: how it ended is told to who holds it (listening.ts).
 * The one rule: silence counts only while we are reading. A client that does not read is not a dead server.
 */
import { reasonOf, seconds } from '../errors.ts'
import { type Malformed, METHOD, type Message, parse } from '../protocol.ts'
import { sleep } from '../retry.ts'
import type { Room } from '../sides.ts'
import type { HttpConfig } from './config.ts'
import type { EventReader, Known } from './events.ts'
import type { Incoming } from './incoming.ts'
import type { Liveness } from './liveness.ts'
import type { SessionLife } from './session.ts'
import type { Live } from './session-state.ts'

/** How a stream ended. */
export interface StreamEnd {
  readonly reason: string
  /** Wall time (ms) from which on something may have been missed, where that is not the end itself. */
  readonly silentSince: number | undefined
  /** It ended with an event too long to take: asking for it again would not help. */
  readonly poisoned: boolean
}

/** How long what arrived during a sleep may take to be read. */
const AFTER_SLEEP_MS = 250
/** A delivery that took longer than this was held up by the client. */
const HELD_UP_MS = 100

export class PushStream {
  readonly #config: HttpConfig
  readonly #life: SessionLife
  readonly #incoming: Incoming
  readonly #events: EventReader
  readonly #live: Live
  readonly #liveness: Liveness
  readonly #done = new AbortController()
  #heldSince: number | undefined
  /** Why we ended it ourselves. */
  #ours: { readonly reason: string; readonly silentSince: number | undefined } | undefined

  constructor(
    config: HttpConfig,
    life: SessionLife,
    incoming: Incoming,
    events: EventReader,
    live: Live,
    liveness: Liveness,
  ) {
    this.#config = config
    this.#life = life
    this.#incoming = incoming
    this.#events = events
    this.#live = live
    this.#liveness = liveness
    liveness.begin()
  }

  /**
   * Delivers every event until the stream ends. `isKnown`: is it the event of the cursor it was asked for? A server
   * that begins with that one has sent it before. `onRead` is told of each event, and whether the client was given
   * anything of it; `onTooLong` of one that was not taken.
   */
  async read(
    isKnown: (event: Known) => boolean,
    onRead: (event: Known, isNews: boolean) => void,
    onTooLong: (why: string) => void,
  ): Promise<StreamEnd> {
    const { clock } = this.#config
    let first = true
    let reason = 'the server ended it'
    let poisoned = false
    void this.#watch()
    try {
      for (;;) {
        let event = this.#events.take()
        if (event === undefined) {
          event = await this.#events.next()
          if (event === undefined) break
          this.#life.served(this.#live)
        }
        if (event.kind === 'comment') {
          this.#liveness.beat(clock.uptime())
          continue
        }
        poisoned = event.kind === 'too-long'
        if (event.kind === 'too-long') {
          this.#incoming.dropped('what the server pushed', event.why)
          onTooLong(event.why)
          continue
        }
        const repeated = first && isKnown(event)
        if (event.data.length > 0) first = false
        let isNews = false
        if (event.data.length > 0 && !repeated) {
          for (const message of parse(event.data)) {
            isNews ||= message.kind === 'notification' || message.kind === 'request'
            const room = this.#receive(message)
            if (room !== undefined) await room
          }
        }
        onRead(event, isNews)
      }
    } catch (cause) {
      reason = reasonOf(cause)
    } finally {
      this.#done.abort()
      this.#events.destroy()
    }
    const silentSince = this.#ours === undefined ? this.#events.endedAt : this.#ours.silentSince
    return { reason: this.#ours?.reason ?? reason, silentSince, poisoned }
  }

  /** Of the last event that had an id; undefined when there is none. */
  get cursor(): string | undefined {
    return this.#events.cursor
  }

  /** The server's `retry`, ms. */
  get retryMs(): number | undefined {
    return this.#events.retryMs
  }

  /** Since when the client holds up what comes (wall, ms): what the server has said since then is not read yet. */
  get heldSince(): number | undefined {
    return this.#heldSince
  }

  /** Ends it. `silentSince`: when something was last heard, if that is when the break began (wall, ms). */
  end(reason: string, silentSince?: number): void {
    this.#ours ??= { reason, silentSince }
    this.#events.destroy()
  }

  /** The machine slept: what arrived before is read first; a stream that stays silent then is not trusted. */
  async wake(asleepSince: number): Promise<void> {
    const { chunks } = this.#events
    await sleep(AFTER_SLEEP_MS, this.#done.signal)
    const idle = this.#events.quietSince !== undefined && this.#events.chunks === chunks
    if (idle && !this.#done.signal.aborted) this.end('the machine slept', asleepSince)
  }

  #receive(message: Message | Malformed): Room {
    const { clock } = this.#config
    if (message.kind === 'request' && message.method === METHOD.ping) this.#liveness.beat(clock.uptime())
    const room = this.#incoming.receive(message, this.#live, 'push')
    if (room === undefined) return undefined
    const before = clock.uptime()
    this.#heldSince = clock.now()
    return room.then(() => {
      this.#heldSince = undefined
      if (clock.uptime() - before > HELD_UP_MS) this.#liveness.interrupt()
    })
  }

  /** Until the stream ends: ends it when its silence is suspect. */
  async #watch(): Promise<void> {
    const { clock, idlePingMs, minSilenceMs } = this.#config
    const { signal } = this.#done
    let pingedAt = 0
    while (!signal.aborted) {
      const allowedMs = this.#liveness.allowedSilenceMs
      const limitMs = allowedMs ?? idlePingMs
      const quietSince = this.#events.quietSince ?? Number.POSITIVE_INFINITY
      const leftMs = limitMs - (clock.uptime() - Math.max(quietSince, allowedMs === undefined ? pingedAt : 0))
      if (leftMs > 0) {
        await sleep(Math.min(leftMs, minSilenceMs), signal)
        continue
      }
      const silentSince = Math.round(clock.now() - (clock.uptime() - quietSince))
      if (allowedMs !== undefined) {
        this.#liveness.suspect()
        return this.end(`nothing was heard for ${seconds(limitMs)}, far beyond its usual pace`, silentSince)
      }
      const pulse = await this.#life.pulse.check(this.#live)
      if (signal.aborted || pulse === 'lost') return
      if (pulse === 'failed') return this.end('it is silent, and a ping got no answer', silentSince)
      pingedAt = clock.uptime()
    }
  }
}

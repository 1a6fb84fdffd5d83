/**
 * One space of a socket that it shares: asks to be followed, catches up, gives what comes, until it is left or refused.
 *
 * Not the socket (shared-socket.ts). A server that never says `subscribed` is taken to have meant it; when it says so
 * late, what was said until then is fetched.
 * The one rule: what comes for a space before it has caught up waits beside it, and if that grows too long, it is
 * fetched instead.
 */
import { aborted, Backoff, ENDLESS_MS, firstOf, limit, sleep } from '../retry.ts'
import type { Status } from '../status.ts'
import type { FeedConfig } from './config.ts'
import type { Connection } from './connection.ts'
import { text } from './filter.ts'
import { type Frame, statusIn, wordsIn } from './frame.ts'
import { faultAt, lineOf, no, pauseAfter, type Refusal, type Reply, refusedBy, yes } from './refusal.ts'
import type { Space } from './space.ts'
import { StreamStatus } from './stream-status.ts'
import { Attempts, closing, type Subscription, unsubscribed } from './subscription.ts'

/** An error with one of these refuses a subscription. */
const REFUSES: ReadonlySet<number> = new Set([401, 403, 404, 409])
/** An error that says no status is taken for this one. */
const UNTOLD = 403
/** A server that acknowledges does it by then, ms. */
const ACKNOWLEDGE_MS = 3_000
/** Frames that wait for a space to catch up, and their characters. */
const MAX_PENDING = 500
const MAX_PENDING_TEXT = 1024 * 1024

/** What a space wants of the socket it shares. */
interface Owner {
  hurry(): void
  left(): void
  mistakable(): boolean
  asked(): void
  refused(refusal: Refusal): void
}

/** One space of the shared socket. */
export class Member implements Subscription {
  readonly space: Space
  readonly status: StreamStatus
  /** It has asked to be admitted, and waits for the answer. */
  asks = false
  /** It has asked, and there was no answer yet; perhaps it waits no more. */
  unanswered = false
  readonly #config: FeedConfig
  readonly #owner: Owner
  readonly #over = new AbortController()
  readonly #attempts = new Attempts()
  readonly #backoff: Backoff
  #admitted = false
  #pending: Frame[] = []
  /** Characters in the list since it was last empty. */
  #pendingText = 0
  /** What waits is not all: there was too much, or the server began late. */
  #incomplete = false
  /** Aborted when the server says of a space that was admitted that it follows it only now. */
  #late = new AbortController()
  /** Aborted when the server refuses it, with this. */
  #expelled = new AbortController()
  #refusedWith: Refusal | undefined
  #acknowledged: (reply: Reply<unknown>) => void = () => undefined
  #pause = new AbortController()
  #admitting: Promise<void> = Promise.resolve()

  constructor(space: Space, config: FeedConfig, report: (status: Status) => void, owner: Owner) {
    this.space = space
    this.status = new StreamStatus(space.spaceId, report, config.clock)
    this.#config = config
    this.#owner = owner
    this.#backoff = new Backoff(config.backoff, config.random)
  }

  get spaceId(): string {
    return this.space.spaceId
  }

  get problem(): string | undefined {
    return this.status.problem
  }

  get over(): AbortSignal {
    return this.#over.signal
  }

  attempt(): Promise<Reply<unknown>> {
    if (this.status.isUp) return Promise.resolve(yes(undefined))
    const next = this.#attempts.next()
    this.#owner.hurry()
    this.#pause.abort()
    return next
  }

  async end(why?: string): Promise<void> {
    this.#over.abort()
    if (why !== undefined) this.status.ended(why)
    this.#attempts.tell(no(why === undefined ? closing() : unsubscribed(this.spaceId)))
    this.#owner.left()
    await this.#admitting
  }

  /** A connection is open, until `signal`: be admitted to it. */
  connected(connection: Connection, signal: AbortSignal): void {
    this.#admitted = false
    this.unanswered = false
    const whole = limit(ENDLESS_MS, signal, this.#over.signal)
    this.#admitting = this.#admitting
      .then(() => this.#admit(connection, whole.signal))
      .catch(() => undefined)
      .finally(whole.clear)
  }

  failed(refusal: Refusal, delayMs: number): void {
    this.status.retrying(refusal, delayMs)
    this.#attempts.tell(no(refusal))
  }

  /** `length`: in characters. */
  async frame(frame: Frame, length: number): Promise<void> {
    if (frame.type === 'subscribed') return this.#followed()
    if (frame.type === 'error') return this.#refuse(this.#refusal(frame))
    if (this.#admitted) return this.space.frame(frame)
    if (this.#pending.length >= MAX_PENDING || this.#pendingText + length > MAX_PENDING_TEXT) {
      this.#incomplete = true
      return
    }
    this.#pending.push(frame)
    this.#pendingText += length
  }

  /** The answer; or it comes after all: what was said until now was not sent, and what comes now waits for it. */
  #followed(): void {
    const isAnswer = this.unanswered
    this.unanswered = false
    if (this.asks) return this.#acknowledged(yes(undefined))
    if (!isAnswer && !this.#owner.mistakable()) return
    this.#admitted = false
    this.#incomplete = true
    this.#late.abort()
  }

  /** Said of a space that waits to be admitted, or of one that was. */
  #refuse(refusal: Refusal): void {
    this.unanswered = false
    this.#refusedWith = refusal
    this.#acknowledged(no(refusal))
    this.#expelled.abort()
    this.#owner.refused(refusal)
  }

  async #admit(connection: Connection, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const reply = await this.#subscribe(connection, signal).catch((cause: unknown) =>
        no(faultAt(`follow space ${this.spaceId}`, cause)),
      )
      if (signal.aborted) return
      const refusal = reply.ok ? await this.#stay(signal) : reply.no
      if (signal.aborted || refusal === undefined) return
      const delayMs = pauseAfter(refusal, this.#backoff)
      this.failed(refusal, delayMs)
      this.#pause = new AbortController()
      void this.space.refused(refusal, signal).catch(() => undefined)
      await sleep(delayMs, signal, this.#pause.signal)
    }
  }

  /** Admitted, until `signal`, or until the server takes it back: why it does. */
  async #stay(signal: AbortSignal): Promise<Refusal | undefined> {
    const { clock } = this.#config
    const began = clock.uptime()
    const over = limit(ENDLESS_MS, signal, this.#expelled.signal)
    let caught: Reply<unknown> = yes(undefined)
    while (caught.ok && !over.signal.aborted) {
      const whole = limit(ENDLESS_MS, over.signal, this.#late.signal).signal
      const settling = this.space.settle(whole).catch(() => undefined)
      await aborted(whole)
      await settling
      if (!over.signal.aborted) caught = await this.#catchUp(over.signal)
    }
    over.clear()
    this.#admitted = false
    this.#backoff.settled(clock.uptime() - began)
    return this.#refusedWith ?? (caught.ok ? undefined : caught.no)
  }

  async #subscribe(connection: Connection, signal: AbortSignal): Promise<Reply<unknown>> {
    const ready = await this.space.prepare(signal)
    if (!ready.ok || signal.aborted) return ready
    this.#pending = []
    this.#pendingText = 0
    let reply: Reply<unknown>
    do {
      reply = await this.#ask(connection, signal)
    } while (!reply.ok && !signal.aborted && this.#owner.mistakable())
    return reply.ok && !signal.aborted ? this.#catchUp(signal) : reply
  }

  /** Asks to be admitted: the answer, which may be that there is none. */
  async #ask(connection: Connection, signal: AbortSignal): Promise<Reply<unknown>> {
    this.#expelled = new AbortController()
    this.#refusedWith = undefined
    const acknowledged = new Promise<Reply<unknown>>((resolve) => {
      this.#acknowledged = resolve
    })
    connection.send(JSON.stringify({ type: 'subscribe', space_id: this.spaceId }))
    this.#owner.asked()
    this.asks = true
    this.unanswered = true
    const reply = (await firstOf([acknowledged], ACKNOWLEDGE_MS, signal))?.result ?? yes(undefined)
    this.asks = false
    return reply
  }

  /** Gives what was missed, then what waited: from then on all is given as it comes. */
  async #catchUp(signal: AbortSignal): Promise<Reply<unknown>> {
    do {
      this.#incomplete = false
      const caught = await this.space.catchUp((...up) => {
        const [continuous] = up
        if (!this.status.isUp || !continuous) this.status.up(...up)
        // Refused meanwhile: whoever waits is told so.
        if (this.#refusedWith !== undefined) return
        this.space.joining.entered()
        this.#attempts.tell(yes(undefined))
      }, signal)
      if (!caught.ok || signal.aborted) return caught
      for (let frame = this.#pending.shift(); frame !== undefined; frame = this.#pending.shift()) {
        await this.space.frame(frame)
        if (signal.aborted) return caught
      }
      this.#pendingText = 0
    } while (this.#incomplete)
    this.status.mended()
    this.#late = new AbortController()
    this.#admitted = true
    return yes(undefined)
  }

  #refusal(frame: Frame): Refusal {
    const inner = wordsIn(frame)
    const said = text(inner.detail) ?? text(inner.message) ?? text(inner.error) ?? ''
    const { clean } = this.#config.apiKey
    const status = statusIn(frame)
    return refusedBy(status ?? UNTOLD, `follow space ${this.spaceId}`, {
      said: lineOf(said, clean),
      how: status === undefined ? 'an error frame' : undefined,
    })
  }
}

/** Does this error refuse a subscription? Others may be about anything. */
export function refuses(frame: Frame): boolean {
  return REFUSES.has(statusIn(frame) ?? UNTOLD)
}

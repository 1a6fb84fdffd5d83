/**
 * How long a space waits for its history before it is followed without.
 *
 * Asks, and judges what comes of it; the asking again is the caller's. The one rule: a history that fails or hangs
 * must not keep us from what is said now. (A backend that can't be reached at all has no socket to open either.)
 */
import { seconds } from '../errors.ts'
import { limit } from '../retry.ts'
import type { Backend, EventQuery } from './backend.ts'
import type { FeedConfig } from './config.ts'
import type { FetchPage } from './history.ts'
import { no, type Refusal, type Reply, refusedBy } from './refusal.ts'

/** Failures one after the other. */
export const MAX_TRIES = 5

export class Patience {
  readonly #spaceId: string
  readonly #backend: Backend
  readonly #config: FeedConfig
  /** Uptime at which the history was asked for that is not there yet. */
  #askedAt: number | undefined
  /** How often it failed since. */
  #tries = 0

  constructor(spaceId: string, backend: Backend, config: FeedConfig) {
    this.#spaceId = spaceId
    this.#backend = backend
    this.#config = config
  }

  /** A history when it is its turn, within `historyMs`, or not at all. */
  async inTurn(
    history: (fetch: FetchPage) => Promise<Reply<unknown>>,
    signal: AbortSignal,
  ): Promise<Reply<unknown>> {
    const task = () => history((query) => this.#page(query, signal))
    const had = await this.#backend.awaited.take(task, this.#config.limits.historyMs, signal)
    return had ?? this.#late('not asked for', ': those of other spaces are slow to come', signal)
  }

  /** A page of it, within `historyMs` or not at all. */
  async #page(query: EventQuery, signal: AbortSignal): ReturnType<FetchPage> {
    const { clock, limits } = this.#config
    this.#askedAt ??= clock.uptime()
    const soon = limit(limits.historyMs, signal)
    const page = await this.#backend.events(this.#spaceId, query, soon.signal).finally(soon.clear)
    return page.ok || !soon.signal.aborted ? page : this.#late('no answer', '', signal)
  }

  #late(what: string, why: string, signal: AbortSignal): { readonly ok: false; readonly no: Refusal } {
    if (!signal.aborted) this.#tries = MAX_TRIES
    const how = `${what} within ${seconds(this.#config.limits.historyMs)}${why}`
    return no(refusedBy(504, `give the events of space ${this.#spaceId}`, { how }))
  }

  /** One failure more: is it enough? */
  tiresOf({ status, lasting, retryAfterMs = 0 }: Refusal): boolean {
    const { clock, limits } = this.#config
    const now = clock.uptime()
    // A backend that can't be reached says nothing of its history, but if it is so each time.
    const waitedMs = status === undefined ? 0 : now - (this.#askedAt ?? now)
    this.#tries++
    return lasting || this.#tries >= MAX_TRIES || waitedMs + retryAfterMs >= limits.historyMs
  }

  /** The history was had: the next failure is the first. */
  restore(): void {
    this.#askedAt = undefined
    this.#tries = 0
  }
}

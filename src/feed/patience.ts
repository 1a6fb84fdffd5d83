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
  /** When the history was asked for that is not there yet, and how often it failed. */
  #askedAt: number | undefined
  #tries = 0
  /** A page was had, and what is asked for next belongs to it. */
  #goesOn = false

  constructor(spaceId: string, backend: Backend, config: FeedConfig) {
    this.#spaceId = spaceId
    this.#backend = backend
    this.#config = config
  }

  /** A page of events, asked for within `historyMs`, and there within as long again, or not at all. */
  async page(query: EventQuery, signal: AbortSignal): ReturnType<FetchPage> {
    const { clock, limits } = this.#config
    const { historyMs } = limits
    let isAsked = false
    const ask = async (): Promise<Reply<readonly unknown[]> | undefined> => {
      isAsked = true
      this.#askedAt ??= clock.uptime()
      const soon = limit(historyMs, signal)
      const page = await this.#backend.events(this.#spaceId, query, soon.signal).finally(soon.clear)
      return page.ok || !soon.signal.aborted ? page : undefined
    }
    const page = this.#goesOn ? await ask() : await this.#backend.awaited.take(ask, historyMs, signal)
    this.#goesOn = page?.ok === true
    if (page !== undefined) return page
    if (!signal.aborted) this.#tries = MAX_TRIES
    const how = isAsked
      ? `no answer within ${seconds(historyMs)}`
      : `not asked for within ${seconds(historyMs)}: those of other spaces are slow to come`
    return no(refusedBy(504, `give the events of space ${this.#spaceId}`, '', undefined, how))
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
    this.#goesOn = false
  }
}

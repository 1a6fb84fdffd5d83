/**
 * Whether a space is active, paused or archived, as far as is known; the agent is told when that changes.
 *
 * The one rule: an answer that is older than another word is no news.
 */
import type { ChannelDraft } from '../channel/notification.ts'
import { limit } from '../retry.ts'
import type { Backend } from './backend.ts'
import type { FeedConfig } from './config.ts'
import { statusDraft } from './texts.ts'

export interface SpaceStatusOptions {
  readonly spaceId: string
  readonly backend: Backend
  readonly push: (draft: ChannelDraft) => Promise<void>
  readonly config: FeedConfig
}

/** A status is nice to have: nothing waits longer for it. */
const STATUS_MS = 2_000

export class SpaceStatus {
  readonly #options: SpaceStatusOptions
  #current: string | undefined
  /** Counts what the space itself said of it. */
  #said = 0
  /** Counts how often the backend was asked for it. */
  #asked = 0
  #lastAnswered = 0

  constructor(options: SpaceStatusOptions) {
    this.#options = options
  }

  get current(): string | undefined {
    return this.#current
  }

  /** Asks for it, where the backend tells it in time. */
  async check(...signals: readonly AbortSignal[]): Promise<void> {
    const { backend, spaceId } = this.#options
    const answered = this.asked()
    const soon = limit(STATUS_MS, ...signals)
    const status = await backend.status(spaceId, soon.signal).finally(soon.clear)
    if (signals.some(({ aborted }) => aborted)) return
    if (status.ok && status.value !== undefined) await answered(status.value)
  }

  /** The backend is being asked: gives what to do with its answer. */
  asked(): (status: string) => Promise<void> {
    const said = this.#said
    const asked = ++this.#asked
    return async (status) => {
      if (said !== this.#said || asked < this.#lastAnswered) return
      this.#lastAnswered = asked
      await this.#notice(status)
    }
  }

  /** The space itself says so. */
  async said(status: string, from: { eventId?: string; speaker?: string }): Promise<void> {
    this.#said++
    await this.#notice(status, from)
  }

  /** The first one ever seen is no change, if it is the usual one. */
  async #notice(status: string, from: { eventId?: string; speaker?: string } = {}): Promise<void> {
    const { spaceId, push, config } = this.#options
    const before = this.#current
    if (before === status) return
    this.#current = status
    if (before === undefined && status === 'active') return
    const known = before === undefined ? {} : { before }
    await push(statusDraft({ spaceId, status, ...known, ...from }, config.wording))
  }
}

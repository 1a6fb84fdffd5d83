/**
 * Joining a space: owed from the moment it is asked for until it has succeeded, or a connection follows the space
 * without.
 *
 * The one rule: a join that fails is no reason to be deaf. The socket tells who may not listen.
 */
import { seconds } from '../errors.ts'
import { Backoff, limit, sleep } from '../retry.ts'
import type { Status } from '../status.ts'
import type { Actor, Backend } from './backend.ts'
import type { FeedConfig } from './config.ts'
import { MAX_TRIES } from './patience.ts'
import { isDeclined, no, type Refusal, type Reply, refusedBy, yes } from './refusal.ts'

export interface JoiningOptions {
  readonly spaceId: string
  /** False for a space the agent is known to take part in. */
  readonly join: boolean
  readonly backend: Backend
  readonly report: (status: Status) => void
  readonly config: FeedConfig
}

export class Joining {
  readonly #options: JoiningOptions
  #isAskedFor: boolean
  /** Each attempt at a connection begins with a join. */
  #isOwed: boolean
  /** Why it could not be joined. */
  #refusal: Refusal | undefined
  #tries = 0
  #isTold = false

  constructor(options: JoiningOptions) {
    this.#options = options
    this.#isAskedFor = options.join
    this.#isOwed = options.join
  }

  /** The agent asks for the space once more: it may have been put out of it. */
  again(): void {
    this.#isAskedFor = true
    this.#isOwed = true
    this.#tries = 0
  }

  /** Another agent is to join now. */
  restart(): void {
    this.#isOwed = this.#isAskedFor
  }

  /** A connection follows the space: there is nothing to join. */
  entered(): void {
    this.#isOwed = false
  }

  /** It is owed, and has not failed since it was asked for. */
  get isUntried(): boolean {
    return this.#isOwed && this.#tries === 0
  }

  get refusal(): Refusal | undefined {
    return this.#refusal
  }

  /**
   * Joins, if that is owed. Refused is what may be better in a moment: one that is declined, fails each time, or is not
   * the first (`isFirst`) is done without.
   */
  async join(actor: Actor, isFirst: boolean, signal: AbortSignal): Promise<Reply<unknown>> {
    if (!this.#isOwed) return yes(undefined)
    const { toolMs } = this.#options.config.limits
    // (The socket, too, is to be asked for within the time of a tool.)
    const joined = await this.#attempt(actor, isFirst ? toolMs : toolMs / 2, signal)
    if (joined.ok) return joined
    this.#tries++
    const isDoneWithout = !isFirst || isDeclined(joined.no) || (isBusy(joined.no) && this.#tries >= MAX_TRIES)
    return isDoneWithout ? yes(undefined) : joined
  }

  /** Beside a connection: what failed without being declined is tried on. */
  async joinLate(actor: Actor, signal: AbortSignal): Promise<void> {
    const { backoff: options, limits, random } = this.#options.config
    const backoff = new Backoff(options, random)
    while (this.#refusal !== undefined && isBusy(this.#refusal)) {
      await sleep(backoff.slow(), signal)
      if (signal.aborted) return
      await this.#attempt(actor, limits.toolMs / 2, signal)
    }
  }

  /** The shipped adapter does not look at the answer to its join: it is no more than a warning, once. */
  tell(): void {
    if (this.#refusal === undefined || this.#isTold) return
    this.#isTold = true
    const text = `space ${this.#options.spaceId} is followed all the same: ${this.#refusal.error.message}`
    this.#options.report({ kind: 'note', level: 'warn', text })
  }

  async #attempt(actor: Actor, limitMs: number, signal: AbortSignal): Promise<Reply<unknown>> {
    const { backend, spaceId } = this.#options
    const soon = limit(limitMs, signal)
    const joined = await backend.join(spaceId, actor, soon.signal).finally(soon.clear)
    if (joined.ok) this.#isOwed = false
    this.#refusal = joined.ok ? undefined : joined.no
    if (joined.ok || !soon.signal.aborted || signal.aborted) return joined
    this.#tries = MAX_TRIES
    this.#refusal = refusedBy(504, `join space ${spaceId}`, { how: `no answer within ${seconds(limitMs)}` })
    return no(this.#refusal)
  }
}

/** The backend is there, and fails. */
function isBusy({ error }: Refusal): boolean {
  return error.code === 'SERVER_BUSY'
}

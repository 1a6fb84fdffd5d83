/**
 * The next stream for an answer that is still to come, asked for with the cursor of the one that ended without it.
 *
 * Not the reading. The one rule: it goes on for as long as the server gives streams, and gives up once none was given
 * for `resumeMs`.
 *
 * [MCP 2025-11-25 transports, Resumability and Redelivery]
 */
import { seconds } from '../errors.ts'
import { Backoff, limit, type Signal, sleep } from '../retry.ts'
import type { HttpConfig } from './config.ts'
import type { EventReader } from './events.ts'
import type { Exchange } from './exchange.ts'
import { type Outcome, sayOutcome } from './outcome.ts'
import { POLL_FLOOR_MS } from './own-calls.ts'
import type { SessionLife } from './session.ts'
import type { Live } from './session-state.ts'

export class Resumption {
  readonly #config: HttpConfig
  readonly #exchange: Exchange
  readonly #life: SessionLife
  readonly #live: Live
  readonly #signal: Signal
  /** Streams that brought nothing, one behind the other. */
  #empty = 0
  #retryMs = 0
  #silenceMs: number
  /** Given beside one that is silent. */
  #beside: EventReader | undefined

  /** `signal` ends it; look at it before anything else. */
  constructor(config: HttpConfig, exchange: Exchange, life: SessionLife, live: Live, signal: Signal) {
    this.#config = config
    this.#exchange = exchange
    this.#life = life
    this.#live = live
    this.#signal = signal
    this.#silenceMs = config.resumedSilenceMs
  }

  /** What comes after `ended`; or why nothing will, in a few words. `brought`: there were messages on it. */
  async after(ended: EventReader, cursor: string, brought: boolean): Promise<EventReader | string> {
    const beside = this.#beside
    this.#beside = undefined
    if (beside !== undefined) return this.#watched(beside)
    const { clock, resumeMs, headersMs, backoff, random } = this.#config
    this.#retryMs = ended.retryMs ?? this.#retryMs
    this.#empty = brought ? 0 : this.#empty + 1
    const tries = new Backoff(backoff, random)
    await sleep(Math.max(this.#retryMs, this.#empty >= 2 ? POLL_FLOOR_MS : 0), this.#signal)
    const until = clock.uptime() + resumeMs
    while (!this.#signal.aborted) {
      const late = limit(Math.min(headersMs, Math.max(until - clock.uptime(), 1)), this.#signal)
      const outcome = await this.#ask(cursor, late.signal)
      late.clear()
      if (outcome.kind === 'stream') return this.#watched(outcome.events)
      if (outcome.kind === 'no-such-session') this.#life.lose(this.#live, '404 to a resumed stream')
      const askedToWaitMs = outcome.kind === 'unavailable' ? (outcome.retryAfterMs ?? 0) : 0
      const left = until - clock.uptime()
      if (!mayPass(outcome) || left <= 0) return sayOutcome(outcome)
      if (askedToWaitMs > left)
        return `${sayOutcome(outcome)}, and is to be left alone for ${seconds(askedToWaitMs)}`
      await sleep(tries.next(0, Math.max(this.#retryMs, askedToWaitMs)), this.#signal)
    }
    return 'it was given up'
  }

  async #ask(cursor: string, signal: Signal): Promise<Outcome> {
    if (this.#life.live?.generation !== this.#live.generation) return { kind: 'no-such-session' }
    return await this.#exchange.call({ method: 'GET', session: this.#live, cursor, signal })
  }

  /**
   * A store of events may give a stream that it binds to nothing: what follows the cursor comes, and what is said later
   * does not. Beside one that brings no event another is asked for, ever more seldom; what is given takes its place.
   */
  #watched(events: EventReader): EventReader {
    const silenceMs = this.#silenceMs
    this.#silenceMs *= 2
    setTimeout(() => void this.#askBeside(events, events.messages), silenceMs).unref()
    return events
  }

  async #askBeside(events: EventReader, messages: number): Promise<void> {
    const isOver = (): boolean => this.#signal.aborted || events.over
    const isSilent = (): boolean => events.quietSince !== undefined && events.messages === messages
    if (isOver()) return
    if (!isSilent() || events.cursor === undefined) return void this.#watched(events)
    const late = limit(this.#config.headersMs, this.#signal)
    const outcome = await this.#ask(events.cursor, late.signal)
    late.clear()
    if (outcome.kind === 'stream' && (isOver() || !isSilent())) outcome.events.destroy()
    if (isOver()) return
    if (outcome.kind !== 'stream' || !isSilent()) return void this.#watched(events)
    this.#beside = outcome.events
    events.destroy('it was silent')
  }
}

/** A refused resume that time may mend; 409: the server has not noticed yet that the old connection is gone. */
function mayPass(outcome: Outcome): boolean {
  return (
    outcome.kind === 'unavailable' ||
    (outcome.kind === 'refused' && (outcome.status === 409 || outcome.status >= 500))
  )
}

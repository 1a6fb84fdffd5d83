/**
 * The next stream for an answer that is still to come, asked for with the cursor of the one that ended without it.
 *
 * Not the reading. The one rule: it goes on for as long as the server gives streams, and gives up once none was given
 * for `resumeMs`.
 *
 * [MCP 2025-11-25 transports, Resumability and Redelivery]
 */
import { seconds } from '../errors.ts'
import { Backoff, type Signal, sleep } from '../retry.ts'
import { type HttpConfig, LAST_ATTEMPT_MS, POLL_FLOOR_MS } from './config.ts'
import type { EventReader } from './events.ts'
import type { Exchange } from './exchange.ts'
import { type Outcome, sayOutcome } from './outcome.ts'
import type { SessionLife } from './session.ts'
import type { Live } from './session-state.ts'
import { isOfTheMoment, mayMeanSession, refusalSignature, signatureOf } from './signature.ts'

/** No more seldom than this. */
const MOST_SILENCE_MS = 5 * 60_000

export class Resumption {
  readonly #config: HttpConfig
  readonly #exchange: Exchange
  readonly #life: SessionLife
  readonly #live: Live
  readonly #signal: Signal
  /** Streams that brought nothing, one behind the other. */
  #empty = 0
  #retryMs = 0
  /** How long the one that is read may bring nothing. */
  #silenceMs: number
  /** The one that is read. */
  #given: EventReader | undefined
  /** Given beside it, while it is silent. */
  #beside: EventReader | undefined
  #look: NodeJS.Timeout | undefined

  /** `signal` ends it, and every stream that it gave. */
  constructor(config: HttpConfig, exchange: Exchange, life: SessionLife, live: Live, signal: Signal) {
    this.#config = config
    this.#exchange = exchange
    this.#life = life
    this.#live = live
    this.#signal = signal
    this.#silenceMs = config.resumedSilenceMs
    signal.addEventListener('abort', () => this.#given?.destroy(), { once: true })
  }

  /** What comes after `ended`; or why nothing will, in a few words. `brought`: there were messages on it. */
  async after(ended: EventReader, cursor: string, brought: boolean): Promise<EventReader | string> {
    const beside = this.#beside
    this.#beside = undefined
    if (beside !== undefined) return this.#give(beside)
    const { clock, resumeMs, headersMs, backoff, random, resumedSilenceMs } = this.#config
    if (brought) this.#silenceMs = resumedSilenceMs
    this.#retryMs = ended.retryMs ?? this.#retryMs
    this.#empty = brought ? 0 : this.#empty + 1
    const tries = new Backoff(backoff, random)
    await sleep(Math.max(this.#retryMs, this.#empty >= 2 ? POLL_FLOOR_MS : 0), this.#signal)
    const until = clock.uptime() + resumeMs
    while (!this.#signal.aborted && this.#life.current.state !== 'closed') {
      // The last one is given a moment too.
      const limitMs = Math.max(until - clock.uptime(), LAST_ATTEMPT_MS)
      const outcome = await this.#ask(cursor, Math.min(headersMs, limitMs))
      if (outcome.kind === 'stream') return this.#give(outcome.events)
      if (outcome.kind === 'no-such-session') this.#life.lose(this.#live, '404 to a resumed stream')
      const askedToWaitMs = outcome.kind === 'unavailable' ? (outcome.retryAfterMs ?? 0) : 0
      const left = until - clock.uptime()
      if (!mayPass(outcome) || left <= 0) {
        if (outcome.kind === 'refused' && mayMeanSession(outcome.status)) {
          void this.#life.pulse.gone(this.#live, refusalSignature(outcome), true)
        }
        return sayOutcome(outcome)
      }
      if (askedToWaitMs > left)
        return `${sayOutcome(outcome)}, and is to be left alone for ${seconds(askedToWaitMs)}`
      // (Without its session there is nothing to wait for.)
      const floorMs = Math.max(this.#retryMs, askedToWaitMs)
      const ms = Math.min(tries.next(0, floorMs), left)
      await (floorMs > 0
        ? this.#life.changedWithin(ms, this.#signal)
        : this.#life.servedWithin(ms, this.#signal))
    }
    return 'it was given up'
  }

  /** The answer is there, or will not be had: nothing more is looked at. */
  end(): void {
    clearTimeout(this.#look)
  }

  async #ask(cursor: string, limitMs: number): Promise<Outcome> {
    if (this.#life.live?.generation !== this.#live.generation) {
      return { kind: 'no-such-session', text: '', rpcError: undefined }
    }
    return (await this.#exchange.stream(this.#live, cursor, limitMs, this.#signal)).outcome
  }

  /**
   * A store of events may give a stream that it binds to nothing: what follows the cursor comes, and what is said later
   * does not. Beside one that brings no event another is asked for, ever more seldom; what is given takes its place.
   */
  #give(events: EventReader): EventReader {
    this.#given = events
    if (this.#signal.aborted) events.destroy()
    this.#lookLater(events)
    return events
  }

  #lookLater(events: EventReader): void {
    clearTimeout(this.#look)
    const { messages } = events
    this.#look = setTimeout(() => void this.#askBeside(events, messages), this.#silenceMs).unref()
  }

  async #askBeside(events: EventReader, messages: number): Promise<void> {
    this.#silenceMs = Math.min(this.#silenceMs * 2, MOST_SILENCE_MS)
    const isOver = (): boolean => this.#signal.aborted || events.over
    const isSilent = (): boolean => events.quietSince !== undefined && events.messages === messages
    if (isOver()) return
    const { cursor } = events
    if (isSilent() && cursor !== undefined) {
      const outcome = await this.#ask(cursor, this.#config.headersMs)
      if (outcome.kind === 'stream' && !isOver() && isSilent()) {
        this.#beside = outcome.events
        return events.destroy('it was silent')
      }
      if (outcome.kind === 'stream') outcome.events.destroy()
      if (isOver()) return
    }
    this.#lookLater(events)
  }
}

/**
 * A refused resume that time may mend: somebody in front of the server speaks, or a key is changed just now; 409: the
 * server has not noticed yet that the old connection is gone.
 */
function mayPass(outcome: Outcome): boolean {
  if (outcome.kind !== 'refused') return outcome.kind === 'unavailable' || outcome.kind === 'unauthorized'
  const { status } = outcome
  return status < 400 || status === 409 || status >= 500 || isOfTheMoment(signatureOf(outcome))
}

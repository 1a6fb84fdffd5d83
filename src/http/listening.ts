/**
 * A push stream that the server gave, held to its end; and is it the one on which the server speaks?
 *
 * Not the asking again, nor what its end means: that is the loop's business (push.ts). The one rule: what is read is
 * one stream, and for a moment two, where the first may be bound to nothing.
 */
import { type Signal, sleep } from '../retry.ts'
import type { HttpConfig } from './config.ts'
import type { EventReader, Known } from './events.ts'
import type { Exchange } from './exchange.ts'
import type { Incoming } from './incoming.ts'
import { Liveness } from './liveness.ts'
import type { Place } from './place.ts'
import { PushStream, type StreamEnd } from './push-stream.ts'
import type { SessionLife } from './session.ts'
import type { Live } from './session-state.ts'

/** What a stream has brought. */
interface Brought {
  readonly events: number
  /** Among them something for the client that had not come before. */
  readonly news: boolean
  /** How long it stood before the first of them, ms. */
  readonly quietMs: number
}

/** What became of a stream. */
export interface Held extends Brought {
  readonly end: StreamEnd
  /** The server's `retry`, ms. */
  readonly retryMs: number | undefined
}

/** A stream while it is read. */
interface Reading extends Brought {
  readonly stream: PushStream
  readonly end: Promise<StreamEnd>
  readonly ended: AbortSignal
}

type OnMissed = (why: string, since: number | undefined) => void

/** What is replayed comes within this; a server that has replaced a stream by another has ended it by then too. */
const SOON_MS = 1_000
/** A stream that stays silent is asked about ever more seldom, up to this. */
const MAX_PATIENCE_MS = 5 * 60_000

export class Listening {
  readonly #config: HttpConfig
  readonly #exchange: Exchange
  readonly #life: SessionLife
  readonly #incoming: Incoming
  readonly #place: Place
  readonly #liveness: Liveness
  readonly #streams = new Set<PushStream>()
  /** The last stream, where it was resumed and not trusted to its end: since when (wall, ms), and its replay. */
  #doubted: { readonly at: number; readonly stream: Reading; replayed: number } | undefined
  /** How long a resumed stream may be silent before it is asked whether it is of use. */
  #patienceMs: number
  /** One that was resumed was the server's own: that it keeps its place is not doubted any more. */
  #isSound = false
  /** When the stream before the first of those in a row that were silent broke (wall, ms). */
  #silentSince: number | undefined

  constructor(config: HttpConfig, exchange: Exchange, life: SessionLife, incoming: Incoming, place: Place) {
    this.#config = config
    this.#exchange = exchange
    this.#life = life
    this.#incoming = incoming
    this.#place = place
    this.#liveness = new Liveness(config.minSilenceMs, 3 * config.idlePingMs)
    this.#patienceMs = config.idlePingMs
  }

  /**
   * Delivers what comes until the stream ends. `cursor`: the one it was asked for with. `brokeAt`: when the one before
   * it broke (wall, ms). `onMissed` is told why something may have been missed though it goes on, and from when on
   * (wall, ms; undefined: just now).
   */
  async hold(
    events: EventReader,
    live: Live,
    cursor: string | undefined,
    brokeAt: number | undefined,
    signal: Signal,
    onMissed: OnMissed,
  ): Promise<Held> {
    const first = this.#read(events, live, cursor, onMissed)
    const at = this.#config.clock.now()
    if (this.#isProven) this.#silentSince = brokeAt
    this.#doubted =
      cursor === undefined ? undefined : { at, stream: first, replayed: Number.POSITIVE_INFINITY }
    const main = cursor === undefined ? first : await this.#trusted(first, live, signal, onMissed)
    if (!main.ended.aborted) this.#doubted = undefined
    const end = await main.end
    this.end(end.reason)
    const { events: count, news, quietMs, stream } = main
    return { end, events: count, news, quietMs, retryMs: stream.retryMs }
  }

  /**
   * Wall time (ms) from which on something may be missing if the session is gone: the stream was resumed and has not
   * proved itself to its end, or the client holds up what it brings.
   */
  get unsureSince(): number | undefined {
    const doubted = this.#doubted
    const since = [
      this.#isProven ? undefined : doubted?.at,
      ...[...this.#streams].map((stream) => stream.heldSince),
    ]
    const known = since.filter((each) => each !== undefined)
    return known.length === 0 ? undefined : Math.min(...known)
  }

  /** Nothing says that the last stream was bound to nothing. */
  get #isProven(): boolean {
    return this.#doubted === undefined || this.#doubted.stream.events > this.#doubted.replayed
  }

  /** Ends what is being read. */
  end(reason: string): void {
    for (const stream of this.#streams) stream.end(reason)
  }

  /** Said every second while we run. */
  awake(): void {
    this.#liveness.awake(this.#config.clock.uptime())
  }

  /** The machine slept. */
  wake(asleepSince: number): void {
    for (const stream of this.#streams) void stream.wake(asleepSince)
  }

  /** Reads a stream to its end. */
  #read(events: EventReader, live: Live, cursor: string | undefined, onMissed: OnMissed): Reading {
    const stream = new PushStream(this.#config, this.#life, this.#incoming, events, live, this.#liveness)
    this.#streams.add(stream)
    const ended = new AbortController()
    const isKnown = cursor === undefined ? () => false : (event: Known) => this.#place.isKnown(event)
    const { clock } = this.#config
    const upAt = clock.uptime()
    const reading = { stream, ended: ended.signal, events: 0, news: false, quietMs: Number.POSITIVE_INFINITY }
    const end = stream
      .read(
        isKnown,
        (event, isNews) => {
          if (reading.events++ === 0) reading.quietMs = clock.uptime() - upAt
          reading.news ||= isNews
          if (isNews) this.#life.prove(live)
          this.#place.moved(stream.cursor, event)
        },
        // (In a replay it may be of any moment since the break.)
        (why) => onMissed(why, this.#isReplaying(stream) ? this.#silentSince : undefined),
      )
      .finally(() => {
        this.#streams.delete(stream)
        ended.abort()
      })
    return Object.assign(reading, { end })
  }

  /**
   * There are stores of events (the example of the TypeScript SDK among them) that take the cursor of this stream,
   * replay what followed it, and bind what they gave to nothing: but for keep-alives it stays silent for ever. So one on
   * which no event came since the replay is not trusted, and a second is asked for.
   *
   * A server that holds one stream a session refuses that, or ends the first for it. (It may refuse it for the one that
   * broke, of which it does not know yet; or it was cut just then: so it is asked again, ever later.) Where both stand,
   * the one that the server gave without being asked for the past is its own; where a server speaks on several, the
   * break is told for nothing.
   *
   * One that is cut before that can be told leaves the next one less time, and one that was of no use next to none.
   */
  async #trusted(resumed: Reading, live: Live, signal: Signal, onMissed: OnMissed): Promise<Reading> {
    const { idlePingMs, minSilenceMs } = this.#config
    const replayed = await this.#replayed(resumed, signal)
    if (this.#doubted !== undefined) this.#doubted.replayed = replayed
    // (What the client holds up has come.)
    const isSilent = (): boolean => resumed.events <= replayed && resumed.stream.heldSince === undefined
    const settle = (): Reading => {
      if (!isSilent()) this.#isSound = true
      if (this.#isSound) this.#patienceMs = idlePingMs
      else if (!resumed.news) this.#patienceMs = Math.min(this.#patienceMs, minSilenceMs)
      return resumed
    }
    for (let waitMs = this.#patienceMs; ; waitMs = Math.min(2 * waitMs, MAX_PATIENCE_MS)) {
      await sleep(waitMs, signal, resumed.ended)
      if (resumed.ended.aborted || !isSilent()) return settle()
      if (signal.aborted) return resumed
      const beside = await this.#askBeside(resumed, live, signal)
      if (resumed.ended.aborted) {
        // (It was ended for the other, perhaps, and is asked for with its cursor now.)
        if (typeof beside === 'object') beside.destroy()
        this.#patienceMs = Math.min(2 * this.#patienceMs, MAX_PATIENCE_MS)
        return resumed
      }
      if (beside === 'refused') {
        this.#isSound = true
        this.#doubted = undefined
      }
      if (typeof beside !== 'object') continue
      const own = this.#read(beside, live, undefined, onMissed)
      await sleep(SOON_MS, own.ended, resumed.ended)
      if (resumed.ended.aborted) return own
      if (own.ended.aborted) continue
      if (!isSilent()) {
        own.stream.end('another speaks')
        return settle()
      }
      this.#isSound = false
      this.#patienceMs = SOON_MS
      resumed.stream.end('it is silent, and the server gives another')
      onMissed('the server said nothing on the stream it resumed', this.#silentSince)
      return own
    }
  }

  #isReplaying(stream: PushStream): boolean {
    const doubted = this.#doubted
    return doubted?.stream.stream === stream && doubted.replayed === Number.POSITIVE_INFINITY
  }

  /** How many events have come once the replay is over. */
  async #replayed(resumed: Reading, signal: Signal): Promise<number> {
    for (;;) {
      const { events, stream } = resumed
      await sleep(SOON_MS, signal, resumed.ended)
      const isOver = resumed.events === events && stream.heldSince === undefined
      if (isOver || signal.aborted || resumed.ended.aborted) return events
    }
  }

  /** A stream beside `resumed`; refused, because there is one already; undefined when nothing can be told from it. */
  async #askBeside(
    resumed: Reading,
    live: Live,
    signal: Signal,
  ): Promise<EventReader | 'refused' | undefined> {
    const { headersMs } = this.#config
    const { outcome } = await this.#exchange.stream(live, undefined, headersMs, signal, resumed.ended)
    if (outcome.kind === 'stream') return outcome.events
    if (outcome.kind === 'no-such-session') await this.#life.pulse.check(live)
    // (409 as the TypeScript SDK, 400 as that of C#. What a server fails of says nothing.)
    const isNo = outcome.kind === 'refused' && outcome.status >= 400 && outcome.status < 500
    return isNo || outcome.kind === 'not-offered' ? 'refused' : undefined
  }
}

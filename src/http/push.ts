/**
 * The server's own stream, kept open for as long as the client lives.
 *
 * One loop per client handshake: while the session is live it holds the GET stream, while it is lost it asks for
 * the next one. It needs no traffic of the client to heal.
 * The one rule: nothing but `stop` ends it.
 *
 * [MCP 2025-11-25 transports, Listening for Messages from the Server; Resumability and Redelivery]
 */

import { ClockWatch, LOOK_MS } from '../clock-watch.ts'
import { impossible, reasonOf, seconds } from '../errors.ts'
import { Abort, Backoff, turn } from '../retry.ts'
import type { Outlet } from '../sides.ts'
import type { PushStatus } from '../status.ts'
import { GATEWAY_AFTER_MS, type HttpConfig } from './config.ts'
import { type EventReader, MAX_RETRY_MS } from './events.ts'
import type { Exchange } from './exchange.ts'
import type { Incoming } from './incoming.ts'
import { Listening } from './listening.ts'
import { type Outcome, type Refused, type Success, sayOutcome } from './outcome.ts'
import { Place } from './place.ts'
import type { SessionLife } from './session.ts'
import type { Live } from './session-state.ts'
import { isGatewayFailure, mayMeanSession, signatureOf } from './signature.ts'

/** What is said so often in a row is not taken for a moment of a redeploy. */
const SUSPICIOUS_REFUSALS = 4
/** A server that refuses for longer than this is asked seldom; a stream that is down for longer is warned of. */
const SLOW_AFTER_MS = 60_000
/** A stream that is over by then ended at once. */
const AT_ONCE_MS = 100
/** A stream that brought something is asked for again within this: a server may end its stream after each event. */
const NEWS_AGAIN_MS = 500
/** A server that ends gives the answers it has, and takes no connection any more. */
const LINGERS_MS = 1_000
/** To wait for headers in vain takes long: it counts as so many refusals. */
const LATE_WEIGHT = 2

/** What the streams of one session were like. */
interface Seen {
  /** One was open. */
  wasUp: boolean
  refusalsInRow: number
  /** Streams in a row that ended without anything for the client. */
  barrenInRow: number
  /** Uptime since when it is refused because there is a stream already. */
  conflictSince: number | undefined
  /** How long the server asked to be left alone between two streams. */
  retryMs: number
}

function nothingSeen(): Seen {
  return { wasUp: false, refusalsInRow: 0, barrenInRow: 0, conflictSince: undefined, retryMs: 0 }
}

export class Push {
  readonly #config: HttpConfig
  readonly #exchange: Exchange
  readonly #life: SessionLife
  readonly #outlet: Outlet
  readonly #backoff: Backoff
  #generation = 0
  #seen = nothingSeen()
  readonly #place: Place
  /** A stream was open once: from then on its absence is a break and not a feature. */
  #everUp = false
  /**
   * While there is none: uptime at which that was noticed, wall time from which on something may have been missed, and
   * how often it was asked for in vain.
   */
  #down: { readonly since: number; readonly at: number; failures: number } | undefined
  /**
   * While the GET gets a 5xx or no connection: once the server is seen to serve something else after this wall time, the
   * GET is tried at once. Once an outage: infinite from then on.
   */
  #unservedSince: number | undefined
  /** Headers came by themselves once, and not with the first event. */
  #isPrompt = false
  readonly #clockWatch: ClockWatch
  /** Ends a GET that has no answer yet. */
  #asking: AbortController | undefined
  /** How long the next one may have none. */
  #headersMs: number
  readonly #listening: Listening
  readonly #stopped = new Abort()
  /** Ends the present rest. */
  #wake: () => void = () => undefined

  constructor(config: HttpConfig, exchange: Exchange, life: SessionLife, incoming: Incoming, outlet: Outlet) {
    this.#config = config
    this.#exchange = exchange
    this.#life = life
    this.#outlet = outlet
    this.#backoff = new Backoff(config.backoff, config.random)
    this.#clockWatch = new ClockWatch(config.clock)
    this.#headersMs = config.headersMs
    this.#place = new Place(config.clock, config.cursorDoubtMs)
    this.#listening = new Listening(config, exchange, life, incoming, this.#place)
  }

  /** Runs until `stop`. Never rejects: a mistake of our own must not make the client deaf either. */
  async keep(): Promise<void> {
    this.#lookAtClock()
    const watch = setInterval(() => this.#lookAtClock(), LOOK_MS)
    watch.unref()
    while (!this.#stopped.aborted) {
      try {
        await this.#turn()
      } catch (cause) {
        this.#listening.end('an internal error')
        this.#outlet.report({ kind: 'note', level: 'error', text: `internal error: ${reasonOf(cause)}` })
        await this.#rest(this.#backoff.slow())
      }
    }
    clearInterval(watch)
  }

  stop(): void {
    this.#stopped.abort()
    this.#listening.end('it is not wanted any more')
  }

  async #turn(): Promise<void> {
    const session = this.#life.current
    switch (session.state) {
      case 'live':
        return await this.#openStream(session)
      case 'lost': {
        const { code, retryAfterMs = 0 } = session.cause
        const isRefused = code !== 'SERVER_UNREACHABLE' && code !== 'SERVER_BUSY'
        await this.#rest(Math.max(this.#delayFor(isRefused), Math.min(retryAfterMs, MAX_RETRY_MS)))
        return this.#life.attempt()
      }
      default:
        await this.#life.changed(this.#stopped)
        // Whoever waited for the session goes first, on the connection that is open.
        await turn()
    }
  }

  /** The session was lost: the stream of it, if any, is of no use. */
  lost(generation: number, reason: string): void {
    if (generation !== this.#generation) return
    // (Its stream may have stood there for long, bound to nothing.)
    this.#noteDown(reason, this.#life.servedAt)
    this.#asking?.abort()
    this.#listening.end(reason)
  }

  /** One GET. A server that sends no headers before its first event is a stream too: it is given ever more time. */
  async #openStream(live: Live): Promise<void> {
    if (live.generation !== this.#generation) {
      this.#generation = live.generation
      this.#seen = nothingSeen()
      this.#place.forget()
    }
    if (this.#life.pulse.refusesAnybody) this.#place.trust()
    const cursor = this.#place.next()
    const asking = new AbortController()
    this.#asking = asking
    const { outcome, late } = await this.#exchange.stream(
      live,
      cursor,
      this.#headersMs,
      this.#stopped,
      asking.signal,
    )
    this.#asking = undefined
    if (late) {
      if (this.#stopped.aborted || asking.signal.aborted) return
      // (One that was prompt is away, or has come behind a proxy that waits for the first byte.)
      const mostMs = this.#isPrompt ? 2 * this.#config.headersMs : MAX_RETRY_MS
      this.#headersMs = Math.min(2 * this.#headersMs, mostMs)
      // It may be how a GET is met in a session that is gone. (Nothing waits for the ping: an event may come meanwhile.)
      void this.#life.pulse.check(live)
      // (One that has never given headers by themselves may have nothing to say.)
      if (this.#isPrompt) this.#place.failed(LATE_WEIGHT)
      return await this.#retry('the server does not answer the GET')
    }
    if (outcome.kind !== 'refused' || outcome.status !== 409) this.#seen.conflictSince = undefined
    if (outcome.kind === 'stream') {
      this.#headersMs = this.#config.headersMs
      this.#seen.refusalsInRow = 0
      this.#seen.wasUp = true
      this.#life.served(live)
      return await this.#hold(outcome.events, live, cursor)
    }
    await this.#understand(outcome, live)
  }

  /** Holds one open stream to its end. */
  async #hold(events: EventReader, live: Live, cursor: string | undefined): Promise<void> {
    const { clock } = this.#config
    const upAt = clock.uptime()
    const broke = this.#down
    this.#noteUp(cursor !== undefined)
    const held = await this.#listening.hold(events, live, cursor, broke?.at, this.#stopped, (why, since) => {
      this.#noteDown(why, since)
      this.#noteUp(false)
    })
    const { end } = held
    this.#seen.retryMs = held.retryMs ?? this.#seen.retryMs
    this.#isPrompt ||= held.quietMs >= AT_ONCE_MS
    // Asked for with its cursor, an event that is too long would come again for ever.
    if (end.poisoned) this.#place.forget()
    const upMs = clock.uptime() - upAt
    if (upMs < AT_ONCE_MS && held.events === 0) this.#place.failed()
    else this.#place.held()
    this.#backoff.settled(upMs)
    this.#noteDown(end.reason, end.silentSince)
    const delayMs = this.#nextDelay()
    const mostMs = held.news ? Math.max(this.#seen.retryMs, NEWS_AGAIN_MS) : delayMs
    if (this.#life.live !== live || this.#stopped.aborted) return
    this.#seen.barrenInRow = held.news ? 0 : this.#seen.barrenInRow + 1
    if (this.#seen.barrenInRow >= SUSPICIOUS_REFUSALS) {
      this.#seen.barrenInRow = 0
      // Some give a stream before they look whose it is.
      void this.#life.pulse.look(live)
    }
    await this.#rest(Math.min(delayMs, mostMs))
  }

  /** The GET got no stream: what now? */
  async #understand(outcome: Exclude<Outcome, Success>, live: Live): Promise<void> {
    if (mayBeTheCursor(outcome)) this.#place.failed()
    switch (outcome.kind) {
      case 'not-offered':
        if (!this.#everUp) return await this.#notOffered(live, sayOutcome(outcome))
        if (await this.#life.pulse.gone(live, signatureOf(outcome), true)) return
        return await this.#retryRefused(sayOutcome(outcome))
      case 'no-such-session':
        // A session that GET never knew but ping does: renewing it would not help.
        if (!this.#seen.wasUp && (await this.#life.pulse.check(live)) === 'alive') {
          return await this.#retryRefused('HTTP 404')
        }
        return this.#life.lose(live, '404 to the push stream')
      case 'unauthorized':
        if (await this.#suspectSession(outcome, live)) return
        return await this.#retryRefused(`HTTP ${outcome.status}`)
      case 'refused':
        return await this.#refused(outcome, live)
      case 'unavailable':
        if (outcome.status === undefined) this.#seen.refusalsInRow = 0
        if (outcome.status !== 429) {
          const earliest = this.#config.clock.now() + Math.max(LINGERS_MS, this.#seen.retryMs)
          this.#unservedSince = Math.max(this.#unservedSince ?? 0, earliest)
          if (outcome.status !== undefined && (await this.#suspectSession(outcome, live))) return
        }
        return await this.#retry(outcome.why, outcome.retryAfterMs)
      default:
        return impossible(outcome)
    }
  }

  /**
   * So often in a row it may be how this server says that the session is gone: a ping decides. Where that was said to
   * whoever asked, it is asked each time whether it still is.
   */
  async #suspectSession(outcome: Outcome, live: Live): Promise<boolean> {
    const said = signatureOf(outcome)
    const isGateway = isGatewayFailure(said)
    const isAsked = this.#life.pulse.refusesAnybody && !isGateway
    if (++this.#seen.refusalsInRow < SUSPICIOUS_REFUSALS && !isAsked) return false
    this.#seen.refusalsInRow = 0
    const isPassing = isGateway && this.#failingForMs < GATEWAY_AFTER_MS
    if (isPassing) return (await this.#life.pulse.check(live)) === 'lost'
    return await this.#life.pulse.gone(live, said, true)
  }

  async #refused(outcome: Refused, live: Live): Promise<void> {
    const why = sayOutcome(outcome)
    // 409: the server still holds our old stream; it will notice that it is gone.
    if (outcome.status === 409) {
      const { clock, conflictMs } = this.#config
      this.#seen.conflictSince ??= clock.uptime()
      const stuck = this.#seen.wasUp && clock.uptime() - this.#seen.conflictSince > conflictMs
      // (Without a DELETE: what is still under way in that session is to be answered.)
      return stuck ? this.#life.lose(live, 'its old push stream stays open') : await this.#retry(why)
    }
    if (outcome.status === 400 && this.#place.isAsked) {
      // It does not know the cursor: once more without, and continuity is lost.
      return this.#place.forget()
    }
    const isAsked = this.#everUp || mayMeanSession(outcome.status) || outcome.rpcError !== undefined
    if (isAsked && (await this.#life.pulse.gone(live, signatureOf(outcome), true))) return
    // (One that has never given a stream may have none, in words of its own; or it is starting.)
    const passing =
      (outcome.status >= 500 || (outcome.status === 400 && live.id !== undefined)) &&
      this.#backoff.attempts < SUSPICIOUS_REFUSALS
    if (this.#everUp || passing) return await this.#retry(why)
    const isWanted = live.id !== undefined || this.#config.stateful
    return await (isWanted ? this.#retryRefused(why) : this.#notOffered(live, why))
  }

  /** Nothing to hold open: until the session changes there is nothing to do. */
  async #notOffered(live: Live, why: string): Promise<void> {
    this.#report({
      state: 'not-offered',
      reason: why,
      ...(this.#config.stateful ? { severe: true } : {}),
    })
    while (this.#life.live === live && !this.#stopped.aborted) await this.#life.changed(this.#stopped)
  }

  async #retry(why: string, floorMs = 0): Promise<void> {
    await this.#again(why, this.#nextDelay(floorMs), false)
  }

  async #retryRefused(why: string): Promise<void> {
    await this.#again(why, this.#delayFor(true), true)
  }

  async #again(why: string, delayMs: number, severe: boolean): Promise<void> {
    const { clock } = this.#config
    this.#down ??= { since: clock.uptime(), at: clock.now(), failures: 0 }
    this.#down.failures++
    // (Who asked for no push is not warned that there is none.)
    const isMissed = this.#everUp || this.#config.stateful
    this.#report({
      state: 'retrying',
      reason: why,
      delayMs: Math.round(delayMs),
      attempts: this.#down.failures,
      ...(isMissed && (severe || this.#failingForMs > SLOW_AFTER_MS) ? { severe: true } : {}),
    })
    await this.#rest(delayMs)
  }

  #nextDelay(floorMs = 0): number {
    return this.#backoff.next(
      this.#failingForMs,
      Math.min(Math.max(floorMs, this.#seen.retryMs), MAX_RETRY_MS),
    )
  }

  get #failingForMs(): number {
    return this.#down === undefined ? 0 : this.#config.clock.uptime() - this.#down.since
  }

  /** Sleeps, unless the session changes or the clock jumps. */
  async #rest(ms: number): Promise<void> {
    if (ms <= 0 || this.#stopped.aborted) return
    const rested = new Abort()
    this.#wake = () => rested.abort()
    await this.#life.changedWithin(ms, rested, this.#stopped)
  }

  /** A wall clock that moved more than it should between two looks: the machine slept. */
  #lookAtClock(): void {
    const { before, passedMs } = this.#clockWatch.look()
    this.#listening.awake()
    if (this.#life.servedAt > (this.#unservedSince ?? Number.POSITIVE_INFINITY)) {
      this.#unservedSince = Number.POSITIVE_INFINITY
      this.#wake()
    }
    if (passedMs < LOOK_MS + this.#config.clockJumpMs) return
    const text = `the clock jumped by ${seconds(passedMs)}; checking the push stream`
    this.#outlet.report({ kind: 'note', level: 'info', text })
    this.#wake()
    this.#asking?.abort()
    this.#listening.wake(before)
  }

  #noteUp(resumed: boolean): void {
    const { clock } = this.#config
    const first = !this.#everUp
    this.#everUp = true
    const broken = this.#down
    this.#down = undefined
    this.#unservedSince = undefined
    const awayMs = broken === undefined ? 0 : clock.uptime() - broken.since
    // Where something may have been missed it was of no use from then on. (A wall clock may have been set back.)
    const downMs = resumed || broken === undefined ? awayMs : Math.max(clock.now() - broken.at, awayMs)
    this.#report({
      state: 'up',
      continuous: resumed || (first && this.#generation === 1),
      ...(broken === undefined ? {} : { downMs: Math.round(downMs), attempts: broken.failures + 1 }),
    })
  }

  #noteDown(reason: string, noticedAt = this.#config.clock.now()): void {
    if (!this.#everUp || this.#down !== undefined) return
    const at = this.#clockWatch.atTheEarliest(Math.min(noticedAt, this.#listening.unsureSince ?? noticedAt))
    this.#down = { since: this.#config.clock.uptime(), at, failures: 0 }
    this.#report({ state: 'down', reason }, at)
  }

  /** A refusal is met as often as an outage for a minute (a redeploy shows many faces), then seldom. */
  #delayFor(refused: boolean): number {
    return refused && this.#failingForMs > SLOW_AFTER_MS ? this.#backoff.slow() : this.#nextDelay()
  }

  /** (Once stopped, what was asked before is answered still: it is not of the streams that are told of now.) */
  #report(fact: Omit<PushStatus, 'kind' | 'at' | 'generation'>, at = this.#config.clock.now()): void {
    if (this.#stopped.aborted) return
    this.#outlet.report({ kind: 'push', at, generation: this.#generation, ...fact })
  }
}

/** Could it be otherwise without the cursor? What is said in front of the server, or of our old stream, says nothing of it. */
function mayBeTheCursor(outcome: Outcome): boolean {
  if (outcome.kind === 'unauthorized') return outcome.status === 403
  if (outcome.kind === 'not-offered') return true
  if (outcome.kind !== 'refused') return false
  const { status } = outcome
  return status !== 409 && (status < 300 || (status >= 400 && status <= 501))
}

/**
 * The life of the session with the server: opened by the client's `initialize`, renewed when the server forgets
 * it, ended with a DELETE.
 *
 * Not the push stream and not the requests: they ask for the live session, and tell when a reply says it is gone.
 * The one rule: what decides is the state alone (session-state.ts), and news that carries an older generation changes
 * nothing.
 *
 * [MCP 2025-11-25 transports, Session Management] 404 to a session id: start a new session without one.
 */
import { BridgeError, errors, impossible, reasonOf, seconds } from '../errors.ts'
import { textAt } from '../json.ts'
import type { Request, Response } from '../protocol.ts'
import { Abort, Backoff, limit, type Signal, sleep } from '../retry.ts'
import type { Outlet } from '../sides.ts'
import type { SessionStatus } from '../status.ts'
import { type HttpConfig, LAST_ATTEMPT_MS } from './config.ts'
import type { Exchange } from './exchange.ts'
import { quoted } from './meaning.ts'
import { difference, Memory, type Seen, seenIn } from './memory.ts'
import { isFinal, Opening } from './opening.ts'
import { INITIALIZED, OwnCalls } from './own-calls.ts'
import { Pulse } from './pulse.ts'
import type { SessionHeaders } from './round-trip.ts'
import { type Live, type Session, SessionState } from './session-state.ts'
import { Waiting } from './waiting.ts'

/** What was said to open a session, kept to be said again. */
interface Handshake {
  readonly initialize: Request
  /** Ours: made for a pipe that never initialized. No push stream, no capabilities. */
  readonly own: boolean
  /** The `initialized` to repeat; undefined while the client has not sent it. */
  initialized: Buffer | undefined
  /** What the client was told. */
  seen?: Seen
  /** There was a session of it. */
  wasLive?: boolean
}

/** A client that initializes again does not wait longer for the old session's end, or renewal. */
const LEAVE_LIMIT_MS = 1_000
/** After so many sessions in a row that would not be made like the one before, the last is used as it is. */
const RESTORES = 3
/** A server that is well has answered `initialize` by then. */
const SLOW_MS = 1_500
/** The last of the time for a goodbye: what a DELETE needs. */
const DELETE_MS = 50

export class SessionLife {
  readonly #config: HttpConfig
  readonly #exchange: Exchange
  readonly #outlet: Outlet
  readonly #state = new SessionState()
  #generation = 0
  #handshake: Handshake | undefined
  readonly #closing = new Abort()
  readonly #calls: OwnCalls
  readonly #opening: Opening
  /** Tells whether it lives. */
  readonly pulse: Pulse
  readonly #memory: Memory
  /** Generations renewed in vain, one behind the other. */
  readonly #renewals: Backoff
  #proven = false
  /** Uptime since when the present session is live. */
  #liveSince = 0
  /** Wall time at which the session was last seen to be alive. */
  #servedAt = 0
  readonly #waiting = new Waiting()
  /** A session that the server has opened and that is not live yet. */
  #candidate: Live | undefined
  /** Attempts at the next session that failed since this one was lost. */
  #failedInRow = 0
  /** Sessions in a row that would not be made like the one before. */
  #unrestoredInRow = 0
  /** Called with the generation that was lost, before anything else happens. */
  onLost: (generation: number, reason: string) => void = () => undefined

  constructor(config: HttpConfig, exchange: Exchange, outlet: Outlet) {
    this.#config = config
    this.#exchange = exchange
    this.#outlet = outlet
    this.#calls = new OwnCalls(config, exchange, outlet)
    this.#opening = new Opening(config, exchange, this.#calls, this.#closing)
    this.#memory = new Memory(this.#calls, outlet, config.clock, () => this.live)
    this.pulse = new Pulse(this.#calls, this)
    this.#renewals = new Backoff(config.backoff, config.random)
  }

  get current(): Session {
    return this.#state.current
  }

  get live(): Live | undefined {
    return this.#state.live
  }

  /** True when the client itself shook hands: only then there is a push stream. */
  get clientsOwn(): boolean {
    return this.#handshake?.own === false
  }

  /** Resolves at the next change of state, or when `signal` is aborted. */
  changed(signal: Signal): Promise<void> {
    return this.#state.changed(signal)
  }

  /** The same, for `ms` at most, and no longer than the session may be used. */
  async changedWithin(ms: number, ...signals: readonly Signal[]): Promise<void> {
    const over = limit(ms, ...signals, this.#closing)
    await this.changed(over.signal)
    over.clear()
  }

  /** The same, and no longer than until the server is seen to serve others. */
  servedWithin(ms: number, ...signals: readonly Signal[]): Promise<void> {
    return this.#waiting.with((served) => this.changedWithin(ms, served, ...signals))
  }

  /**
   * The client's own `initialize`. Resolves with the response to deliver, the session being live already if it
   * is a result. Rejects with the final error.
   */
  async initialize(request: Request, signal: Signal): Promise<Response> {
    const { state } = this.#state.current
    if (state === 'opening' || state === 'reopening') {
      await this.changedWithin(LEAVE_LIMIT_MS, signal)
    }
    if (this.#closing.aborted) throw errors.closing()
    if (signal.aborted) throw signal.reason
    // (In one go: who waits for a session is to find this one being opened, not none.)
    const left = this.#leave()
    this.#handshake = { initialize: request, own: false, initialized: undefined }
    return await this.#open(this.#handshake, this.#config.patienceMs, signal, left)
  }

  /** The client's `initialized` is about to be sent: from now on a new session repeats it. */
  initialized(raw: Buffer): void {
    if (this.#handshake !== undefined) this.#handshake.initialized = raw
  }

  /**
   * The live session; opened or renewed first if need be. Waits until `deadline` (uptime, ms), then rejects with
   * why there is none.
   */
  async ready(deadline: number, signal: Signal): Promise<Live> {
    const { clock, patienceMs, reopenSpacingMs, random, backoff } = this.#config
    const tries = new Backoff(backoff, random)
    const cameAt = clock.uptime()
    // The last attempt is given a moment: cut short it would say nothing of why there is no session.
    const lastMs = Math.min(LAST_ATTEMPT_MS, patienceMs)
    const none = (): BridgeError => errors.unreachable(this.#exchange.where, 'no session yet', patienceMs)
    for (;;) {
      if (signal.aborted) throw signal.reason
      const session = this.#state.current
      if (session.state === 'live') return session
      if (this.#closing.aborted) throw errors.closing()
      const left = deadline - clock.uptime()
      switch (session.state) {
        case 'closed':
          throw errors.closing()
        case 'new':
          if (left <= 0) throw session.cause ?? none()
          try {
            await this.#openUnasked(Math.max(left, lastMs), signal)
          } catch (error) {
            if (!isPassing(error) || this.#closing.aborted) throw error
            const wait = Math.min(tries.next(0, error.retryAfterMs), deadline - clock.uptime())
            if (wait > 0) await this.changedWithin(wait, signal)
          }
          break
        case 'opening':
        case 'reopening': {
          const waitMs = session.cause === undefined ? left + lastMs : left
          if (waitMs <= 0) throw session.cause ?? none()
          await this.changedWithin(waitMs, signal)
          break
        }
        case 'lost': {
          const rested = clock.uptime() - session.attemptEndedAt
          const spacing = Math.max(reopenSpacingMs, session.cause.retryAfterMs ?? 0)
          if (left <= 0 || (isFinal(session.cause) && session.attemptEndedAt >= cameAt)) throw session.cause
          if (spacing > reopenSpacingMs && spacing - rested > left) throw session.cause
          const wait = rested >= spacing ? tries.next() : spacing - rested + tries.next()
          if (wait > 0) await this.changedWithin(Math.min(wait, left), signal)
          if (this.#state.current === session) this.attempt()
          break
        }
        default:
          return impossible(session)
      }
    }
  }

  /** The session took a message, or gave one: renewing it was not in vain. (An open stream says less: all else may be refused.) */
  prove(live: Live): void {
    if (this.#proven || this.#state.live !== live) return
    this.#proven = true
    this.#renewals.reset()
  }

  /** There is life in it. */
  served(live: Live): void {
    if (this.#state.live !== live) return
    this.pulse.served()
    this.#servedAt = this.#config.clock.now()
    this.#waiting.served(this.#servedAt)
  }

  /** Wall time from which on a session that turns out to be gone may have been so, its stream open or not. */
  get servedAt(): number {
    return this.#servedAt
  }

  /** The client set something in `live`, which may have been left meanwhile: then the next one must be told too. */
  keep(request: Request, live: Live): void {
    this.#memory.keep(request, live)
  }

  /** A reply says that `live` is gone. Starts the renewal; late news about an older session changes nothing. */
  lose(live: Live, reason: string): void {
    if (this.#state.live !== live) return
    this.onLost(live.generation, reason)
    this.#report('reopening', live.generation, reason)
    const now = this.#config.clock.uptime()
    this.#renewals.settled(now - this.#liveSince)
    // A session that served nothing was renewed in vain: not at once again.
    this.#renew(live.generation, now, this.#proven ? 0 : this.#renewals.next())
  }

  /** The same of one that the server may know still. */
  giveUp(live: Live, reason: string): void {
    if (this.#state.live !== live) return
    void this.#calls.delete(live, this.#config.privateLimitMs)
    this.lose(live, reason)
  }

  /** Would the server begin a session now? */
  async opens(): Promise<boolean> {
    const handshake = this.#handshake
    if (handshake === undefined || this.#closing.aborted) return false
    return await this.#opening.opens(this.#calls.underOwnId(handshake.initialize), this.#attemptLimitMs)
  }

  /** One more attempt to get out of `lost`. */
  attempt(): void {
    const session = this.#state.current
    if (session.state === 'lost') this.#renew(session.generation, session.since, 0, session.cause)
  }

  /** Ends waits, takes leave of the server within `deadlineMs`, and closes. */
  async close(deadlineMs: number): Promise<void> {
    this.#closing.abort(errors.closing())
    const until = this.#config.clock.uptime() + deadlineMs
    // A session id may be on the way: without it the server would keep the session.
    const settled = this.#opening.settled(Math.max(0, deadlineMs - DELETE_MS))
    if (this.live === undefined) await settled
    const live = this.live ?? this.#candidate
    this.#state.become({ state: 'closed' })
    if (live !== undefined) void this.#calls.delete(live, deadlineMs)
    await settled
    await this.#calls.parted(Math.max(DELETE_MS, until - this.#config.clock.uptime()))
    this.#calls.end()
  }

  // Changing state

  #nextOf(headers: SessionHeaders): Live {
    return { state: 'live', generation: this.#generation + 1, ...headers }
  }

  /** Makes the next session live once it has heard what it must before it is used. False when that comes too late. */
  async #enter(
    next: Live,
    handshake: Handshake,
    limitMs: number,
    ...signals: readonly Signal[]
  ): Promise<boolean> {
    this.#candidate = next
    const over = limit(limitMs, this.#calls.ended, ...signals)
    try {
      if (handshake.initialized !== undefined)
        await this.#resume(next, handshake, handshake.initialized, over.signal)
    } finally {
      over.clear()
      if (this.#candidate === next) this.#candidate = undefined
    }
    if (handshake !== this.#handshake) {
      this.#comeLate(next, handshake)
      return false
    }
    if (!this.#state.become(next)) return false
    this.#generation = next.generation
    handshake.wasLive = true
    this.#proven = false
    this.#liveSince = this.#config.clock.uptime()
    this.#servedAt = this.#config.clock.now()
    return true
  }

  /** Before a second `initialize`. The session that is to end, though it was not live yet. */
  #leave(): Live | undefined {
    const live = this.live
    this.#memory.forget()
    if (live !== undefined) this.onLost(live.generation, 'the client initialized again')
    this.#state.become({ state: 'new' })
    return live ?? this.#candidate
  }

  /** Opens the first session of a handshake, within the client's patience; `left`, the one before, ends first. */
  async #open(handshake: Handshake, patienceMs: number, signal: Signal, left?: Live): Promise<Response> {
    const { current } = this
    const cause = current.state === 'new' ? current.cause : undefined
    if (!this.#state.become({ state: 'opening', cause })) throw errors.closing()
    const generation = this.#generation + 1
    this.#report('opening', generation)
    let fact = `${this.#exchange.where} has not answered yet`
    try {
      if (left !== undefined) await this.#calls.delete(left, LEAVE_LIMIT_MS)
      if (signal.aborted) throw signal.reason
      const slow = setTimeout(() => {
        this.#report('opening', generation, `${fact}; trying for ${seconds(patienceMs)}`)
      }, SLOW_MS)
      const onRetry = (failure: BridgeError): void => {
        fact = failure.message
      }
      const opened = await this.#opening
        .initialize(handshake.initialize, patienceMs, signal, onRetry)
        .finally(() => clearTimeout(slow))
      if (opened.response.result === undefined) {
        this.#state.become({ state: 'new' })
        return opened.response
      }
      handshake.seen = seenIn(opened.response)
      const live = this.#nextOf(opened.headers)
      if (!(await this.#enter(live, handshake, Math.min(patienceMs, this.#config.privateLimitMs), signal)))
        throw this.#closing.aborted ? errors.closing() : errors.superseded(false)
      this.#report('live', live.generation)
      return opened.response
    } catch (error) {
      if (handshake === this.#handshake)
        this.#state.become({ state: 'new', cause: error instanceof BridgeError ? error : cause })
      throw signal.aborted ? signal.reason : error
    }
  }

  /** A pipe asks without having initialized: repeat the client's handshake if it tried one, else make our own. */
  async #openUnasked(patienceMs: number, signal: Signal): Promise<void> {
    const handshake: Handshake = this.#handshake ?? {
      own: true,
      initialized: INITIALIZED.raw,
      initialize: this.#calls.composeInitialize(),
    }
    handshake.initialized ??= INITIALIZED.raw
    this.#handshake = handshake
    const response = await this.#open(handshake, patienceMs, signal)
    if (response.error !== undefined) {
      const { text, rpcError } = quoted(textAt(response.raw, response.error), this.#config.redact)
      throw new BridgeError('SERVER_REFUSED', `${this.#exchange.where} refused to initialize: ${text}`, {
        rpcError,
      })
    }
  }

  /** Starts one attempt at a new session. Never two: only a session that is live or lost can begin one. */
  #renew(generation: number, since: number, waitMs: number, cause?: BridgeError): void {
    const handshake = this.#handshake
    if (handshake === undefined || this.#closing.aborted) return
    if (!this.#state.become({ state: 'reopening', generation, since, cause })) return
    if (cause === undefined) this.#failedInRow = 0
    void this.#attemptRenewal(handshake, generation, since, waitMs)
  }

  async #attemptRenewal(
    handshake: Handshake,
    generation: number,
    since: number,
    waitMs: number,
  ): Promise<void> {
    const { clock } = this.#config
    try {
      if (waitMs > 0) await sleep(waitMs, this.#closing)
      if (this.#closing.aborted || handshake !== this.#handshake) return
      const request = this.#calls.underOwnId(handshake.initialize)
      const opened = await this.#opening.again(request, this.#attemptLimitMs)
      if (opened.response.error !== undefined) {
        const { text } = quoted(textAt(opened.response.raw, opened.response.error), this.#config.redact)
        throw errors.notRenewed(this.#exchange.where, text)
      }
      const next = this.#nextOf(opened.headers)
      if (this.#closing.aborted || handshake !== this.#handshake) return this.#comeLate(next, handshake)
      if (!(await this.#enter(next, handshake, this.#attemptLimitMs))) return
      this.#memory.catchUp(next)
      const changed = difference(handshake.seen, seenIn(opened.response))
      this.#outlet.report({
        kind: 'session',
        state: 'live',
        generation: next.generation,
        afterMs: Math.round(clock.uptime() - since),
        ...(changed === undefined ? {} : { changed }),
      })
      this.pulse.renewed(next)
      if (!handshake.own && handshake.initialized !== undefined) {
        for (const message of this.#memory.toTell(handshake.seen))
          void this.#outlet.deliver(message, 'answer')
      }
    } catch (cause) {
      if (handshake !== this.#handshake) return
      const error = cause instanceof BridgeError ? cause : new BridgeError('SERVER_REFUSED', reasonOf(cause))
      const lost = this.#state.become({
        state: 'lost',
        generation,
        since,
        cause: error,
        attemptEndedAt: clock.uptime(),
      })
      // One line a loss, however many attempts it takes.
      if (lost && this.#failedInRow++ === 0) this.#report('lost', generation, error.message)
    }
  }

  /**
   * The session came while we were leaving: `close` takes it from the state, if it is still there to look. Or the client
   * has initialized again.
   */
  #comeLate(next: Live, handshake: Handshake): void {
    const isTaken = handshake === this.#handshake && this.#state.become(next)
    if (!isTaken) void this.#calls.delete(next, LEAVE_LIMIT_MS)
  }

  /** Makes the new session like the one before. Throws, and ends it, when it is gone already. */
  async #resume(next: Live, handshake: Handshake, initialized: Buffer, over: Signal): Promise<void> {
    try {
      const refused = await this.#calls.initialized(next, initialized, over)
      const { where } = this.#exchange
      if (refused !== undefined) this.#insist(handshake, errors.notInitialized(where, refused))
      if (!(await this.#memory.restore(next))) this.#insist(handshake, errors.lostAtOnce(where))
      this.#unrestoredInRow = 0
    } catch (error) {
      void this.#calls.delete(next, this.#config.privateLimitMs)
      throw error
    }
  }

  /**
   * Throws `why`: another session may take what this one did not. Said in several in a row it is about what was asked:
   * the last is used without. So is the first of a handshake, of a client that knows no better.
   */
  #insist(handshake: Handshake, why: BridgeError): void {
    if (handshake.wasLive === true && ++this.#unrestoredInRow < RESTORES) throw why
  }

  /** One that a hung backend has swallowed must leave time for another; a server that is slow gets more each time. */
  get #attemptLimitMs(): number {
    const { patienceMs, privateLimitMs } = this.#config
    return Math.min(privateLimitMs, (patienceMs / 3) * 2 ** Math.min(this.#failedInRow, 10))
  }

  #report(state: SessionStatus['state'], generation: number, reason?: string): void {
    this.#outlet.report({ kind: 'session', state, generation, ...(reason === undefined ? {} : { reason }) })
  }
}

/** Another attempt may fare better: the server was not reached, or did not take all. */
function isPassing(error: unknown): error is BridgeError {
  return error instanceof BridgeError && error.code === 'SERVER_UNREACHABLE'
}

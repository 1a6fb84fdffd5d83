/**
 * The life of the session with the server: opened by the client's `initialize`, renewed when the server forgets
 * it, ended with a DELETE.
 *
 * Not the push stream and not the requests: they ask for the live session, and tell when a reply says it is gone.
 * The one rule: `Session` is the only state, it changes only through `#become`, and news that carries an older
 * generation changes nothing.
 *
 * [MCP 2025-11-25 transports, Session Management] 404 to a session id: start a new session without one.
 */
import { BridgeError, errors, reasonOf } from '../errors.ts'
import { isString, stringAt, textAt } from '../json.ts'
import {
  compose,
  LATEST_LEGACY_VERSION,
  METHOD,
  type Message,
  member,
  parse,
  type Request,
  type Response,
  stringMember,
  valueAt,
  withId,
} from '../protocol.ts'
import { Backoff, sleep } from '../retry.ts'
import type { Outlet } from '../sides.ts'
import type { HttpConfig } from './config.ts'
import type { Exchange, Outcome, Refused, SessionHeaders } from './exchange.ts'

export interface Live extends SessionHeaders {
  readonly state: 'live'
  /** Counts sessions of this process from 1. */
  readonly generation: number
}

export type Session =
  | { readonly state: 'new' }
  | { readonly state: 'opening'; readonly done: Promise<void> }
  | Live
  /** The server forgot `generation`; one attempt at the next is under way and ends with `done`, which never rejects. */
  | {
      readonly state: 'reopening'
      readonly generation: number
      readonly since: number
      readonly done: Promise<void>
    }
  /** That attempt failed. Left by the next attempt. */
  | {
      readonly state: 'lost'
      readonly generation: number
      readonly since: number
      readonly cause: BridgeError
      readonly attemptEndedAt: number
    }
  | { readonly state: 'closed' }

const NEXT: Readonly<Record<Session['state'], readonly Session['state'][]>> = {
  new: ['opening', 'closed'],
  opening: ['live', 'new', 'closed'],
  live: ['reopening', 'new', 'closed'],
  reopening: ['live', 'lost', 'new', 'closed'],
  lost: ['reopening', 'new', 'closed'],
  closed: [],
}

/** What was said to open a session, kept to be said again. */
interface Handshake {
  readonly initialize: Request
  /** Ours: made for a pipe that never initialized. No push stream, no capabilities. */
  readonly own: boolean
  /** The `initialized` to repeat; undefined while the client has not sent it. */
  initialized: Buffer | undefined
  /** The result the client saw. */
  seen?: {
    readonly protocolVersion: string
    readonly capabilities: unknown
    readonly capabilitiesText: string
  }
}

interface Opened {
  readonly headers: SessionHeaders
  readonly response: Response
}

/** A refusal's fingerprint: two refusals with the same one say the same. */
type Signature = string

export class SessionLife {
  readonly #config: HttpConfig
  readonly #exchange: Exchange
  readonly #outlet: Outlet
  #session: Session = { state: 'new' }
  #generation = 0
  #handshake: Handshake | undefined
  /** Waiters for the next change. */
  #waiters = new Set<() => void>()
  /** Ends waits, not calls: a goodbye may still need the answer of an `initialize` that is under way. */
  readonly #closing = new AbortController()
  readonly #ended = new AbortController()
  /** Every `initialize` whose session id may still come. */
  readonly #underway = new Set<Promise<unknown>>()
  /** Generations since the last that served anything. */
  readonly #renewals: Backoff
  #proven = false
  #verdict: { readonly generation: number; readonly lost: Promise<boolean> } | undefined
  #privateIds = 0
  #level: Buffer | undefined
  readonly #subscriptions = new Map<string, Buffer>()
  /** Called with the generation that was lost, before anything else happens. */
  onLost: (generation: number, reason: string) => void = () => undefined

  constructor(config: HttpConfig, exchange: Exchange, outlet: Outlet) {
    this.#config = config
    this.#exchange = exchange
    this.#outlet = outlet
    this.#renewals = new Backoff(config.backoff, config.random)
  }

  get current(): Session {
    return this.#session
  }

  get live(): Live | undefined {
    return this.#session.state === 'live' ? this.#session : undefined
  }

  /** True when the client itself shook hands: only then there is a push stream. */
  get clientsOwn(): boolean {
    return this.#handshake?.own === false
  }

  /** Aborted when the goodbye begins. */
  get closing(): AbortSignal {
    return this.#closing.signal
  }

  /** Resolves at the next change of state, or when `signal` is aborted. */
  changed(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiters.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      this.#waiters.add(done)
      signal.addEventListener('abort', done, { once: true })
    })
  }

  /**
   * The client's own `initialize`. Resolves with the response to deliver, the session being live already if it
   * is a result. Rejects with the final error.
   */
  async initialize(request: Request, signal: AbortSignal): Promise<Response> {
    await this.#leave()
    this.#handshake = { initialize: request, own: false, initialized: undefined }
    return await this.#open(this.#handshake, signal)
  }

  /** The client's `initialized` is about to be sent: from now on a new session repeats it. */
  initialized(raw: Buffer): void {
    if (this.#handshake !== undefined) this.#handshake.initialized = raw
  }

  /**
   * The live session; opened or renewed first if need be. Waits until `deadline` (uptime, ms), then rejects with
   * why there is none.
   */
  async ready(deadline: number, signal: AbortSignal): Promise<Live> {
    const { clock, reopenSpacingMs, random, backoff } = this.#config
    const tries = new Backoff(backoff, random)
    for (;;) {
      if (signal.aborted) throw signal.reason
      const session = this.#session
      const left = deadline - clock.uptime()
      switch (session.state) {
        case 'live':
          return session
        case 'closed':
          throw errors.closing()
        case 'new':
          if (this.#closing.signal.aborted) throw errors.closing()
          await this.#openUnasked(signal)
          break
        case 'opening':
        case 'reopening':
          if (left <= 0)
            throw errors.unreachable(this.#exchange.where, 'no session yet', this.#config.patienceMs)
          await this.#changedWithin(left, signal)
          break
        case 'lost': {
          if (left <= 0 || isFinal(session.cause)) throw session.cause
          const rested = clock.uptime() - session.attemptEndedAt
          const wait = rested >= reopenSpacingMs ? tries.next() : reopenSpacingMs - rested + tries.next()
          if (wait > 0) await this.#changedWithin(Math.min(wait, left), signal)
          if (this.#session === session) this.attempt()
          break
        }
      }
    }
  }

  /** The session served something: renewing it was not in vain. */
  prove(live: Live): void {
    if (this.#proven || this.#session !== live) return
    this.#proven = true
    this.#renewals.reset()
  }

  /** A reply says that `live` is gone. Starts the renewal; late news about an older session changes nothing. */
  lose(live: Live, reason: string): void {
    if (this.#session !== live) return
    this.onLost(live.generation, reason)
    this.#report('reopening', live.generation, reason)
    this.#renew(live.generation, this.#config.clock.uptime())
  }

  /** One more attempt to get out of `lost`. */
  attempt(): void {
    const session = this.#session
    if (session.state === 'lost') this.#renew(session.generation, session.since)
  }

  /**
   * Is the session gone, though the server said something other than 404? One private `ping` in it decides:
   * any 2xx and it lives, the same refusal and it is lost, anything else and nothing is known.
   */
  async gone(live: Live, refusal: Signature): Promise<boolean> {
    if (this.#session !== live) return true
    if (live.id === undefined) return false
    if (this.#verdict?.generation !== live.generation) {
      const lost = this.#askPing(live, refusal)
      this.#verdict = { generation: live.generation, lost }
      void lost.finally(() => {
        this.#verdict = undefined
      })
    }
    if (!(await this.#verdict.lost)) return false
    if (this.#session === live) {
      void this.#delete(live, this.#config.privateLimitMs)
      this.lose(live, `the server refuses it (${refusal})`)
    }
    return true
  }

  /** A private `ping` in the session. `lost`: 404. `failed`: no answer within the limit, or none that counts. */
  async ping(live: Live, limitMs: number): Promise<'alive' | 'lost' | 'failed'> {
    const { signature } = await this.#privately(live, METHOD.ping, undefined, limitMs)
    return signature === 'no-such-session' ? 'lost' : signature === 'unavailable' ? 'failed' : 'alive'
  }

  /** A request of the client succeeded: what it set is set again in the next session. */
  remember(request: Request): void {
    const params = request.params === undefined ? undefined : textAt(request.raw, request.params)
    if (params === undefined) return
    if (request.method === METHOD.setLevel) {
      this.#level = Buffer.from(params)
      return
    }
    const uri = member(request.raw, request.params, 'uri')
    if (uri === undefined || !isString(request.raw, uri)) return
    const key = stringAt(request.raw, uri)
    if (request.method === METHOD.subscribe) this.#subscriptions.set(key, Buffer.from(params))
    if (request.method === METHOD.unsubscribe) this.#subscriptions.delete(key)
  }

  /** Ends waits, takes leave of the server within `deadlineMs`, and closes. */
  async close(deadlineMs: number): Promise<void> {
    this.#closing.abort(errors.closing())
    const until = this.#config.clock.uptime() + deadlineMs
    // A session id may be on the way: without it the server would keep the session.
    const limit = new AbortController()
    const late = sleep(deadlineMs, limit.signal)
    while (this.#underway.size > 0 && this.#config.clock.uptime() < until) {
      await Promise.race([Promise.all(this.#underway).then(settle), late])
    }
    limit.abort()
    const live = this.live
    this.#become({ state: 'closed' })
    if (live !== undefined) await this.#delete(live, Math.max(50, until - this.#config.clock.uptime()))
    this.#ended.abort(errors.closing())
  }

  // Changing state

  #become(next: Session): boolean {
    if (!NEXT[this.#session.state].includes(next.state)) return false
    this.#session = next
    for (const wake of [...this.#waiters]) wake()
    return true
  }

  #goLive(headers: SessionHeaders): Live | undefined {
    const live: Live = { state: 'live', generation: this.#generation + 1, ...headers }
    if (!this.#become(live)) return undefined
    this.#generation++
    this.#proven = false
    return live
  }

  /** Before a second `initialize`: the old session ends. */
  async #leave(): Promise<void> {
    const session = this.#session
    if (session.state === 'opening' || session.state === 'reopening') {
      await this.#changedWithin(this.#config.privateLimitMs, this.#closing.signal)
    }
    const live = this.live
    this.#level = undefined
    this.#subscriptions.clear()
    if (live !== undefined) this.onLost(live.generation, 'the client initialized again')
    this.#become({ state: 'new' })
    if (live !== undefined) await this.#delete(live, 1_000)
  }

  /** Opens the first session of a handshake, within the client's patience. */
  async #open(handshake: Handshake, signal: AbortSignal): Promise<Response> {
    let finish: () => void = () => undefined
    const done = new Promise<void>((resolve) => {
      finish = resolve
    })
    if (!this.#become({ state: 'opening', done })) throw errors.closing()
    this.#outlet.report({ kind: 'session', state: 'opening', generation: this.#generation + 1 })
    try {
      const opened = await this.#shakeHands(handshake, this.#config.patienceMs, signal)
      if (opened.response.result === undefined) {
        this.#become({ state: 'new' })
        return opened.response
      }
      handshake.seen = describe(opened.response)
      const live = this.#goLive(opened.headers)
      if (live === undefined) throw errors.closing()
      this.#report('live', live.generation)
      return opened.response
    } catch (error) {
      this.#become({ state: 'new' })
      throw error
    } finally {
      finish()
    }
  }

  /** A pipe asks without having initialized: repeat the client's handshake if it tried one, else make our own. */
  async #openUnasked(signal: AbortSignal): Promise<void> {
    const handshake: Handshake = this.#handshake ?? {
      own: true,
      initialized: INITIALIZED.raw,
      initialize: compose({
        jsonrpc: '2.0',
        id: this.#privateId(),
        method: METHOD.initialize,
        params: {
          protocolVersion: LATEST_LEGACY_VERSION,
          capabilities: {},
          clientInfo: { name: 'chamade-mcp', version: this.#config.version },
        },
      }) as Request,
    }
    handshake.initialized ??= INITIALIZED.raw
    this.#handshake = handshake
    const response = await this.#open(handshake, signal)
    if (response.error !== undefined) {
      const text = textAt(response.raw, response.error)
      throw new BridgeError('SERVER_REFUSED', `${this.#exchange.where} refused to initialize: ${text}`, {
        rpcError: text,
      })
    }
    const live = this.live
    if (live !== undefined) await this.#sayInitialized(live, handshake)
  }

  /** Starts one attempt at a new session. Never two: the state holds its promise. */
  #renew(generation: number, since: number): void {
    const handshake = this.#handshake
    if (handshake === undefined || this.#closing.signal.aborted) return
    const wait = this.#proven ? 0 : this.#renewals.next()
    const done = Promise.resolve().then(() => this.#attemptRenewal(handshake, generation, since, wait))
    this.#become({ state: 'reopening', generation, since, done })
  }

  async #attemptRenewal(
    handshake: Handshake,
    generation: number,
    since: number,
    wait: number,
  ): Promise<void> {
    const { clock } = this.#config
    try {
      if (wait > 0) await sleep(wait, this.#closing.signal)
      const opened = await this.#shakeHands(handshake, 0, this.#ended.signal)
      if (opened.response.error !== undefined) {
        throw new BridgeError(
          'SERVER_REFUSED',
          `${this.#exchange.where} refused to initialize again: ${textAt(opened.response.raw, opened.response.error)}`,
        )
      }
      const next: Live = { state: 'live', generation: generation + 1, ...opened.headers }
      if (this.#closing.signal.aborted) return this.#comeLate(next)
      if (handshake.initialized !== undefined) {
        await this.#sayInitialized(next, handshake)
        await this.#restore(next)
      }
      const live = this.#goLive(opened.headers)
      if (live === undefined) return this.#comeLate(next)
      const changed = difference(handshake.seen, describe(opened.response))
      this.#outlet.report({
        kind: 'session',
        state: 'live',
        generation: live.generation,
        afterMs: Math.round(clock.uptime() - since),
        ...(changed === undefined ? {} : { changed }),
      })
      void this.#tell(handshake)
    } catch (cause) {
      const error = cause instanceof BridgeError ? cause : new BridgeError('SERVER_REFUSED', reasonOf(cause))
      const first = this.#session.state === 'reopening'
      this.#become({ state: 'lost', generation, since, cause: error, attemptEndedAt: clock.uptime() })
      if (first) this.#report('lost', generation, error.message)
    }
  }

  /** The session came while we were leaving: `close` takes it from the state, if it is still there to look. */
  #comeLate(next: Live): void {
    if (!this.#become(next)) void this.#delete(next, 300)
  }

  // Talking to the server

  /** `initialize`, as often as `patienceMs` allows (0: once). Resolves with the server's answer, good or bad. */
  async #shakeHands(handshake: Handshake, patienceMs: number, signal: AbortSignal): Promise<Opened> {
    const { clock, random, backoff, privateLimitMs } = this.#config
    const deadline = clock.uptime() + patienceMs
    const tries = new Backoff(backoff, random)
    const request = handshake.initialize
    let failure: BridgeError | undefined
    for (;;) {
      const limit = this.#limit(patienceMs > 0 ? Math.max(1, deadline - clock.uptime()) : privateLimitMs)
      const call = this.#exchange.call({ method: 'POST', body: request.raw, signal: limit })
      const outcome = await unlessAborted(this.#track(call), signal)
      if (outcome === undefined) {
        void this.#track(call.then((late) => this.#discard(late)))
        throw signal.reason
      }
      const opened = await this.#track(this.#readHandshake(outcome, request))
      if (opened !== undefined) return opened
      // An attempt that our own deadline cut short says less than the one before it.
      if (!limit.aborted || failure === undefined) failure = this.#whyNot(outcome, patienceMs)
      const retryAfterMs = outcome.kind === 'unavailable' ? (outcome.retryAfterMs ?? 0) : 0
      const wait = tries.next(0, retryAfterMs)
      const left = deadline - clock.uptime()
      if (isFinal(failure) || failure.code === 'NO_ENDPOINT' || failure.code === 'SERVER_REFUSED')
        throw failure
      if (wait > left) {
        if (retryAfterMs > left && outcome.kind === 'unavailable' && outcome.status !== undefined) {
          throw errors.busy(this.#exchange.where, outcome.status, retryAfterMs)
        }
        if (left <= 0) throw failure
      }
      await sleep(Math.min(wait, left), AbortSignal.any([this.#closing.signal, signal]))
      if (this.#closing.signal.aborted) throw errors.closing()
      if (signal.aborted) throw signal.reason
    }
  }

  #track<T>(task: Promise<T>): Promise<T> {
    this.#underway.add(task)
    const done = (): boolean => this.#underway.delete(task)
    task.then(done, done)
    return task
  }

  /** The client did not wait for it: the session that it opened ends. */
  async #discard(outcome: Outcome): Promise<void> {
    if (outcome.kind !== 'answer' && outcome.kind !== 'stream') return
    if (outcome.kind === 'stream') outcome.events.destroy()
    const live: Live = {
      state: 'live',
      generation: 0,
      id: outcome.sessionId,
      protocolVersion: LATEST_LEGACY_VERSION,
    }
    await this.#delete(live, 1_000)
  }

  async #readHandshake(outcome: Outcome, request: Request): Promise<Opened | undefined> {
    if (outcome.kind !== 'answer' && outcome.kind !== 'stream') return undefined
    const response = await this.#readResponse(outcome, request.id)
    if (response === undefined) return undefined
    const protocolVersion = stringMember(response.raw, response.result, 'protocolVersion')
    return {
      response: response.id === request.id ? response : withId(response, request.id),
      headers: { id: outcome.sessionId, protocolVersion: protocolVersion ?? LATEST_LEGACY_VERSION },
    }
  }

  /** The response in an answer to a message of our own; what else comes with it goes to the client. */
  async #readResponse(
    outcome: Outcome & { kind: 'answer' | 'stream' },
    id: string,
  ): Promise<Response | undefined> {
    const look = async (text: Buffer): Promise<Response | undefined> => {
      for (const message of parse(text)) {
        if (
          message.kind === 'response' &&
          (message.id === undefined || JSON.parse(message.id) === JSON.parse(id))
        ) {
          return message.id === undefined ? withId(message, id) : message
        }
        if (message.kind === 'notification') await this.#outlet.deliver(message, 'answer')
      }
      return undefined
    }
    if (outcome.kind === 'answer') return await look(outcome.text)
    try {
      for (
        let event = await outcome.events.next();
        event !== undefined;
        event = await outcome.events.next()
      ) {
        const response =
          event.kind === 'message' && event.data.length > 0 ? await look(event.data) : undefined
        if (response !== undefined) {
          void outcome.events.linger(250)
          return response
        }
      }
    } catch {
      // A stream that broke has no response in it.
    }
    return undefined
  }

  #whyNot(outcome: Outcome, waitedMs: number): BridgeError {
    const { where } = this.#exchange
    switch (outcome.kind) {
      case 'unauthorized':
        return this.unauthorized(outcome)
      case 'no-such-session':
      case 'not-offered':
        return errors.noEndpoint(where, outcome.kind === 'not-offered' ? 405 : 404)
      case 'refused':
        if (outcome.location !== undefined) return errors.redirect(where, outcome.status, outcome.location)
        if (outcome.rpcError === undefined && [400, 404, 405].includes(outcome.status)) {
          return errors.noEndpoint(where, outcome.status)
        }
        return errors.refused(where, outcome.status, outcome.text, outcome.rpcError)
      case 'unavailable':
        return errors.unreachable(where, outcome.why, waitedMs, outcome.cause)
      case 'accepted':
      case 'answer':
      case 'stream':
        return errors.unreachable(where, 'it did not answer initialize', waitedMs)
    }
  }

  /** The error for a 401 or 403. */
  unauthorized(outcome: Outcome & { kind: 'unauthorized' }): BridgeError {
    const { source, problem } = this.#config.credentials
    if (source !== undefined) return errors.keyRefused(this.#exchange.where, outcome.status, source)
    if (outcome.wantsOauth && problem === undefined) return errors.oauthUnsupported(this.#exchange.where)
    return errors.keyMissing(this.#exchange.where, outcome.status, problem)
  }

  async #sayInitialized(live: Live, handshake: Handshake): Promise<void> {
    const body = handshake.initialized
    if (body === undefined) return
    const outcome = await this.#exchange.call({ method: 'POST', body, session: live, signal: this.#limit() })
    if (outcome.kind === 'stream') outcome.events.destroy()
    if (outcome.kind === 'no-such-session' || outcome.kind === 'unavailable') {
      throw new BridgeError('SERVER_UNREACHABLE', `${this.#exchange.where} lost the new session at once`)
    }
  }

  async #restore(live: Live): Promise<void> {
    const limitMs = Math.min(this.#config.privateLimitMs, 10_000)
    const failed: string[] = []
    const again = async (method: string, params: Buffer): Promise<void> => {
      const { signature } = await this.#privately(live, method, params, limitMs)
      if (signature !== 'ok') failed.push(`${method} (${signature})`)
    }
    if (this.#level !== undefined) await again(METHOD.setLevel, this.#level)
    await Promise.all([...this.#subscriptions.values()].map((params) => again(METHOD.subscribe, params)))
    if (failed.length > 0) {
      const text = `the new session did not accept what was set before: ${failed.join(', ')}`
      this.#outlet.report({ kind: 'note', level: 'warn', text })
    }
  }

  /** What the client may have missed: lists that can have changed, resources it watches. */
  async #tell(handshake: Handshake): Promise<void> {
    if (handshake.own || handshake.initialized === undefined) return
    for (const list of ['tools', 'prompts', 'resources']) {
      if (!declares(handshake.seen?.capabilities, list, 'listChanged')) continue
      await this.#deliver({ jsonrpc: '2.0', method: `notifications/${list}/list_changed` })
    }
    for (const uri of this.#subscriptions.keys()) {
      await this.#deliver({ jsonrpc: '2.0', method: METHOD.resourceUpdated, params: { uri } })
    }
  }

  async #deliver(value: object): Promise<void> {
    await this.#outlet.deliver(compose(value), 'answer')
  }

  async #askPing(live: Live, refusal: Signature): Promise<boolean> {
    const { signature } = await this.#privately(live, METHOD.ping, undefined, 10_000)
    return signature === refusal || signature === 'no-such-session'
  }

  /** A request of our own in the session. */
  async #privately(
    live: Live,
    method: string,
    params: Buffer | undefined,
    limitMs: number,
  ): Promise<{ signature: Signature; response?: Response }> {
    const id = this.#privateId()
    const extra = params === undefined ? '' : `,"params":${params.toString()}`
    const body = Buffer.from(
      `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"method":${JSON.stringify(method)}${extra}}`,
    )
    const outcome = await this.#exchange.call({
      method: 'POST',
      body,
      session: live,
      signal: this.#limit(limitMs),
    })
    if (outcome.kind !== 'answer' && outcome.kind !== 'stream') return { signature: signatureOf(outcome) }
    const response = await this.#readResponse(outcome, JSON.stringify(id))
    if (response === undefined) return { signature: 'unavailable' }
    return { signature: responseSignature(response), response }
  }

  async #delete(live: Live, limitMs: number): Promise<void> {
    if (live.id === undefined) return
    const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(Math.ceil(limitMs))])
    await this.#exchange.call({ method: 'DELETE', session: live, signal })
  }

  #limit(ms = this.#config.privateLimitMs): AbortSignal {
    return AbortSignal.any([this.#ended.signal, AbortSignal.timeout(Math.ceil(ms))])
  }

  async #changedWithin(ms: number, signal: AbortSignal): Promise<void> {
    const limit = new AbortController()
    const either = AbortSignal.any([limit.signal, signal, this.#closing.signal])
    await Promise.race([this.changed(either), sleep(ms, either)])
    limit.abort()
  }

  #privateId(): string {
    return `chamade-mcp-${++this.#privateIds}`
  }

  #report(state: 'live' | 'reopening' | 'lost', generation: number, reason?: string): void {
    this.#outlet.report({ kind: 'session', state, generation, ...(reason === undefined ? {} : { reason }) })
  }
}

const INITIALIZED: Message = compose({ jsonrpc: '2.0', method: METHOD.initialized })

/** A turn of the event loop: what was waiting for a reply has dealt with it. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** What `call` gives, or undefined as soon as `signal` is aborted. */
function unlessAborted<T>(call: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const leave = (): void => resolve(undefined)
    if (signal.aborted) return leave()
    signal.addEventListener('abort', leave, { once: true })
    call.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave))
  })
}

/** Waiting does not mend these. */
function isFinal(error: BridgeError): boolean {
  return ['KEY_MISSING', 'KEY_REFUSED', 'OAUTH_UNSUPPORTED', 'REDIRECT_REFUSED', 'CLOSING'].includes(
    error.code,
  )
}

/** What a reply to a message says, short: `ok`, `no-such-session`, `unavailable`, or the refusal itself. */
export function signatureOf(outcome: Outcome): Signature {
  switch (outcome.kind) {
    case 'accepted':
      return 'ok'
    case 'refused':
      return refusalSignature(outcome)
    case 'unavailable':
      return outcome.status === undefined ? 'unavailable' : `HTTP ${outcome.status}`
    case 'unauthorized':
      return `HTTP ${outcome.status}`
    default:
      return outcome.kind
  }
}

export function refusalSignature(refused: Refused): Signature {
  const code =
    refused.rpcError === undefined ? undefined : (JSON.parse(refused.rpcError) as { code?: unknown }).code
  return code === undefined ? `HTTP ${refused.status}` : `HTTP ${refused.status}, ${String(code)}`
}

/** The same for a JSON-RPC response that came with 200. */
export function responseSignature(response: Response): Signature {
  if (response.error === undefined) return 'ok'
  const code = member(response.raw, response.error, 'code')
  return `HTTP 200, ${code === undefined ? 'no code' : textAt(response.raw, code)}`
}

function describe(response: Response): NonNullable<Handshake['seen']> {
  const result = response.result
  const capabilities = member(response.raw, result, 'capabilities')
  return {
    protocolVersion: stringMember(response.raw, result, 'protocolVersion') ?? '',
    capabilities: capabilities === undefined ? {} : valueAt(response.raw, capabilities),
    capabilitiesText: capabilities === undefined ? '' : JSON.stringify(valueAt(response.raw, capabilities)),
  }
}

function difference(seen: Handshake['seen'], now: NonNullable<Handshake['seen']>): string | undefined {
  if (seen === undefined) return undefined
  const parts: string[] = []
  if (seen.protocolVersion !== now.protocolVersion) {
    parts.push(`the server now speaks ${now.protocolVersion}, not ${seen.protocolVersion}`)
  }
  if (seen.capabilitiesText !== now.capabilitiesText) parts.push('the server now declares other capabilities')
  return parts.length === 0 ? undefined : parts.join(' and ')
}

function declares(capabilities: unknown, ...path: readonly string[]): boolean {
  let at = capabilities
  for (const key of path) {
    if (typeof at !== 'object' || at === null) return false
    at = (at as Record<string, unknown>)[key]
  }
  return at === true
}

/**
 * What we say to the server in our own name: the handshake, pings, what restores a session, the goodbye.
 *
 * Not a state: what an answer means for the session is decided in session.ts.
 * The one rule: our ids never leave this room. Answers to them end here; what else comes with them goes on.
 */
import { BridgeError, type BridgeErrorCode, errors, isCertificateFailure } from '../errors.ts'
import {
  compose,
  failure,
  LATEST_LEGACY_VERSION,
  type Malformed,
  METHOD,
  type Message,
  type Notification,
  parse,
  type Request,
  type Response,
  RPC,
  sameId,
  stringMember,
  success,
  withId,
} from '../protocol.ts'
import { Backoff, limit, MAX_WAIT_MS, type Signal, sleep } from '../retry.ts'
import type { Outlet } from '../sides.ts'
import type { HttpConfig } from './config.ts'
import type { EventReader } from './events.ts'
import type { Exchange } from './exchange.ts'
import type { Outcome } from './outcome.ts'
import { readOn } from './read-on.ts'
import type { SessionHeaders } from './round-trip.ts'
import { responseSignature, type Signature, signatureOf } from './signature.ts'

/** What a server's `initialize` answer opens; `response` may be an error. */
export interface Opened {
  readonly headers: SessionHeaders
  readonly response: Response
}

/** One `initialize` that was sent, and what became of it. */
interface Attempt {
  readonly outcome: Outcome
  readonly opened: Opened | undefined
  /** By our own deadline. */
  readonly isCut: boolean
}

/** A first attempt without an answer for this part of the patience is not the only one any more. */
export const FIRST_PART = 1 / 3
/** For the end of a session that nobody waited for. */
const ABANDONED_LIMIT_MS = 1_000
/** The last attempt within a patience may take so long beyond it. */
const LAST_ATTEMPT_MS = 1_000
/** A stream that ended before its answer, and again brought nothing, is not asked for more often. */
export const POLL_FLOOR_MS = 100

/** The `initialized` of a client that never wrote one. */
export const INITIALIZED = compose({ jsonrpc: '2.0', method: METHOD.initialized }) as Notification

export class OwnCalls {
  readonly #config: HttpConfig
  readonly #exchange: Exchange
  readonly #outlet: Outlet
  /** Ends waits, not calls: a goodbye may still need the answer of an `initialize` that is under way. */
  readonly #closing: Signal
  readonly #ended = new AbortController()
  /** Every `initialize` whose session id may still come. */
  readonly #underway = new Set<Promise<unknown>>()
  #ids = 0

  constructor(config: HttpConfig, exchange: Exchange, outlet: Outlet, closing: Signal) {
    this.#config = config
    this.#exchange = exchange
    this.#outlet = outlet
    this.#closing = closing
  }

  /** Aborted when every call ends. */
  get ended(): Signal {
    return this.#ended.signal
  }

  /** An `initialize` for a client that never wrote one: no capabilities. */
  composeInitialize(): Request {
    return compose({
      jsonrpc: '2.0',
      id: this.#nextId(),
      method: METHOD.initialize,
      params: {
        protocolVersion: LATEST_LEGACY_VERSION,
        capabilities: {},
        clientInfo: { name: 'chamade-mcp', version: this.#config.version },
      },
    }) as Request
  }

  /** The client's request, to be sent once more: its own id may be in use again. */
  underOwnId(request: Request): Request {
    return withId(request, JSON.stringify(this.#nextId()))
  }

  /**
   * `initialize`, as often as `patienceMs` allows, or once. Resolves with the server's answer, good or bad. An attempt
   * that a balancer has swallowed leaves time for another; of a server that is only slow the first answer is taken.
   */
  async initialize(
    request: Request,
    time: { readonly patienceMs: number } | { readonly onceMs: number },
    signal: Signal,
  ): Promise<Opened> {
    const { clock, random, backoff } = this.#config
    const began = clock.uptime()
    const isOnce = 'onceMs' in time
    const patienceMs = isOnce ? 0 : time.patienceMs
    const deadline = began + patienceMs
    const tries = new Backoff(backoff, random)
    const open = new Set<Promise<Attempt>>()
    let aloneMs = patienceMs * FIRST_PART
    let isEnough = isOnce
    let told: Outcome | undefined
    try {
      for (;;) {
        const left = deadline - clock.uptime()
        const isLast = isEnough || aloneMs >= left || this.#closing.aborted
        if (open.size === 0 || !(isEnough || this.#closing.aborted)) {
          // (The last one, at the deadline, is given a moment too: the server may be up just now.)
          const limitMs = isOnce ? time.onceMs : Math.max(Math.min(LAST_ATTEMPT_MS, patienceMs), left)
          open.add(this.#track(this.#attempt(request, limitMs)))
        }
        const first = await firstOf(open, isLast ? MAX_WAIT_MS : aloneMs, signal)
        if (signal.aborted) throw signal.reason
        if (first === undefined) {
          aloneMs *= 2
          continue
        }
        open.delete(first.task)
        const { outcome, opened, isCut } = first.result
        if (opened !== undefined) return opened
        // An attempt that our own deadline cut short says less than the one before it.
        if (!isCut || told === undefined) told = outcome
        const now = clock.uptime()
        const failure = this.#whyNot(told, now - began, isOnce)
        const final = this.#finalOf(failure, outcome, deadline - now)
        // (A server may refuse one for the sake of another that it still works at.)
        if (final !== undefined && (open.size === 0 || isFinal(final))) throw final
        isEnough ||= final !== undefined
        if (isEnough) continue
        const busyMs = outcome.kind === 'unavailable' ? outcome.retryAfterMs : undefined
        await sleep(Math.min(tries.next(0, busyMs), deadline - now), this.#closing, signal)
        if (this.#closing.aborted && open.size === 0) throw failure
        if (signal.aborted) throw signal.reason
      }
    } finally {
      for (const attempt of open) this.#abandon(attempt)
    }
  }

  async #attempt(request: Request, limitMs: number): Promise<Attempt> {
    const over = limit(limitMs, this.#ended.signal)
    try {
      const outcome = await this.#exchange.call({ method: 'POST', body: request.raw, signal: over.signal })
      const opened = await this.#readHandshake(outcome, request, over.signal)
      return { outcome, opened, isCut: over.signal.aborted }
    } finally {
      over.clear()
    }
  }

  /** The error that no further attempt would mend within `leftMs`. */
  #finalOf(failure: BridgeError, outcome: Outcome, leftMs: number): BridgeError | undefined {
    if (isFinal(failure) || failure.code === 'NO_ENDPOINT' || failure.code === 'SERVER_REFUSED')
      return failure
    const { status, retryAfterMs = 0 } = outcome.kind === 'unavailable' ? outcome : { status: undefined }
    if (status !== undefined && retryAfterMs > Math.max(leftMs, 0)) {
      return errors.busy(this.#exchange.where, status, retryAfterMs)
    }
    return leftMs <= 0 ? failure : undefined
  }

  /** Nobody waits for it any more: the session that it may open yet ends. */
  #abandon(attempt: Promise<Attempt>): void {
    const end = attempt.then(
      ({ opened }) => opened && this.delete(opened.headers, ABANDONED_LIMIT_MS),
      () => undefined,
    )
    void this.#track(end)
  }

  #track<T>(task: Promise<T>): Promise<T> {
    this.#underway.add(task)
    const done = (): boolean => this.#underway.delete(task)
    task.then(done, done)
    return task
  }

  async #readHandshake(outcome: Outcome, request: Request, signal: Signal): Promise<Opened | undefined> {
    if (outcome.kind !== 'answer' && outcome.kind !== 'stream') return undefined
    const offered = stringMember(request.raw, request.params, 'protocolVersion') ?? LATEST_LEGACY_VERSION
    const session = { id: outcome.sessionId, protocolVersion: offered }
    const response = await this.#readResponse(outcome, request.id, session, signal)
    if (response === undefined) {
      // Whatever it opened is of no use.
      void this.delete(session, this.#config.privateLimitMs)
      if (outcome.kind === 'stream' && outcome.events.broken) return undefined
      throw errors.confused(METHOD.initialize, this.#exchange.where, 'its answer holds no response to it')
    }
    const version = stringMember(response.raw, response.result, 'protocolVersion') ?? ''
    return {
      response: response.id === request.id ? response : withId(response, request.id),
      // (What cannot stand in a header would fail every request.)
      headers: {
        id: outcome.sessionId,
        protocolVersion: /^[\x21-\x7e]+$/.test(version) ? version : LATEST_LEGACY_VERSION,
      },
    }
  }

  /** The response in an answer to a message of our own; a stream that ends before it is resumed from its cursor. */
  async #readResponse(
    outcome: Outcome & { kind: 'answer' | 'stream' },
    id: string,
    session: SessionHeaders,
    signal: Signal,
  ): Promise<Response | undefined> {
    if (outcome.kind === 'answer') return await this.#lookFor(id, outcome.text, session)
    let { events } = outcome
    for (let cursor: string | undefined; ; ) {
      const response = await this.#readEvents(events, id, session)
      cursor = events.cursor
      if (response !== undefined || cursor === undefined) return response
      await sleep(Math.max(events.retryMs ?? 0, POLL_FLOOR_MS), signal)
      const resumed = await this.#exchange.call({ method: 'GET', session, cursor, signal })
      if (resumed.kind !== 'stream') return undefined
      events = resumed.events
    }
  }

  async #readEvents(events: EventReader, id: string, session: SessionHeaders): Promise<Response | undefined> {
    try {
      for (let event = await events.next(); event !== undefined; event = await events.next()) {
        if (event.kind === 'comment' || event.data.length === 0) continue
        const response = await this.#lookFor(id, event.data, session)
        if (response === undefined) continue
        void this.#readOn(events, session)
        return response
      }
    } catch {
      // It broke: no response has come.
    }
    return undefined
  }

  async #lookFor(id: string, text: Buffer, session: SessionHeaders): Promise<Response | undefined> {
    const messages = parse(text)
    for (const [i, message] of messages.entries()) {
      if (message.kind === 'response' && (message.id === undefined || sameId(message.id, id))) {
        void turn().then(() => this.#takeAll(messages.slice(i + 1), session))
        return message.id === undefined ? withId(message, id) : message
      }
      await this.#takeAll([message], session)
    }
    return undefined
  }

  /** What comes behind an answer follows it to the client. */
  async #readOn(events: EventReader, session: SessionHeaders): Promise<void> {
    await turn()
    await readOn(events, async (text) => {
      await this.#takeAll(parse(text), session)
      return true
    })
  }

  /** What else comes with our answer: notifications go to the client, a request is ours to answer. */
  async #takeAll(messages: readonly (Message | Malformed)[], session: SessionHeaders): Promise<void> {
    for (const message of messages) {
      if (message.kind === 'notification') await this.#outlet.deliver(message, 'answer')
      else if (message.kind === 'request') this.#answer(message, session)
      else this.#dropped('a message of the server')
    }
  }

  /** A server that waits for a reply would never answer us. Only a ping can be answered without the client. */
  #answer(request: Request, session: SessionHeaders): void {
    const isPing = request.method === METHOD.ping
    if (!isPing) this.#dropped(`${request.method} of the server`)
    const reply = isPing
      ? success(request.id, '{}')
      : failure(request.id, RPC.methodNotFound, 'not answered on the stream of a message of the bridge')
    void this.#within(this.#config.privateLimitMs, async (signal) => {
      const outcome = await this.#exchange.call({ method: 'POST', body: reply.raw, session, signal })
      if (outcome.kind === 'stream') void this.#readOn(outcome.events, session)
    })
  }

  #dropped(what: string): void {
    this.#outlet.report({ kind: 'dropped', what, why: 'it came with the answer to a message of our own' })
  }

  /** `again`: it has been an MCP endpoint before, so the address is right. */
  #whyNot(outcome: Outcome, waitedMs: number, again: boolean): BridgeError {
    const { where } = this.#exchange
    const notHere = (status: number): BridgeError =>
      again ? errors.refused(where, status, '') : errors.noEndpoint(where, status)
    switch (outcome.kind) {
      case 'unauthorized':
        return this.unauthorized(outcome)
      case 'no-such-session':
      case 'not-offered':
        return notHere(outcome.kind === 'not-offered' ? 405 : 404)
      case 'refused':
        if (outcome.location !== undefined) return errors.redirect(where, outcome.status, outcome.location)
        if (!again && outcome.rpcError === undefined && [400, 404, 405].includes(outcome.status)) {
          return errors.noEndpoint(where, outcome.status)
        }
        return errors.refused(where, outcome.status, outcome.text, outcome.rpcError)
      case 'unavailable':
        if (isCertificateFailure(outcome.cause)) return errors.certificate(where, outcome.cause)
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

  /** `initialized`, in the words of the client. Throws when the new session is gone already, or does not take it. */
  async initialized(session: SessionHeaders, body: Buffer, limitMs: number): Promise<void> {
    const outcome = await this.#within(limitMs, (signal) =>
      this.#exchange.call({ method: 'POST', body, session, signal }),
    )
    if (outcome.kind === 'stream') void this.#readOn(outcome.events, session)
    if (outcome.kind === 'no-such-session' || outcome.kind === 'unavailable') {
      const what = outcome.kind === 'unavailable' ? `took no initialized: ${outcome.why}` : 'lost it at once'
      throw new BridgeError('SERVER_UNREACHABLE', `${this.#exchange.where} opened a session and ${what}`)
    }
  }

  /** A request of our own in the session; `params` is JSON text. Gives what the reply says. */
  async ask(
    session: SessionHeaders,
    method: string,
    params: Buffer | undefined,
    limitMs: number,
  ): Promise<Signature> {
    const id = JSON.stringify(this.#nextId())
    const extra = params === undefined ? '' : `,"params":${params.toString()}`
    const body = Buffer.from(`{"jsonrpc":"2.0","id":${id},"method":${JSON.stringify(method)}${extra}}`)
    return await this.#within(limitMs, async (signal) => {
      const outcome = await this.#exchange.call({ method: 'POST', body, session, signal })
      if (outcome.kind !== 'answer' && outcome.kind !== 'stream') return signatureOf(outcome)
      const response = await this.#readResponse(outcome, id, session, signal)
      return response === undefined ? 'unavailable' : responseSignature(response)
    })
  }

  /** Ends the session on the server, best effort. */
  async delete(session: SessionHeaders, limitMs: number): Promise<void> {
    if (session.id === undefined) return
    await this.#within(limitMs, (signal) => this.#exchange.call({ method: 'DELETE', session, signal }))
  }

  /** Resolves when no session id is on its way any more, after `deadlineMs` at the latest. */
  async settled(deadlineMs: number): Promise<void> {
    const done = new AbortController()
    let late = false
    const deadline = sleep(deadlineMs, done.signal).then(() => {
      late = true
    })
    while (this.#underway.size > 0 && !late) {
      await Promise.race([Promise.all(this.#underway).then(turn), deadline])
    }
    done.abort()
  }

  /** Ends every call. */
  end(): void {
    this.#ended.abort(errors.closing())
  }

  /** `task` until `ms` are over, or every call ends. */
  async #within<T>(ms: number, task: (signal: Signal) => Promise<T>): Promise<T> {
    const over = limit(ms, this.#ended.signal)
    try {
      return await task(over.signal)
    } finally {
      over.clear()
    }
  }

  #nextId(): string {
    return `chamade-mcp-${++this.#ids}`
  }
}

/** A turn of the event loop: what was waiting for a reply has dealt with it. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** The first of `tasks` that is done; undefined after `ms`, or as soon as one of `signals` is aborted. */
export async function firstOf<T>(
  tasks: Iterable<Promise<T>>,
  ms: number,
  ...signals: readonly Signal[]
): Promise<{ readonly task: Promise<T>; readonly result: T } | undefined> {
  const done = new AbortController()
  const rest = sleep(ms, done.signal, ...signals).then(() => undefined)
  try {
    return await Promise.race([rest, ...Array.from(tasks, async (task) => ({ task, result: await task }))])
  } finally {
    done.abort()
  }
}

const FINAL: ReadonlySet<BridgeErrorCode> = new Set([
  'KEY_MISSING',
  'KEY_REFUSED',
  'OAUTH_UNSUPPORTED',
  'REDIRECT_REFUSED',
  'CERTIFICATE_REFUSED',
  'CLOSING',
])

/** Waiting does not mend these. */
export function isFinal(error: BridgeError): boolean {
  return FINAL.has(error.code)
}

/**
 * What we say to the server in our own name: pings, what makes a session like the one before, the goodbye.
 *
 * Not a state: what an answer means for the session is decided in pulse.ts and session.ts. Not `initialize`:
 * opening.ts says it.
 * The one rule: the client sees no id of ours. Answers to them end here; what else comes with them goes on.
 */
import { errors } from '../errors.ts'
import {
  composeNotification,
  composeRequest,
  failure,
  LATEST_LEGACY_VERSION,
  type Malformed,
  METHOD,
  type Message,
  parse,
  type Request,
  type Response,
  RPC,
  sameId,
  success,
  withId,
} from '../protocol.ts'
import { firstOf, limit, type Signal, sleep, turn } from '../retry.ts'
import type { Outlet } from '../sides.ts'
import { type HttpConfig, POLL_FLOOR_MS } from './config.ts'
import type { EventReader } from './events.ts'
import type { Exchange } from './exchange.ts'
import { isSuccess, type Outcome, sayOutcome } from './outcome.ts'
import { readOn } from './read-on.ts'
import type { SessionHeaders } from './round-trip.ts'
import { responseSignature, type Signature, signatureOf } from './signature.ts'

/** What came back to a request of ours, and when it may be sent again, if that was said. */
export interface Reply {
  readonly said: Signature
  readonly retryAfterMs?: number | undefined
}

/** The `initialized` of a client that never wrote one. */
export const INITIALIZED = composeNotification(METHOD.initialized)

export class OwnCalls {
  readonly #config: HttpConfig
  readonly #exchange: Exchange
  readonly #outlet: Outlet
  readonly #ended = new AbortController()
  /** DELETEs under way. */
  readonly #goodbyes = new Set<Promise<void>>()
  #ids = 0

  constructor(config: HttpConfig, exchange: Exchange, outlet: Outlet) {
    this.#config = config
    this.#exchange = exchange
    this.#outlet = outlet
  }

  /** Aborted when every call ends. */
  get ended(): Signal {
    return this.#ended.signal
  }

  /** An `initialize` for a client that never wrote one: no capabilities. */
  composeInitialize(): Request {
    return composeRequest(this.#nextId(), METHOD.initialize, {
      protocolVersion: LATEST_LEGACY_VERSION,
      capabilities: {},
      clientInfo: { name: 'chamade-mcp', version: this.#config.version },
    })
  }

  /** The client's request, to be sent once more: its own id may be in use again. */
  underOwnId(request: Request): Request {
    return withId(request, JSON.stringify(this.#nextId()))
  }

  /** The response in an answer to a message of our own; a stream that ends before it is resumed from its cursor. */
  async readResponse(
    outcome: Outcome & { kind: 'answer' | 'stream' },
    id: string,
    session: SessionHeaders,
    signal: Signal,
  ): Promise<Response | undefined> {
    if (outcome.kind === 'answer') return await this.#lookFor(id, outcome.text, session)
    let { events } = outcome
    for (;;) {
      const response = await this.#readEvents(events, id, session)
      const { cursor } = events
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
        if (event.kind !== 'message' || event.data.length === 0) continue
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
    const take = async (text: Buffer): Promise<boolean> => {
      await this.#takeAll(parse(text), session)
      return true
    }
    await readOn(events, take, (why) => this.#dropped('what the server said', why))
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

  #dropped(what: string, why = 'it came with the answer to a message of our own'): void {
    this.#outlet.report({ kind: 'dropped', what, why })
  }

  /**
   * `initialized`, in the words of the client. Gives why the server refuses it, if it does; throws when nothing else would
   * be taken in the new session either.
   */
  async initialized(session: SessionHeaders, body: Buffer, over: Signal): Promise<string | undefined> {
    const outcome = await this.#exchange.call({ method: 'POST', body, session, signal: over })
    if (outcome.kind === 'stream') void this.#readOn(outcome.events, session)
    const { where } = this.#exchange
    if (outcome.kind === 'no-such-session') throw errors.lostAtOnce(where)
    // (Who was let in for `initialize` just now: nothing that is said in this session would be taken.)
    if (outcome.kind === 'unauthorized' && outcome.status === 401) throw this.#exchange.unauthorized(outcome)
    if (outcome.kind === 'unavailable') throw errors.notInitialized(where, outcome.why, outcome.retryAfterMs)
    // (Some say "OK" to a notification, in plain text.)
    const isTaken = isSuccess(outcome) || (outcome.kind === 'refused' && outcome.status < 300)
    return isTaken ? undefined : sayOutcome(outcome)
  }

  /** A request of our own in the session; `params` is JSON text. Gives what the reply says. */
  async ask(
    session: SessionHeaders,
    method: string,
    params: Buffer | undefined,
    limitMs: number,
  ): Promise<Reply> {
    const { raw: body, id } = composeRequest(this.#nextId(), method, params?.toString())
    return await this.#within(limitMs, async (signal) => {
      const outcome = await this.#exchange.call({ method: 'POST', body, session, signal })
      if (outcome.kind !== 'answer' && outcome.kind !== 'stream') {
        const { retryAfterMs } = outcome.kind === 'unavailable' ? outcome : {}
        return { said: signatureOf(outcome), retryAfterMs }
      }
      const response = await this.readResponse(outcome, id, session, signal)
      return { said: response === undefined ? 'unavailable' : responseSignature(response) }
    })
  }

  /** Ends the session on the server, best effort. */
  async delete(session: SessionHeaders, limitMs: number): Promise<void> {
    if (session.id === undefined) return
    const goodbye = this.#within(limitMs, async (signal) => {
      const call = { method: 'DELETE', session, signal } as const
      const outcome = await this.#exchange.call(call)
      // A server may close its connection right behind its last answer. What is deleted twice is deleted.
      const isUnheard = outcome.kind === 'unavailable' && outcome.sent && outcome.status === undefined
      if (isUnheard) await this.#exchange.call(call)
    })
    this.#goodbyes.add(goodbye)
    await goodbye
    this.#goodbyes.delete(goodbye)
  }

  /** Resolves when no DELETE is under way any more, also none that nobody waited for; after `limitMs` at the latest. */
  async parted(limitMs: number): Promise<void> {
    await firstOf([Promise.all(this.#goodbyes)], limitMs)
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

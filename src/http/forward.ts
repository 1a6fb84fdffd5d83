/**
 * One message of the client on its way to the server, and the answer on its way back.
 *
 * Not the session: asked for, and told when a reply says it is gone.
 * The one rule: a message is sent again only when it cannot have run, or when running it twice changes nothing.
 * Everything else fails with an error that says it may have run.
 */
import { BridgeError, errors, impossible, reasonOf } from '../errors.ts'
import { textAt } from '../json.ts'
import {
  errorResponse,
  type Malformed,
  METHOD,
  type Message,
  type Notification,
  parse,
  type Request,
  type Response,
  sameId,
  withId,
} from '../protocol.ts'
import { Abort, Backoff, type Signal, sleep } from '../retry.ts'
import type { Lane, Outlet, Room } from '../sides.ts'
import type { AskedByServer } from './asked.ts'
import type { HttpConfig } from './config.ts'
import type { EventReader } from './events.ts'
import type { Exchange, Outcome, Refused, Unavailable } from './exchange.ts'
import { LINGER_MS, POLL_FLOOR_MS } from './own-calls.ts'
import type { Live, SessionLife } from './session.ts'
import { refusalSignature, responseSignature } from './signature.ts'

/** A message that is under way. Aborting ends it; the reason is what `send` rejects with, or WITHDRAWN. */
export class Flight extends Abort {
  /** True from its first byte on: from here the server may have it. */
  sent = false
}

/** Abort reason of a request that was cancelled: it ends without an error. */
export const WITHDRAWN = 'withdrawn'

/** A session forgotten under a message is made anew for it this often. */
const MAX_RENEWALS = 2
/**
 * An answer on the heels of a progress notification waits this long. Clients of the TypeScript SDK handle
 * notifications a moment later than responses: read together, the last progress would find its request answered.
 */
const AFTER_PROGRESS_MS = 2

const STATE_METHODS: ReadonlySet<string> = new Set([METHOD.setLevel, METHOD.subscribe, METHOD.unsubscribe])

type Success = Outcome & { kind: 'accepted' | 'answer' | 'stream' }

export class Forwarder {
  readonly #config: HttpConfig
  readonly #exchange: Exchange
  readonly #life: SessionLife
  readonly #asked: AskedByServer
  readonly #outlet: Outlet

  constructor(
    config: HttpConfig,
    exchange: Exchange,
    life: SessionLife,
    asked: AskedByServer,
    outlet: Outlet,
  ) {
    this.#config = config
    this.#exchange = exchange
    this.#life = life
    this.#asked = asked
    this.#outlet = outlet
  }

  /** Resolves when the request was answered or withdrawn. */
  request(request: Request, flight: Flight): Promise<void> {
    return this.#send(request, flight, (outcome, live) => {
      switch (outcome.kind) {
        case 'answer':
          return this.#takeAnswer(outcome.text, request, live)
        case 'stream':
          return this.#takeStream(outcome.events, request, live, flight)
        case 'accepted':
          throw this.#confused(request, 'it said "accepted" and sent no answer')
      }
    })
  }

  /** Resolves when the server has it, `onHeaders` having been called; rejects with why it has not. */
  notification(notification: Notification, flight: Flight, onHeaders: () => void): Promise<void> {
    return this.#send(notification, flight, (outcome, live) => {
      onHeaders()
      if (outcome.kind === 'stream') void this.#readOn(outcome.events, live)
      return true
    })
  }

  /** A reply to a request of the server: delivered once, and only to the session that asked. */
  async reply(response: Response, live: Live, signal: Signal): Promise<void> {
    const tries = new Backoff(this.#config.backoff, this.#config.random)
    for (;;) {
      const outcome = await this.#exchange.call({ method: 'POST', body: response.raw, session: live, signal })
      if (outcome.kind === 'stream') outcome.events.destroy()
      if (outcome.kind === 'no-such-session') this.#life.lose(live, '404 to a reply')
      if (isSuccess(outcome)) return
      const unread = outcome.kind === 'unavailable' && (!outcome.sent || isToldToWait(outcome))
      if (!unread || this.#life.live !== live || signal.aborted) throw this.#final(outcome, 'the reply')
      await sleep(tries.next(0, outcome.retryAfterMs), signal)
    }
  }

  /** What arrives on any stream of the server, other than the answer that stream is for. */
  receive(message: Message | Malformed, live: Live, lane: Lane): Room {
    switch (message.kind) {
      case 'malformed':
        return this.#dropped('a message of the server', message.detail)
      case 'response':
        return this.#dropped(
          `a response with id ${message.id ?? 'null'}`,
          'it came on a stream that is not its own',
        )
      case 'request':
        if (this.#life.live?.generation !== live.generation) {
          return this.#dropped(`${message.method} of the server`, 'its session is gone')
        }
        return this.#outlet.deliver(this.#asked.ask(message, live.generation), lane)
      case 'notification': {
        const known =
          message.method === METHOD.cancelled ? this.#asked.cancel(message, live.generation) : message
        return this.#outlet.deliver(known, lane)
      }
      default:
        return impossible(message)
    }
  }

  /** POSTs until `take` is content with an outcome (false: the session was lost, again). */
  async #send(
    message: Request | Notification,
    flight: Flight,
    take: (outcome: Success, live: Live) => boolean | Promise<boolean>,
  ): Promise<void> {
    const { clock, patienceMs, backoff, random } = this.#config
    const deadline = clock.uptime() + patienceMs
    let tries: Backoff | undefined
    for (let renewals = 0; ; ) {
      const live = this.#life.live ?? (await this.#life.ready(deadline, flight))
      if (renewals > 0 && message.method === METHOD.initialized) return // the renewal has said it
      flight.sent = false
      const outcome = await this.#exchange.call({
        method: 'POST',
        body: message.raw,
        session: live,
        signal: flight,
        flight,
      })
      if (flight.aborted) throw flight.reason
      // Refused: the server has not got it any more, and a cancellation withdraws it.
      if (!isSuccess(outcome)) flight.sent = false
      let lost = false
      switch (outcome.kind) {
        case 'accepted':
        case 'answer':
        case 'stream': {
          this.#life.prove(live)
          const taken = take(outcome, live)
          if (taken === true || (await taken)) return
          flight.sent = false
          lost = true
          break
        }
        case 'no-such-session':
          this.#life.lose(live, `404 to ${message.method}`)
          lost = true
          break
        case 'refused':
          lost = mayMeanSession(outcome.status) && (await this.#life.gone(live, refusalSignature(outcome)))
          if (!lost || mayHaveRun(outcome, message.method)) throw this.#final(outcome, message.method)
          break
        case 'unavailable':
          tries ??= new Backoff(backoff, random)
          await this.#waitOrFail(outcome, message.method, tries, deadline, flight)
          break
        case 'unauthorized':
        case 'not-offered':
          throw this.#final(outcome, message.method)
        default:
          return impossible(outcome)
      }
      if (lost && ++renewals > MAX_RENEWALS) throw errors.sessionLost(message.method, this.#exchange.where)
    }
  }

  /** Sleeps until the message may go out again, or throws why it must not. */
  async #waitOrFail(
    outcome: Unavailable,
    method: string,
    tries: Backoff,
    deadline: number,
    signal: Signal,
  ): Promise<void> {
    const { where } = this.#exchange
    const { clock, patienceMs } = this.#config
    const toldToWait = isToldToWait(outcome)
    const isLater = isRepeatable(method) && (outcome.status !== 429 || method === METHOD.initialized)
    if (outcome.sent && !toldToWait && !isLater) throw this.#final(outcome, method)
    const wait = tries.next(0, outcome.retryAfterMs)
    const left = deadline - clock.uptime()
    if (toldToWait && wait > left) throw errors.busy(where, outcome.status ?? 503, outcome.retryAfterMs ?? 0)
    if (left <= 0) throw errors.unreachable(where, outcome.why, patienceMs, outcome.cause)
    await sleep(Math.min(wait, left), signal)
    if (signal.aborted) throw signal.reason
  }

  #takeAnswer(text: Buffer, request: Request, live: Live): boolean | Promise<boolean> {
    const messages = parse(text)
    const [only] = messages
    // So it is nearly always, and then there is nothing to wait for but room.
    if (messages.length === 1 && only !== undefined && isAnswer(only, request) && only.error === undefined) {
      const room = this.#answer(only, request)
      return room === undefined || room.then(() => true)
    }
    return this.#takeMessages(messages, request, live)
  }

  async #takeMessages(
    messages: readonly (Message | Malformed)[],
    request: Request,
    live: Live,
  ): Promise<boolean> {
    let answered = false
    for (const message of messages) {
      if (answered || !isAnswer(message, request)) {
        await this.receive(message, live, 'answer')
        continue
      }
      if (await this.#meansLost(message, request, live)) return false
      await this.#answer(message, request)
      answered = true
    }
    if (answered) return true
    const [only] = messages
    const unreadable = messages.length === 1 && only?.kind === 'malformed'
    throw this.#confused(
      request,
      unreadable ? `what it sent cannot be read (${only.detail})` : 'its answer holds no response to it',
    )
  }

  async #takeStream(first: EventReader, request: Request, live: Live, flight: Flight): Promise<boolean> {
    const { clock, resumeMs, backoff, random } = this.#config
    const signal: Signal = flight
    const tries = new Backoff(backoff, random)
    let events: EventReader | undefined = first
    let cursor: string | undefined
    let retryMs = 0
    let empty = 0
    let failingSince: number | undefined
    let why = 'the stream ended without it'
    let askedToWaitMs = 0
    for (;;) {
      if (events !== undefined) {
        const end = await this.#readStream(events, request, live, events === first)
        if (end.kind === 'answered') return true
        if (end.kind === 'session-lost') return false
        if (signal.aborted) throw signal.reason
        why = end.why
        cursor = events.cursor
        retryMs = events.retryMs ?? retryMs
        empty = end.messages > 0 ? 0 : empty + 1
      }
      if (cursor === undefined) throw errors.mayHaveRun(request.method, this.#exchange.where, why)
      const wait =
        events === undefined
          ? tries.next(0, Math.max(retryMs, askedToWaitMs))
          : Math.max(retryMs, empty >= 2 ? POLL_FLOOR_MS : 0)
      await sleep(wait, signal)
      if (signal.aborted) throw signal.reason
      const outcome: Outcome =
        this.#life.live?.generation === live.generation
          ? await this.#exchange.call({ method: 'GET', session: live, cursor, signal })
          : { kind: 'no-such-session' }
      if (signal.aborted) throw signal.reason
      events = undefined
      if (outcome.kind === 'stream') {
        events = outcome.events
        failingSince = undefined
        tries.reset()
        continue
      }
      if (outcome.kind === 'no-such-session') this.#life.lose(live, '404 to a resumed stream')
      askedToWaitMs = outcome.kind === 'unavailable' ? (outcome.retryAfterMs ?? 0) : 0
      failingSince ??= clock.uptime()
      if (!mayPass(outcome) || clock.uptime() - failingSince > resumeMs) {
        throw errors.mayHaveRun(request.method, this.#exchange.where, `${why}; then ${sayOutcome(outcome)}`)
      }
    }
  }

  async #readStream(
    events: EventReader,
    request: Request,
    live: Live,
    untouched: boolean,
  ): Promise<
    { kind: 'answered' } | { kind: 'session-lost' } | { kind: 'broken'; why: string; messages: number }
  > {
    let messages = 0
    let progressAt = Number.NEGATIVE_INFINITY
    try {
      for (
        let event = await events.next();
        event !== undefined;
        event = events.take() ?? (await events.next())
      ) {
        if (event.kind === 'comment' || event.data.length === 0) continue
        let answered = false
        for (const message of parse(event.data)) {
          messages++
          if (answered || !isAnswer(message, request)) {
            await this.receive(message, live, 'answer')
            if (message.kind === 'notification') progressAt = this.#config.clock.uptime()
            continue
          }
          if (untouched && messages === 1 && (await this.#meansLost(message, request, live))) {
            events.destroy()
            return { kind: 'session-lost' }
          }
          if (this.#config.clock.uptime() - progressAt < AFTER_PROGRESS_MS) await sleep(AFTER_PROGRESS_MS)
          await this.#answer(message, request)
          answered = true
        }
        if (answered) {
          void this.#readOn(events, live)
          return { kind: 'answered' }
        }
      }
      return { kind: 'broken', why: 'the stream ended without it', messages }
    } catch (cause) {
      if (cause instanceof RangeError) throw this.#confused(request, cause.message)
      return { kind: 'broken', why: reasonOf(cause), messages }
    }
  }

  /** What else comes on a stream whose answer has been read, or that was to have none; it is to end soon. */
  async #readOn(events: EventReader, live: Live): Promise<void> {
    const late = setTimeout(() => events.destroy(), LINGER_MS)
    try {
      for (let event = await events.next(); event !== undefined; event = await events.next()) {
        if (event.kind === 'comment' || event.data.length === 0) continue
        if (this.#life.live !== live) break
        for (const message of parse(event.data)) await this.receive(message, live, 'answer')
      }
    } catch {
      // It broke: nobody waits for it.
    }
    clearTimeout(late)
    events.destroy()
  }

  /** Some servers report a dead session as a JSON-RPC error with 200. True when the request is to be sent again. */
  async #meansLost(response: Response, request: Request, live: Live): Promise<boolean> {
    // (In a session that has been left meanwhile the answer stands: it may have run.)
    if (response.error === undefined || live.id === undefined || this.#life.live !== live) return false
    const signature = responseSignature(response)
    if (!/^HTTP 200, -320\d\d,/.test(signature) || !(await this.#life.gone(live, signature))) return false
    // An error that names no request was raised before any was looked at; one that does may come of having run it.
    return response.id === undefined || isRepeatable(request.method)
  }

  #confused(request: Request, why: string): BridgeError {
    const ran = isRepeatable(request.method) ? '' : '; it may have run'
    return errors.confused(request.method, this.#exchange.where, `${why}${ran}`)
  }

  #answer(response: Response, request: Request): Room {
    if (response.result !== undefined && STATE_METHODS.has(request.method))
      this.#life.memory.remember(request)
    if (response.id === request.id) return this.#outlet.deliver(response, 'answer')
    const own =
      response.id === undefined && response.error !== undefined
        ? errorResponse(request.id, textAt(response.raw, response.error))
        : withId(response, request.id)
    return this.#outlet.deliver(own, 'answer')
  }

  /** The error a message ends with. */
  #final(outcome: Outcome, what: string): BridgeError {
    const { where } = this.#exchange
    switch (outcome.kind) {
      case 'unauthorized':
        return this.#life.calls.unauthorized(outcome)
      case 'refused':
        if (outcome.location !== undefined) return errors.redirect(where, outcome.status, outcome.location)
        return errors.refused(
          where,
          outcome.status,
          [outcome.text, ...(mayHaveRun(outcome, what) ? ['it may have run'] : [])]
            .filter(Boolean)
            .join('; '),
          outcome.rpcError,
        )
      case 'unavailable':
        if (outcome.status === 429) {
          return errors.refused(where, 429, 'too many requests; it was not run', outcome.rpcError)
        }
        return errors.mayHaveRun(what, where, outcome.why, outcome.cause)
      default:
        return new BridgeError('SERVER_CONFUSED', `${where} did not take ${what}: ${sayOutcome(outcome)}`)
    }
  }

  #dropped(what: string, why: string): undefined {
    this.#outlet.report({ kind: 'dropped', what, why })
  }
}

/** A refusal that some servers give instead of 404 when a session is gone. */
function mayMeanSession(status: number): boolean {
  return status >= 400 && status <= 500
}

/** A 4xx is said before anything is run; what else is no answer may be said in the middle of it. */
function mayHaveRun(outcome: Refused, method: string): boolean {
  return (outcome.status < 400 || outcome.status >= 500) && !isRepeatable(method)
}

function isToldToWait(outcome: Unavailable): boolean {
  return outcome.retryAfterMs !== undefined && (outcome.status === 429 || outcome.status === 503)
}

/** A refused resume that time may mend; 409: the server has not noticed yet that the old connection is gone. */
function mayPass(outcome: Outcome): boolean {
  return (
    outcome.kind === 'unavailable' ||
    (outcome.kind === 'refused' && (outcome.status === 409 || outcome.status >= 500))
  )
}

function isSuccess(outcome: Outcome): outcome is Success {
  return outcome.kind === 'accepted' || outcome.kind === 'answer' || outcome.kind === 'stream'
}

/** Is `message` the response to `request`? Its exchange carries no other, so an error without an id is it too. */
function isAnswer(message: Message | Malformed, request: Request): message is Response {
  if (message.kind !== 'response') return false
  if (message.id === undefined) return message.error !== undefined
  return sameId(message.id, request.id)
}

/** Running these twice changes nothing. */
function isRepeatable(method: string): boolean {
  return (
    method === METHOD.ping ||
    method === 'completion/complete' ||
    method === 'resources/read' ||
    method === 'prompts/get' ||
    method === METHOD.initialized ||
    method.endsWith('/list')
  )
}

function sayOutcome(outcome: Outcome): string {
  switch (outcome.kind) {
    case 'no-such-session':
      return 'the session was lost'
    case 'unavailable':
      return outcome.why
    case 'refused':
      return `HTTP ${outcome.status} ${outcome.text}`.trim()
    case 'unauthorized':
      return `HTTP ${outcome.status}`
    case 'not-offered':
      return 'HTTP 405'
    default:
      return outcome.kind
  }
}

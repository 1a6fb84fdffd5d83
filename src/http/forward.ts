/**
 * One message of the client on its way to the server.
 *
 * Not the session (asked for, and told when a reply says it is gone), and not the answer (answer.ts reads it).
 * The one rule: a message is sent again only when it cannot have run, or when running it twice changes nothing.
 * Everything else fails with an error that says it may have run.
 */
import { BridgeError, errors, impossible, isCertificateFailure } from '../errors.ts'
import { METHOD, type Notification, type Request, type Response, sameId } from '../protocol.ts'
import { Abort, Backoff, type Signal, sleep } from '../retry.ts'
import { type Answers, isRepeatable } from './answer.ts'
import { GATEWAY_AFTER_MS, GATEWAY_STALE_MS, type HttpConfig } from './config.ts'
import type { Exchange } from './exchange.ts'
import {
  isSuccess,
  type Outcome,
  type Refused,
  type Success,
  sayOutcome,
  type Unavailable,
} from './outcome.ts'
import type { SessionLife } from './session.ts'
import type { Live } from './session-state.ts'
import { mayMeanSession, refusalSignature, signatureOf } from './signature.ts'

/** A message that is under way. Aborting ends it; the reason is what `send` rejects with, or WITHDRAWN. */
export class Flight extends Abort {
  /** True from its first byte on: from here the server may have it. */
  sent = false
  /** Nobody wants an answer any more: what the server refuses is not sent again. */
  cancelled = false
}

/** Abort reason of a request that was cancelled: it ends without an error. */
export const WITHDRAWN = 'withdrawn'

/** In so long at most a wrong key costs a session; a loss that is told by the same words is found out after it. */
const BY_KEY_MS = 10_000
/** A session forgotten under a message is made anew for it this often. */
const MAX_RENEWALS = 2

export class Forwarder {
  readonly #config: HttpConfig
  readonly #exchange: Exchange
  readonly #life: SessionLife
  readonly #answers: Answers
  /** A 404 was the answer to one request, and its session lived on: it may be so again. */
  #refusesByNotFound = false
  /**
   * Uptime until when 401 and 403 are taken not to mean the session: one just made was refused like the one before. In
   * the midst of a deploy that may have been by another process: it counts while else is served between.
   */
  #refusedByKeyUntil = 0
  #servedBetween = false
  /** A gateway with nobody behind it has spoken since the one uptime, and last at the other. */
  #gateway: { live: Live; since: number; last: number } | undefined

  constructor(config: HttpConfig, exchange: Exchange, life: SessionLife, answers: Answers) {
    this.#config = config
    this.#exchange = exchange
    this.#life = life
    this.#answers = answers
  }

  /** Resolves when the request was answered or withdrawn. */
  request(request: Request, flight: Flight): Promise<void> {
    return this.#send(request, flight, (outcome, live) => this.#answers.take(outcome, request, live, flight))
  }

  /** Resolves when the server has it, `onHeaders` having been called; rejects with why it has not. */
  notification(notification: Notification, flight: Flight, onHeaders: () => void): Promise<void> {
    return this.#send(notification, flight, (outcome, live) => {
      onHeaders()
      if (outcome.kind === 'stream') void this.#answers.readOn(outcome.events, live)
      return true
    })
  }

  /**
   * A reply to a request of the server, for the session that asked only. It is said again where it was refused for the
   * moment: at worst the server hears it twice, and knows by its id that it has it.
   */
  async reply(response: Response, live: Live, signal: Signal): Promise<void> {
    const tries = new Backoff(this.#config.backoff, this.#config.random)
    for (;;) {
      const outcome = await this.#exchange.call({ method: 'POST', body: response.raw, session: live, signal })
      if (outcome.kind === 'stream') void this.#answers.readOn(outcome.events, live)
      if (outcome.kind === 'no-such-session') this.#life.lose(live, '404 to a reply')
      if (outcome.kind === 'refused' && mayMeanSession(outcome.status)) {
        void this.#life.pulse.gone(live, refusalSignature(outcome))
      }
      if (isSuccess(outcome)) return
      if (signal.aborted) throw signal.reason
      const unread = outcome.kind === 'unavailable' && (!outcome.sent || outcome.status !== undefined)
      if (!unread || this.#life.live !== live) throw this.#final(outcome, 'the reply')
      const wait = tries.next(0, outcome.retryAfterMs)
      await (outcome.sent ? sleep(wait, signal) : this.#life.servedWithin(wait, signal))
    }
  }

  /** POSTs until `take` is content with an outcome (false: the session was lost, again). */
  async #send(
    message: Request | Notification,
    flight: Flight,
    take: (outcome: Success, live: Live) => boolean | Promise<boolean>,
  ): Promise<void> {
    const { clock, patienceMs, backoff, random } = this.#config
    let deadline = clock.uptime() + patienceMs
    let tries: Backoff | undefined
    let first: Live | undefined
    let said = ''
    let isAgain = false
    for (let renewals = 0; ; ) {
      const live = this.#life.live ?? (await this.#life.ready(deadline, flight))
      first ??= live
      // A later session heard it from the renewal, or is to hear it from the client that has initialized again.
      if (live !== first && message.method === METHOD.initialized) return
      const askedAt = clock.uptime()
      const outcome = await this.#exchange.call({
        method: 'POST',
        body: message.raw,
        session: live,
        signal: flight,
        flight,
      })
      if (flight.aborted) throw flight.reason
      // Refused: the server has not got it any more, and a cancellation withdraws it.
      const perhapsRan = outcome.kind === 'refused' && mayHaveRun(outcome, message.method)
      if (!isSuccess(outcome) && !perhapsRan) flight.sent = false
      let lost = false
      switch (outcome.kind) {
        case 'accepted':
        case 'answer':
        case 'stream': {
          this.#life.served(live)
          this.#servedBetween = true
          // What this very message was refused with was said of its session.
          if (isAgain) this.#refusedByKeyUntil = 0
          this.#gateway = undefined
          const taken = take(outcome, live)
          if (taken === true || (await taken)) return this.#life.prove(live)
          flight.sent = false
          lost = true
          break
        }
        case 'no-such-session':
          // Said again in a session just made, of this very request, and not of a ping: it is about the request.
          if (
            (renewals > 0 || this.#refusesByNotFound) &&
            isAbout(outcome.id, message) &&
            !(await this.#life.pulse.gone(live, 'no-such-session', false, flight))
          ) {
            if (flight.aborted) throw flight.reason
            this.#refusesByNotFound = true
            throw errors.refused(this.#exchange.where, 404, outcome.text, outcome.rpcError)
          }
          this.#life.lose(live, `404 to ${message.method}`)
          said = outcome.text
          lost = true
          break
        case 'refused':
          lost =
            mayMeanSession(outcome.status) &&
            (await this.#life.pulse.gone(live, refusalSignature(outcome), false, flight))
          if (!lost || mayHaveRun(outcome, message.method)) throw this.#final(outcome, message.method)
          said = sayOutcome(outcome)
          break
        case 'unavailable':
          tries ??= new Backoff(backoff, random)
          lost = (await this.#isGoneBehind(outcome, live, flight)) && mayGoAgain(outcome, message.method)
          said = sayOutcome(outcome)
          if (!lost && !flight.cancelled)
            await this.#waitOrFail(outcome, message.method, tries, deadline, flight)
          break
        case 'unauthorized':
          if (isAgain || (this.#servedBetween && this.#refusedByKeyUntil))
            this.#refusedByKeyUntil = askedAt + BY_KEY_MS
          this.#servedBetween = false
          lost =
            askedAt >= this.#refusedByKeyUntil &&
            (await this.#life.pulse.gone(live, signatureOf(outcome), false, flight))
          if (!lost) throw this.#final(outcome, message.method)
          isAgain = true
          said = sayOutcome(outcome)
          break
        case 'not-offered':
          throw this.#final(outcome, message.method)
        default:
          return impossible(outcome)
      }
      if (flight.cancelled) {
        flight.abort(WITHDRAWN)
        throw flight.reason
      }
      if (!lost) continue
      this.#gateway = undefined
      if (++renewals > MAX_RENEWALS) throw errors.sessionLost(message.method, this.#exchange.where, said)
      // (Patience is for the time without a server: what this one took to refuse is given back.)
      deadline += clock.uptime() - askedAt
    }
  }

  /**
   * A gateway that gives no answer for long may have lost what this session is bound to, and serve others. Nothing is
   * waited for but the ping: what has failed has failed.
   */
  async #isGoneBehind(outcome: Unavailable, live: Live, signal: Signal): Promise<boolean> {
    if (outcome.status === undefined || outcome.status === 429) return false
    const now = this.#config.clock.uptime()
    let gateway = this.#gateway
    if (gateway?.live !== live || now - gateway.last > GATEWAY_STALE_MS)
      gateway = { live, since: now, last: now }
    this.#gateway = gateway
    gateway.last = now
    if (now - gateway.since < GATEWAY_AFTER_MS) return false
    // Asked as seldom, and not before it said.
    gateway.since = now + Math.min(outcome.retryAfterMs ?? 0, GATEWAY_STALE_MS)
    return await this.#life.pulse.gone(live, signatureOf(outcome), false, signal)
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
    const { retryAfterMs = 0 } = outcome
    const toldToWait = isToldToWait(outcome)
    if (!mayGoAgain(outcome, method)) throw this.#final(outcome, method)
    const wait = tries.next(0, retryAfterMs)
    const left = deadline - clock.uptime()
    if (toldToWait && retryAfterMs > Math.max(left, 0)) {
      throw errors.busy(where, outcome.status ?? 503, retryAfterMs)
    }
    if (left <= 0 && isCertificateFailure(outcome.cause)) throw errors.certificate(where, outcome.cause)
    if (left <= 0) throw errors.unreachable(where, outcome.why, patienceMs, outcome.cause)
    // What others have meanwhile shows that the server is back; one that said how long to wait is obeyed.
    const ms = Math.min(wait, left)
    await (toldToWait ? sleep(ms, signal) : this.#life.servedWithin(ms, signal))
    if (signal.aborted) throw signal.reason
  }

  /** The error a message ends with. */
  #final(outcome: Outcome, what: string): BridgeError {
    const { where } = this.#exchange
    switch (outcome.kind) {
      case 'unauthorized':
        return this.#exchange.unauthorized(outcome)
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
        if (!outcome.sent) return errors.unreachable(where, outcome.why, undefined, outcome.cause)
        return errors.mayHaveRun(what, where, outcome.why, outcome.cause)
      default:
        return new BridgeError('SERVER_CONFUSED', `${where} did not take ${what}: ${sayOutcome(outcome)}`)
    }
  }
}

function isAbout(id: string | undefined, message: Request | Notification): boolean {
  return id !== undefined && message.kind === 'request' && sameId(id, message.id)
}

/** A 4xx is said before anything is run; what else is no answer may be said in the middle of it. */
function mayHaveRun(outcome: Refused, method: string): boolean {
  return (outcome.status < 400 || outcome.status >= 500) && !isRepeatable(method)
}

/** It has not run, or running it twice changes nothing. (What came too often is not said again unasked.) */
function mayGoAgain(outcome: Unavailable, method: string): boolean {
  const isLater = isRepeatable(method) && (outcome.status !== 429 || method === METHOD.initialized)
  return !outcome.sent || isToldToWait(outcome) || isLater
}

function isToldToWait(outcome: Unavailable): boolean {
  return outcome.retryAfterMs !== undefined && (outcome.status === 429 || outcome.status === 503)
}

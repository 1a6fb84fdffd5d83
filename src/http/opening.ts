/**
 * `initialize` until it is answered: the way to a session.
 *
 * Not the session's state, and not what is said in it (own-calls.ts). The one rule: of the sessions that all attempts
 * open one is handed out; each of the others is ended.
 */
import { type BridgeError, type BridgeErrorCode, errors, isCertificateFailure } from '../errors.ts'
import {
  LATEST_LEGACY_VERSION,
  METHOD,
  type Request,
  type Response,
  stringMember,
  withId,
} from '../protocol.ts'
import { Backoff, firstOf, limit, MAX_WAIT_MS, type Signal, sleep, turn } from '../retry.ts'
import { type HttpConfig, LAST_ATTEMPT_MS } from './config.ts'
import type { Exchange } from './exchange.ts'
import { type Outcome, sayOutcome } from './outcome.ts'
import type { OwnCalls } from './own-calls.ts'
import type { SessionHeaders } from './round-trip.ts'

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
const ALONE_PART = 1 / 2
/** Nor sooner than this, however short the patience: a server that is merely slow would open two sessions. */
const LEAST_ALONE_MS = 1_000
/** For the end of a session that nobody waited for. */
const ABANDONED_LIMIT_MS = 1_000

export class Opening {
  readonly #config: HttpConfig
  readonly #exchange: Exchange
  readonly #calls: OwnCalls
  /** Ends waits, not calls: a goodbye may still need the answer of an `initialize` that is under way. */
  readonly #closing: Signal
  /** Every `initialize` whose session id may still come. */
  readonly #underway = new Set<Promise<unknown>>()
  /** The sessions of those; one has an id from the head of the answer on. */
  readonly #begun = new Set<SessionHeaders>()

  constructor(config: HttpConfig, exchange: Exchange, calls: OwnCalls, closing: Signal) {
    this.#config = config
    this.#exchange = exchange
    this.#calls = calls
    this.#closing = closing
  }

  /**
   * `initialize`, as often as `patienceMs` allows. Resolves with the server's answer, good or bad. An attempt that a
   * balancer has swallowed leaves time for another; of a server that is only slow the first answer is taken. `onRetry`
   * is told why one failed that is sent once more.
   */
  async initialize(
    request: Request,
    patienceMs: number,
    signal: Signal,
    onRetry: (failure: BridgeError) => void,
  ): Promise<Opened> {
    const { clock, random, backoff, privateLimitMs } = this.#config
    const began = clock.uptime()
    const deadline = began + patienceMs
    const tries = new Backoff(backoff, random)
    const open = new Set<Promise<Attempt>>()
    let aloneMs = Math.max(LEAST_ALONE_MS, Math.min(patienceMs, privateLimitMs) * ALONE_PART)
    let isEnough = false
    let told: Outcome | undefined
    try {
      for (;;) {
        const left = deadline - clock.uptime()
        const isLast = isEnough || aloneMs >= left || this.#closing.aborted
        if (open.size === 0 || !(isEnough || this.#closing.aborted)) {
          // (The last one, at the deadline, is given a moment too: the server may be up just now.)
          const limitMs = Math.max(Math.min(LAST_ATTEMPT_MS, patienceMs), left)
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
        const failure = this.#whyNot(told, now - began)
        const final = this.#finalOf(failure, outcome, deadline - now)
        // (A server may refuse one for the sake of another that it still works at.)
        if (final !== undefined) {
          if (open.size === 0 || isFinal(final)) throw final
          isEnough = true
          continue
        }
        onRetry(failure)
        const busyMs = outcome.kind === 'unavailable' ? outcome.retryAfterMs : undefined
        await sleep(Math.min(tries.next(0, busyMs), deadline - now), this.#closing, signal)
        if (this.#closing.aborted && open.size === 0) throw failure
        if (signal.aborted) throw signal.reason
      }
    } finally {
      for (const attempt of open) this.#abandon(attempt)
    }
  }

  /** `initialize` once more, within `limitMs`, of a server that has answered it before. Rejects with why there is no answer. */
  async again(request: Request, limitMs: number): Promise<Opened> {
    const { outcome, opened } = await this.#track(this.#attempt(request, limitMs))
    if (opened !== undefined) return opened
    throw this.#busy(outcome, 0) ?? this.#whyNot(outcome)
  }

  /** Does the server begin sessions now? One that it begins within `limitMs` ends at once. Never rejects. */
  async opens(request: Request, limitMs: number): Promise<boolean> {
    const { headers, response } = await this.again(request, limitMs).catch((): Partial<Opened> => ({}))
    if (headers === undefined || response?.result === undefined) return false
    void this.#calls.delete(headers, this.#config.privateLimitMs)
    return true
  }

  async #attempt(request: Request, limitMs: number): Promise<Attempt> {
    const over = limit(limitMs, this.#calls.ended)
    const offered = stringMember(request.raw, request.params, 'protocolVersion') ?? LATEST_LEGACY_VERSION
    const session = { id: undefined as string | undefined, protocolVersion: offered }
    let opened: Opened | undefined
    this.#begun.add(session)
    try {
      const { signal } = over
      const outcome = await this.#exchange.call({ method: 'POST', body: request.raw, signal, opens: session })
      opened = await this.#readHandshake(outcome, request, session, signal)
      return { outcome, opened, isCut: signal.aborted }
    } finally {
      over.clear()
      this.#begun.delete(session)
      // Whatever else it opened is of no use, be it the session of a refusal.
      if (opened?.response.result === undefined) void this.#calls.delete(session, this.#config.privateLimitMs)
    }
  }

  /** The error that no further attempt would mend within `leftMs`. */
  #finalOf(failure: BridgeError, outcome: Outcome, leftMs: number): BridgeError | undefined {
    if (isFinal(failure) || failure.code === 'NO_ENDPOINT' || failure.code === 'SERVER_REFUSED')
      return failure
    return this.#busy(outcome, leftMs) ?? (leftMs <= 0 ? failure : undefined)
  }

  /** The server asks to be left alone for longer than `leftMs`. */
  #busy(outcome: Outcome, leftMs: number): BridgeError | undefined {
    if (outcome.kind !== 'unavailable' || outcome.status === undefined) return undefined
    const { status, retryAfterMs = 0 } = outcome
    if (retryAfterMs <= Math.max(leftMs, 0)) return undefined
    return errors.busy(this.#exchange.where, status, retryAfterMs)
  }

  /** Nobody waits for it any more: the session that it may open yet ends. */
  #abandon(attempt: Promise<Attempt>): void {
    const end = attempt.then(
      ({ opened }) => opened?.response.result && this.#calls.delete(opened.headers, ABANDONED_LIMIT_MS),
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

  async #readHandshake(
    outcome: Outcome,
    request: Request,
    session: SessionHeaders,
    signal: Signal,
  ): Promise<Opened | undefined> {
    if (outcome.kind !== 'answer' && outcome.kind !== 'stream') return undefined
    const response = await this.#calls.readResponse(outcome, request.id, session, signal)
    if (response === undefined) {
      if (outcome.kind === 'stream' && outcome.events.broken) return undefined
      throw errors.confused(METHOD.initialize, this.#exchange.where, 'its answer holds no response to it')
    }
    const version = stringMember(response.raw, response.result, 'protocolVersion') ?? ''
    return {
      response: response.id === request.id ? response : withId(response, request.id),
      // (What cannot stand in a header would fail every request.)
      headers: {
        id: session.id,
        protocolVersion: /^[\x21-\x7e]+$/.test(version) ? version : LATEST_LEGACY_VERSION,
      },
    }
  }

  /** `waitedMs`: undefined when it has been an MCP endpoint before, so that the address is right. */
  #whyNot(outcome: Outcome, waitedMs?: number): BridgeError {
    const { where } = this.#exchange
    const again = waitedMs === undefined
    switch (outcome.kind) {
      case 'unauthorized':
        return this.#exchange.unauthorized(outcome)
      case 'refused':
        if (outcome.location !== undefined) return errors.redirect(where, outcome.status, outcome.location)
        // (Nobody but us has asked: what it says is no answer to a request of the client.)
        if (again) return errors.notRenewed(where, sayOutcome(outcome))
        if (outcome.rpcError === undefined && [400, 404, 405].includes(outcome.status)) {
          return errors.noEndpoint(where, outcome.status)
        }
        return errors.refused(
          where,
          outcome.status,
          outcome.text,
          outcome.rpcError,
          outcome.isPage === true ? 'check the path in the URL: a web page is there' : undefined,
        )
      case 'unavailable':
        if (isCertificateFailure(outcome.cause)) return errors.certificate(where, outcome.cause)
        return errors.unreachable(where, outcome.why, waitedMs, outcome.cause)
      default:
        return errors.unreachable(where, 'it did not answer initialize', waitedMs)
    }
  }

  /** Resolves when no session id is on its way any more. After `deadlineMs` each session that has one is ended. */
  async settled(deadlineMs: number): Promise<void> {
    const done = new AbortController()
    let late = false
    const deadline = sleep(deadlineMs, done.signal).then(() => {
      late = true
    })
    while (this.#underway.size > 0 && !late) {
      await Promise.race([Promise.allSettled(this.#underway).then(turn), deadline])
    }
    done.abort()
    for (const session of this.#begun) void this.#calls.delete(session, ABANDONED_LIMIT_MS)
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

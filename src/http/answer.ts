/**
 * The answer to one request, found in the body or on the stream that came back; and what comes around it.
 *
 * Not the sending: what cannot be had any more is an error that says whether the request may have run.
 * The one rule: a stream that broke is resumed where it names a cursor; the request itself is never sent again here.
 *
 * [MCP 2025-11-25 transports, Resumability and Redelivery]
 */
import { type BridgeError, errors, reasonOf } from '../errors.ts'
import {
  type Malformed,
  METHOD,
  type Message,
  parse,
  type Request,
  type Response,
  sameId,
} from '../protocol.ts'
import { Backoff, type Signal, sleep } from '../retry.ts'
import type { HttpConfig } from './config.ts'
import type { EventReader } from './events.ts'
import type { Exchange } from './exchange.ts'
import type { Incoming } from './incoming.ts'
import { type Outcome, type Success, sayOutcome } from './outcome.ts'
import { POLL_FLOOR_MS } from './own-calls.ts'
import { readOn } from './read-on.ts'
import type { SessionLife } from './session.ts'
import type { Live } from './session-state.ts'
import { responseSignature } from './signature.ts'

/**
 * An answer on the heels of a progress notification waits this long. Clients of the TypeScript SDK handle
 * notifications a moment later than responses: read together, the last progress would find its request answered.
 */
const AFTER_PROGRESS_MS = 2

export class Answers {
  readonly #config: HttpConfig
  readonly #exchange: Exchange
  readonly #life: SessionLife
  readonly #incoming: Incoming

  constructor(config: HttpConfig, exchange: Exchange, life: SessionLife, incoming: Incoming) {
    this.#config = config
    this.#exchange = exchange
    this.#life = life
    this.#incoming = incoming
  }

  /**
   * Hands the client what `outcome` brings for `request`. True once it is answered; false when it turned out that the
   * session is gone and the request may go out again. Throws why there will be no answer.
   */
  take(outcome: Success, request: Request, live: Live, signal: Signal): boolean | Promise<boolean> {
    switch (outcome.kind) {
      case 'answer':
        return this.#takeAnswer(outcome.text, request, live)
      case 'stream':
        return this.#takeStream(outcome.events, request, live, signal)
      case 'accepted':
        throw this.#confused(request, 'it said "accepted" and sent no answer')
    }
  }

  #takeAnswer(text: Buffer, request: Request, live: Live): boolean | Promise<boolean> {
    const messages = parse(text)
    const [only] = messages
    // So it is nearly always, and then there is nothing to wait for but room.
    if (messages.length === 1 && only !== undefined && isAnswer(only, request) && only.error === undefined) {
      const room = this.#incoming.answer(only, request, live)
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
        await this.#incoming.receive(message, live, 'answer')
        continue
      }
      if (await this.#meansLost(message, request, live)) return false
      await this.#incoming.answer(message, request, live)
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

  async #takeStream(first: EventReader, request: Request, live: Live, signal: Signal): Promise<boolean> {
    const { clock, resumeMs, backoff, random } = this.#config
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
            await this.#incoming.receive(message, live, 'answer')
            if (message.kind === 'notification') progressAt = this.#config.clock.uptime()
            continue
          }
          if (untouched && messages === 1 && (await this.#meansLost(message, request, live))) {
            events.destroy()
            return { kind: 'session-lost' }
          }
          if (this.#config.clock.uptime() - progressAt < AFTER_PROGRESS_MS) await sleep(AFTER_PROGRESS_MS)
          await this.#incoming.answer(message, request, live)
          answered = true
        }
        if (answered) {
          void this.readOn(events, live)
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
  async readOn(events: EventReader, live: Live): Promise<void> {
    await readOn(events, async (text) => {
      if (this.#life.live !== live) return false
      for (const message of parse(text)) await this.#incoming.receive(message, live, 'answer')
      return true
    })
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
}

/** A refused resume that time may mend; 409: the server has not noticed yet that the old connection is gone. */
function mayPass(outcome: Outcome): boolean {
  return (
    outcome.kind === 'unavailable' ||
    (outcome.kind === 'refused' && (outcome.status === 409 || outcome.status >= 500))
  )
}

/** Is `message` the response to `request`? Its exchange carries no other, so an error without an id is it too. */
function isAnswer(message: Message | Malformed, request: Request): message is Response {
  if (message.kind !== 'response') return false
  if (message.id === undefined) return message.error !== undefined
  return sameId(message.id, request.id)
}

/** Running these twice changes nothing. */
export function isRepeatable(method: string): boolean {
  return (
    method === METHOD.ping ||
    method === 'completion/complete' ||
    method === 'resources/read' ||
    method === 'prompts/get' ||
    method === METHOD.initialized ||
    method.endsWith('/list')
  )
}

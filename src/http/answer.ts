/**
 * The answer to one request, found in the body or on the stream that came back; and what comes around it.
 *
 * Not the sending: what cannot be had any more is an error that says whether the request may have run.
 * The one rule: the request itself is never sent again here. A stream that broke is gone on from (resumption.ts).
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
import { type Signal, sleep } from '../retry.ts'
import type { HttpConfig } from './config.ts'
import { type EventReader, isSameEvent, type Known, MAX_KEPT_BYTES } from './events.ts'
import type { Exchange } from './exchange.ts'
import type { Incoming } from './incoming.ts'
import type { Success } from './outcome.ts'
import { readOn } from './read-on.ts'
import { Resumption } from './resumption.ts'
import type { SessionLife } from './session.ts'
import type { Live } from './session-state.ts'
import { isSessionRefusal, responseSignature } from './signature.ts'

/**
 * An answer on the heels of a progress notification waits this long. Clients of the TypeScript SDK handle
 * notifications a moment later than responses: read together, the last progress would find its request answered.
 * (2 ms were too few for a client on a busy machine.)
 */
const AFTER_PROGRESS_MS = 10

/** A stream that came to its end before the answer did. */
interface Broken {
  readonly kind: 'broken'
  readonly why: string
  readonly messages: number
  readonly last: Known | undefined
}

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
      if (message === messages[0] && (await this.#meansLost(message, request, live))) return false
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
    let resumption: Resumption | undefined
    let events = first
    let known: Known | undefined
    try {
      for (;;) {
        const end = await this.#readStream(events, request, live, events === first ? 'untouched' : known)
        if (end.kind === 'answered') return true
        if (end.kind === 'session-lost') return false
        if (end.kind === 'too-long') throw this.#confused(request, end.why)
        if (signal.aborted) throw signal.reason
        known = end.last ?? known
        const { cursor } = events
        if (cursor === undefined) throw errors.mayHaveRun(request.method, this.#exchange.where, end.why)
        resumption ??= new Resumption(this.#config, this.#exchange, this.#life, live, signal)
        const next = await resumption.after(events, cursor, end.messages > 0)
        if (signal.aborted) throw signal.reason
        if (typeof next === 'string') {
          if (this.#life.current.state === 'closed') throw errors.closing(true)
          throw errors.mayHaveRun(request.method, this.#exchange.where, `${end.why}; then ${next}`)
        }
        events = next
      }
    } finally {
      resumption?.end()
    }
  }

  /** `before`: the last event of the stream that this one goes on from; the server may begin with it. */
  async #readStream(
    events: EventReader,
    request: Request,
    live: Live,
    before: Known | 'untouched' | undefined,
  ): Promise<{ kind: 'answered' } | { kind: 'session-lost' } | { kind: 'too-long'; why: string } | Broken> {
    let messages = 0
    let last: Known | undefined
    let progressAt = Number.NEGATIVE_INFINITY
    const broken = (why: string): Broken => ({ kind: 'broken', why, messages, last })
    try {
      for (
        let event = await events.next();
        event !== undefined;
        event = events.take() ?? (await events.next())
      ) {
        if (event.kind === 'too-long') {
          events.destroy()
          return event
        }
        if (event.kind === 'comment' || event.data.length === 0) continue
        const { id, data } = event
        const repeated = last === undefined && before !== 'untouched' && isSameEvent(event, before)
        last = id === undefined || data.length > MAX_KEPT_BYTES ? undefined : { id, data }
        if (repeated) continue
        let answered = false
        for (const message of parse(data)) {
          messages++
          if (answered || !isAnswer(message, request)) {
            await this.#incoming.receive(message, live, 'answer')
            if (message.kind === 'notification') progressAt = this.#config.clock.uptime()
            continue
          }
          if (before === 'untouched' && messages === 1 && (await this.#meansLost(message, request, live))) {
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
      return broken('the stream ended without it')
    } catch (cause) {
      return broken(reasonOf(cause))
    }
  }

  /** What else comes on a stream whose answer has been read, or that was to have none; it is to end soon. */
  async readOn(events: EventReader, live: Live): Promise<void> {
    const take = async (text: Buffer): Promise<boolean> => {
      if (this.#life.live !== live) return false
      for (const message of parse(text)) await this.#incoming.receive(message, live, 'answer')
      return true
    }
    await readOn(events, take, (why) => this.#incoming.dropped('what the server said behind an answer', why))
  }

  /** Some servers report a dead session as a JSON-RPC error with 200. True when the request is to be sent again. */
  async #meansLost(response: Response, request: Request, live: Live): Promise<boolean> {
    if (response.error === undefined || live.id === undefined) return false
    const said = responseSignature(response)
    if (!isSessionRefusal(said) || this.#life.current.state === 'closed') return false
    // An error that names no request was raised before any was looked at; one that does may come of having run it.
    const mayGoAgain = response.id === undefined || isRepeatable(request.method)
    const { pulse } = this.#life
    // Of a session that has been left nobody is asked any more: it was so for what ended it.
    const isLeft = this.#life.live !== live
    return (isLeft ? pulse.endedBy(live, said) : await pulse.gone(live, said)) && mayGoAgain
  }

  #confused(request: Request, why: string): BridgeError {
    const ran = isRepeatable(request.method) ? '' : '; it may have run'
    return errors.confused(request.method, this.#exchange.where, `${why}${ran}`)
  }
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

/**
 * One request on the wire, and what was heard of it: the whole answer, an open stream, the head of any other reply,
 * or why there is none.
 *
 * Not the meaning of a refusal: what is no plain success is handed on with its status.
 * The one rule: settled once, without a promise in between, and the connection is given back once.
 *
 * [MCP 2025-11-25 transports, Streamable HTTP]
 */
import type { Dispatcher } from 'undici'
import { withoutByteOrderMark } from '../json.ts'
import { HEADER } from '../protocol.ts'
import type { Signal } from '../retry.ts'
import { Body } from './body.ts'
import type { HttpConfig } from './config.ts'
import { EventReader } from './events.ts'

/** Headers of the session a call belongs to. */
export interface SessionHeaders {
  readonly id: string | undefined
  readonly protocolVersion: string
}

export interface Call {
  readonly method: 'POST' | 'GET' | 'DELETE'
  readonly body?: Buffer
  readonly session?: SessionHeaders
  readonly cursor?: string | undefined
  /** Ends the call: before its first byte nothing is sent; afterwards its connection is destroyed. */
  readonly signal: Signal
  /** Its `sent` becomes true when the first byte is about to be written to a connected socket. */
  readonly flight?: { sent: boolean }
  /** Its `id` becomes that of the session which the head of a 2xx names, whatever becomes of the body. */
  readonly opens?: { id: string | undefined }
}

export type ReplyHeaders = Record<string, string | string[] | undefined>

/** 2xx without a message: the server has it. */
export interface Accepted {
  readonly kind: 'accepted'
}

/** 2xx with a JSON body, unread by us. */
export interface Answer {
  readonly kind: 'answer'
  readonly text: Buffer
}

/** 2xx with an event stream, open. Whoever gets it reads it to its end or destroys it. */
export interface Stream {
  readonly kind: 'stream'
  readonly events: EventReader
}

/** Any reply but those that need no second look. */
export interface Reply {
  readonly kind: 'reply'
  readonly status: number
  readonly headers: ReplyHeaders
  readonly body: Body
  /** The credentials it was asked with. */
  readonly used: Readonly<Record<string, string>>
}

/** No reply, or an answer in JSON that did not come whole (then `status` is the one of its head). */
export interface Failure {
  readonly kind: 'failure'
  /** Some byte of the request may have reached the server. */
  readonly sent: boolean
  readonly status: number | undefined
  /** A RangeError when the answer was longer than we take. */
  readonly cause: unknown
}

/** What came of one round trip. */
export type Heard = Accepted | Answer | Stream | Reply | Failure

/** The handler undici is given. */
export class RoundTrip implements Dispatcher.DispatchHandler {
  readonly #call: Call
  readonly #used: Readonly<Record<string, string>>
  readonly #config: HttpConfig
  #settle: ((heard: Heard) => void) | undefined
  #release: ((usable: boolean) => void) | undefined
  readonly #onAbort = (): void => this.#aborted()
  #sent = false
  #controller: Dispatcher.DispatchController | undefined
  #body: Body | undefined

  /** `settle` gets what was heard, `release` is told when the connection is done with, and whether it is of further use; each once. */
  constructor(
    call: Call,
    used: Readonly<Record<string, string>>,
    config: HttpConfig,
    settle: (heard: Heard) => void,
    release: (usable: boolean) => void,
  ) {
    this.#call = call
    this.#used = used
    this.#config = config
    this.#settle = settle
    this.#release = release
    call.signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    const { signal, flight } = this.#call
    // Withdrawn while it waited for its connection: nothing has been written yet.
    if (signal.aborted) throw new Error('aborted')
    this.#controller = controller
    this.#sent = true
    if (flight !== undefined) flight.sent = true
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: ReplyHeaders): void {
    if (status < 200) return
    const { method, session } = this.#call
    const { redact, maxMessageBytes } = this.#config
    const type = contentType(headers)
    const success = status < 300
    const sessionId = success ? header(headers, HEADER.session) || undefined : undefined
    if (sessionId !== undefined && sessionId !== session?.id) {
      // Only the id that `initialize` brought counts; it is not to be forgotten over those that come after it.
      if (session?.id !== undefined) redact.addSession(session.id)
      redact.addSession(sessionId)
    }
    if (this.#call.opens !== undefined) this.#call.opens.id = sessionId
    const isStream = type.includes('text/event-stream')
    const isJson = !isStream && (type === '' || type.includes('json'))
    const isPlain = success && coding(headers) === undefined
    const body = new Body(controller)
    this.#body = body
    if (isPlain && method === 'POST' && holdsAnswer(status) && isJson) {
      const length = header(headers, 'content-length')
      const expectedBytes = length === undefined ? 0 : Number(length)
      body.gather({ maxBytes: maxMessageBytes, expectedBytes }, (text) =>
        this.#settled(answerOf(text, status)),
      )
    } else if (isPlain && method !== 'DELETE' && isStream && status !== 204) {
      this.#settled({
        kind: 'stream',
        events: new EventReader(body, maxMessageBytes, this.#call.cursor),
      })
    } else {
      this.#settled({ kind: 'reply', status, headers, body, used: this.#used })
    }
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#body?.push(chunk)
  }

  onResponseEnd(): void {
    this.#finish(true)
    this.#body?.end()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.fail(error)
  }

  /** It has not come to an end, and won't. */
  fail(error: Error): void {
    this.#finish(false)
    this.#body?.fail(error)
    this.#failed(error)
  }

  #aborted(): void {
    const reason = new Error('aborted')
    if (this.#body !== undefined) this.#body.destroy()
    else this.#controller?.abort(reason)
    this.#failed(reason)
  }

  #failed(cause: Error): void {
    this.#settled({ kind: 'failure', sent: this.#sent, status: undefined, cause })
  }

  #settled(heard: Heard): void {
    const settle = this.#settle
    this.#settle = undefined
    settle?.(heard)
  }

  #finish(usable: boolean): void {
    const release = this.#release
    this.#release = undefined
    this.#call.signal.removeEventListener('abort', this.#onAbort)
    release?.(usable)
  }
}

function answerOf(text: Buffer | Error, status: number): Accepted | Answer | Failure {
  if (text instanceof Error) return { kind: 'failure', sent: true, status, cause: text }
  if (text.length === 0) return { kind: 'accepted' }
  return { kind: 'answer', text: withoutByteOrderMark(text) }
}

/** The media type of a reply, in small letters; empty when it names none. */
export function contentType(headers: ReplyHeaders): string {
  return (header(headers, 'content-type') ?? '').toLowerCase()
}

/** How the body is compressed, if it is; we ask for none of it. (Some servers name a charset here: it says nothing.) */
export function coding(headers: ReplyHeaders): string | undefined {
  const named = header(headers, 'content-encoding')?.trim().toLowerCase()
  return /\b(gzip|compress|deflate|br|zstd|dcb|dcz)\b/.test(named ?? '') ? named : undefined
}

/** 202, 204 and 205 say that there is none, [RFC 9110 §15.3]. */
export function holdsAnswer(status: number): boolean {
  return status !== 202 && status !== 204 && status !== 205
}

/** The first value of a header. */
export function header(headers: ReplyHeaders, name: string): string | undefined {
  const value = headers[name]
  return Array.isArray(value) ? value[0] : value
}

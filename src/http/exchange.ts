/**
 * One HTTP round trip: dressed with headers and credentials, sent, and what came back understood.
 *
 * Not a session, not a retry: a call goes out once (but for a redirect inside the origin and a key read again).
 * The one rule: the meaning of a reply is decided here, once, as an Outcome. Nobody else reads a status code,
 * nobody else touches undici's HTTP.
 *
 * [MCP 2025-11-25 transports, Streamable HTTP]
 */

import { reasonOf } from '../errors.ts'
import { textAt } from '../json.ts'
import { HEADER, member, parse } from '../protocol.ts'
import { Body, type Valve } from './body.ts'
import type { HttpConfig } from './config.ts'
import { Connections } from './connections.ts'
import { EventReader } from './events.ts'

/** What a reply means. Every text in it is short and safe to show. */
export type Outcome =
  /** 2xx without a message: the server has it. */
  | { readonly kind: 'accepted' }
  /** 2xx with a JSON body, unread by us. */
  | { readonly kind: 'answer'; readonly text: Buffer; readonly sessionId: string | undefined }
  /** 2xx with an event stream, open. Whoever gets it reads it to its end or destroys it. */
  | { readonly kind: 'stream'; readonly events: EventReader; readonly sessionId: string | undefined }
  /** 404 to a call that carried a session id: [MCP] start a new session. */
  | { readonly kind: 'no-such-session' }
  | { readonly kind: 'unauthorized'; readonly status: number; readonly wantsOauth: boolean }
  /** 405: the server doesn't do this method here. */
  | { readonly kind: 'not-offered' }
  /** The server's decision about this call; `rpcError` is its own JSON-RPC error object, as JSON text. */
  | Refused
  /** It did not get through, or the server cannot serve now. `sent`: some byte of it may have reached the server. */
  | Unavailable

export interface Refused {
  readonly kind: 'refused'
  readonly status: number
  readonly text: string
  readonly rpcError: string | undefined
  /** `code` and `message` of the server's JSON-RPC error, as they stand there. */
  readonly code?: string | undefined
  readonly message?: string | undefined
  readonly location: string | undefined
}

export interface Unavailable {
  readonly kind: 'unavailable'
  readonly sent: boolean
  readonly why: string
  readonly cause: unknown
  readonly status: number | undefined
  readonly retryAfterMs: number | undefined
}

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
  readonly signal: AbortSignal
  /** Called when the first byte is about to be written to a connected socket. */
  readonly onSent?: () => void
}

interface Reply {
  readonly status: number
  readonly headers: Record<string, string | string[] | undefined>
  readonly body: Body
}

const MAX_REDIRECTS = 5
const ERROR_BODY_BYTES = 64 * 1024
const ERROR_BODY_MS = 2_000
const ERROR_TEXT_CHARS = 300

export class Exchange {
  readonly #config: HttpConfig
  readonly #connections: Connections
  readonly #url: URL

  constructor(config: HttpConfig) {
    this.#config = config
    this.#url = new URL(config.url)
    this.#connections = new Connections(config, this.#url.origin)
  }

  /** Never rejects. An aborted call comes back as `unavailable`. */
  async call(call: Call): Promise<Outcome> {
    let renewed = false
    let url = this.#url
    for (let redirects = 0; ; redirects++) {
      let sent = false
      const onSent = (): void => {
        sent = true
        call.onSent?.()
      }
      const used = this.#config.credentials.headers()
      let reply: Reply
      try {
        reply = await this.#roundTrip(url, { ...call, onSent })
      } catch (cause) {
        if (!sent && isTlsFailure(cause) && (await this.#trustMore(cause))) continue
        return unavailable(sent, isTimeout(call.signal) ? 'no answer' : reasonOf(cause), cause)
      }
      if (reply.status >= 300 && reply.status < 400) {
        const target = await this.#follow(url, reply, redirects)
        if (!(target instanceof URL)) return target
        // (Never remembered: a redirect may be a face of a redeploy.)
        url = target
        continue
      }
      if (reply.status === 401 && !renewed && (await this.#config.credentials.renew(used))) {
        renewed = true
        reply.body.destroy()
        continue
      }
      return await this.#classify(call, reply)
    }
  }

  /** Drops every connection. */
  destroy(): void {
    this.#connections.destroy()
  }

  /** The address as it may be shown: no credentials, no query. */
  get where(): string {
    return `${this.#url.origin}${this.#url.pathname}`
  }

  #roundTrip(url: URL, call: Call): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const { signal } = call
      if (signal.aborted) return reject(new Error('aborted'))
      const connection = this.#connections.lease()
      let body: Body | undefined
      let valve: (Valve & { readonly aborted: boolean }) | undefined
      let over = false
      const finish = (): void => {
        if (over) return
        over = true
        signal.removeEventListener('abort', onAbort)
        connection.release()
      }
      const onAbort = (): void => {
        if (body !== undefined) body.destroy()
        else if (valve !== undefined) valve.abort(new Error('aborted'))
        reject(new Error('aborted'))
      }
      signal.addEventListener('abort', onAbort, { once: true })
      connection.dispatcher.dispatch(
        {
          origin: url.origin,
          path: `${url.pathname}${url.search}`,
          method: call.method,
          headers: this.#headers(call),
          body: call.body ?? null,
          headersTimeout: 0,
          bodyTimeout: 0,
        },
        {
          onRequestStart(controller) {
            // Withdrawn while it waited for its connection: nothing has been written yet.
            if (signal.aborted) throw new Error('aborted')
            valve = controller
            call.onSent?.()
          },
          onResponseStart(controller, status, headers) {
            if (status < 200) return
            body = new Body(controller)
            resolve({ status, headers, body })
          },
          onResponseData(_controller, chunk) {
            body?.push(chunk)
          },
          onResponseEnd() {
            finish()
            body?.end()
          },
          onResponseError(_controller, error) {
            finish()
            body?.fail(error)
            reject(error)
          },
        },
      )
    })
  }

  #headers(call: Call): Record<string, string> {
    const headers: Record<string, string> = {
      'user-agent': this.#config.userAgent,
      ...this.#config.credentials.headers(),
      accept: call.method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream',
    }
    if (call.body !== undefined) headers['content-type'] = 'application/json'
    if (call.session !== undefined) {
      if (call.session.id !== undefined) headers[HEADER.session] = call.session.id
      headers[HEADER.protocol] = call.session.protocolVersion
    }
    if (call.cursor !== undefined) headers[HEADER.cursor] = call.cursor
    return headers
  }

  /** Nobody we trust knows the server's certificate: perhaps the operating system does. */
  async #trustMore(cause: unknown): Promise<boolean> {
    const { isUntrusted, trustSystem } = await import('./network.ts')
    return isUntrusted(cause) && this.#config.tls === undefined && trustSystem()
  }

  /** The redirect's target, or why it is not followed. */
  async #follow(url: URL, reply: Reply, redirects: number): Promise<URL | Refused> {
    const location = header(reply, 'location') ?? ''
    const refused = (text: string): Refused => {
      reply.body.destroy()
      return { kind: 'refused', status: reply.status, text, rpcError: undefined, location: shown(location) }
    }
    const target = URL.canParse(location, url.href) ? new URL(location, url) : undefined
    const keepsMethod = [301, 302, 307, 308].includes(reply.status)
    if (target === undefined || !keepsMethod) return refused('a redirect that cannot be followed')
    if (target.origin !== url.origin) return refused('a redirect to another origin')
    if (redirects >= MAX_REDIRECTS) return refused('too many redirects')
    await drained(reply.body)
    return target
  }

  async #classify(call: Call, reply: Reply): Promise<Outcome> {
    const { status } = reply
    if (status >= 200 && status < 300) return await this.#understandSuccess(call, reply)
    if (status === 404 && call.session?.id !== undefined) {
      await drained(reply.body)
      return { kind: 'no-such-session' }
    }
    if (status === 401 || status === 403) {
      const challenge = header(reply, 'www-authenticate') ?? ''
      await drained(reply.body)
      return { kind: 'unauthorized', status, wantsOauth: /resource_metadata/i.test(challenge) }
    }
    if (status === 405 && call.method !== 'POST') {
      await drained(reply.body)
      return { kind: 'not-offered' }
    }
    if (isUnavailable(status)) {
      const retryAfterMs = retryAfter(header(reply, 'retry-after'))
      const { text } = await this.#readError(reply)
      const why = `HTTP ${status}${text === '' ? '' : `: ${text}`}`
      return { kind: 'unavailable', sent: true, why, cause: undefined, status, retryAfterMs }
    }
    return { kind: 'refused', status, location: undefined, ...(await this.#readError(reply)) }
  }

  async #understandSuccess(call: Call, reply: Reply): Promise<Outcome> {
    const sessionId = header(reply, HEADER.session)
    if (sessionId !== undefined) this.#config.redact.add(sessionId)
    const type = (header(reply, 'content-type') ?? '').toLowerCase()
    if (type.includes('text/event-stream') && call.method !== 'DELETE') {
      return { kind: 'stream', events: new EventReader(reply.body, this.#config.maxMessageBytes), sessionId }
    }
    if (call.method === 'POST' && reply.status !== 202 && reply.status !== 204) {
      let text: Buffer
      try {
        text = await reply.body.readAll(this.#config.maxMessageBytes)
      } catch (cause) {
        if (!(cause instanceof RangeError)) return unavailable(true, reasonOf(cause), cause)
        return {
          kind: 'refused',
          status: reply.status,
          text: `${cause.message} (--max-message); the request may have run`,
          rpcError: undefined,
          location: undefined,
        }
      }
      if (text.length === 0) return { kind: 'accepted' }
      if (type === '' || type.includes('json'))
        return { kind: 'answer', text: withoutByteOrderMark(text), sessionId }
      const excerpt = `${type.split(';')[0]}, not JSON: ${this.#config.redact(plainText(text.toString('utf8')))}`
      return {
        kind: 'refused',
        status: reply.status,
        text: excerpt,
        rpcError: undefined,
        location: undefined,
      }
    }
    if (call.method === 'GET') {
      const error = await this.#readError(reply)
      const text = `${type === '' ? 'no content type' : type}, not an event stream`
      return {
        kind: 'refused',
        status: reply.status,
        location: undefined,
        ...error,
        text: error.rpcError === undefined ? text : error.text,
      }
    }
    await drained(reply.body)
    return { kind: 'accepted' }
  }

  /** What an error body says: the server's own JSON-RPC error, or a page as one short line. Without secrets. */
  async #readError(reply: Reply): Promise<Pick<Refused, 'text' | 'rpcError' | 'code' | 'message'>> {
    const { redact } = this.#config
    const body = await drained(reply.body)
    const [message] = body.length === 0 ? [] : parse(body)
    if (message?.kind !== 'response' || message.error === undefined) {
      return { text: redact(plainText(body.toString('utf8'))), rpcError: undefined }
    }
    const original = textAt(message.raw, message.error)
    const token = (name: string): string | undefined => {
      const at = member(message.raw, message.error, name)
      return at === undefined ? undefined : textAt(message.raw, at)
    }
    const rpcError = withoutSecrets(original, redact)
    return { text: plainText(rpcError), rpcError, code: token('code'), message: token('message') }
  }
}

/** JSON text with secrets cut out of its strings; the very same text when it holds none. */
function withoutSecrets(json: string, redact: (text: string) => string): string {
  if (redact(json) === json) return json
  return JSON.stringify(JSON.parse(json), (_key, value: unknown) =>
    typeof value === 'string' ? redact(value) : value,
  )
}

/** [RFC 8259 §8.1] a parser may ignore one; .NET servers write it. */
function withoutByteOrderMark(text: Buffer): Buffer {
  return text[0] === 0xef && text[1] === 0xbb && text[2] === 0xbf ? text.subarray(3) : text
}

function isTimeout(signal: AbortSignal): boolean {
  return signal.aborted && signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError'
}

function isTlsFailure(cause: unknown): boolean {
  return /CERT|SELF_SIGNED|LEAF_SIGNATURE/.test(String((cause as NodeJS.ErrnoException).code))
}

/** 429, and the 5xx that say "not now": gateways' among them (520 to 524 are a CDN's). */
function isUnavailable(status: number): boolean {
  return [429, 502, 503, 504].includes(status) || (status >= 520 && status <= 524)
}

function unavailable(sent: boolean, why: string, cause: unknown): Unavailable {
  return { kind: 'unavailable', sent, why, cause, status: undefined, retryAfterMs: undefined }
}

function header(reply: Reply, name: string): string | undefined {
  const value = reply.headers[name]
  return Array.isArray(value) ? value[0] : value
}

/** [RFC 9110 §10.2.3] seconds or a date; milliseconds from now. */
function retryAfter(value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  if (/^\d+$/.test(value.trim())) return Number(value) * 1_000
  const at = Date.parse(value)
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now())
}

/** Reads a short rest so that the connection can be used again; a long or slow one is cut. */
async function drained(body: Body): Promise<Buffer> {
  const limit = setTimeout(() => body.destroy(), ERROR_BODY_MS)
  try {
    return await body.readAll(ERROR_BODY_BYTES)
  } catch {
    return Buffer.alloc(0)
  } finally {
    clearTimeout(limit)
  }
}

/** A page or a JSON error as one short line. */
function plainText(text: string): string {
  // (Only the start is shown, and the expressions take their time over long texts without a ">".)
  const plain = text
    .slice(0, 4_096)
    .replaceAll(/<(script|style)\b[\s\S]*?<\/\1>/gi, ' ')
    .replaceAll(/<[^>]*>/g, ' ')
    .replaceAll(/[\s\p{Cc}]+/gu, ' ')
    .trim()
  return plain.length <= ERROR_TEXT_CHARS ? plain : `${plain.slice(0, ERROR_TEXT_CHARS)}…`
}

/** A Location without what may be secret in it. */
function shown(location: string): string {
  if (!URL.canParse(location)) return plainText(location.split('?')[0] ?? '')
  const url = new URL(location)
  return `${url.origin}${url.pathname}`
}

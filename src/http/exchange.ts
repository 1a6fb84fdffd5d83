/**
 * One call: dressed with headers and credentials, sent, and what came back understood.
 *
 * Not a session, not a retry: a call goes out once (but for a redirect inside the origin and a key read again).
 * The one rule: the meaning of a reply is decided here, once, as an Outcome (outcome.ts). All that round-trip.ts knows
 * by itself is the plain success.
 *
 * [MCP 2025-11-25 transports, Streamable HTTP]
 */
import { isCertificateFailure, reasonOf } from '../errors.ts'
import { textAt } from '../json.ts'
import { HEADER, member, parse } from '../protocol.ts'
import { limit, type Signal } from '../retry.ts'
import type { Body } from './body.ts'
import type { HttpConfig } from './config.ts'
import { Connections } from './connections.ts'
import type { Outcome, Refused, Unavailable } from './outcome.ts'
import {
  type Accepted,
  type Answer,
  type Call,
  coding,
  contentType,
  type Failure,
  type Heard,
  header,
  holdsAnswer,
  type Reply,
  RoundTrip,
  type SessionHeaders,
  type Stream,
} from './round-trip.ts'

/** Where a call goes. */
interface Target {
  readonly url: URL
  readonly origin: string
  readonly path: string
}

const MAX_REDIRECTS = 5
const ERROR_BODY_BYTES = 64 * 1024
const ERROR_BODY_MS = 2_000
const ERROR_TEXT_CHARS = 300
const YEAR_MS = 365 * 86_400_000
const NOTHING = Buffer.alloc(0)

export class Exchange {
  readonly #config: HttpConfig
  readonly #connections: Connections
  readonly #target: Target
  /** The headers of the last POST: those of the next are the same unless the session or the key changed. */
  #posted: { session: SessionHeaders | undefined; used: object; headers: readonly string[] } | undefined

  constructor(config: HttpConfig) {
    this.#config = config
    this.#target = targetOf(new URL(config.url))
    this.#connections = new Connections(config, this.#target.origin)
  }

  /** Never rejects. An aborted call comes back as `unavailable`. */
  call(call: Call): Promise<Outcome> {
    // (One promise a call, for all but the exceptions.)
    return new Promise((resolve) => {
      this.#dispatch(this.#target, call, (heard) =>
        resolve(isOutcome(heard) ? heard : this.#lookInto(call, heard)),
      )
    })
  }

  /**
   * GET: a stream, or why there is none. `late`: its headers did not come within `limitMs`, or one of `signals` was
   * aborted before; once there is a stream they end it no more.
   */
  async stream(
    session: SessionHeaders,
    cursor: string | undefined,
    limitMs: number,
    ...signals: readonly Signal[]
  ): Promise<{ readonly outcome: Exclude<Outcome, Accepted | Answer>; readonly late: boolean }> {
    const patience = limit(limitMs, ...signals)
    const outcome = await this.call({ method: 'GET', session, cursor, signal: patience.signal })
    const late = patience.signal.aborted
    patience.clear()
    if (outcome.kind === 'accepted' || outcome.kind === 'answer') throw new TypeError('a GET was answered')
    if (!late || outcome.kind !== 'stream') return { outcome, late }
    outcome.events.destroy()
    return { outcome: unavailable(true, 'no answer', undefined), late }
  }

  /** Drops every connection. */
  destroy(): void {
    this.#connections.destroy()
  }

  /** The address as it may be shown: no credentials, no query. */
  get where(): string {
    const { url, origin } = this.#target
    return `${origin}${url.pathname}`
  }

  /** What was no plain answer: a redirect is followed, a key read again; the rest gets its meaning. */
  async #lookInto(call: Call, first: Reply | Failure): Promise<Outcome> {
    let renewed = false
    let target = this.#target
    let heard: Heard = first
    for (let redirects = 0; ; ) {
      if (isOutcome(heard)) return heard
      if (heard.kind === 'failure') {
        const { sent, status, cause } = heard
        if (status !== undefined && cause instanceof RangeError) return refusal(status, tooLong(cause))
        if (sent || !isCertificateFailure(cause) || !(await this.#trustMore(cause))) {
          const why = isTimeout(call.signal) ? 'no answer' : reasonOf(cause)
          const { proxy } = this.#config
          const through = proxy === undefined ? '' : ` (through the proxy ${proxy.url.host})`
          return unavailable(sent, `${why}${through}`, cause)
        }
      } else if (heard.status >= 300 && heard.status < 400) {
        const next = await this.#follow(target.url, heard, redirects++)
        if (!(next instanceof URL)) return next
        // (Never remembered: a redirect may be a face of a redeploy.)
        target = targetOf(next)
      } else {
        const { status, used } = heard
        if (status !== 401 || renewed || !(await this.#config.credentials.renew(used))) {
          return await this.#classify(call, heard)
        }
        renewed = true
        heard.body.destroy()
      }
      heard = await new Promise((resolve) => this.#dispatch(target, call, resolve))
    }
  }

  #dispatch(target: Target, call: Call, settle: (heard: Heard) => void): void {
    if (call.signal.aborted) {
      return settle({ kind: 'failure', sent: false, status: undefined, cause: new Error('aborted') })
    }
    const used = this.#config.credentials.headers()
    const connection = this.#connections.take()
    const trip = new RoundTrip(call, used, this.#config, settle, (usable) =>
      this.#connections.giveBack(connection, usable),
    )
    try {
      connection.dispatch(
        {
          origin: target.origin,
          path: target.path,
          method: call.method,
          headers: this.#headers(call, used) as string[],
          body: call.body ?? null,
          headersTimeout: 0,
          bodyTimeout: 0,
        },
        trip,
      )
    } catch (cause) {
      // (A proxy agent throws what it does not like.)
      trip.fail(cause as Error)
    }
  }

  /** Names and values by turns. */
  #headers(call: Call, used: Readonly<Record<string, string>>): readonly string[] {
    if (call.method !== 'POST') return this.#written(call, used)
    const last = this.#posted
    if (last !== undefined && last.session === call.session && last.used === used) return last.headers
    const headers = this.#written(call, used)
    this.#posted = { session: call.session, used, headers }
    return headers
  }

  #written(call: Call, used: Readonly<Record<string, string>>): readonly string[] {
    const headers: Record<string, string> = {
      'user-agent': this.#config.userAgent,
      ...used,
      accept: call.method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream',
      // [RFC 9110 §12.5.3] Without it any coding will do.
      'accept-encoding': 'identity',
    }
    if (call.body !== undefined) headers['content-type'] = 'application/json'
    if (call.session !== undefined) {
      if (call.session.id !== undefined) headers[HEADER.session] = call.session.id
      headers[HEADER.protocol] = call.session.protocolVersion
    }
    if (call.cursor !== undefined) headers[HEADER.cursor] = call.cursor
    return Object.entries(headers).flat()
  }

  /** Nobody we trust knows the server's certificate: perhaps the operating system does. */
  async #trustMore(cause: unknown): Promise<boolean> {
    const { isUntrusted, trustSystem } = await import('./network.ts')
    return isUntrusted(cause) && this.#config.tls === undefined && trustSystem()
  }

  /** The redirect's target, or why it is not followed. */
  async #follow(url: URL, reply: Reply, redirects: number): Promise<URL | Refused> {
    const location = header(reply.headers, 'location') ?? ''
    const refused = (text: string): Refused => {
      reply.body.destroy()
      return { ...refusal(reply.status, text), location: shown(this.#config.redact(location)) }
    }
    const target = URL.canParse(location, url.href) ? new URL(location, url) : undefined
    const keepsMethod = [301, 302, 307, 308].includes(reply.status)
    if (location === '') return { ...refused(''), location: undefined }
    if (target === undefined || !keepsMethod) return refused('a redirect that cannot be followed')
    if (target.origin !== url.origin) return refused('a redirect to another origin')
    if (redirects >= MAX_REDIRECTS) {
      const text = `more than ${MAX_REDIRECTS} redirects, the last to ${shown(this.#config.redact(location))}`
      return { ...refused(text), location: undefined }
    }
    await drained(reply.body)
    return target
  }

  async #classify(call: Call, reply: Reply): Promise<Outcome> {
    const { status } = reply
    if (status >= 200 && status < 300) return await this.#understandSuccess(call, reply)
    if (status === 404 && call.session?.id !== undefined) {
      return { kind: 'no-such-session', ...(await this.#readError(reply)) }
    }
    if (status === 401 || status === 403) {
      const challenge = header(reply.headers, 'www-authenticate') ?? ''
      const error = await this.#readError(reply)
      // Who was let in and may not do this one thing is told so by the server itself; so is who has no key to blame.
      const { source, problem } = this.#config.credentials
      const isOfKey = call.session === undefined && `${challenge}${source ?? ''}${problem ?? ''}` !== ''
      if (status === 403 && !isOfKey && error.rpcError !== undefined) {
        return { kind: 'refused', status, location: undefined, ...error }
      }
      return {
        kind: 'unauthorized',
        status,
        wantsOauth: /resource_metadata/i.test(challenge),
        text: error.text,
      }
    }
    if (status === 405 && call.method !== 'POST') {
      await drained(reply.body)
      return { kind: 'not-offered' }
    }
    if (isUnavailable(status)) {
      const retryAfterMs = retryAfter(header(reply.headers, 'retry-after'))
      const { text, rpcError } = await this.#readError(reply)
      const why = `HTTP ${status}${text === '' ? '' : `: ${text}`}`
      return { kind: 'unavailable', sent: true, why, cause: undefined, status, retryAfterMs, rpcError }
    }
    return { kind: 'refused', status, location: undefined, ...(await this.#readError(reply)) }
  }

  /** 2xx, and neither JSON nor a stream that can be read. */
  async #understandSuccess(call: Call, reply: Reply): Promise<Outcome> {
    const type = contentType(reply.headers)
    const compressed = coding(reply.headers)
    if (compressed !== undefined && call.method !== 'DELETE' && holdsAnswer(reply.status)) {
      reply.body.destroy()
      return refusal(reply.status, notAskedFor(compressed))
    }
    if (call.method === 'POST' && holdsAnswer(reply.status)) {
      const body = await drained(reply.body)
      if (body?.length === 0) return { kind: 'accepted' }
      const excerpt = body === undefined ? '' : `: ${plainText(this.#config.redact(body.toString('utf8')))}`
      return refusal(reply.status, `${type.split(';')[0]}, not JSON${excerpt}`)
    }
    if (call.method === 'GET') {
      const error = await this.#readError(reply)
      const text = `${type === '' ? 'no content type' : type}, not an event stream`
      return {
        ...refusal(reply.status, text),
        ...error,
        text: error.rpcError === undefined ? text : error.text,
      }
    }
    // (Nobody waits for the end of a body that says nothing: what stands behind a notification waits for its headers.)
    void drained(reply.body)
    return { kind: 'accepted' }
  }

  /** What an error body says: the server's own JSON-RPC error, or a page as one short line. Without secrets. */
  async #readError(reply: Reply): Promise<Pick<Refused, 'text' | 'rpcError' | 'id' | 'code' | 'message'>> {
    const { redact } = this.#config
    const body = (await drained(reply.body)) ?? NOTHING
    const compressed = coding(reply.headers)
    if (compressed !== undefined) return { text: notAskedFor(compressed), rpcError: undefined }
    const [message] = body.length === 0 ? [] : parse(body)
    if (message?.kind !== 'response' || message.error === undefined) {
      return { text: plainText(redact(body.toString('utf8'))), rpcError: undefined }
    }
    const original = textAt(message.raw, message.error)
    const token = (name: string): string | undefined => {
      const at = member(message.raw, message.error, name)
      return at === undefined ? undefined : textAt(message.raw, at)
    }
    const rpcError = withoutSecrets(original, redact)
    const { id } = message
    return { text: plainText(rpcError), rpcError, id, code: token('code'), message: token('message') }
  }
}

function isOutcome(heard: Heard): heard is Accepted | Answer | Stream {
  return heard.kind !== 'reply' && heard.kind !== 'failure'
}

function targetOf(url: URL): Target {
  return { url, origin: url.origin, path: `${url.pathname}${url.search}` }
}

function refusal(status: number, text: string): Refused {
  return { kind: 'refused', status, text, rpcError: undefined, location: undefined }
}

function notAskedFor(compressed: string): string {
  return `its body is compressed (${plainText(compressed)}), though "identity" was asked for`
}

function tooLong(over: RangeError): string {
  return `${over.message} (--max-message)`
}

/** JSON text with secrets cut out of its strings; the very same text when it holds none. */
function withoutSecrets(json: string, redact: (text: string) => string): string {
  if (redact(json) === json) return json
  return JSON.stringify(JSON.parse(json), (_key, value: unknown) =>
    typeof value === 'string' ? redact(value) : value,
  )
}

function isTimeout(signal: Signal): boolean {
  return signal.aborted && signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError'
}

/** 429, and the 5xx that say "not now": gateways' among them (520 to 524 are a CDN's). */
function isUnavailable(status: number): boolean {
  return [429, 502, 503, 504].includes(status) || (status >= 520 && status <= 524)
}

function unavailable(sent: boolean, why: string, cause: unknown): Unavailable {
  return { kind: 'unavailable', sent, why, cause, status: undefined, retryAfterMs: undefined }
}

/** [RFC 9110 §10.2.3] seconds or a date; milliseconds from now, a year at most. */
function retryAfter(value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  if (/^\d+$/.test(value.trim())) return Math.min(Number(value) * 1_000, YEAR_MS)
  // (`Date.parse` takes "1.5" and "5, 10" for days in the year 2001.)
  if (!/^\s*(mon|tue|wed|thu|fri|sat|sun)/i.test(value)) return undefined
  const at = Date.parse(value)
  return Number.isNaN(at) ? undefined : Math.min(Math.max(0, at - Date.now()), YEAR_MS)
}

/** Reads a short rest so that the connection can be used again; a long or slow one is cut, and undefined. */
async function drained(body: Body): Promise<Buffer | undefined> {
  const limit = setTimeout(() => body.destroy(), ERROR_BODY_MS)
  try {
    return await body.readAll(ERROR_BODY_BYTES)
  } catch {
    return undefined
  } finally {
    clearTimeout(limit)
  }
}

/** A page or a JSON error as one short line. Call it with what is redacted: half a key is not known for one. */
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

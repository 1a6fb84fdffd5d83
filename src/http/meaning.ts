/**
 * What a reply means that is no plain success: an Outcome (outcome.ts).
 *
 * Not a call, and no opinion on what follows. The one rule: nobody else reads error bodies, and what is quoted of them
 * holds no secret.
 *
 * [MCP 2025-11-25 transports, Streamable HTTP; RFC 9110 §15]
 */
import { plainText } from '../errors.ts'
import { textAt } from '../json.ts'
import { parse, RPC, textMember } from '../protocol.ts'
import { later } from '../retry.ts'
import type { Redactor } from '../status.ts'
import type { Body } from './body.ts'
import type { HttpConfig } from './config.ts'
import type { Outcome, Refused } from './outcome.ts'
import { type Call, coding, contentType, header, holdsAnswer, type Reply } from './round-trip.ts'

const ERROR_BODY_BYTES = 64 * 1024
const ERROR_BODY_MS = 2_000
const YEAR_MS = 365 * 86_400_000
const NOTHING = Buffer.alloc(0)

export async function meaningOf(call: Call, reply: Reply, config: HttpConfig): Promise<Outcome> {
  const { status } = reply
  const { credentials, redact } = config
  if (status >= 200 && status < 300) return await understandSuccess(call, reply, redact)
  if (status === 404 && call.session?.id !== undefined) {
    const error = await readError(reply, redact)
    // [MCP 2026-07-28 transports] It is also how a server says of a request that it does not know the method.
    const isOfRequest = call.method === 'POST' && error.id !== undefined
    return isOfRequest && error.code === String(RPC.methodNotFound)
      ? { kind: 'refused', status, location: undefined, ...error }
      : { kind: 'no-such-session', ...error }
  }
  if (status === 401 || status === 403) {
    const challenge = header(reply.headers, 'www-authenticate') ?? ''
    const error = await readError(reply, redact)
    // Who was let in and may not do this one thing is told so by the server itself; so is who has no key to blame.
    const { source, problem } = credentials
    const isOfKey = call.session === undefined && [challenge, source, problem].some(Boolean)
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
    return { kind: 'not-offered', status }
  }
  if (isUnavailable(status)) {
    const retryAfterMs = retryAfter(header(reply.headers, 'retry-after'), header(reply.headers, 'date'))
    const { text, rpcError } = await readError(reply, redact)
    const why = `HTTP ${status}${text === '' ? '' : `: ${text}`}`
    return { kind: 'unavailable', sent: true, why, cause: undefined, status, retryAfterMs, rpcError }
  }
  return { kind: 'refused', status, location: undefined, ...(await readError(reply, redact)) }
}

/** 2xx, and neither JSON nor a stream that can be read. */
async function understandSuccess(call: Call, reply: Reply, redact: Redactor): Promise<Outcome> {
  const type = contentType(reply.headers)
  const compressed = coding(reply.headers)
  if (compressed !== undefined && call.method !== 'DELETE' && holdsAnswer(reply.status)) {
    reply.body.destroy()
    return refusal(reply.status, notAskedFor(compressed))
  }
  if (call.method === 'POST' && holdsAnswer(reply.status)) {
    const body = await drained(reply.body)
    if (body?.length === 0) return { kind: 'accepted' }
    const excerpt = body === undefined ? '' : `: ${plainText(redact(body.toString('utf8')))}`
    return refusal(reply.status, `${type.split(';')[0]}, not JSON${excerpt}`)
  }
  if (call.method === 'GET') {
    // [WHATWG HTML §9.2.5] "no content" is how a server of event streams says that there is none to be had.
    if (reply.status === 204) {
      void drained(reply.body)
      return { kind: 'not-offered', status: 204 }
    }
    const error = await readError(reply, redact)
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
async function readError(
  reply: Reply,
  redact: Redactor,
): Promise<Pick<Refused, 'text' | 'rpcError' | 'id' | 'code' | 'message'>> {
  const body = (await drained(reply.body)) ?? NOTHING
  const compressed = coding(reply.headers)
  if (compressed !== undefined) return { text: notAskedFor(compressed), rpcError: undefined }
  const [message] = body.length === 0 ? [] : parse(body)
  if (message?.kind !== 'response' || message.error === undefined) {
    return { text: plainText(redact(body.toString('utf8'))), rpcError: undefined }
  }
  const { raw, error, id } = message
  const rpcError = withoutSecrets(textAt(raw, error), redact)
  return {
    text: plainText(rpcError),
    rpcError,
    id,
    code: textMember(raw, error, 'code'),
    message: textMember(raw, error, 'message'),
  }
}

export function refusal(status: number, text: string): Refused {
  return { kind: 'refused', status, text, rpcError: undefined, location: undefined }
}

function notAskedFor(compressed: string): string {
  return `its body is compressed (${plainText(compressed)}), though "identity" was asked for`
}

/** JSON text with secrets cut out of its strings; the very same text when it holds none. */
function withoutSecrets(json: string, redact: (text: string) => string): string {
  if (redact(json) === json) return json
  return JSON.stringify(JSON.parse(json), (_key, value: unknown) =>
    typeof value === 'string' ? redact(value) : value,
  )
}

/** 429, and the 5xx that say "not now": gateways' among them (520 to 524 are a CDN's). */
function isUnavailable(status: number): boolean {
  return [429, 502, 503, 504].includes(status) || (status >= 520 && status <= 524)
}

/** [RFC 9110 §10.2.3] seconds or a date, by the server's own clock if it tells; milliseconds from now, a year at most. */
function retryAfter(value: string | undefined, date: string | undefined): number | undefined {
  if (value === undefined) return undefined
  if (/^\d+$/.test(value.trim())) return Math.min(Number(value) * 1_000, YEAR_MS)
  const at = timeOf(value)
  return at === undefined ? undefined : Math.min(Math.max(0, at - (timeOf(date) ?? Date.now())), YEAR_MS)
}

/** Milliseconds since 1970 of an HTTP date. */
function timeOf(date = ''): number | undefined {
  // (`Date.parse` takes "1.5" and "5, 10" for days in the year 2001.)
  if (!/^\s*(mon|tue|wed|thu|fri|sat|sun)/i.test(date)) return undefined
  const at = Date.parse(date)
  return Number.isNaN(at) ? undefined : at
}

/** Reads a short rest so that the connection can be used again; a long or slow one is cut, and undefined. */
export async function drained(body: Body): Promise<Buffer | undefined> {
  const callOff = later(ERROR_BODY_MS, () => body.destroy())
  try {
    return await body.readAll(ERROR_BODY_BYTES)
  } catch {
    return undefined
  } finally {
    callOff()
  }
}

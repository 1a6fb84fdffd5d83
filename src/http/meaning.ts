/**
 * What a reply means that is no plain success: an Outcome (outcome.ts).
 *
 * Not a call, and no opinion on what follows. The one rule: nobody else reads error bodies, and what is quoted of them
 * holds no secret.
 *
 * [MCP 2025-11-25 transports, Streamable HTTP; RFC 9110 §15]
 */
import { oneLine, plainText } from '../errors.ts'
import { Gathered } from '../gathered.ts'
import { textAt, withoutByteOrderMark } from '../json.ts'
import { parse, RPC, textMember } from '../protocol.ts'
import { later } from '../retry.ts'
import type { Redactor } from '../status.ts'
import type { Body } from './body.ts'
import type { HttpConfig } from './config.ts'
import type { Outcome, Refused } from './outcome.ts'
import { type Call, coding, contentType, header, holdsAnswer, type Reply } from './round-trip.ts'

/** An error that is longer is a page, whatever it begins with. */
const ERROR_BODY_BYTES = 1024 * 1024
/** So much of a page is looked at for the line that is shown. */
const EXCERPT_BYTES = 64 * 1024
const ERROR_BODY_MS = 2_000
const YEAR_MS = 365 * 86_400_000

export async function meaningOf(call: Call, reply: Reply, config: HttpConfig): Promise<Outcome> {
  const { status } = reply
  const { credentials, redact } = config
  if (status >= 200 && status < 300) return await understandSuccess(call, reply, redact)
  if (status === 404 && call.session?.id !== undefined) {
    const error = await readError(reply, redact)
    // [MCP 2026-07-28 transports] It is also how a server says of a request that it does not know the method.
    const isOfRequest = call.method === 'POST' && error.id !== undefined
    return isOfRequest && error.code === String(RPC.methodNotFound)
      ? { kind: 'refused', status, ...error }
      : { kind: 'no-such-session', ...error }
  }
  if (status === 401 || status === 403) {
    const challenge = header(reply.headers, 'www-authenticate') ?? ''
    const error = await readError(reply, redact)
    // Who was let in and may not do this one thing is told so by the server itself; so is who has no key to blame.
    const { source, problem } = credentials
    const isOfKey = call.session === undefined && [challenge, source, problem].some(Boolean)
    if (status === 403 && !isOfKey && error.rpcError !== undefined) {
      return { kind: 'refused', status, ...error }
    }
    return {
      kind: 'unauthorized',
      status,
      wantsOauth: /resource_metadata/i.test(challenge),
      text: error.text,
    }
  }
  if (status === 405 && call.method !== 'POST') {
    await beginning(reply.body)
    return { kind: 'not-offered', status }
  }
  if (isUnavailable(status)) {
    const retryAfterMs = retryAfter(header(reply.headers, 'retry-after'), header(reply.headers, 'date'))
    const { text, rpcError } = await readError(reply, redact)
    const why = `HTTP ${status}${text === '' ? '' : `: ${text}`}`
    return { kind: 'unavailable', sent: true, why, cause: undefined, status, retryAfterMs, rpcError }
  }
  return { kind: 'refused', status, ...(await readError(reply, redact)) }
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
    const body = await beginning(reply.body)
    if (body.length === 0 && !reply.body.failed) return { kind: 'accepted' }
    const text = excerpt(body, reply, redact)
    const why = `${type.split(';')[0]}, not JSON${text === '' ? '' : `: ${text}`}`
    return { ...refusal(reply.status, why), isPage: type.includes('html') }
  }
  if (call.method === 'GET') {
    // [WHATWG HTML §9.2.5] "no content" is how a server of event streams says that there is none to be had.
    if (reply.status === 204) {
      void beginning(reply.body)
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
  void beginning(reply.body)
  return { kind: 'accepted' }
}

/** What an error body says: the server's own JSON-RPC error, or a page as one short line. Without secrets. */
async function readError(
  reply: Reply,
  redact: Redactor,
): Promise<Pick<Refused, 'text' | 'rpcError' | 'id' | 'code' | 'message'>> {
  const body = withoutByteOrderMark(await beginning(reply.body))
  const compressed = coding(reply.headers)
  if (compressed !== undefined) return { text: notAskedFor(compressed), rpcError: undefined }
  const [message] = body.length === 0 ? [] : parse(body)
  if (message?.kind !== 'response' || message.error === undefined) {
    return { text: excerpt(body, reply, redact), rpcError: undefined }
  }
  const { raw, error, id } = message
  return {
    ...quoted(textAt(raw, error), redact),
    id,
    code: textMember(raw, error, 'code'),
    message: textMember(raw, error, 'message'),
  }
}

/** A JSON-RPC error of the server (JSON text), and the same as one short line. Without secrets. */
export function quoted(
  error: string,
  redact: Redactor,
): { readonly text: string; readonly rpcError: string } {
  const rpcError = withoutSecrets(error, redact)
  return { text: oneLine(rpcError), rpcError }
}

/** A page as one short line. */
function excerpt(body: Buffer, { body: { failed } }: Reply, redact: Redactor): string {
  const text = plainText(redact(body.toString('utf8', 0, EXCERPT_BYTES)))
  // (Of what was broken off the last word may be half a key.)
  return failed && !text.endsWith('…') ? text.replace(/[\w.~+/=-]*$/, '').trimEnd() : text
}

export function refusal(status: number, text: string): Refused {
  return { kind: 'refused', status, text, rpcError: undefined }
}

function notAskedFor(compressed: string): string {
  return `its body is compressed (${oneLine(compressed)}), though "identity" was asked for`
}

/** JSON text with secrets cut out of its strings, names among them, and numbers; all else stands as it stood. */
function withoutSecrets(json: string, redact: Redactor): string {
  return json.replaceAll(/"([^"\\]*(?:\\.[^"\\]*)*)"|-?\d[\d.eE+-]*/g, (token, inside = token) => {
    const clean = redact(inside)
    if (clean === inside) return token
    try {
      // (One that begins with the letter of an escape leaves its backslash.)
      return JSON.stringify(JSON.parse(`"${clean}"`))
    } catch {
      return '"[redacted]"'
    }
  })
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

/** Reads a short body to its end, so that the connection can be used again; a long or slow one is cut off. */
export async function beginning(body: Body): Promise<Buffer> {
  const all = new Gathered()
  const callOff = later(ERROR_BODY_MS, () => body.destroy())
  try {
    for (let chunk = await body.read(); chunk !== undefined; chunk = await body.read()) {
      all.add(chunk)
      if (all.length > ERROR_BODY_BYTES) break
    }
  } catch {
    // It broke: what has come says something too.
  }
  callOff()
  body.destroy()
  return all.take()
}

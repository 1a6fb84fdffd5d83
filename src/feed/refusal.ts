/**
 * What a moot backend's "no" means, decided once: for REST replies, for handshakes, for connections that failed.
 *
 * Not a retry policy: it only says whether waiting mends it soon. The one rule: no text holds the token; what a
 * server says is cut to one short line and cleaned before it stands anywhere.
 */
import { BridgeError, gist, oneLine, reasonOf } from '../errors.ts'
import type { NamedProxy } from '../proxy.ts'
import type { Backoff } from '../retry.ts'
import { isUntrusted } from '../system-trust.ts'
import { startOf } from './texts.ts'

/** Why something was not had. */
export interface Refusal {
  readonly error: BridgeError
  /** True when time alone seldom mends it (401, 403, 404, an untrusted certificate): look less often. */
  readonly lasting: boolean
  /** HTTP status, where there was one. */
  readonly status?: number
  /** The server asked to wait this long, ms. */
  readonly retryAfterMs?: number
}

export type Reply<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly no: Refusal }

export function yes<T>(value: T): Reply<T> {
  return { ok: true, value }
}

export function no(refusal: Refusal): { readonly ok: false; readonly no: Refusal } {
  return { ok: false, no: refusal }
}

/** Equal for refusals that say the same. */
export function reasonOfRefusal({ status, error }: Refusal): string {
  return `${status} ${error.code} ${gist(error.message)}`
}

/** How long to wait before asking again, ms. */
export function pauseAfter({ lasting, retryAfterMs }: Refusal, backoff: Backoff): number {
  return lasting ? backoff.slow() : backoff.next(0, retryAfterMs)
}

/** Cuts the token, plain or percent-encoded, out of a text. */
export type Clean = (text: string) => string

/** A long answer of an error page is no use to anybody. */
const MAX_SAID = 160

/** What a server says of a refusal, as one short clean line. */
export function lineOf(said: string, clean: Clean): string {
  return startOf(oneLine(clean(said), Number.POSITIVE_INFINITY), MAX_SAID)
}

/** The variable that says where all of moot is, but for a shared socket. */
const API_URL = 'CONVO_API_URL'
const NOT_FOUND_HINT = `check the space id, and ${API_URL}`
/** What a person can do about a status that waiting seldom mends. */
const HINTS: Readonly<Record<number, string>> = {
  401: 'set CONVO_API_KEY in the "env" of the server\'s entry in your MCP config to a key of this agent, then restart the client; or --api-key-file, which is read again by itself',
  403: 'ask whoever runs the space or the tenant: this agent is not allowed there, or the tenant is suspended',
  404: NOT_FOUND_HINT,
  409: 'the space is paused or archived; it must be active',
  410: NOT_FOUND_HINT,
}
const CA_HINT = 'set SSL_CERT_FILE to the path of the CA certificate the server was signed with (PEM)'

/** Certificate failures by their OpenSSL or Node code. */
const BAD_CERTIFICATE = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID', 'ERR_TLS_CERT_ALTNAME_INVALID'])

/** What is known of a refusal beside its status. */
export interface RefusedHow {
  /** The server's own words, already cleaned. */
  readonly said?: string
  readonly retryAfterMs?: number | undefined
  /** What stood for the status where it was not HTTP. */
  readonly how?: string | undefined
  /** The variable with the address, where it is about that alone. */
  readonly setting?: string | undefined
}

/** An HTTP status instead of what was wanted. `what` is the act ("join space x"). */
export function refusedBy(
  status: number,
  what: string,
  { said = '', retryAfterMs, how = `HTTP ${status}`, setting }: RefusedHow = {},
): Refusal {
  const words = said === '' ? how : `${how}: ${said}`
  if (isOfTheMoment(status) || status >= 500) {
    const error = new BridgeError('SERVER_BUSY', `moot could not ${what} (${words})`, {
      hint: 'nothing to do: it is tried again by itself',
    })
    return { error, lasting: false, status, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) }
  }
  const redirected = status >= 300 && status < 400
  const code = status === 401 ? 'KEY_REFUSED' : redirected ? 'REDIRECT_REFUSED' : 'FEED_REFUSED'
  const hint = redirected
    ? `set ${setting ?? API_URL} to where it really lives`
    : setting !== undefined && isAbsent(status)
      ? `check ${setting}`
      : HINTS[status]
  const error = new BridgeError(
    code,
    `moot refused to ${what} (${words})`,
    hint === undefined ? {} : { hint },
  )
  return { error, lasting: true, status }
}

/**
 * True for a refusal that is about the call alone (400, 404, 405, 409, 422, 501 …, or an answer of no use): the
 * backend is there and the key is good, but this it does not do. Not those about the key (401, 403), or about the
 * moment.
 */
export function isDeclined({ status, error }: Refusal): boolean {
  if (status === undefined) return error.code === 'SERVER_CONFUSED'
  if (status === 401 || status === 403 || isOfTheMoment(status)) return false
  return status === 501 || (status >= 400 && status < 500)
}

/** Too slow, too early, too many: the next time it may well work. */
function isOfTheMoment(status: number): boolean {
  return status === 408 || status === 425 || status === 429
}

/** True for a status that says: there is no such thing. */
export function isAbsent(status: number | undefined): boolean {
  return status === 404 || status === 410
}

/** No reply at all. `where` is the host, `proxy` what it was to be reached through, `setting` names the address. */
export function failedBy(
  cause: unknown,
  what: string,
  where: string,
  proxy?: NamedProxy,
  setting = API_URL,
): Refusal {
  const code = codeOf(cause)
  const untrusted = isUntrusted({ code })
  const bad = code !== undefined && BAD_CERTIFICATE.has(code)
  const why = untrusted ? `its certificate is not trusted (${code})` : reasonOf(cause)
  const hint = untrusted
    ? CA_HINT
    : bad
      ? 'renew the certificate of the server, or use the name it was made for'
      : `check ${setting}${proxy === undefined ? '' : `, ${proxy.variable}`} and your network; it is tried again by itself`
  return {
    error: new BridgeError('SERVER_UNREACHABLE', `could not ${what} at ${where}: ${why}${through(proxy)}`, {
      hint,
      cause,
    }),
    lasting: untrusted || bad,
  }
}

/** A bug of ours at `what`: it is met like a server's no, so that it does not end what is to go on. */
export function faultAt(what: string, cause: unknown): Refusal {
  const message = `could not ${what}, by a fault of this program: ${reasonOf(cause)}`
  const hint = 'nothing to do: it is tried again by itself; please report it'
  return { error: new BridgeError('FEED_REFUSED', message, { hint, cause }), lasting: false }
}

/** Said of what went wrong on the way: which way that was. */
export function through(proxy: NamedProxy | undefined): string {
  return proxy === undefined ? '' : ` (through the proxy ${proxy.url.host})`
}

/** What the server sent cannot be read. */
export function unreadable(what: string, why: string): Refusal {
  return {
    error: new BridgeError('SERVER_CONFUSED', `moot's answer to "${what}" can't be read: ${why}`, {
      hint: `check ${API_URL}: this may not be a moot backend`,
    }),
    lasting: true,
  }
}

/** One sentence with its hint, for a tool's answer. */
export function sentence(refusal: Refusal): string {
  const { message, hint } = refusal.error
  return hint === undefined ? `${message}.` : `${message}. Try: ${hint}.`
}

/** [RFC 9110 §10.2.3] `Retry-After` in ms: seconds; the form of a date is not used by moot. */
export function retryAfterMs(value: string | undefined): number | undefined {
  const s = Number(value)
  return value === undefined || !Number.isFinite(s) || s < 0 ? undefined : Math.min(s * 1_000, 10 * 60_000)
}

function codeOf(cause: unknown): string | undefined {
  let at: unknown = cause
  for (let depth = 0; at instanceof Error && depth < 5; depth++) {
    // A DOMException has a number here.
    const code: unknown = 'code' in at ? at.code : undefined
    if (typeof code === 'string' && !code.startsWith('UND_ERR')) return code
    at = at instanceof AggregateError ? at.errors[0] : at.cause
  }
  return undefined
}

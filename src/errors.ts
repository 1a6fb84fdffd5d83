/**
 * The codes of every failure a person can meet, and what they say: what happened, and the one thing to do about it.
 *
 * Not for what a server may legitimately do (that is returned, as an Outcome): these are final failures.
 * The one rule: a text names what happened and to what, never a secret. Callers pass addresses without login and query.
 */
import { RPC } from './protocol.ts'

/** Stable names, for scripts and for `error.data.code` of a JSON-RPC answer. */
export type BridgeErrorCode =
  | 'CONFIG_INVALID'
  | 'SERVER_UNREACHABLE'
  | 'SERVER_BUSY'
  | 'SERVER_REFUSED'
  | 'SERVER_CONFUSED'
  | 'NO_ENDPOINT'
  | 'KEY_MISSING'
  | 'KEY_REFUSED'
  | 'OAUTH_UNSUPPORTED'
  | 'REDIRECT_REFUSED'
  | 'CERTIFICATE_REFUSED'
  | 'RESPONSE_LOST'
  | 'SESSION_LOST'
  | 'SUPERSEDED'
  | 'TOOL_HIDDEN'
  | 'FEED_REFUSED'
  | 'CLOSING'

export interface BridgeErrorDetails {
  /** One thing the user can do. */
  readonly hint?: string | undefined
  readonly cause?: unknown
  /** A server's own JSON-RPC error object (JSON text), passed on instead of ours. */
  readonly rpcError?: string | undefined
  /** How long the server asks to be left alone, ms. */
  readonly retryAfterMs?: number | undefined
}

/** What happened, to what, and what can be done. `message` and `hint` are safe to show. */
export class BridgeError extends Error {
  override readonly name = 'BridgeError'
  readonly code: BridgeErrorCode
  readonly hint: string | undefined
  readonly rpcError: string | undefined
  readonly retryAfterMs: number | undefined

  constructor(code: BridgeErrorCode, message: string, details: BridgeErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.hint = details.hint
    this.rpcError = details.rpcError
    this.retryAfterMs = details.retryAfterMs
  }

  /** The `error` member of the JSON-RPC answer, as JSON text. */
  toRpcError(): string {
    if (this.rpcError !== undefined) return this.rpcError
    const message = this.hint === undefined ? this.message : `${this.message}. Try: ${this.hint}`
    return JSON.stringify({ code: RPC.bridge, message, data: { code: this.code } })
  }
}

const KEY_HINT =
  'set CHAMADE_API_KEY in the "env" of the server\'s entry in your MCP config (or --api-key-file PATH), then restart the client'

const NEXT_TRIES = 'nothing was run, the next request tries again'
const NOT_SHARED =
  'try again in a moment; if it stays so, several server processes may not share their sessions'

/** Builders, so that the words stand on one page. `where` is a host and a path, without scheme. */
export const errors = {
  /** `waitedMs`: for so long it was tried; undefined when one attempt says nothing of that. */
  unreachable: (where: string, why: string, waitedMs: number | undefined, cause?: unknown): BridgeError => {
    const time = waitedMs === undefined ? '' : ` for ${seconds(waitedMs)}`
    return new BridgeError('SERVER_UNREACHABLE', `${where} could not be reached${time}: ${why}`, {
      hint: `${wayHint(cause)}; ${NEXT_TRIES}`,
      cause,
    })
  },
  /** Clients end a bridge whose `initialize` failed: no next request comes by itself. */
  notConnected: (error: BridgeError): BridgeError =>
    new BridgeError(error.code, error.message, {
      hint: `${wayHint(error.cause)}, then connect again (Claude Code: /mcp, Reconnect)`,
      cause: error.cause,
    }),
  busy: (where: string, status: number, retryAfterMs: number): BridgeError =>
    new BridgeError(
      'SERVER_BUSY',
      `${where} answered ${status} and asks to wait ${seconds(retryAfterMs)}, longer than is left for this request (--patience)`,
      { hint: `try again in ${seconds(retryAfterMs)}`, retryAfterMs },
    ),
  refused: (where: string, status: number, text: string, rpcError?: string, hint?: string): BridgeError =>
    new BridgeError('SERVER_REFUSED', `${where} answered HTTP ${status}${text === '' ? '' : `: ${text}`}`, {
      hint,
      rpcError,
    }),
  mayHaveRun: (method: string, where: string, why: string, cause?: unknown): BridgeError =>
    new BridgeError('RESPONSE_LOST', `the answer to ${method} was lost (${where}: ${why}); it may have run`, {
      hint: 'check its effect before you send it again',
      cause,
    }),
  confused: (method: string, where: string, why: string): BridgeError =>
    new BridgeError('SERVER_CONFUSED', `${where} did not answer ${method}: ${why}`),
  noEndpoint: (where: string, status: number): BridgeError =>
    new BridgeError('NO_ENDPOINT', `no MCP endpoint at ${where} (HTTP ${status})`, {
      hint: 'check the path; if the server speaks only the HTTP+SSE transport of 2024-11-05, it is not supported',
    }),
  /** `said`: the status, and what the server said with it. `advice`: how it gets a key, if not as Chamade does. */
  keyMissing: (
    where: string,
    said: string,
    problem: { text: string; hint: string } | undefined,
    advice = KEY_HINT,
  ): BridgeError => {
    // (A 403 may be about something else: a name in the URL that the server does not go by.)
    const [wants, none, hint] = said.startsWith('HTTP 403')
      ? ['refuses access', 'no API key is set', `if it wants a key: ${advice}`]
      : ['wants an API key', 'none is set', advice]
    return new BridgeError('KEY_MISSING', `${where} ${wants} (${said}) and ${problem?.text ?? none}`, {
      hint: problem?.hint ?? hint,
    })
  },
  keyRefused: (where: string, said: string, source: string): BridgeError =>
    new BridgeError('KEY_REFUSED', `${where} refused the API key from ${source} (${said})`, {
      hint: refusedHint(source),
    }),
  oauthUnsupported: (where: string): BridgeError =>
    new BridgeError('OAUTH_UNSUPPORTED', `${where} wants an OAuth login, which is not supported yet`, {
      hint: "if the server also takes keys, pass one: --header 'Authorization: Bearer …' or --api-key-file",
    }),
  redirect: (where: string, status: number, location: string): BridgeError =>
    new BridgeError(
      'REDIRECT_REFUSED',
      `${where} redirects (HTTP ${status}) to ${location}, which is not followed`,
      { hint: 'if you trust that address, use it as --url' },
    ),
  certificate: (where: string, cause: Error): BridgeError =>
    new BridgeError('CERTIFICATE_REFUSED', `the certificate of ${where} is refused: ${reasonOf(cause)}`, {
      hint: /SIGNED|ISSUER|SIGNATURE/.test(codeOf(cause))
        ? 'if an authority of your own signs it, name its file with --ca (or NODE_EXTRA_CA_CERTS)'
        : 'check the address, the clock of this machine, and the certificate of the server',
      cause,
    }),
  /** `said`: what the server refused it with, empty for nothing. */
  sessionLost: (method: string, where: string, said: string): BridgeError => {
    const why = said === '' ? '' : ` (${said})`
    return new BridgeError(
      'SESSION_LOST',
      `${where} keeps forgetting the session${why}; ${method} was not run`,
      {
        hint: NOT_SHARED,
      },
    )
  },
  /** `said`: what the server says to the `initialize` of a session that is to take the place of one it forgot. */
  notRenewed: (where: string, said: string): BridgeError =>
    new BridgeError('SERVER_REFUSED', `${where} refused to initialize again: ${said}`, {
      hint: `look into the server's log; ${NEXT_TRIES}`,
    }),
  notInitialized: (where: string, why: string, retryAfterMs?: number): BridgeError =>
    new BridgeError('SERVER_UNREACHABLE', `${where} opened a session and took no initialized: ${why}`, {
      retryAfterMs,
    }),
  lostAtOnce: (where: string): BridgeError =>
    new BridgeError('SERVER_UNREACHABLE', `${where} opened a session and lost it at once`, {
      hint: `${NOT_SHARED}; nothing was run`,
    }),
  hiddenTool: (name: string): BridgeError =>
    new BridgeError('TOOL_HIDDEN', `the tool ${name} is hidden by --ignore-tool`, {
      hint: 'remove that option if the agent should have it',
    }),
  /** `sent`: some byte of the request may have reached the server. */
  superseded: (sent: boolean): BridgeError =>
    new BridgeError(
      'SUPERSEDED',
      `the client initialized again before this request was answered; it ${sent ? 'may have run' : 'was not run'}`,
    ),
  closing: (sent = false): BridgeError =>
    new BridgeError('CLOSING', `the bridge is shutting down${sent ? '; the request may have run' : ''}`),
} as const

/** (A header wins over a key file, and that over CHAMADE_API_KEY: who has one of them is not helped by what it wins over.) */
function refusedHint(source: string): string {
  if (source.startsWith('--header')) return 'check that header, and the variables in it'
  return source === 'CHAMADE_API_KEY'
    ? `check that key, or make a new one; ${KEY_HINT}`
    : 'put another key there; it is read again by itself'
}

function wayHint(cause: unknown): string {
  if (proxyRefusal(cause) !== undefined) return 'check the proxy that is set (HTTPS_PROXY)'
  return isPlainHttp(cause) ? 'http:// in the URL' : 'check the URL and your network'
}

/** True when TLS was answered with anything else: most likely that port speaks plain http. */
export function isPlainHttp(cause: unknown): boolean {
  return /WRONG_VERSION|PACKET_LENGTH/.test(codeOf(cause))
}

/** A setting that cannot be meant, and how to write it. */
export function invalid(message: string, hint: string): BridgeError {
  return new BridgeError('CONFIG_INVALID', message, { hint })
}

/** "12 s", "4 min", "3 h", "9 days", for texts. */
export function seconds(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 120_000) return `${Math.round(ms / 100) / 10} s`
  if (ms < 2 * 3_600_000) return `${Math.round(ms / 60_000)} min`
  return ms < 48 * 3_600_000 ? `${Math.round(ms / 3_600_000)} h` : `${Math.round(ms / 86_400_000)} days`
}

/** True when it was the server's certificate that a connection failed for (ERR_SSL: what the server thinks of us). */
export function isCertificateFailure(cause: unknown): cause is Error {
  return /^(?!ERR_SSL).*(CERT|SELF_SIGNED|LEAF_SIGNATURE)/.test(codeOf(cause))
}

function codeOf(error: unknown): string {
  return String((error as NodeJS.ErrnoException | undefined)?.code)
}

/** The innermost reason of a failed connection, short: "ECONNREFUSED", "certificate has expired". */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0])
  const { code: given, reason } = error as { readonly code?: unknown; readonly reason?: unknown }
  // (That of a DOMException is a number, and says nothing.)
  const code = typeof given === 'string' ? given : undefined
  // OpenSSL's message is a line of its source; its reason is "wrong version number".
  const said = code?.startsWith('ERR_SSL_') && typeof reason === 'string' ? reason : error.message
  const proxySaid = proxyRefusal(error)
  if (proxySaid === '407') return 'the proxy answered 407: its URL needs a user name and a password'
  if (proxySaid !== undefined) return `the proxy answered ${proxySaid}`
  if (code === 'EMFILE' || code === 'ENFILE') return `no more files can be opened (${code}; see ulimit -n)`
  const text = said || code || error.name
  if (error.cause instanceof Error && text === 'fetch failed') return reasonOf(error.cause)
  return code !== undefined && !text.includes(code) ? `${text} (${code})` : text
}

/** The status with which a proxy refused: what it was asked for went no further. */
export function proxyRefusal(error: unknown): string | undefined {
  const said = error instanceof Error ? error.message : ''
  return /^Proxy (?:response|Authentication Required) \((\d+)\)/.exec(said)?.[1]
}

/** For the `default` of a switch over a union: the compiler proves that it is never reached. */
export function impossible(value: never): never {
  throw new TypeError(`unexpected ${JSON.stringify(value)}`)
}

/** What a text says each time it is said: without what differs, a time, a count, the id of a request. */
export function gist(text: string): string {
  return text.replaceAll(/[\w.:-]+/g, (word) => (/\d/.test(word) ? '#' : word))
}

/** A page as one short line. Call it with what is redacted: half a key is not known for one. */
export function plainText(text: string, max?: number): string {
  // (Only the start is shown, and the expressions take their time over long texts without a ">".)
  const start = text.slice(0, 4_096)
  return oneLine(start.replaceAll(/<(script|style)\b[\s\S]*?<\/\1>/gi, ' ').replaceAll(/<[^>]*>/g, ' '), max)
}

/** The same of what is no page. */
export function oneLine(text: string, max = 300): string {
  const plain = text
    .slice(0, 4_096)
    .replaceAll(/[\s\p{Cc}\p{Bidi_C}]+/gu, ' ')
    .trim()
  return plain.length <= max ? plain : `${plain.slice(0, max)}…`
}

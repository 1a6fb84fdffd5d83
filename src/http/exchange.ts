/**
 * One call: dressed with headers and credentials, and sent; what comes back is an Outcome.
 *
 * Not a session, not a retry: a call goes out once (but for a redirect inside the origin, a key read again, and a
 * connection that was not made and can be made otherwise).
 * The one rule: what a reply means is decided once, before anybody else hears of it: the plain success by round-trip.ts,
 * redirects and failures here, the rest by meaning.ts.
 *
 * [MCP 2025-11-25 transports, Streamable HTTP]
 */
import {
  type BridgeError,
  errors,
  isCertificateFailure,
  plainText,
  proxyRefusal,
  reasonOf,
} from '../errors.ts'
import { HEADER } from '../protocol.ts'
import { limit, type Signal } from '../retry.ts'
import type { HttpConfig } from './config.ts'
import { Connections } from './connections.ts'
import { beginning, meaningOf, refusal } from './meaning.ts'
import { type Outcome, type Refused, sayOutcome, type Unauthorized, type Unavailable } from './outcome.ts'
import {
  type Accepted,
  type Answer,
  type Call,
  type Failure,
  type Heard,
  header,
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

export class Exchange {
  readonly #config: HttpConfig
  readonly #connections: Connections
  readonly #target: Target
  /** True once the next connections trust whom SSL_CERT_FILE names. */
  #trusting: Promise<boolean> | undefined
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

  /**
   * The address as it may be shown: no credentials, no query, and no scheme. (Claude Code cuts out of what it shows of a
   * failed connection whatever stands in the entry as it is, and the URL does.)
   */
  get where(): string {
    const { url } = this.#target
    return `${url.host}${url.pathname}`
  }

  /** The error for a 401 or 403. */
  unauthorized(outcome: Unauthorized): BridgeError {
    const { proxy, credentials } = this.#config
    const { source, problem, advice } = credentials
    // (One that forwards may refuse an address itself; through a tunnel only the server can be heard.)
    const isForwarded = outcome.status === 403 && this.#config.url.startsWith('http:')
    const by = proxy !== undefined && isForwarded ? `; perhaps the proxy ${proxy.url.host} said it` : ''
    const said = `${sayOutcome(outcome)}${by}`
    if (source !== undefined) return errors.keyRefused(this.where, said, source)
    if (outcome.wantsOauth && problem === undefined) return errors.oauthUnsupported(this.where)
    return errors.keyMissing(this.where, said, problem, advice)
  }

  /** What was no plain answer: a redirect is followed, a key read again; the rest gets its meaning. */
  async #lookInto(call: Call, first: Reply | Failure): Promise<Outcome> {
    let renewed = false
    let trusted = false
    let target = this.#target
    let heard: Heard = first
    for (let redirects = 0; ; ) {
      if (isOutcome(heard)) return heard
      if (heard.kind === 'failure') {
        const { status, cause } = heard
        // (One that forwards says 407 only when it has the call.)
        const sent = heard.sent && proxyRefusal(cause) === undefined
        if (status !== undefined && cause instanceof RangeError)
          return refusal(status, `${cause.message} (--max-message)`)
        const isTrusted: boolean =
          !sent && !trusted && isCertificateFailure(cause) && (await this.#trustMore(cause))
        trusted ||= isTrusted
        if (!isTrusted && (sent || !this.#connections.failed(cause))) {
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
        const isOfKey = status === 401 || status === 403
        if (!isOfKey || renewed || !(await this.#config.credentials.renew(used))) {
          return await meaningOf(call, heard, this.#config)
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
      'user-agent': `chamade-mcp/${this.#config.version}`,
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

  /** Nobody we trust knows the server's certificate: perhaps SSL_CERT_FILE does, or the operating system. */
  async #trustMore(cause: unknown): Promise<boolean> {
    // (The package may be gone under a bridge that runs: then the certificate is refused, as it would be without this.)
    const system = await import('../system-trust.ts').catch(() => undefined)
    const { tls, tlsLater } = this.#config
    if (tls !== undefined || system?.isUntrusted(cause) !== true) return false
    if (tlsLater === undefined) return system.trustSystem()
    // (A file that is gone by now vouches for nobody.)
    this.#trusting ??= tlsLater().then(
      (more) => more !== undefined && this.#connections.trust(more),
      () => false,
    )
    return await this.#trusting
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
    await beginning(reply.body)
    return target
  }
}

function isOutcome(heard: Heard): heard is Accepted | Answer | Stream {
  return heard.kind !== 'reply' && heard.kind !== 'failure'
}

function targetOf(url: URL): Target {
  return { url, origin: url.origin, path: `${url.pathname}${url.search}` }
}

function isTimeout(signal: Signal): boolean {
  return signal.aborted && signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError'
}

function unavailable(sent: boolean, why: string, cause: unknown): Unavailable {
  return { kind: 'unavailable', sent, why, cause, status: undefined, retryAfterMs: undefined }
}

/** A Location without what may be secret in it. */
function shown(location: string): string {
  if (!URL.canParse(location)) return plainText(location.split('?')[0] ?? '')
  const url = new URL(location)
  return `${url.origin}${url.pathname}`
}

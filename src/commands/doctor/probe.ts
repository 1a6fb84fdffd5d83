/**
 * Looking at an HTTP endpoint the way a curious person would: status, headers, times, bytes as they come.
 *
 * Not the bridge's way to the server (that one interprets, retries and heals): here every oddity must stay
 * visible. The one rule: it goes the same way as the bridge, through the same proxy with the same certificates
 * and credentials.
 */

import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { Readable } from 'node:stream'
import { createParser } from 'eventsource-parser'
import type { ServerSettings } from '../../config.ts'
import { plainText } from '../../errors.ts'
import { LONG_WAY_MS } from '../../http/config.ts'
import { HEADER, LATEST_LEGACY_VERSION } from '../../protocol.ts'
import { limit } from '../../retry.ts'
import { record } from '../client.ts'

type HttpConfig = ServerSettings['http']

/** One reply, its body still to come. */
export interface RawReply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Readable
  /** Milliseconds from the start of the call to its headers. */
  readonly headersMs: number
}

/** One JSON-RPC exchange. */
export interface Exchanged {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** The JSON-RPC response, when one came. */
  readonly message: Readonly<Record<string, unknown>> | undefined
  /** What came instead, as one short line. */
  readonly excerpt: string
  readonly ms: number
}

/** The session that is asked in, or (without id and version) none yet. */
export interface SessionRef {
  /** At the endpoint with `stateful` in its query, or without. */
  readonly stateful: boolean
  readonly id?: string | undefined
  readonly version?: string
}

const MAX_BODY = 4 * 1024 * 1024
const RPC_LIMIT_MS = 15_000

/** Of a name with several addresses each may take long, as with the bridge. */
export const LONG_WAY = { autoSelectFamilyAttemptTimeout: LONG_WAY_MS } as const

export class Probe {
  readonly #config: HttpConfig
  readonly #signal: AbortSignal
  #ids = 0

  constructor(config: HttpConfig, signal: AbortSignal) {
    this.#config = config
    this.#signal = signal
  }

  /** The endpoint with or without `stateful` in its query. */
  url(stateful: boolean): URL {
    const url = new URL(this.#config.url)
    const pairs = url.search.slice(1).split('&')
    const rest = pairs.filter((pair) => pair !== '' && pair.split('=')[0] !== 'stateful')
    url.search = [...rest, ...(stateful ? ['stateful'] : [])].join('&')
    return url
  }

  /** `initialize`, as a client of our name. */
  initialize(stateful: boolean): Promise<Exchanged> {
    const params = {
      protocolVersion: LATEST_LEGACY_VERSION,
      capabilities: {},
      clientInfo: { name: 'chamade-mcp doctor', version: this.#config.version },
    }
    return this.rpc('initialize', params, { stateful })
  }

  /** One request, within RPC_LIMIT_MS. */
  async rpc(method: string, params: object | undefined, session: SessionRef): Promise<Exchanged> {
    const start = performance.now()
    const id = method.startsWith('notifications/') ? undefined : ++this.#ids
    const text = JSON.stringify({ jsonrpc: '2.0', ...(id === undefined ? {} : { id }), method, params })
    const { signal, clear } = limit(RPC_LIMIT_MS, this.#signal)
    try {
      const reply = await this.open('POST', session, text, signal)
      const { message, excerpt } = await read(reply, id, this.#config.redact)
      return { status: reply.status, headers: reply.headers, message, excerpt, ms: performance.now() - start }
    } finally {
      clear()
    }
  }

  /** A request whose body is the caller's to read or destroy. Rejects when the connection fails. */
  async open(
    method: 'GET' | 'POST' | 'DELETE',
    session: SessionRef,
    body: string | undefined,
    signal: AbortSignal,
  ): Promise<RawReply> {
    const url = this.url(session.stateful)
    const headers: Record<string, string> = {
      'user-agent': `chamade-mcp/${this.#config.version}`,
      ...this.#config.credentials.headers(),
      accept: method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream',
      'accept-encoding': 'identity',
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(session.version === undefined ? {} : { [HEADER.protocol]: session.version }),
      ...(session.id === undefined ? {} : { [HEADER.session]: session.id }),
    }
    const start = performance.now()
    const { proxy } = this.#config
    if (proxy !== undefined) {
      const path = `${url.pathname}${url.search}`
      const limits = { headersTimeout: 0, bodyTimeout: 0 }
      const options = { origin: url.origin, path, method, headers, body: body ?? null, signal, ...limits }
      const reply = await proxy.open().request(options)
      return {
        status: reply.statusCode,
        headers: reply.headers,
        body: reply.body,
        headersMs: performance.now() - start,
      }
    }
    return await new Promise((resolve, reject) => {
      const request = url.protocol === 'https:' ? httpsRequest : httpRequest
      const call = request(
        url,
        { method, headers, signal, agent: false, ...LONG_WAY, ...this.#config.tls },
        (response) => {
          const headersMs = performance.now() - start
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: response, headersMs })
        },
      )
      call.on('error', (error) => reject(signal.aborted ? new Error('no answer in time') : error))
      call.end(body)
    })
  }
}

/** The response with `id` out of a JSON body or an event stream; the rest is not waited for. */
async function read(
  { headers, body }: RawReply,
  id: number | undefined,
  redact: (text: string) => string,
): Promise<{ message: Exchanged['message']; excerpt: string }> {
  const stream = String(headers['content-type'] ?? '').includes('text/event-stream')
  let found: Exchanged['message']
  const parser = createParser({
    onEvent: ({ data }) => {
      const message = parsed(data)
      if (message !== undefined && message.id === id) found = message
    },
  })
  let text = ''
  try {
    for await (const chunk of body) {
      const piece = Buffer.from(chunk as Buffer).toString('utf8')
      text += piece
      if (stream) parser.feed(piece)
      if (found !== undefined || text.length > MAX_BODY) break
    }
  } catch {
    // What came before it broke is what there is.
  }
  body.destroy()
  found ??= stream ? undefined : parsed(text)
  return { message: found, excerpt: plainText(redact(text), 120) }
}

function parsed(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value = record(JSON.parse(text))
    return value.jsonrpc === '2.0' ? value : undefined
  } catch {
    return undefined
  }
}

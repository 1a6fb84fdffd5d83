/**
 * One HTTP request as the scripted server recorded it, and the ways to answer it, good and bad.
 *
 * Not a router: which request gets which answer is the server's, or the test's, business.
 */
import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import { members, rootSpan, textAt } from '../../src/json.ts'
import type { EventStream } from './event-stream.ts'
import type { ScriptedServer, SessionRecord } from './scripted-server.ts'

/** What a request carried, when its body was one JSON-RPC message. Tokens and params are raw JSON text. */
export interface Rpc {
  readonly method?: string
  readonly id?: string
  readonly params?: string
  readonly isResponse: boolean
}

/** One request as it came. */
export interface Recorded {
  /** Milliseconds, `performance.now()`. */
  readonly at: number
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  readonly rpc: Rpc | undefined
  readonly session: string | undefined
  /** Status answered, once it was. */
  status: number | undefined
  /** The connection was closed by the other side before the answer was complete. */
  aborted: boolean
}

/** One request and the ways to answer it. */
export class Exchange {
  readonly server: ScriptedServer
  readonly request: Recorded
  readonly response: ServerResponse

  constructor(server: ScriptedServer, request: Recorded, response: ServerResponse) {
    this.server = server
    this.request = request
    this.response = response
  }

  get rpc(): Rpc {
    return this.request.rpc ?? { isResponse: false }
  }

  get session(): SessionRecord | undefined {
    return this.request.session === undefined ? undefined : this.server.sessions.get(this.request.session)
  }

  /** `params` parsed. */
  get params(): Record<string, unknown> {
    return JSON.parse(this.rpc.params ?? '{}') as Record<string, unknown>
  }

  /** Any status, headers and body. */
  reply(status: number, body: string | Buffer = '', headers: Record<string, string> = {}): void {
    if (this.response.headersSent) return
    this.response.writeHead(status, headers)
    this.response.end(body)
  }

  json(body: string | object, status = 200, headers: Record<string, string> = {}): void {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    this.reply(status, text, { 'content-type': 'application/json', ...headers })
  }

  /** The JSON-RPC response text to this request. */
  answer(result: string | object = {}): string {
    const text = typeof result === 'string' ? result : JSON.stringify(result)
    return `{"jsonrpc":"2.0","id":${this.rpc.id ?? 'null'},"result":${text}}`
  }

  result(result: string | object = {}, headers: Record<string, string> = {}): void {
    this.json(this.answer(result), 200, headers)
  }

  error(code: number, message: string, status = 200): void {
    this.json({ jsonrpc: '2.0', id: JSON.parse(this.rpc.id ?? 'null'), error: { code, message } }, status)
  }

  /** Answers with a stream; `ids` makes it resumable. */
  stream(ids = false): EventStream {
    const stream = this.server.openStream(ids)
    return stream.attach(this.response)
  }

  /** Closes the connection with a reset, whatever was sent so far. */
  reset(): void {
    this.request.aborted = true
    this.response.socket?.resetAndDestroy()
  }
}

/** Reads a body that is one JSON-RPC message. */
export function readRpc(body: Buffer): Rpc | undefined {
  const root = rootSpan(body)
  const found = root && members(body, { start: root.start, end: body.length })
  if (found === undefined) return undefined
  const text = (key: string): string | undefined => {
    const span = found.get(key)
    return span && textAt(body, span)
  }
  const method = text('method')
  const id = text('id')
  const params = text('params')
  return {
    ...(method === undefined ? {} : { method: JSON.parse(method) as string }),
    ...(id === undefined ? {} : { id }),
    ...(params === undefined ? {} : { params }),
    isResponse: method === undefined,
  }
}

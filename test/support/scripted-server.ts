/**
 * A real HTTP server that speaks MCP's Streamable HTTP by script: well by default, badly on demand.
 *
 * Not built on the SDK: it must be able to break every rule. Every request is recorded as it came.
 * The one rule: a misbehaviour is a plain function a test hands in (`before`, `on`) or a field it sets.
 */
import { createServer, type Server } from 'node:http'
import type { Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { EventStream } from './event-stream.ts'
import { pause } from './eventually.ts'
import { Exchange, type Recorded, readRpc } from './exchange.ts'

export type { Exchange } from './exchange.ts'

export interface SessionRecord {
  readonly id: string
  readonly openedAt: number
  /** Raw params of the `initialize` that opened it. */
  readonly params: string | undefined
  endedBy: 'delete' | 'wipe' | undefined
  /** `notifications/initialized` came. */
  initialized: boolean
  readonly push: EventStream
  /** Requests other than `initialize` that carried it. */
  used: number
}

export interface ServerOptions {
  /** Issue a session id (default true). */
  readonly sessions?: boolean
  /** Offer a GET stream (default true); false answers 405. */
  readonly push?: boolean
  /** Event ids and replay on the GET stream (default false, as Chamade). */
  readonly replay?: boolean
  readonly capabilities?: object
  readonly tools?: readonly object[]
  readonly path?: string
}

export type Handler = (exchange: Exchange) => unknown
/** Returns false to let the request go on to the next. */
type Before = (exchange: Exchange) => unknown

export class ScriptedServer {
  readonly requests: Recorded[] = []
  readonly sessions = new Map<string, SessionRecord>()
  sessionsOffered: boolean
  pushOffered: boolean
  replay: boolean
  capabilities: object
  tools: readonly object[]
  protocolVersion: string | undefined
  instructions: string | undefined
  /** How a message with an unknown session id is refused; default 404 with a JSON-RPC error. */
  refuseLost: Handler = (x) =>
    x.json({ jsonrpc: '2.0', id: null, error: { code: -32001, message: 'Session not found' } }, 404)
  /** What a second GET of one session gets: a refusal (409, as the SDK), or the first is closed. */
  secondStream: 'refuse' | 'replace' = 'refuse'
  /** Status of DELETE; 405 leaves the session alive. */
  deleteStatus = 200
  /** Server-sent comment this often on each push stream; 0 for never. */
  heartbeatMs = 0
  /** Most sessions alive at a time that the client has used. */
  mostLive = 0
  boots = 0

  readonly path: string
  #server: Server | undefined
  #port = 0
  #sockets = new Set<Socket>()
  #before: Before[] = []
  #handlers = new Map<string, Handler>()
  #streams: EventStream[] = []
  #serial = 0
  #heart: NodeJS.Timeout | undefined

  constructor(options: ServerOptions = {}) {
    this.sessionsOffered = options.sessions ?? true
    this.pushOffered = options.push ?? true
    this.replay = options.replay ?? false
    this.capabilities = options.capabilities ?? { tools: { listChanged: true } }
    this.tools = options.tools ?? [{ name: 'echo', inputSchema: { type: 'object' } }]
    this.path = options.path ?? '/mcp'
  }

  /** Listening on a port of its own, closed when the test ends. */
  static async start(options: ServerOptions = {}): Promise<ScriptedServer> {
    const server = new ScriptedServer(options)
    await server.up()
    onTestFinished(() => server.down())
    return server
  }

  get port(): number {
    return this.#port
  }

  get origin(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  get url(): string {
    return `${this.origin}${this.path}`
  }

  /** Sees every request first; returns false to let it pass. Gives a function that takes it away again. */
  before(handler: Before): () => void {
    this.#before.unshift(handler)
    return () => {
      this.#before = this.#before.filter((each) => each !== handler)
    }
  }

  /** Answers a JSON-RPC method on POST, after the session check. */
  on(method: string, handler: Handler): void {
    this.#handlers.set(method, handler)
  }

  openStream(ids: boolean): EventStream {
    const stream = new EventStream(`p${++this.#serial}`, ids)
    this.#streams.push(stream)
    return stream
  }

  /** Sessions neither deleted nor wiped. */
  live(): SessionRecord[] {
    return [...this.sessions.values()].filter((session) => session.endedBy === undefined)
  }

  /** The one live session. */
  get session(): SessionRecord {
    const [session, second] = this.live()
    if (session === undefined || second !== undefined) throw new Error(`${this.live().length} live sessions`)
    return session
  }

  /** POSTs of one JSON-RPC method, in order. */
  posts(method?: string): Recorded[] {
    return this.requests.filter(
      (r) => r.method === 'POST' && (method === undefined || r.rpc?.method === method),
    )
  }

  /** What the client replied to requests of the server, in order. */
  replies(): Recorded[] {
    return this.posts().filter((post) => post.rpc?.isResponse)
  }

  of(httpMethod: string): Recorded[] {
    return this.requests.filter((r) => r.method === httpMethod)
  }

  /** Sends to every open push stream (with `replay`: to every live session). True if somebody was listening. */
  push(message: object | string): boolean {
    let heard = false
    for (const session of this.live()) {
      if (!session.push.open && !this.replay) continue
      heard ||= session.push.open
      session.push.send(message)
    }
    return heard
  }

  /** A channel event on every open push stream. */
  pushChannel(content: string, meta: Record<string, unknown> = {}): boolean {
    return this.push({ jsonrpc: '2.0', method: 'notifications/claude/channel', params: { content, meta } })
  }

  /** Is exactly one push stream open? */
  listening(): boolean {
    return this.live().filter((session) => session.push.open).length === 1
  }

  /** Sessions forgotten, sockets kept. */
  wipe(): void {
    for (const session of this.live()) session.endedBy = 'wipe'
  }

  /** A redeploy: sockets destroyed, sessions forgotten, port closed for `downMs`, then back on the same port. */
  async restart(downMs = 0): Promise<void> {
    await this.down()
    this.wipe()
    if (downMs > 0) await pause(downMs)
    await this.up()
  }

  /** Resets all connections; the sessions live. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  async up(): Promise<void> {
    if (this.#server !== undefined) return
    const server = createServer({ requestTimeout: 0, headersTimeout: 0 })
    this.#server = server
    server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    server.on('clientError', (_, socket) => socket.destroy())
    server.on('request', (request, response) => {
      const at = performance.now()
      const chunks: Buffer[] = []
      request.on('error', () => {})
      response.on('error', () => {})
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        const body = Buffer.concat(chunks)
        const session = request.headers['mcp-session-id']
        const recorded: Recorded = {
          at,
          method: request.method ?? '',
          url: request.url ?? '',
          headers: request.headers,
          body,
          rpc: readRpc(body),
          session: typeof session === 'string' ? session : undefined,
          status: undefined,
          aborted: false,
        }
        response.on('close', () => {
          if (response.headersSent) recorded.status = response.statusCode
          if (!response.writableFinished) recorded.aborted = true
        })
        this.requests.push(recorded)
        void this.#route(new Exchange(this, recorded, response))
      })
    })
    await this.#listen(server)
    this.boots++
    if (this.heartbeatMs > 0) this.#heart = setInterval(() => this.#beat(), this.heartbeatMs)
  }

  /** Port closed, every socket destroyed; the sessions live. */
  async down(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    clearInterval(this.#heart)
    if (server === undefined) return
    const closed = new Promise<void>((resolve) => {
      server.close(() => resolve())
    })
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  async #listen(server: Server): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        await new Promise<void>((resolve, reject) => {
          server.once('error', reject)
          server.listen(this.#port, '127.0.0.1', () => {
            server.off('error', reject)
            resolve()
          })
        })
        break
      } catch (error) {
        if (attempt > 100) throw error
        await pause(20)
      }
    }
    const address = server.address()
    if (address !== null && typeof address === 'object') this.#port = address.port
  }

  #beat(): void {
    for (const session of this.live()) if (session.push.open) session.push.comment('beat')
  }

  async #route(x: Exchange): Promise<unknown> {
    for (const handler of this.#before) {
      if ((await handler(x)) !== false) return undefined
    }
    if (!x.request.url.startsWith(this.path))
      return x.reply(404, 'no such page', { 'content-type': 'text/plain' })
    if (x.request.method === 'GET') return this.#get(x)
    if (x.request.method === 'DELETE') return this.#delete(x)
    if (x.request.method !== 'POST') return x.reply(405)
    if (x.request.rpc === undefined) return x.error(-32700, 'Parse error', 400)
    if (x.rpc.method === 'initialize') return this.#initialize(x)
    if (this.sessionsOffered && !this.#knows(x)) return undefined
    const session = x.session
    if (session !== undefined) {
      session.used++
      this.mostLive = Math.max(this.mostLive, this.live().filter((each) => each.used > 0).length)
    }
    const handler = this.#handlers.get(x.rpc.method ?? '')
    if (handler !== undefined) {
      await handler(x)
      return undefined
    }
    return this.#usual(x)
  }

  /** Answers for a missing or unknown session; true if it is a live one. */
  #knows(x: Exchange): boolean {
    if (x.request.session === undefined) {
      x.error(-32000, 'Bad Request: Mcp-Session-Id header is required', 400)
      return false
    }
    if (x.session?.endedBy === undefined && x.session !== undefined) return true
    void this.refuseLost(x)
    return false
  }

  #initialize(x: Exchange): void {
    const custom = this.#handlers.get('initialize')
    if (custom !== undefined) {
      void custom(x)
      return
    }
    this.welcome(x)
  }

  /** The usual answer to `initialize`, for handlers that want to do something else first. */
  welcome(x: Exchange): void {
    const params = JSON.parse(x.rpc.params ?? '{}') as { protocolVersion?: string }
    const headers: Record<string, string> = {}
    if (this.sessionsOffered) {
      const id = `session-${++this.#serial}-${Math.random().toString(36).slice(2)}`
      this.sessions.set(id, {
        id,
        openedAt: performance.now(),
        params: x.rpc.params,
        endedBy: undefined,
        initialized: false,
        push: new EventStream(`g${this.#serial}`, this.replay),
        used: 0,
      })
      headers['mcp-session-id'] = id
    }
    x.result(
      {
        protocolVersion: this.protocolVersion ?? params.protocolVersion ?? '2025-11-25',
        capabilities: this.capabilities,
        serverInfo: { name: 'scripted', version: '1' },
        ...(this.instructions === undefined ? {} : { instructions: this.instructions }),
      },
      headers,
    )
  }

  #get(x: Exchange): unknown {
    const cursor = x.request.headers['last-event-id']
    if (typeof cursor === 'string') {
      const stream = this.#streams.find((each) => each.owns(cursor))
      if (stream !== undefined) {
        if (this.sessionsOffered && !this.#knows(x)) return undefined
        return stream.attach(x.response, cursor)
      }
    }
    if (!this.pushOffered) return x.reply(405, '', { allow: 'POST' })
    if (!this.sessionsOffered) return x.reply(405)
    if (!this.#knows(x)) return undefined
    const session = x.session
    if (session === undefined) return undefined
    if (session.push.open) {
      if (this.secondStream === 'refuse')
        return x.error(-32000, 'Conflict: Only one SSE stream is allowed per session', 409)
      session.push.hangUp()
    }
    return session.push.attach(x.response, this.replay && typeof cursor === 'string' ? cursor : undefined)
  }

  #delete(x: Exchange): unknown {
    if (this.deleteStatus === 405) return x.reply(405)
    if (!this.#knows(x)) return undefined
    const session = x.session
    if (session === undefined) return undefined
    session.endedBy = 'delete'
    session.push.finish()
    return x.reply(this.deleteStatus)
  }

  #usual(x: Exchange): unknown {
    if (x.rpc.id === undefined || x.rpc.isResponse) {
      if (x.rpc.method === 'notifications/initialized' && x.session !== undefined)
        x.session.initialized = true
      return x.reply(202)
    }
    switch (x.rpc.method) {
      case 'ping':
        return x.result()
      case 'tools/list':
        return x.result({ tools: this.tools })
      case 'tools/call':
        return x.result(`{"content":[],"echo":${x.rpc.params ?? 'null'}}`)
      case 'logging/setLevel':
      case 'resources/subscribe':
      case 'resources/unsubscribe':
        return x.result()
      default:
        return x.error(-32601, `Method not found: ${x.rpc.method ?? ''}`)
    }
  }
}

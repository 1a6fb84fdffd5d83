/**
 * The MCP endpoint: which requests belong to a session, which stand alone, and the push bridge of each session.
 *
 * Not the protocol (the SDK's transport speaks it) and not the weather (faults.ts). The one rule: a push bridge
 * lives exactly as long as its GET stream: it listens to the inbox from the 200 until the stream closes.
 *
 * [docs] `?stateful`, key presence alone, selects a persistent session; everything else is stateless per request.
 */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Server } from '@modelcontextprotocol/sdk/server/index.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { Agent } from './agent.ts'
import { refuse } from './body.ts'
import type { InboxEvent } from './events.ts'
import type { Faults } from './faults.ts'
import type { Files } from './files.ts'
import type { Journal } from './journal.ts'
import { ReplayStore } from './replay.ts'
import { openServer } from './server.ts'

export interface EndpointOptions {
  readonly journal: Journal
  readonly files: Files
  readonly faults: Faults
  /** Milliseconds between comments on an idle stream. */
  readonly pingMs: number
  /** Every connection is stateful, `?stateful` or not: the older production behaviour. */
  readonly legacyPush: boolean
  /** Events carry ids and a GET with `Last-Event-ID` gets what it missed. */
  readonly replay: boolean
  /** What happens to a second GET of one session: 409, or it takes the place of the first. */
  readonly duplicateStream: 'refuse' | 'replace'
}

/** One stateful session. */
interface Session {
  readonly name: string
  readonly id: string
  readonly agent: Agent
  readonly server: Server
  readonly transport: StreamableHTTPServerTransport
  readonly client: string
  /** With `replay` only. */
  readonly store: ReplayStore | undefined
  stream: PushStream | undefined
  /** With `replay` a session listens on after its stream has closed. */
  stopListening: (() => void) | undefined
}

/** An open GET. */
interface PushStream {
  readonly response: ServerResponse
  readonly since: number
  pushed: number
}

/** What can be seen of a session. */
export interface SessionView {
  readonly name: string
  readonly agent: string
  readonly client: string
  readonly streamOpen: boolean
  readonly pushed: number
}

const CHANNEL = 'notifications/claude/channel'
const MAX_UNREAD_BYTES = 16 * 1024 * 1024

export class Endpoint {
  readonly #options: EndpointOptions
  readonly #sessions = new Map<string, Session>()
  /** Pushes that wait for their time, oldest first. */
  readonly #late: (() => void)[] = []
  #opened = 0
  /** The latest event as it is written: the same bytes for every session. */
  #frame: { readonly event: InboxEvent; readonly text: string } | undefined

  constructor(options: EndpointOptions) {
    this.#options = options
  }

  get sessions(): readonly SessionView[] {
    return [...this.#sessions.values()].map(({ name, agent, client, stream }) => ({
      name,
      agent: agent.name,
      client,
      streamOpen: stream !== undefined,
      pushed: stream?.pushed ?? 0,
    }))
  }

  /** Answers one request of an agent whose key was right. `body` is the parsed JSON of a POST. */
  async handle(
    req: IncomingMessage,
    res: ServerResponse,
    url: URL,
    agent: Agent,
    body: unknown,
  ): Promise<void> {
    const stateful = this.#options.legacyPush || url.searchParams.has('stateful')
    if (!stateful) return this.#answerStateless(req, res, agent, body)
    const id = headerOf(req, 'mcp-session-id')
    if (id === undefined) {
      if (req.method === 'POST' && isInitialize(body)) return this.#openSession(req, res, agent, body)
      return refuse(res, 400, -32000, 'Bad Request: Mcp-Session-Id header is required')
    }
    const session = this.#sessions.get(id)
    if (session === undefined || session.agent !== agent) return this.#refuseUnknown(res)
    if (req.method === 'GET') return this.#openStream(req, res, session)
    return session.transport.handleRequest(req, res, body)
  }

  /** Forgets every session; their streams end in order unless their sockets were cut before. */
  forgetSessions(): void {
    const sessions = [...this.#sessions.values()]
    this.#sessions.clear()
    for (const session of sessions) this.#forget(session, 'forgotten')
  }

  /** Cuts every push stream; sessions stay. */
  dropStreams(): void {
    for (const { stream } of this.#sessions.values()) stream?.response.socket?.destroy()
  }

  /** Open push streams go silent: nothing is written any more, not even comments, and nothing is closed. */
  muteStreams(): void {
    for (const { stream } of this.#sessions.values()) if (stream !== undefined) mute(stream.response)
  }

  #answerStateless(req: IncomingMessage, res: ServerResponse, agent: Agent, body: unknown): Promise<void> {
    if (req.method !== 'POST') {
      res.setHeader('Allow', 'POST')
      refuse(res, 405, -32000, 'Method Not Allowed: add ?stateful to the URL for a session and push')
      return Promise.resolve()
    }
    const { journal, files, pingMs } = this.#options
    const server = openServer({ agent, files, journal, session: 'stateless', channel: false })
    const transport = new StreamableHTTPServerTransport({ keepAliveMs: pingMs })
    // The server lives for this request: closing it aborts a tool that still waits.
    res.once('close', () => void server.close())
    return serve(server, transport, req, res, body)
  }

  #openSession(req: IncomingMessage, res: ServerResponse, agent: Agent, body: unknown): Promise<void> {
    const { journal, files, pingMs, replay } = this.#options
    const id = randomUUID()
    const name = `s${++this.#opened}`
    const store = replay ? new ReplayStore(name) : undefined
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => id,
      keepAliveMs: pingMs,
      ...(store === undefined ? {} : { eventStore: store }),
      onsessioninitialized: () => {
        this.#sessions.set(id, session)
        journal.record({ kind: 'session', agent: agent.name, session: name, state: 'opened', client })
      },
      onsessionclosed: () => {
        if (this.#sessions.delete(id)) this.#forget(session, 'closed')
      },
    })
    const server = openServer({ agent, files, journal, session: name, channel: true })
    const client = clientOf(body)
    const session: Session = {
      name,
      id,
      agent,
      server,
      transport,
      client,
      store,
      stream: undefined,
      stopListening: undefined,
    }
    // An `initialize` that was refused leaves nothing behind.
    res.once('close', () => {
      if (!this.#sessions.has(id)) server.close().catch(() => undefined)
    })
    return serve(server, transport, req, res, body)
  }

  #openStream(req: IncomingMessage, res: ServerResponse, session: Session): Promise<void> {
    const { faults, duplicateStream } = this.#options
    const { stream, store } = session
    const cursor = headerOf(req, 'last-event-id')
    if (cursor !== undefined && store?.isOfAnswer(cursor) === true) {
      return session.transport.handleRequest(req, res)
    }
    if (faults.streamsHeld || (stream !== undefined && duplicateStream === 'refuse')) {
      this.#recordStream(session, 'refused')
      refuse(res, 409, -32000, 'Conflict: Only one SSE stream is allowed per session')
      return Promise.resolve()
    }
    if (stream !== undefined) {
      session.transport.closeStandaloneSSEStream()
      stream.response.destroy()
      this.#closeStream(session, stream)
    }
    whenStreaming(res, () => this.#startBridge(res, session))
    return session.transport.handleRequest(req, res)
  }

  /** [docs] the GET is what starts the push bridge; its end frees it. */
  #startBridge(res: ServerResponse, session: Session): void {
    const stream: PushStream = { response: res, since: Date.now(), pushed: 0 }
    session.stream = stream
    session.stopListening ??= session.agent.inbox.listen((event) => this.#push(session, event))
    this.#recordStream(session, 'open')
    res.once('close', () => this.#closeStream(session, stream))
  }

  #closeStream(session: Session, stream: PushStream): void {
    if (session.stream !== stream) return
    session.stream = undefined
    if (!this.#options.replay) this.#stopListening(session)
    this.#recordStream(session, 'closed')
  }

  #push(session: Session, event: InboxEvent): string | undefined {
    const delayMs = this.#options.faults.pushDelayMs()
    if (delayMs === 0 && this.#late.length === 0) this.#write(session, event)
    else {
      this.#late.push(() => this.#write(session, event))
      // Timers of nearly the same length end in any order; each lets out the oldest.
      setTimeout(() => this.#late.shift()?.(), delayMs)
    }
    if (session.stream === undefined) return undefined
    session.stream.pushed++
    return session.name
  }

  #write(session: Session, event: InboxEvent): void {
    if (this.#options.replay) {
      const { content, meta } = event
      const note = session.server.notification({ method: CHANNEL, params: { content, meta } })
      // Fails only when the session is gone; then there is nobody to tell.
      note.catch(() => undefined)
      return
    }
    const response = session.stream?.response
    if (response === undefined || response.writableEnded) return
    // Past the SDK's own stream, which would serialize the same event again for every session.
    response.write(this.#frameOf(event))
    // A client that does not read is let go rather than kept in memory.
    if (response.writableLength > MAX_UNREAD_BYTES) response.destroy()
  }

  #frameOf(event: InboxEvent): string {
    if (this.#frame?.event !== event) {
      const { content, meta } = event
      const message = { jsonrpc: '2.0', method: CHANNEL, params: { content, meta } }
      this.#frame = { event, text: `event: message\ndata: ${JSON.stringify(message)}\n\n` }
    }
    return this.#frame.text
  }

  #refuseUnknown(res: ServerResponse): void {
    // Some servers do not say 404 for a session they forgot.
    if (this.#options.faults.forgottenAs === 404) refuse(res, 404, -32001, 'Session not found')
    else refuse(res, 400, -32000, 'Bad Request: No valid session ID provided')
  }

  #forget(session: Session, state: 'closed' | 'forgotten'): void {
    const { name, agent, client, stream } = session
    this.#stopListening(session)
    if (stream !== undefined) this.#closeStream(session, stream)
    session.server.close().catch(() => undefined)
    this.#options.journal.record({ kind: 'session', agent: agent.name, session: name, state, client })
  }

  #stopListening(session: Session): void {
    session.stopListening?.()
    session.stopListening = undefined
  }

  #recordStream(session: Session, state: 'open' | 'closed' | 'refused'): void {
    this.#options.journal.record({ kind: 'stream', agent: session.agent.name, session: session.name, state })
  }
}

async function serve(
  server: Server,
  transport: StreamableHTTPServerTransport,
  req: IncomingMessage,
  res: ServerResponse,
  body: unknown,
): Promise<void> {
  // The SDK's own class misses its interface by `exactOptionalPropertyTypes`.
  await server.connect(transport as Parameters<Server['connect']>[0])
  await transport.handleRequest(req, res, body)
}

/** Calls `begin` once the answer to a GET turns out to be a stream. */
function whenStreaming(res: ServerResponse, begin: () => void): void {
  const writeHead = res.writeHead.bind(res) as (...args: readonly unknown[]) => ServerResponse
  res.writeHead = ((...args: readonly unknown[]) => {
    const result = writeHead(...args)
    if (args[0] === 200) begin()
    return result
  }) as ServerResponse['writeHead']
}

/** Whatever is written from now on goes nowhere, and says it went well. */
function mute(res: ServerResponse): void {
  res.write = (() => true) as ServerResponse['write']
}

function isInitialize(body: unknown): boolean {
  return typeof body === 'object' && body !== null && 'method' in body && body.method === 'initialize'
}

/** "name version" out of an `initialize`. */
function clientOf(body: unknown): string {
  const info = (body as { params?: { clientInfo?: { name?: unknown; version?: unknown } } }).params
    ?.clientInfo
  return [info?.name, info?.version].filter((part) => typeof part === 'string').join(' ') || 'unknown client'
}

function headerOf(req: IncomingMessage, name: string): string | undefined {
  const value = req.headers[name]
  return Array.isArray(value) ? value[0] : value
}

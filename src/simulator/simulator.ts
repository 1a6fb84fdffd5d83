/**
 * A local Chamade: the documented hybrid MCP server with agents, events and faults, on one HTTP port.
 *
 * Not a mock: real sockets, the SDK's server side, documented behaviour; guesses stand in assumptions.ts.
 * The one rule: it is for this machine. Loopback unless told, Host and Origin checked, no CORS, random keys.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { sleep } from '../retry.ts'
import { Agent, type Published } from './agent.ts'
import { ASSUMED } from './assumptions.ts'
import { Endpoint, refuse, type SessionView } from './endpoint.ts'
import { isPlatform, type Platform } from './events.ts'
import { type FaultName, type FaultOptions, Faults } from './faults.ts'
import { Files } from './files.ts'
import { forbidden } from './guard.ts'
import { Journal } from './journal.ts'

export interface SimulatorOptions {
  /** Default 127.0.0.1. */
  readonly host?: string | undefined
  /** Default 0: any free one. */
  readonly port?: number | undefined
  /** Keys of the agents, one each; default one random key. */
  readonly keys?: readonly string[] | undefined
  /** Default 15 s. */
  readonly pingMs?: number | undefined
  readonly legacyPush?: boolean | undefined
  readonly replay?: boolean | undefined
  readonly duplicateStream?: 'refuse' | 'replace' | undefined
}

/** Something that happens to an agent. */
export type Happening =
  | {
      readonly type: 'dm'
      readonly from: string
      readonly text: string
      readonly platform?: string | undefined
      readonly agent?: string | undefined
    }
  /** A channel event as it is: for what the typed ones cannot say. */
  | {
      readonly type: 'raw'
      readonly content: string
      readonly meta?: Readonly<Record<string, string>> | undefined
      readonly agent?: string | undefined
    }

export interface Simulator {
  /** `http://127.0.0.1:PORT`, the console. */
  readonly url: string
  /** `http://127.0.0.1:PORT/mcp/`; add `?stateful` for a session. */
  readonly mcpUrl: string
  readonly port: number
  /** The first agent's key. */
  readonly key: string
  readonly agents: readonly Agent[]
  readonly journal: Journal
  readonly sessions: readonly SessionView[]
  readonly faults: Faults
  /** Lets something happen; throws a RangeError that says what is wrong with it. */
  publish(happening: Happening): Published
  /** A fault by name; gives one line that says what was done. */
  fault(name: FaultName, options?: FaultOptions): Promise<string>
  /** Wipes the sessions and cuts the connections, as a redeploy does. */
  restart(): void
  close(): Promise<void>
}

const MAX_BODY_BYTES = 64 * 1024 * 1024

/** Resolves once it listens. */
export async function startSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const host = options.host ?? '127.0.0.1'
  const journal = new Journal(Date.now)
  const faults = new Faults()
  const agents = agentsOf(options.keys, journal)
  const [first] = agents
  if (first === undefined) throw new RangeError('a simulator needs at least one key')
  let origin = ''
  const files = new Files(Date.now, () => origin)
  const endpoint = new Endpoint({
    journal,
    files,
    faults,
    pingMs: options.pingMs ?? ASSUMED.pingMs,
    legacyPush: options.legacyPush ?? false,
    replay: options.replay ?? false,
    duplicateStream: options.duplicateStream ?? 'refuse',
  })
  const sockets = new Set<Socket>()
  const mcpSockets = new Set<Socket>()

  const handle = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const url = new URL(req.url ?? '/', origin)
    const denial = forbidden(req, host, port)
    if (denial !== undefined) return refuse(res, 403, -32000, denial)
    if (url.pathname === '/mcp' || url.pathname === '/mcp/') return handleMcp(req, res, url)
    res.writeHead(404, { 'Content-Type': 'text/plain' }).end('not found\n')
  }

  const handleMcp = async (req: IncomingMessage, res: ServerResponse, url: URL): Promise<void> => {
    mcpSockets.add(req.socket)
    req.socket.once('close', () => mcpSockets.delete(req.socket))
    if (faults.answer(res)) return
    if (faults.answerDelayMs > 0) await sleep(faults.answerDelayMs)
    const agent = faults.on('bad-key') ? undefined : agentFor(req, agents)
    if (agent === undefined) {
      res.setHeader('WWW-Authenticate', 'Bearer realm="chamade", error="invalid_token"')
      return refuse(res, 401, -32001, 'Unauthorized: send Authorization: Bearer chmd_…')
    }
    const body = req.method === 'POST' ? await readJson(req) : undefined
    if (body instanceof Refusal) return refuse(res, body.status, body.code, body.text)
    await endpoint.handle(req, res, url, agent, body)
  }

  const server = createServer((req, res) => {
    handle(req, res).catch((error: unknown) => {
      if (res.headersSent) res.destroy()
      else refuse(res, 500, -32603, `the simulator failed: ${String(error)}`)
    })
  })
  // A push stream is quiet for as long as nothing happens.
  server.requestTimeout = 0
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  await listen(server, host, options.port ?? 0)
  const port = (server.address() as AddressInfo).port
  origin = `http://${host.includes(':') ? `[${host}]` : host}:${port}`
  let closed = false

  const restart = (): void => {
    for (const socket of mcpSockets) socket.destroy()
    endpoint.forgetSessions(true)
  }

  const refuseFor = async (seconds: number): Promise<void> => {
    server.close()
    for (const socket of sockets) if (mcpSockets.has(socket)) socket.destroy()
    await sleep(seconds * 1_000)
    if (!closed) await listen(server, host, port)
  }

  const fault = async (name: FaultName, { seconds, ms }: FaultOptions = {}): Promise<string> => {
    const text = ((): string => {
      switch (name) {
        case 'restart':
          restart()
          return 'restarted: sessions wiped, connections cut'
        case 'down':
          faults.start('down', { seconds })
          restart()
          return `down for ${seconds ?? 5} s: sessions wiped, connections cut`
        case 'refuse':
          endpoint.forgetSessions(true)
          void refuseFor(seconds ?? 5)
          return `connections refused for ${seconds ?? 5} s`
        case 'drop':
          return `dropped ${endpoint.dropStreams()} push stream(s)`
        case 'half-open':
          return `${endpoint.muteStreams()} push stream(s) half-open`
        case 'forget-404':
        case 'forget-400':
          faults.forgottenAs = name === 'forget-404' ? 404 : 400
          return `forgot ${endpoint.forgetSessions(false)} session(s), answered with ${faults.forgottenAs}`
        case 'hold-stream':
          faults.start('hold-stream', { seconds })
          return `dropped ${endpoint.dropStreams()} push stream(s); new ones get 409`
        case 'clear':
          faults.clear()
          return 'all faults cleared'
        default:
          return `${name} for ${faults.start(name, { seconds, ms }) / 1_000} s`
      }
    })()
    journal.record({ kind: 'fault', text })
    return text
  }

  return {
    url: origin,
    mcpUrl: `${origin}/mcp/`,
    port,
    key: first.key,
    agents,
    journal,
    get sessions() {
      return endpoint.sessions
    },
    faults,
    publish: (happening) => publish(agents, happening),
    fault,
    restart: () => {
      restart()
      journal.record({ kind: 'fault', text: 'restarted: sessions wiped, connections cut' })
    },
    close: async () => {
      closed = true
      endpoint.forgetSessions(false)
      const ended = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await ended
    },
  }
}

/** An agent by name, or the first. */
function agentNamed(agents: readonly Agent[], name: string | undefined): Agent {
  const found = name === undefined ? agents[0] : agents.find((agent) => agent.name === name)
  if (found === undefined) throw new RangeError(`there is no agent "${name}"`)
  return found
}

function publish(agents: readonly Agent[], happening: Happening): Published {
  const agent = agentNamed(agents, happening.agent)
  switch (happening.type) {
    case 'dm': {
      const platform = platformOf(happening.platform ?? 'discord')
      const conversation = agent.conversations.with(platform, happening.from)
      const [published] = agent.conversations
        .receive(conversation, happening.text)
        .map((draft) => agent.publish(draft))
      if (published === undefined) throw new RangeError('nothing came of this message')
      return published
    }
    case 'raw':
      return agent.publish({ type: 'raw', content: happening.content, meta: happening.meta ?? {} })
  }
}

function platformOf(name: string): Platform {
  if (!isPlatform(name)) throw new RangeError(`there is no platform "${name}"`)
  return name
}

function agentsOf(keys: readonly string[] | undefined, journal: Journal): readonly Agent[] {
  const given = keys ?? [`chmd_${randomBytes(16).toString('hex')}`]
  return given.map((key, index) => {
    const name = index === 0 ? 'agent' : `agent-${index + 1}`
    const prefix = index === 0 ? '' : `${index + 1}_`
    return new Agent({ name, key, prefix, journal, now: Date.now })
  })
}

function agentFor(req: IncomingMessage, agents: readonly Agent[]): Agent | undefined {
  const given = /^Bearer (.+)$/i.exec(req.headers.authorization ?? '')?.[1]
  return given === undefined ? undefined : agents.find((agent) => sameSecret(agent.key, given))
}

function sameSecret(a: string, b: string): boolean {
  const left = Buffer.from(a)
  const right = Buffer.from(b)
  return left.length === right.length && timingSafeEqual(left, right)
}

class Refusal {
  readonly status: number
  readonly code: number
  readonly text: string

  constructor(status: number, code: number, text: string) {
    this.status = status
    this.code = code
    this.text = text
  }
}

async function readJson(req: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of req as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_BODY_BYTES) return new Refusal(413, -32000, 'Payload Too Large')
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown
  } catch {
    return new Refusal(400, -32700, 'Parse error: Invalid JSON')
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

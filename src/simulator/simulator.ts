/**
 * A local Chamade: the documented hybrid MCP server with agents, events and faults, on one HTTP port.
 *
 * Not a mock: real sockets, the SDK's server side, documented behaviour; guesses stand in assumptions.ts.
 * The one rule: it is for this machine. Loopback unless told, Host and Origin checked, no CORS, random keys.
 */
import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { sleep } from '../retry.ts'
import { Agent, type Published } from './agent.ts'
import { ASSUMED } from './assumptions.ts'
import { bearerOf, parseJson, readBody, refuse, sameSecret, sendText } from './body.ts'
import { breakIt } from './breakage.ts'
import { sendConsole } from './console/console.ts'
import { answerControl } from './control.ts'
import { Endpoint, type SessionView } from './endpoint.ts'
import { type FaultName, type FaultOptions, Faults } from './faults.ts'
import { Files } from './files.ts'
import { forbidden } from './guard.ts'
import { type Happened, type Happening, happen } from './happenings.ts'
import { Journal } from './journal.ts'
import { Listener } from './listener.ts'
import { type State, stateOf } from './state.ts'

export type { Happening } from './happenings.ts'

export interface SimulatorOptions {
  /** Default 127.0.0.1. */
  readonly host?: string | undefined
  /** Default 0: any free one. */
  readonly port?: number | undefined
  /** Keys of the agents, one each; default one random key. */
  readonly keys?: readonly string[] | undefined
  /** Between comments on an idle stream; default 15 s. */
  readonly pingMs?: number | undefined
  /** How many times faster than the wall clock calls and WhatsApp's window run; default 1. */
  readonly speed?: number | undefined
  /** Hosted speech to text and back; default true. */
  readonly hostedVoice?: boolean | undefined
  readonly legacyPush?: boolean | undefined
  readonly replay?: boolean | undefined
  readonly duplicateStream?: 'refuse' | 'replace' | undefined
}

export interface Simulator {
  /** `http://127.0.0.1:PORT`. */
  readonly url: string
  /** `http://127.0.0.1:PORT/mcp/`; add `?stateful` for a session. */
  readonly mcpUrl: string
  /** The console with its token; the token stands behind `#`, so no server and no log sees it. */
  readonly consoleUrl: string
  readonly port: number
  /** The first agent's key. */
  readonly key: string
  /** Of the control API. */
  readonly token: string
  readonly agents: readonly Agent[]
  readonly journal: Journal
  readonly sessions: readonly SessionView[]
  readonly faults: Faults
  readonly state: State
  /** Lets something happen; throws BadHappening with what is wrong with it. */
  happen(happening: Happening): Happened
  /** The same, and gives the first event that came of it. */
  publish(happening: Happening): Published
  /** A fault by name; gives one line that says what was done. */
  fault(name: FaultName, options?: FaultOptions): string
  /** Wipes the sessions and cuts the connections, as a redeploy does. */
  restart(): void
  /** Resolves when no agent waits for an answer, or after `withinMs`. */
  settled(withinMs: number): Promise<void>
  close(): Promise<void>
}

const MAX_MESSAGE_BYTES = 64 * 1024 * 1024

/** Resolves once it listens; rejects when it cannot. */
export async function startSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const host = options.host ?? '127.0.0.1'
  const token = randomBytes(16).toString('hex')
  const instance = randomBytes(6).toString('hex')
  const journal = new Journal()
  const faults = new Faults()
  const agents = agentsOf(options, journal)
  const [first] = agents
  if (first === undefined) throw new RangeError('a simulator needs at least one key')
  const files = new Files(() => listener.origin)
  const endpoint = new Endpoint({
    journal,
    files,
    faults,
    pingMs: options.pingMs ?? ASSUMED.pingMs,
    legacyPush: options.legacyPush ?? false,
    replay: options.replay ?? false,
    duplicateStream: options.duplicateStream ?? 'refuse',
  })

  const posts = new Set<ServerResponse>()

  const answer = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const denial = forbidden(req, host, listener.port)
    if (denial !== undefined) return refuse(res, 403, -32000, denial)
    if (!URL.canParse(req.url ?? '', listener.origin)) return sendText(res, 400, 'bad request')
    const url = new URL(req.url ?? '', listener.origin)
    if (url.pathname === '/mcp' || url.pathname === '/mcp/') return answerMcp(req, res, url)
    if (url.pathname.startsWith('/control/')) return answerControl(req, res, url, control)
    if (url.pathname.startsWith('/files/')) return answerFile(req, res, url, files)
    if (url.pathname === '/' && req.method === 'GET') return sendConsole(res)
    sendText(res, 404, 'not found')
  }

  const answerMcp = async (req: IncomingMessage, res: ServerResponse, url: URL): Promise<void> => {
    listener.markMcp(req.socket)
    if (faults.answer(res)) return
    if (faults.answerDelayMs > 0) await sleep(faults.answerDelayMs)
    const agent = faults.on('bad-key') ? undefined : agentFor(req, agents)
    if (agent === undefined) {
      res.setHeader('WWW-Authenticate', 'Bearer realm="chamade", error="invalid_token"')
      return refuse(res, 401, -32001, 'Unauthorized: send Authorization: Bearer chmd_…')
    }
    if (req.method !== 'POST') return endpoint.handle(req, res, url, agent, undefined)
    posts.add(res)
    res.once('close', () => posts.delete(res))
    const bytes = await readBody(req, MAX_MESSAGE_BYTES)
    if (bytes === undefined) return refuse(res, 413, -32000, 'Payload Too Large')
    const body = parseJson(bytes)
    if (body === undefined) return refuse(res, 400, -32700, 'Parse error: Invalid JSON')
    await endpoint.handle(req, res, url, agent, body.value)
  }

  const fault = (name: FaultName, faultOptions: FaultOptions = {}): string =>
    breakIt({ faults, endpoint, listener, journal }, name, faultOptions)

  const simulatorState = (): State =>
    stateOf({ instance, url: listener.origin, agents, endpoint, faults, journal })
  const control = {
    token,
    journal,
    state: simulatorState,
    happen: (happening: Happening) => happen(agents, files, happening),
    fault,
  }
  const server = createServer((req, res) => {
    answer(req, res).catch((error: unknown) => {
      if (res.headersSent) res.destroy()
      else refuse(res, 500, -32603, `the simulator failed: ${String(error)}`)
    })
  })
  const listener = await Listener.open(server, host, options.port ?? 0)

  return {
    url: listener.origin,
    mcpUrl: `${listener.origin}/mcp/`,
    consoleUrl: `${listener.origin}/#${token}`,
    port: listener.port,
    key: first.key,
    token,
    agents,
    journal,
    get sessions() {
      return endpoint.sessions
    },
    faults,
    get state() {
      return simulatorState()
    },
    happen: control.happen,
    publish: (happening) => {
      const [published] = control.happen(happening).published
      if (published === undefined) throw new RangeError(`"${happening.type}" publishes nothing`)
      return published
    },
    fault,
    restart: () => {
      fault('restart')
    },
    settled: async (withinMs) => {
      const until = performance.now() + withinMs
      while (posts.size > 0 && performance.now() < until) await sleep(10)
    },
    close: async () => {
      for (const agent of agents) agent.calls.close()
      endpoint.forgetSessions()
      await listener.close()
    },
  }
}

function agentsOf(
  { keys, speed = 1, hostedVoice = true }: SimulatorOptions,
  journal: Journal,
): readonly Agent[] {
  const given = keys ?? [`chmd_${randomBytes(16).toString('hex')}`]
  return given.map((key, index) => {
    const name = index === 0 ? 'agent' : `agent-${index + 1}`
    const prefix = index === 0 ? '' : `${index + 1}_`
    return new Agent({ name, key, prefix, journal, speed, hostedVoice })
  })
}

function agentFor(req: IncomingMessage, agents: readonly Agent[]): Agent | undefined {
  const given = bearerOf(req)
  return given === undefined ? undefined : agents.find((agent) => sameSecret(agent.key, given))
}

/** Uploads to a pre-signed address, and downloads; neither needs a login. */
async function answerFile(req: IncomingMessage, res: ServerResponse, url: URL, files: Files): Promise<void> {
  const fileId = url.pathname.slice('/files/'.length)
  if (req.method === 'PUT') {
    const bytes = await readBody(req, ASSUMED.maxFileBytes)
    const outcome = bytes === undefined ? 'too-large' : files.fill(fileId, bytes)
    const status = { stored: 201, unknown: 404, 'too-large': 413 }[outcome]
    return sendText(res, status, outcome)
  }
  const file = req.method === 'GET' ? files.get(fileId) : undefined
  if (file === undefined) return sendText(res, 404, 'not found')
  // Whatever it is, a browser shall save it and not run it here.
  const disposition = `attachment; filename*=UTF-8''${encodeURIComponent(file.name)}`
  const type = /^[\w.+-]+\/[\w.+-]+$/.test(file.mime) ? file.mime : 'application/octet-stream'
  res.writeHead(200, {
    'Content-Type': type,
    'Content-Disposition': disposition,
    'X-Content-Type-Options': 'nosniff',
  })
  res.end(file.bytes)
}

/**
 * A local moot: REST and sockets over one store, with faults on demand and a publish endpoint.
 *
 * ASSUMED, because nothing public says: the status of refused handshakes (401, 403, 404), close codes 44xx,
 * `space_update` frames, the whole of `/channel`. Known are the per-space socket, the event, and the REST paths.
 * The one rule: the store survives whatever happens to the server, as a database survives a redeploy.
 *
 * With the agent's key as Bearer: `POST /_simulator/publish` {space_id, speaker?, text, mentions?, thread_id?, message_type?},
 * `POST /_simulator/status` {space_id, status}, `POST /_simulator/fault` {name, …}: see `#control`.
 */
import { createServer as createHttp, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createHttps } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { bearerOf, readBody, sameSecret } from '../body.ts'
import { forbidden } from '../guard.ts'
import { visitable } from '../listener.ts'
import { isMootFault, MOOT_FAULT_FIELDS, MOOT_FAULTS } from './faults.ts'
import { recordIn } from './record.ts'
import {
  type Answer,
  actorOf,
  answer,
  type Call,
  isStatus,
  refuse,
  reply,
  string,
  strings,
} from './routes.ts'
import { Sockets } from './sockets.ts'
import { type MootActor, type MootEvent, type MootSpace, MootStore, type Saying } from './store.ts'
import { fairWeather, type Weather } from './weather.ts'

export interface MootSimulatorOptions {
  readonly host?: string | undefined
  /** 0: any free one. */
  readonly port?: number | undefined
  /** API key of the first agent; made up when not given. */
  readonly key?: string | undefined
  /** Display name of the first agent. */
  readonly agentName?: string | undefined
  /** Compresses what it sends over sockets, as servers in Python do by default. */
  readonly compress?: boolean | undefined
  /** Serves https and wss. */
  readonly tls?: { readonly key: string; readonly cert: string } | undefined
}

/** A call as it arrived, for the tests. */
export interface SeenCall {
  readonly method: string
  readonly path: string
  readonly at: number
}

export function startMootSimulator(options: MootSimulatorOptions = {}): Promise<MootSimulator> {
  return new MootSimulator(options).listen()
}

/** A second player to talk with, and a space to talk in, so that a fresh simulator is of use. */
const ALICE = { actor_id: 'alice-actor-id', display_name: 'Alice', actor_type: 'human' } as const
const FIRST_SPACE = 'sprint-planning'
const MAX_BODY_BYTES = 1024 * 1024

export class MootSimulator {
  readonly store: MootStore
  readonly weather: Weather = fairWeather()
  readonly sockets: Sockets
  /** The agent that `key` belongs to, and somebody else. */
  readonly agent: MootActor
  readonly alice: MootActor
  readonly calls: SeenCall[] = []
  readonly #options: MootSimulatorOptions
  readonly #connections = new Set<Socket>()
  readonly #streams = new Map<ServerResponse, string>()
  #server: Server | undefined
  #port = 0

  constructor(options: MootSimulatorOptions) {
    this.#options = options
    this.store = new MootStore({
      said: (event) => this.#said(event),
      statusChanged: (space) => this.sockets.statusChanged(space),
    })
    this.sockets = new Sockets(this.store, this.weather, options.compress === true)
    const named = { display_name: options.agentName ?? 'MyAgent' }
    this.agent = this.store.addActor(options.key === undefined ? named : { ...named, api_key: options.key })
    this.alice = this.store.addActor(ALICE)
    this.space(FIRST_SPACE)
  }

  get key(): string {
    return this.agent.api_key
  }

  get url(): string {
    const { tls, host = '127.0.0.1' } = this.#options
    return `${tls === undefined ? 'http' : 'https'}://${visitable(host)}:${this.#port}`
  }

  /** Of the documented single socket. */
  get channelUrl(): string {
    return `${this.url.replace('http', 'ws')}/channel`
  }

  async listen(): Promise<this> {
    const { tls, host = '127.0.0.1', port = 0 } = this.#options
    const handle = (request: IncomingMessage, response: ServerResponse): void => {
      void this.#handle(request, response)
    }
    const server = tls === undefined ? createHttp(handle) : createHttps({ ...tls }, handle)
    server.on(tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => this.#track(socket))
    if (tls !== undefined) server.on('connection', (socket: Socket) => this.#track(socket))
    this.sockets.attach(server)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.#port === 0 ? port : this.#port, host, resolve)
    })
    this.#port = (server.address() as AddressInfo).port
    this.#server = server
    return this
  }

  /** Nothing listens any more and everything open is cut; `listen` brings it back on the same port. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    const closed = new Promise<void>((resolve) => {
      server.close(() => resolve())
    })
    this.sockets.drop('cut')
    for (const socket of this.#connections) socket.destroy()
    await closed
  }

  /** A redeploy: everything is cut; the store is as it was. */
  async restart(): Promise<void> {
    await this.stop()
    await this.listen()
  }

  close(): Promise<void> {
    return this.stop()
  }

  /** The space of this id; made, with the agent and Alice in it, if there is none. */
  space(spaceId: string): MootSpace {
    const known = this.store.spaces.get(spaceId)
    if (known !== undefined) return known
    const space = this.store.addSpace(spaceId)
    this.store.join(space, this.agent, null)
    this.store.join(space, this.alice, null)
    return space
  }

  /** Alice (or `speaker`) says something. */
  publish(spaceId: string, saying: Partial<Saying> & { readonly text: string }): MootEvent {
    return this.store.say(this.space(spaceId), { speaker: this.alice.actor_id, ...saying })
  }

  #said(event: MootEvent): void {
    this.sockets.said(event)
    for (const [response, spaceId] of this.#streams) {
      if (spaceId === event.space_id)
        response.write(`event: context_event\ndata: ${JSON.stringify(event)}\n\n`)
    }
  }

  #track(socket: Socket): void {
    this.#connections.add(socket)
    socket.on('close', () => this.#connections.delete(socket))
    socket.on('error', () => socket.destroy())
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const method = request.method ?? 'GET'
    try {
      const url = new URL(request.url ?? '/', 'http://localhost')
      this.calls.push({ method, path: `${url.pathname}${url.search}`, at: Date.now() })
      const bytes = await readBody(request, MAX_BODY_BYTES)
      const body = recordIn(bytes?.toString('utf8') ?? '') ?? {}
      const call: Call = { method, path: url.pathname, query: url.searchParams, body }
      if (call.path === '/health') return reply(response, { status: 200, body: { status: 'ok' } })
      if (call.path.startsWith('/_simulator/')) {
        const no = forbidden(request, this.#options.host ?? '127.0.0.1', this.#port)
        if (no !== undefined) return reply(response, refuse(403, no))
        const isOurs = sameSecret(this.key, bearerOf(request) ?? '')
        return reply(response, isOurs ? this.#control(call) : refuse(401, "send the agent's key as a Bearer"))
      }
      const { hangHttp, hangPath } = this.weather
      if (hangHttp || (hangPath !== undefined && request.url?.includes(hangPath) === true)) return
      const given = this.#checked(request, call)
      if ('stream' in given) return this.#stream(response, given.stream)
      reply(response, given)
    } catch {
      reply(response, refuse(400, 'Bad Request'))
    }
  }

  /** The answer to a call of the API, after the weather and the key have been looked at. */
  #checked(request: IncomingMessage, call: Call): Answer | { readonly stream: string } {
    const failure = this.weather.failures.find(({ path, times }) => times > 0 && call.path.includes(path))
    if (failure !== undefined) {
      failure.times--
      const headers = failure.retryAfterS === undefined ? {} : { 'retry-after': String(failure.retryAfterS) }
      return { ...refuse(failure.status, 'failing on demand'), headers }
    }
    const actor = actorOf(this.store, request, call.query)
    if (actor === undefined || this.weather.badKeys) return refuse(401, 'Authentication required')
    if (this.weather.suspended) return refuse(403, 'Tenant is suspended')
    const stream = /^\/api\/spaces\/([^/]+)\/events\/stream$/.exec(call.path)?.[1]
    if (stream !== undefined) return { stream: decodeURIComponent(stream) }
    return answer(this.store, this.weather, actor, call)
  }

  /** ASSUMED format: `event: context_event`, the event as data. */
  #stream(response: ServerResponse, spaceId: string): void {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    response.write(': connected\n\n')
    this.#streams.set(response, spaceId)
    response.on('close', () => this.#streams.delete(response))
  }

  /** For the command line. */
  #control(call: Call): Answer {
    const { body } = call
    const spaceId = string(body.space_id) ?? FIRST_SPACE
    switch (`${call.method} ${call.path}`) {
      case 'POST /_simulator/publish': {
        const text = string(body.text)
        if (text === undefined) return refuse(422, 'text is required')
        const event = this.publish(spaceId, {
          text,
          speaker: this.#idOf(string(body.speaker)) ?? this.alice.actor_id,
          mentions: strings(body.mentions),
          message_type: string(body.message_type),
          thread_id: string(body.thread_id),
          parent_event_id: string(body.parent_event_id),
        })
        return { status: 200, body: { ...event, sockets: this.sockets.count(spaceId) } }
      }
      case 'POST /_simulator/status':
        if (!isStatus(body.status)) return refuse(422, 'status is active, paused or archived')
        this.store.setStatus(this.space(spaceId), body.status)
        return {
          status: 200,
          body: { space_id: spaceId, status: body.status, sockets: this.sockets.count(spaceId) },
        }
      case 'POST /_simulator/fault':
        return this.#fault(body)
      case 'GET /_simulator/state':
        return {
          status: 200,
          body: {
            agent: this.agent.actor_id,
            sockets: this.sockets.count(),
            spaces: [...this.store.spaces.keys()],
            weather: this.weather,
          },
        }
      default:
        return refuse(404, 'publish, status, fault or state')
    }
  }

  /** An actor may be named as people call them. */
  #idOf(speaker: string | undefined): string | undefined {
    const named = [...this.store.actors.values()].find(({ display_name }) => display_name === speaker)
    return named?.actor_id ?? speaker
  }

  #fault(body: Readonly<Record<string, unknown>>): Answer {
    const { name } = body
    if (!isMootFault(name))
      return refuse(
        422,
        `there is no fault "${String(name)}"; there are ${Object.keys(MOOT_FAULTS).join(', ')}`,
      )
    const fields = ['name', ...(MOOT_FAULT_FIELDS[name] ?? [])]
    const vain = Object.keys(body).find((field) => !fields.includes(field))
    if (vain !== undefined) return refuse(422, `in a moot fault "${name}" has no "${vain}"`)
    const spaceId = string(body.space_id)
    if (spaceId !== undefined && !this.store.spaces.has(spaceId))
      return refuse(404, `there is no space "${spaceId}"`)
    switch (name) {
      case 'drop':
        this.sockets.drop('cut', spaceId)
        break
      case 'close':
        this.sockets.drop({ code: Number(body.code ?? 1012), reason: 'on demand' }, spaceId)
        break
      case 'freeze':
        this.sockets.freeze()
        break
      case 'restart':
        // Answered first: the connection it came on is cut too.
        setTimeout(() => void this.restart(), 50)
        break
      case 'bad-key':
        this.weather.badKeys = true
        break
      case 'suspend':
        this.weather.suspended = true
        break
      case 'clear':
        Object.assign(this.weather, fairWeather())
        break
      default:
        return name satisfies never
    }
    return { status: 200, body: { name } }
  }
}

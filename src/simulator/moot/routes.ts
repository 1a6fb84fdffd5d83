/**
 * The REST API of the simulated moot: actors, spaces, events, threads, decisions, in FastAPI's manners.
 *
 * Paths, fields and status codes as far as they are public; an error body is `{"detail": …}`. Not the sockets.
 * The one rule: a route only reads the request and calls the store.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { bearerOf } from '../body.ts'
import {
  type MootActor,
  type MootEvent,
  type MootSpace,
  type MootStore,
  SPACE_STATUSES,
  type SpaceStatus,
} from './store.ts'
import type { Weather } from './weather.ts'

export interface Call {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly body: Readonly<Record<string, unknown>>
}

export interface Answer {
  readonly status: number
  readonly body: unknown
  readonly headers?: Readonly<Record<string, string>>
}

type Route = (store: MootStore, weather: Weather, actor: MootActor, call: Call, ...names: string[]) => Answer

const ok = (body: unknown): Answer => ({ status: 200, body })
export const refuse = (status: number, detail: unknown): Answer => ({ status, body: { detail } })
const NO_SPACE = refuse(404, 'Space not found')

const ROUTES: readonly (readonly [string, RegExp, Route])[] = [
  ['GET', /^\/api\/actors\/me$/, (_store, _weather, actor) => ok(actorView(actor))],
  ['POST', /^\/api\/actors\/me\/heartbeat$/, () => ok({ status: 'ok' })],
  ['GET', /^\/api\/actors\/me\/spaces$/, mySpaces],
  ['GET', /^\/api\/actors$/, (store) => ok([...store.actors.values()].map(actorView))],
  ['GET', /^\/api\/spaces$/, (store, _weather, _actor, call) => ok(spacesWith(store, call))],
  ['POST', /^\/api\/spaces$/, createSpace],
  ['PATCH', /^\/api\/spaces\/([^/]+)$/, inSpace(patchSpace)],
  ['POST', /^\/api\/spaces\/([^/]+)\/archive$/, inSpace(archive)],
  ['GET', /^\/api\/spaces\/([^/]+)\/status$/, inSpace(({ space }) => ok(spaceView(space)))],
  ['POST', /^\/api\/spaces\/([^/]+)\/join$/, inSpace(join)],
  ['GET', /^\/api\/spaces\/([^/]+)\/events$/, inSpace(events)],
  ['POST', /^\/api\/spaces\/([^/]+)\/events$/, inSpace(post)],
  ['POST', /^\/api\/spaces\/([^/]+)\/response$/, inSpace(post)],
  ['POST', /^\/api\/spaces\/([^/]+)\/threads$/, inSpace(thread)],
  ['GET', /^\/api\/spaces\/([^/]+)\/mentions\/([^/]+)$/, inSpace(mentions)],
  ['GET', /^\/api\/spaces\/([^/]+)\/decisions$/, inSpace(({ space }) => ok(space.decisions))],
  ['POST', /^\/api\/spaces\/([^/]+)\/decisions$/, inSpace(propose)],
  ['PUT', /^\/api\/spaces\/([^/]+)\/decisions\/([^/]+)\/resolve$/, inSpace(resolve)],
]

/** Answers one authenticated call. */
export function answer(store: MootStore, weather: Weather, actor: MootActor, call: Call): Answer {
  for (const [method, pattern, route] of ROUTES) {
    const match = method === call.method ? pattern.exec(call.path) : null
    if (match !== null) return route(store, weather, actor, call, ...match.slice(1).map(decodeURIComponent))
  }
  return refuse(404, 'Not Found')
}

interface Visit {
  readonly store: MootStore
  readonly weather: Weather
  readonly actor: MootActor
  readonly call: Call
  readonly space: MootSpace
  readonly name: string
}

function inSpace(act: (visit: Visit) => Answer): Route {
  return (store, weather, actor, call, spaceId = '', name = '') => {
    const space = store.spaces.get(spaceId)
    return space === undefined ? NO_SPACE : act({ store, weather, actor, call, space, name })
  }
}

function mySpaces(store: MootStore, _weather: Weather, actor: MootActor, call: Call): Answer {
  const mine = spacesWith(store, call).filter(({ participants }) =>
    participants.some(({ participant_id }) => participant_id === actor.actor_id),
  )
  return ok(mine)
}

function createSpace(store: MootStore, _weather: Weather, actor: MootActor, call: Call): Answer {
  const spaceId = call.body.space_id
  if (typeof spaceId !== 'string' || spaceId === '') return refuse(422, [missing('space_id')])
  if (store.spaces.has(spaceId)) return refuse(409, 'Space already exists')
  const space = store.addSpace(spaceId, String(call.body.description ?? ''))
  store.join(space, actor, null)
  return { status: 201, body: spaceView(space) }
}

function patchSpace({ store, call, space }: Visit): Answer {
  const { status } = call.body
  if (status !== undefined) {
    if (!isStatus(status)) return refuse(422, [missing('status')])
    store.setStatus(space, status)
  }
  return ok(spaceView(space))
}

function archive({ store, space }: Visit): Answer {
  store.setStatus(space, 'archived')
  return ok(spaceView(space))
}

function join({ store, actor, call, space }: Visit): Answer {
  if (typeof call.body.participant_id !== 'string') return refuse(422, [missing('participant_id')])
  if (space.status === 'archived') return refuse(409, 'Space not active')
  const adapter = call.body.agent_adapter
  return ok(store.join(space, actor, typeof adapter === 'string' ? adapter : null))
}

function events({ weather, call, space }: Visit): Answer {
  const limit = Number(call.query.get('limit') ?? 50)
  if (!Number.isInteger(limit) || limit < 1 || limit > 200) return refuse(422, [missing('limit')])
  const since = call.query.get('since')
  const before = call.query.get('before')
  const at = (id: string): number => space.events.findIndex(({ event_id }) => event_id === id)
  const start = since === null ? 0 : at(since) + 1
  const end = before === null ? space.events.length : at(before)
  if ((since !== null && start === 0) || end === -1) return refuse(404, 'Event not found')
  const wanted = space.events.slice(start, end)
  const oldest = since !== null && before === null && !weather.newestPages
  const page = oldest ? wanted.slice(0, limit) : wanted.slice(-limit)
  return ok(weather.newestFirst ? page.toReversed() : page)
}

function post({ store, actor, call, space }: Visit): Answer {
  const { body } = call
  if (typeof body.participant_id !== 'string') return refuse(422, [missing('participant_id')])
  if (body.participant_id !== actor.actor_id) return refuse(400, 'participant_id does not match the key')
  if (typeof body.text !== 'string' || body.text.length > 65_536) return refuse(422, [missing('text')])
  if (space.status !== 'active') return refuse(409, 'Space not active')
  const event = store.say(space, {
    speaker: actor.actor_id,
    text: body.text,
    mentions: strings(body.mentions),
    message_type: string(body.message_type),
    thread_id: string(body.thread_id),
    parent_event_id: string(body.parent_event_id),
    references: strings(body.references),
  })
  return ok(event)
}

function thread({ store, call, space }: Visit): Answer {
  const threadId = store.thread(space, String(call.body.event_id ?? call.body.parent_event_id ?? ''))
  return threadId === undefined ? refuse(404, 'Event not found') : ok({ thread_id: threadId })
}

function mentions({ call, space, name }: Visit): Answer {
  const limit = Math.min(Math.max(Number(call.query.get('limit') ?? 20), 1), 100)
  return ok(space.events.filter((event) => mentionsOf(event).includes(name)).slice(-limit))
}

function propose({ store, actor, call, space }: Visit): Answer {
  if (typeof call.body.text !== 'string') return refuse(422, [missing('text')])
  if (space.status !== 'active') return refuse(409, 'Space not active')
  return ok(store.propose(space, actor.actor_id, call.body.text))
}

function resolve({ store, actor, call, space, name }: Visit): Answer {
  const status = call.body.status === 'rejected' ? 'rejected' : 'resolved'
  const decided = store.decide(space, name, actor.actor_id, String(call.body.resolution ?? ''), status)
  return decided === undefined ? refuse(409, 'No such open decision') : ok(decided)
}

function actorView(actor: MootActor): object {
  return { ...actor, api_key: undefined, api_key_prefix: actor.api_key.slice(0, 8), is_connected: true }
}

type SpaceView = Omit<MootSpace, 'participants' | 'events' | 'decisions'> & {
  readonly participants: readonly { readonly participant_id: string }[]
  readonly event_count: number
  readonly last_event_at: string | null
}

export function spaceView(space: MootSpace): SpaceView {
  return {
    space_id: space.space_id,
    description: space.description,
    status: space.status,
    started_at: space.started_at,
    participants: [...space.participants.values()],
    event_count: space.events.length,
    last_event_at: space.events.at(-1)?.timestamp ?? null,
  }
}

function spacesWith(store: MootStore, call: Call): SpaceView[] {
  const status = call.query.get('status')
  return [...store.spaces.values()]
    .filter((space) => status === null || space.status === status)
    .map(spaceView)
}

export function isStatus(value: unknown): value is SpaceStatus {
  return (SPACE_STATUSES as readonly unknown[]).includes(value)
}

function mentionsOf(event: MootEvent): readonly unknown[] {
  const found = event.metadata?.mentions
  return Array.isArray(found) ? found : []
}

/** [FastAPI] one entry of a 422. */
function missing(field: string): object {
  return { type: 'value_error', loc: ['body', field], msg: 'Field required or invalid' }
}

export function string(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

export function strings(value: unknown): readonly string[] | undefined {
  return Array.isArray(value) ? value.filter((each): each is string => typeof each === 'string') : undefined
}

/** Whose key this request brings, in its header or in the query. */
export function actorOf(
  store: MootStore,
  request: IncomingMessage,
  query: URLSearchParams,
): MootActor | undefined {
  return store.actorOf(bearerOf(request) ?? query.get('token') ?? undefined)
}

export function reply(response: ServerResponse, given: Answer): void {
  const body = JSON.stringify(given.body) ?? 'null'
  response.writeHead(given.status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    ...given.headers,
  })
  response.end(body)
}

/**
 * The sockets of the simulated moot: `/api/spaces/{id}/ws?token=…`, one a space, and the documented `/channel`.
 *
 * The per-space socket is as the shipped client uses it; the frames of `/channel` are ASSUMED, because nothing
 * public shows them. The one rule: nothing is replayed; what passes while a client is away is had by REST only.
 */
import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import { recordIn } from './record.ts'
import { actorOf } from './routes.ts'
import type { MootActor, MootEvent, MootSpace, MootStore } from './store.ts'
import type { Weather } from './weather.ts'

interface Listening {
  readonly socket: WebSocket
  readonly actor: MootActor
  readonly spaces: Set<string>
  readonly raw: Duplex
}

const CHANNEL_PATH = '/channel'
const SPACE_PATH = /^\/api\/spaces\/([^/]+)\/ws$/

export class Sockets {
  readonly #store: MootStore
  readonly #weather: Weather
  readonly #server: WebSocketServer
  readonly #listening = new Set<Listening>()
  readonly #raw = new Set<Duplex>()
  /** What clients sent, newest last. */
  readonly received: { readonly actorId: string; readonly type: string; readonly at: number }[] = []
  /** Close codes of the sockets that are gone; 1006 without a goodbye. */
  readonly closedWith: number[] = []

  constructor(store: MootStore, weather: Weather, compress: boolean) {
    this.#server = new WebSocketServer({
      noServer: true,
      perMessageDeflate: compress ? { threshold: 0 } : false,
    })
    this.#store = store
    this.#weather = weather
  }

  attach(server: Server): void {
    server.on('upgrade', (request: IncomingMessage, raw: Duplex, head: Buffer) => {
      try {
        this.#upgrade(request, raw, head)
      } catch {
        raw.end(refusal(400))
      }
    })
  }

  /** How many sockets hear `spaceId`, or are open at all. */
  count(spaceId?: string): number {
    return [...this.#listening].filter(({ spaces }) => spaceId === undefined || spaces.has(spaceId)).length
  }

  said(event: MootEvent): void {
    this.raw(event.space_id, JSON.stringify({ type: 'context_event', data: event }))
  }

  /** ASSUMED: no public client has a branch for it. */
  statusChanged(space: MootSpace): void {
    const data = { space_id: space.space_id, status: space.status }
    this.raw(space.space_id, JSON.stringify({ type: 'space_update', data }))
  }

  /** Bytes that wait for the clients of `spaceId` to read. */
  backlog(spaceId: string): number {
    const of = [...this.#listening].filter(({ spaces }) => spaces.has(spaceId))
    return of.reduce((sum, { socket }) => sum + socket.bufferedAmount, 0)
  }

  /** Bytes that the network has taken for the clients of `spaceId`. */
  taken(spaceId: string): number {
    const of = [...this.#listening].filter(({ spaces }) => spaces.has(spaceId))
    return of.reduce((sum, { raw }) => {
      const written = 'bytesWritten' in raw && typeof raw.bytesWritten === 'number' ? raw.bytesWritten : 0
      return sum + written - raw.writableLength
    }, 0)
  }

  /** Connections that asked for an upgrade, answered or not. */
  get waiting(): number {
    return this.#raw.size
  }

  /** Any bytes to all who hear `spaceId`. */
  raw(spaceId: string, frame: string | Buffer): void {
    for (const { socket, spaces } of this.#listening) if (spaces.has(spaceId)) socket.send(frame)
  }

  /** Ends the sockets of a space, or all: cut without a word, or closed with a code. */
  drop(how: 'cut' | { readonly code: number; readonly reason?: string }, spaceId?: string): void {
    for (const each of [...this.#listening]) {
      if (spaceId !== undefined && !each.spaces.has(spaceId)) continue
      if (how === 'cut') each.socket.terminate()
      else each.socket.close(how.code, how.reason)
    }
    if (spaceId === undefined && how === 'cut') for (const raw of this.#raw) raw.destroy()
  }

  /** Reads nothing and says nothing any more, with the connections left open, as behind a dead router. */
  freeze(): void {
    for (const each of [...this.#listening]) {
      each.raw.pause()
      each.spaces.clear()
    }
  }

  #upgrade(request: IncomingMessage, raw: Duplex, head: Buffer): void {
    this.#raw.add(raw)
    raw.on('close', () => this.#raw.delete(raw))
    raw.on('error', () => raw.destroy())
    if (this.#weather.hangHandshakes) {
      // Read on, or the end of the connection would never be noticed.
      raw.on('end', () => raw.end())
      raw.resume()
      return
    }
    const url = new URL(request.url ?? '/', 'http://localhost')
    const match = SPACE_PATH.exec(url.pathname)
    const spaceId = match?.[1] === undefined ? undefined : decodeURIComponent(match[1])
    const actor = actorOf(this.#store, request, url.searchParams)
    const status = this.#statusFor(url.pathname, actor, spaceId)
    if (status !== undefined && (this.#weather.refuseBy === 'handshake' || status >= 500)) {
      raw.end(refusal(status, this.#weather.handshakeRetryAfterS))
      return
    }
    this.#server.handleUpgrade(request, raw, head, (socket) => {
      socket.on('error', () => socket.terminate())
      if (status !== undefined || actor === undefined) return socket.close(4000 + (status ?? 401), 'refused')
      this.#serve({ socket, actor, spaces: new Set(spaceId === undefined ? [] : [spaceId]), raw })
    })
  }

  #serve(listening: Listening): void {
    const { socket, actor, spaces } = listening
    this.#listening.add(listening)
    socket.on('close', (code) => {
      this.#listening.delete(listening)
      this.closedWith.push(code)
    })
    socket.on('message', (bytes: Buffer) => {
      const frame = recordIn(bytes.toString('utf8'))
      const type = String(frame?.type ?? 'malformed')
      this.received.push({ actorId: actor.actor_id, type, at: Date.now() })
      const spaceId = typeof frame?.space_id === 'string' ? frame.space_id : undefined
      if (spaceId === undefined) return
      const deal = (): void => {
        if (type === 'unsubscribe') spaces.delete(spaceId)
        if (type === 'subscribe') this.#subscribe(listening, spaceId)
      }
      if (this.#weather.slowChannel === undefined) deal()
      else void this.#weather.slowChannel.then(deal)
    })
  }

  #subscribe({ socket, actor, spaces }: Listening, spaceId: string): void {
    const status = this.#statusFor(`/api/spaces/${spaceId}/ws`, actor, spaceId)
    if (status === undefined) spaces.add(spaceId)
    if (this.#weather.quietChannel) return
    const detail = status === 404 ? 'Space not found' : 'Not a participant'
    const word =
      status === undefined
        ? { type: 'subscribed', space_id: spaceId }
        : { type: 'error', space_id: spaceId, code: status, detail }
    socket.send(JSON.stringify(word))
  }

  /** The status a handshake or a subscribe is refused with, or undefined when it is fine. */
  #statusFor(path: string, actor: MootActor | undefined, spaceId: string | undefined): number | undefined {
    const { badKeys, suspended, handshakeStatus } = this.#weather
    if (handshakeStatus !== undefined && this.#weather.handshakeTimes-- > 0) return handshakeStatus
    if (actor === undefined || badKeys) return 401
    if (suspended) return 403
    if (path === CHANNEL_PATH) return undefined
    const space = spaceId === undefined ? undefined : this.#store.spaces.get(spaceId)
    if (space === undefined) return 404
    return space.participants.has(actor.actor_id) ? undefined : 403
  }
}

/** A handshake answered with `status`. */
function refusal(status: number, retryAfterS?: number): string {
  const retryAfter = retryAfterS === undefined ? '' : `Retry-After: ${retryAfterS}\r\n`
  return `HTTP/1.1 ${status} Refused\r\n${retryAfter}Connection: close\r\nContent-Length: 0\r\n\r\n`
}

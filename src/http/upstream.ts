/**
 * An MCP server behind one URL, seen as an Upstream.
 *
 * Here is who waits for whom: HTTP keeps no order between requests, so the order the client wrote in is kept by
 * barriers. The session's life, the push stream and the fate of one message have rooms of their own.
 * The one rule: what the client does not wait for (replies, cancellations) waits for nothing here.
 */
import { BridgeError, errors } from '../errors.ts'
import {
  cancelledId,
  METHOD,
  type Message,
  type Notification,
  type Request,
  type Response,
} from '../protocol.ts'
import { Abort, aborted, later, type Signal, sleep, turn } from '../retry.ts'
import type { OpenUpstream, Outlet, Upstream } from '../sides.ts'
import { Answers } from './answer.ts'
import { AskedByServer } from './asked.ts'
import type { HttpConfig } from './config.ts'
import { Exchange } from './exchange.ts'
import { Flight, Forwarder, WITHDRAWN } from './forward.ts'
import { Incoming } from './incoming.ts'
import { Push } from './push.ts'
import { SessionLife } from './session.ts'

/** Requests that are ended in one go: a few milliseconds. */
const CLOSED_AT_ONCE = 64

/** Opens nothing yet: the client's first message does. */
export function openHttp(config: HttpConfig): OpenUpstream {
  return (outlet) => new HttpUpstream(config, outlet)
}

class HttpUpstream implements Upstream {
  readonly #config: HttpConfig
  readonly #outlet: Outlet
  readonly #exchange: Exchange
  readonly #life: SessionLife
  readonly #asked = new AskedByServer()
  readonly #incoming: Incoming
  readonly #forwarder: Forwarder
  /** Requests under way, by id token. */
  readonly #flights = new Map<string, Flight>()
  #initializing: Flight | undefined
  /** What later requests and notifications wait for; undefined when the way is free. */
  #barrier: Promise<void> | undefined
  /** When a notification last had its time in vain (uptime, ms): what was written before has waited enough. */
  #waivedAt = Number.NEGATIVE_INFINITY
  /** The client's own, in the handshake at hand. */
  #initialized: Notification | undefined
  #push: Push | undefined
  #closed: Promise<void> | undefined
  readonly #ended = new Abort()

  constructor(config: HttpConfig, outlet: Outlet) {
    this.#config = config
    this.#outlet = outlet
    this.#exchange = new Exchange(config)
    this.#life = new SessionLife(config, this.#exchange, outlet)
    this.#incoming = new Incoming(this.#life, this.#asked, outlet)
    const answers = new Answers(config, this.#exchange, this.#life, this.#incoming)
    this.#forwarder = new Forwarder(config, this.#exchange, this.#life, answers)
    this.#life.onLost = (generation, reason) => this.#sessionLost(generation, reason)
  }

  send(message: Message): Promise<void> {
    if (this.#closed !== undefined) return Promise.reject(errors.closing())
    switch (message.kind) {
      case 'response':
        return this.#reply(message)
      case 'notification':
        if (message.method === METHOD.cancelled) return this.#cancel(message)
        return this.#notify(message)
      case 'request':
        return message.method === METHOD.initialize ? this.#initialize(message) : this.#request(message)
    }
  }

  close(deadlineMs: number): Promise<void> {
    this.#closed ??= this.#close(deadlineMs)
    return this.#closed
  }

  async #close(deadlineMs: number): Promise<void> {
    this.#push?.stop()
    await this.#life.close(deadlineMs)
    // Thousands in turns: each costs a socket, and whoever waits for us has a limit of its own.
    const open = [...this.#flights.values()]
    for (let i = 0; i < open.length; i += CLOSED_AT_ONCE) {
      abortAll(open.slice(i, i + CLOSED_AT_ONCE), errors.closing)
      await turn()
    }
    this.#ended.abort(errors.closing())
    this.#exchange.destroy()
  }

  async #initialize(request: Request): Promise<void> {
    const before = this.#barrier
    const open = [...this.#flights.values()]
    if (this.#initializing !== undefined) abortAll([this.#initializing], errors.superseded)
    const flight = this.#takeOff(request.id)
    this.#initializing = flight
    // Everything behind it waits.
    const task = (async () => {
      try {
        await Promise.race([before, aborted(flight)])
        if (flight.aborted) throw flight.reason
        if (this.#life.current.state !== 'new') abortAll(open, errors.superseded)
        this.#push?.stop()
        this.#push = undefined
        this.#initialized = undefined
        const response = await this.#life.initialize(request, flight)
        await this.#outlet.deliver(response, 'answer')
      } catch (error) {
        if (flight.reason !== WITHDRAWN) throw error
      } finally {
        if (this.#initializing === flight) this.#initializing = undefined
        this.#land(request.id, flight)
      }
    })()
    this.#raise(Promise.all([before, task.catch(() => undefined)]).then(() => undefined))
    await task
  }

  async #request(request: Request): Promise<void> {
    const flight = this.#takeOff(request.id)
    try {
      if (this.#barrier !== undefined) await this.#pass(flight)
      await this.#forwarder.request(request, flight)
    } catch (error) {
      if (flight.reason !== WITHDRAWN) throw error
    } finally {
      this.#land(request.id, flight)
    }
  }

  /** In order among notifications; what comes later waits until the server has begun to answer. */
  async #notify(notification: Notification): Promise<void> {
    const initialized = notification.method === METHOD.initialized
    if (this.#life.current.state === 'new' && this.#barrier === undefined) {
      throw new BridgeError('SERVER_CONFUSED', 'the client has not initialized')
    }
    const { clock, barrierMs } = this.#config
    const writtenAt = clock.uptime()
    const before = this.#barrier
    let open: () => void = () => undefined
    const answered = new Promise<void>((resolve) => {
      open = resolve
    })
    const task = (async () => {
      await before
      if (initialized) {
        this.#life.initialized(notification.raw)
        this.#initialized = notification
      }
      let timer: NodeJS.Timeout | undefined
      const pass = (): void => {
        clearTimeout(timer)
        // Before what waits at the barrier: what the server says to that must find the push stream open.
        this.#startPush(notification)
        open()
      }
      const waive = (): void => {
        this.#waivedAt = clock.uptime()
        pass()
      }
      if (writtenAt < this.#waivedAt && !initialized) pass()
      else timer = setTimeout(waive, barrierMs).unref()
      try {
        await this.#limited((flight) => this.#forwarder.notification(notification, flight, pass))
      } finally {
        clearTimeout(timer)
      }
    })()
    this.#raise(Promise.race([answered, task.catch(() => undefined)]))
    try {
      await task
    } finally {
      this.#startPush(notification)
    }
  }

  async #cancel(notification: Notification): Promise<void> {
    const flight = this.#flights.get(cancelledId(notification) ?? '')
    if (flight !== undefined && !flight.sent) {
      flight.abort(WITHDRAWN)
      return
    }
    if (flight !== undefined) {
      flight.cancelled = true
      void sleep(this.#config.cancelGraceMs, flight).then(() => flight.abort(WITHDRAWN))
    }
    if (this.#life.live === undefined) return
    await this.#limited((passing) => this.#forwarder.notification(notification, passing, () => undefined))
  }

  async #reply(response: Response): Promise<void> {
    const reply = this.#asked.reply(response)
    const live = this.#life.live
    if (reply === undefined) {
      throw new BridgeError('SERVER_CONFUSED', 'no request of the server with that id is open')
    }
    if (reply === 'abandoned' || live === undefined || live.generation !== reply.generation) {
      throw new BridgeError('SESSION_LOST', 'the server took the request back, or its session is gone')
    }
    await this.#limited((flight) => this.#forwarder.reply(reply.response, live, flight))
  }

  /** What is no request has no one to wait for it: it fails after a while. */
  async #limited(task: (flight: Flight) => Promise<void>): Promise<void> {
    const flight = new Flight()
    const { privateLimitMs } = this.#config
    const callOff = later(privateLimitMs, () =>
      flight.abort(errors.unreachable(this.#exchange.where, 'no answer', privateLimitMs)),
    )
    const end = (): void => flight.abort(errors.closing())
    this.#ended.addEventListener('abort', end)
    try {
      await task(flight)
    } finally {
      callOff()
      this.#ended.removeEventListener('abort', end)
    }
  }

  /** Once the client's `initialized` is with the server, or has had its time. */
  #startPush(said: Notification): void {
    if (this.#initialized !== said || this.#push !== undefined) return
    if (this.#closed !== undefined || !this.#life.clientsOwn) return
    this.#push = new Push(this.#config, this.#exchange, this.#life, this.#incoming, this.#outlet)
    void this.#push.keep()
  }

  #sessionLost(generation: number, reason: string): void {
    this.#push?.lost(generation, reason)
    for (const notice of this.#asked.abandon(generation)) void this.#outlet.deliver(notice, 'answer')
  }

  // Order

  #raise(barrier: Promise<void>): void {
    this.#barrier = barrier
    void barrier.then(() => {
      if (this.#barrier === barrier) this.#barrier = undefined
    })
  }

  /** Waits for the way to be free, as it stands now. */
  async #pass(signal: Signal): Promise<void> {
    await Promise.race([this.#barrier, aborted(signal)])
    if (signal.aborted) throw signal.reason
  }

  #takeOff(id: string): Flight {
    const flight = new Flight()
    this.#flights.set(id, flight)
    return flight
  }

  #land(id: string, flight: Flight): void {
    if (this.#flights.get(id) === flight) this.#flights.delete(id)
  }
}

function abortAll(flights: Iterable<Flight>, why: (sent: boolean) => BridgeError): void {
  for (const flight of flights) flight.abort(why(flight.sent))
}

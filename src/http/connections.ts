/**
 * The sockets to one origin, one call each.
 *
 * Not a pool with a limit: a call that waits for an hour must not hold up another.
 * The one rule: the last used connection serves first, so surplus ones idle and close by themselves. One that has
 * idled for longer than KEEP_ALIVE_MS is not used again: balancers forget it without a word, and so does a sleep.
 */
import type { Dispatcher } from 'undici'
import buildConnector from 'undici/lib/core/connect.js'
import Client from 'undici/lib/dispatcher/client.js'
import { CONNECT_TIMEOUT_MS, type HttpConfig, KEEP_ALIVE_MS, LONG_WAY_MS, type Tls } from './config.ts'

/** Idle connections kept for reuse; more are closed. */
const MAX_IDLE = 64
/** A connection is given this long, however little the patience. */
const LEAST_MS = 1_000

interface Idle {
  readonly connection: Dispatcher
  /** By both clocks: timers, and on some systems the uptime, stand still while the machine sleeps. */
  readonly sinceWall: number
  readonly sinceUptime: number
}

export class Connections {
  #config: HttpConfig
  readonly #origin: string
  /** How long one address of a name may take, where that is not Node's own. */
  #addressMs: number | undefined
  #open: () => Dispatcher
  readonly #all = new Set<Dispatcher>()
  /** The last used at the end. */
  readonly #idle: Idle[] = []

  constructor(config: HttpConfig, origin: string) {
    this.#config = config
    this.#origin = origin
    this.#open = this.#opener()
  }

  /** Told why a connection could not be made. True when the next is made otherwise, so that one more try makes sense. */
  failed(cause: unknown): boolean {
    if (this.#config.proxy !== undefined || this.#addressMs !== undefined || !wasHasty(cause)) return false
    this.#addressMs = LONG_WAY_MS
    this.#open = this.#opener()
    return true
  }

  /** Whom the next ones trust. True, as of `failed`. */
  trust(tls: Tls): boolean {
    this.#config = { ...this.#config, tls }
    this.#open = this.#opener()
    return true
  }

  /** A connection for one call. To be given back when the call is over. */
  take(): Dispatcher {
    const last = this.#idle.pop()
    if (last !== undefined && this.#isFresh(last)) return last.connection
    // Those below it are older still.
    if (last !== undefined) this.#close(last.connection)
    for (const { connection } of this.#idle.splice(0)) this.#close(connection)
    const opened = this.#open()
    this.#all.add(opened)
    return opened
  }

  /** `usable`: its call came to a good end. One that did not is left (undici would open it anew, for nobody). */
  giveBack(connection: Dispatcher, usable: boolean): void {
    if (usable && this.#idle.length < MAX_IDLE) {
      const { clock } = this.#config
      this.#idle.push({ connection, sinceWall: clock.now(), sinceUptime: clock.uptime() })
      return
    }
    if (usable) return this.#close(connection)
    this.#all.delete(connection)
    void connection.destroy().catch(() => undefined)
  }

  destroy(): void {
    for (const dispatcher of this.#all) void dispatcher.destroy().catch(() => undefined)
    this.#idle.length = 0
  }

  #isFresh({ sinceWall, sinceUptime }: Idle): boolean {
    const { clock } = this.#config
    return clock.now() - sinceWall <= KEEP_ALIVE_MS && clock.uptime() - sinceUptime <= KEEP_ALIVE_MS
  }

  #close(connection: Dispatcher): void {
    this.#all.delete(connection)
    void connection.close().catch(() => undefined)
  }

  #opener(): () => Dispatcher {
    const { tls, proxy, patienceMs } = this.#config
    const stepMs = Math.min(CONNECT_TIMEOUT_MS, Math.max(patienceMs, LEAST_MS))
    if (proxy !== undefined) return () => proxy.open(stepMs)
    // One connector for all clients, so that they share its TLS session tickets.
    const connect = buildConnector({
      ...tls,
      ...(this.#addressMs === undefined ? {} : { autoSelectFamilyAttemptTimeout: this.#addressMs }),
      timeout: stepMs,
      keepAlive: true,
      keepAliveInitialDelay: 15_000,
      allowH2: false,
    })
    // Limits on silence are ours to set (a quiet stream, a long tool call): undici's are off.
    const limits = { headersTimeout: 0, bodyTimeout: 0 }
    const idle = { keepAliveTimeout: KEEP_ALIVE_MS, keepAliveMaxTimeout: KEEP_ALIVE_MS }
    return () => new Client(this.#origin, { connect, pipelining: 1, ...limits, ...idle })
  }
}

/** An address was given up before it had its time, and no other was left. */
function wasHasty(cause: unknown): boolean {
  if (!(cause instanceof AggregateError)) return false
  return cause.errors.some((each: NodeJS.ErrnoException) => each.code === 'ETIMEDOUT')
}

/**
 * The sockets to one origin, one call each.
 *
 * Not a pool with a limit: a call that waits for an hour must not hold up another.
 * The one rule: the last used connection serves first, so surplus ones idle and close by themselves.
 */
import type { Dispatcher } from 'undici'
import buildConnector from 'undici/lib/core/connect.js'
import Client from 'undici/lib/dispatcher/client.js'
import type { HttpConfig } from './config.ts'

/** Idle connections kept for reuse; more are closed. They close by themselves after 4 s (undici's default). */
const MAX_IDLE = 64

export class Connections {
  readonly #open: () => Dispatcher
  readonly #shared: Dispatcher | undefined
  readonly #all = new Set<Dispatcher>()
  readonly #idle: Dispatcher[] = []

  constructor(config: HttpConfig, origin: string) {
    this.#shared = config.proxy?.dispatcher
    // One connector for all clients, so that they share its TLS session tickets.
    const connect = buildConnector({
      ...config.tls,
      timeout: config.connectTimeoutMs,
      keepAlive: true,
      keepAliveInitialDelay: 15_000,
      allowH2: false,
    })
    // Limits on silence are ours to set (a quiet stream, a long tool call): undici's are off.
    this.#open = () => new Client(origin, { connect, pipelining: 1, headersTimeout: 0, bodyTimeout: 0 })
  }

  /** A connection for one call. To be given back when the call is over. */
  take(): Dispatcher {
    if (this.#shared !== undefined) return this.#shared
    const idle = this.#idle.pop()
    if (idle !== undefined) return idle
    const opened = this.#open()
    this.#all.add(opened)
    return opened
  }

  /** `usable`: its call came to a good end. One that did not is left (undici would open it anew, for nobody). */
  giveBack(connection: Dispatcher, usable: boolean): void {
    if (connection === this.#shared) return
    if (usable && this.#idle.length < MAX_IDLE) {
      this.#idle.push(connection)
      return
    }
    this.#all.delete(connection)
    void (usable ? connection.close() : connection.destroy()).catch(() => undefined)
  }

  destroy(): void {
    for (const dispatcher of this.#all) void dispatcher.destroy().catch(() => undefined)
    void this.#shared?.destroy().catch(() => undefined)
    this.#idle.length = 0
  }
}

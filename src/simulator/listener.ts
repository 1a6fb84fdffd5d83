/**
 * The listening port and the sockets on it: cut those of agents, close for a while, end.
 *
 * Not HTTP. The one rule: the console's connections outlive every fault.
 */
import type { Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

/** An address that means "everywhere" is no address to visit. */
const LOOPBACK_OF: ReadonlyMap<string, string> = new Map([
  ['0.0.0.0', '127.0.0.1'],
  ['::', '::1'],
])

export class Listener {
  readonly #server: Server
  readonly #host: string
  readonly #sockets = new Set<Socket>()
  /** Sockets on which an agent has spoken. */
  readonly #mcp = new Set<Socket>()
  #pause: NodeJS.Timeout | undefined
  readonly port: number
  readonly origin: string

  private constructor(server: Server, host: string) {
    this.#server = server
    this.#host = host
    this.port = (server.address() as AddressInfo).port
    this.origin = `http://${visitable(host)}:${this.port}`
    server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => {
        this.#sockets.delete(socket)
        this.#mcp.delete(socket)
      })
    })
  }

  static async open(server: Server, host: string, port: number): Promise<Listener> {
    // A push stream is quiet for as long as nothing happens.
    server.requestTimeout = 0
    await listen(server, host, port)
    return new Listener(server, host)
  }

  markMcp(socket: Socket): void {
    if (this.#sockets.has(socket)) this.#mcp.add(socket)
  }

  cutMcp(): void {
    for (const socket of this.#mcp) socket.destroy()
  }

  /** Nothing listens for `ms`; connections that are open stay. */
  pause(ms: number): void {
    if (this.#pause === undefined) this.#server.close()
    clearTimeout(this.#pause)
    this.#pause = setTimeout(() => this.#listenAgain(), ms)
  }

  /** The end of a pause, before its time. */
  resume(): void {
    if (this.#pause === undefined) return
    clearTimeout(this.#pause)
    this.#listenAgain()
  }

  async close(): Promise<void> {
    const paused = this.#pause !== undefined
    clearTimeout(this.#pause)
    this.#pause = undefined
    const ended = new Promise<void>((resolve) => (paused ? resolve() : this.#server.close(() => resolve())))
    for (const socket of this.#sockets) socket.destroy()
    await ended
  }

  #listenAgain(): void {
    this.#pause = undefined
    // Somebody may have taken the port meanwhile: it is ours again when they leave.
    listen(this.#server, this.#host, this.port).catch(() => {
      this.#pause = setTimeout(() => this.#listenAgain(), 200)
    })
  }
}

/** The host of a URL under which a server that listens on `host` is found. */
export function visitable(host: string): string {
  const address = LOOPBACK_OF.get(host) ?? host
  return address.includes(':') ? `[${address}]` : address
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

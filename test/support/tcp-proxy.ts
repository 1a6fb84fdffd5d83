/**
 * A TCP proxy that misbehaves on demand: cuts, delays, trickles, swallows, refuses.
 *
 * Not aware of HTTP: it sees bytes. The one rule: it never changes a byte, it only withholds or delays them.
 */
import { createServer, connect as dial, type Server, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { pause } from './eventually.ts'

interface Pair {
  readonly near: Socket
  readonly far: Socket
}

export class TcpProxy {
  readonly #targetPort: number
  readonly #pairs = new Set<Pair>()
  readonly #abandoned = new Set<Socket>()
  #server: Server | undefined
  #port = 0
  #frozen = false
  /** Added before every chunk, either way. */
  delayMs = 0
  /** Largest piece written at once; 0 leaves chunks as they are. */
  trickleBytes = 0
  /** New connections are accepted, and nothing ever comes back. */
  swallow = false
  /** Connections accepted so far. */
  accepted = 0

  private constructor(targetPort: number) {
    this.#targetPort = targetPort
  }

  static async start(targetPort: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(targetPort)
    await proxy.listen()
    onTestFinished(() => proxy.close())
    return proxy
  }

  get port(): number {
    return this.#port
  }

  get connections(): number {
    return this.#pairs.size
  }

  async listen(): Promise<void> {
    if (this.#server !== undefined) return
    const server = createServer((near) => this.#accept(near))
    this.#server = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.#port, '127.0.0.1', resolve)
    })
    const address = server.address()
    if (address !== null && typeof address === 'object') this.#port = address.port
  }

  /** Refuses new connections from now on; the open ones stay. */
  async refuse(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server !== undefined) server.close()
    await pause(0)
  }

  /** Resets every open connection. */
  cut(): void {
    for (const pair of this.#pairs) {
      pair.near.resetAndDestroy()
      pair.far.destroy()
    }
    this.#pairs.clear()
  }

  /** Half-open: no byte moves on the open connections any more, and neither side is told. */
  freeze(): void {
    this.#frozen = true
    for (const { near, far } of this.#pairs) {
      near.pause()
      far.pause()
    }
  }

  /** Moves the bytes again. */
  thaw(): void {
    this.#frozen = false
    for (const pair of this.#pairs) {
      const { near, far } = pair
      if (near.destroyed || far.destroyed) this.#end(pair)
      near.resume()
      far.resume()
    }
  }

  /** Half-open: the connections open now are dead for ever, without a word; new ones work. */
  abandon(): void {
    for (const pair of this.#pairs) {
      for (const socket of [pair.near, pair.far]) {
        socket.removeAllListeners('data')
        socket.removeAllListeners('end')
        socket.removeAllListeners('close')
        socket.pause()
        this.#abandoned.add(socket)
      }
    }
    this.#pairs.clear()
  }

  async close(): Promise<void> {
    for (const socket of this.#abandoned) socket.destroy()
    this.cut()
    await this.refuse()
  }

  #accept(near: Socket): void {
    this.accepted++
    near.setNoDelay(true)
    near.on('error', ignore)
    if (this.swallow) {
      near.resume()
      const pair = { near, far: near }
      this.#pairs.add(pair)
      near.on('close', () => this.#pairs.delete(pair))
      return
    }
    const far = dial(this.#targetPort, '127.0.0.1')
    far.setNoDelay(true)
    far.on('error', ignore)
    const pair = { near, far }
    this.#pairs.add(pair)
    this.#pump(near, far)
    this.#pump(far, near)
    for (const socket of [near, far]) {
      socket.on('close', () => {
        // Who is frozen does not hear of it before the thaw.
        if (!this.#frozen) this.#end(pair)
      })
    }
    if (this.#frozen) {
      near.pause()
      far.pause()
    }
  }

  #end(pair: Pair): void {
    this.#pairs.delete(pair)
    pair.near.destroy()
    pair.far.destroy()
  }

  #pump(from: Socket, to: Socket): void {
    let turn = Promise.resolve()
    from.on('data', (chunk: Buffer) => {
      from.pause()
      turn = turn.then(async () => {
        await this.#forward(chunk, to)
        if (!this.#frozen) from.resume()
      })
    })
    from.on('end', () => {
      turn = turn.then(() => {
        to.end()
      })
    })
  }

  async #forward(chunk: Buffer, to: Socket): Promise<void> {
    const size = this.trickleBytes > 0 ? this.trickleBytes : chunk.length
    for (let at = 0; at < chunk.length; at += size) {
      if (this.delayMs > 0) await pause(this.delayMs)
      else if (this.trickleBytes > 0) await pause(0)
      if (to.destroyed) return
      if (!to.write(chunk.subarray(at, at + size))) await drained(to)
    }
  }
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done)
      socket.off('close', done)
      resolve()
    }
    socket.once('drain', done)
    socket.once('close', done)
  })
}

function ignore(): void {}

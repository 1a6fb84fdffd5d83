/**
 * A moot with habits of its own: stands before a simulator, answers some calls itself, hands on all others and
 * every socket. Not a mock: both are real servers.
 */
import { createServer, type IncomingHttpHeaders, request } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import type { Simulator } from './feed-client.ts'

interface Own {
  /** 200 when left out. */
  readonly status?: number
  /** JSON, or a text as it is. */
  readonly body: unknown
}

/** The connection breaks instead of an answer. */
export const CUT: Own = { status: 0, body: '' }

/** A byte now and then, and never an end. */
export const DRIP: Own = { status: 0, body: ' ' }

/** What it answers by itself, now or later; undefined leaves the call to the simulator. */
export type Habit = (method: string, url: URL, headers: IncomingHttpHeaders) => Own | Promise<Own> | undefined

/** Starts it; the URL of it. `clings`: a socket that the simulator has ended stays open to the client. */
export async function front(moot: Simulator, habit: Habit, clings = false): Promise<string> {
  const behind = new URL(moot.url)
  const { hostname, port } = behind
  const server = createServer((incoming, response) => {
    const { method = 'GET', url = '/', headers } = incoming
    const own = habit(method, new URL(url, behind), headers)
    if (own !== undefined) {
      incoming.resume()
      void Promise.resolve(own).then((answer) => {
        if (answer === CUT) {
          incoming.socket.destroy()
          return
        }
        const { status, body } = answer
        if (answer === DRIP) {
          const drops = setInterval(() => response.write(' '), 20)
          response.on('close', () => clearInterval(drops))
          return
        }
        response.writeHead(status ?? 200, { 'content-type': 'application/json' })
        response.end(typeof body === 'string' ? body : JSON.stringify(body))
      })
      return
    }
    const onward = request({ hostname, port, method, path: url, headers }, (reply) => {
      response.writeHead(reply.statusCode ?? 502, reply.headers)
      reply.pipe(response)
    })
    onward.on('error', () => response.destroy())
    incoming.pipe(onward)
  })
  const open = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
  })
  server.on('upgrade', (incoming, near, head) => {
    const far = connect(Number(port), hostname, () => {
      const { rawHeaders: raw } = incoming
      const lines = raw.flatMap((name, i) => (i % 2 === 0 ? [`${name}: ${raw[i + 1] ?? ''}`] : []))
      far.write(`GET ${incoming.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`)
      far.write(head)
      near.pipe(far).pipe(near, { end: !clings })
    })
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => other.destroy())
      if (!clings || one === near) one.on('close', () => other.destroy())
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    for (const socket of open) socket.destroy()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

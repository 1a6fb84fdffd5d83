/**
 * A proxy as companies have them: makes tunnels, forwards plain http, may want a login, may speak TLS itself.
 *
 * Every name leads to this machine: whoever asks for `moot.invalid` came this way. What befalls its connections is
 * the business of a TcpProxy before it.
 */
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { connect, type Socket } from 'node:net'
import { cert, key, listen, tie } from './tls.ts'

interface HttpProxyOptions {
  /** `user:password`; without it 407. */
  readonly login?: string
  readonly tls?: boolean
}

export interface HttpProxy {
  readonly port: number
  readonly url: string
  /** The hosts that tunnels were made to. */
  readonly asked: string[]
  /** The addresses that calls were forwarded to. */
  readonly forwarded: string[]
  /** Set to refuse everything with this status; 0 hangs up without a word. */
  status: number | undefined
}

export async function httpProxy({ login, tls = false }: HttpProxyOptions = {}): Promise<HttpProxy> {
  const expected = login === undefined ? undefined : `Basic ${Buffer.from(login).toString('base64')}`
  const refusal = ({ headers }: IncomingMessage): number | undefined =>
    proxy.status ?? (expected === undefined || headers['proxy-authorization'] === expected ? undefined : 407)
  const forward = (near: IncomingMessage, answer: ServerResponse): void => {
    const refused = refusal(near)
    if (refused !== undefined) {
      near.resume()
      if (refused === 0) near.destroy()
      else answer.writeHead(refused, { 'content-type': 'text/html' }).end('<p>Ask the help desk.</p>')
      return
    }
    proxy.forwarded.push(near.url ?? '')
    const { port, pathname, search } = new URL(near.url ?? '')
    const { method, headers } = near
    const far = request(
      { host: '127.0.0.1', port, method, path: `${pathname}${search}`, headers },
      (reply) => {
        answer.writeHead(reply.statusCode ?? 502, reply.headers)
        reply.pipe(answer)
      },
    )
    far.on('error', () => answer.destroy())
    near.pipe(far)
  }
  const server = tls
    ? createHttps({ key: readFileSync(key), cert: readFileSync(cert) }, forward)
    : createServer(forward)
  server.on('connect', (near: IncomingMessage, socket: Socket) => {
    const refused = refusal(near)
    if (refused !== undefined) {
      socket.on('error', () => undefined)
      if (refused === 0) socket.end()
      else socket.end(`HTTP/1.1 ${refused} No\r\nContent-Length: 0\r\n\r\n`)
      return
    }
    proxy.asked.push(near.url ?? '')
    const far = connect({ host: '127.0.0.1', port: Number(near.url?.split(':')[1]), noDelay: true })
    far.once('connect', () => socket.write('HTTP/1.1 200 Connection established\r\n\r\n'))
    tie(socket, far)
  })
  const port = await listen(server)
  const url = `${tls ? 'https' : 'http'}://localhost:${port}`
  const proxy: HttpProxy = { port, url, asked: [], forwarded: [], status: undefined }
  return proxy
}

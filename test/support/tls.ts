/**
 * https in front of a server that speaks http, with the certificates of the tests.
 *
 * Not a server of its own: it ties sockets together and never looks at what they carry.
 */
import { readFileSync } from 'node:fs'
import { type AddressInfo, connect, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import { onTestFinished } from 'vitest'
import { root } from './bridge-process.ts'
import type { ScriptedServer } from './scripted-server.ts'

export const certs = join(root, 'test', 'feed', 'certs')
export const ca = join(certs, 'ca.pem')
export const key = join(certs, 'server.key')
export const cert = join(certs, 'server.pem')

interface TlsOptions {
  /** As the URL names it; the certificate is for `localhost` and 127.0.0.1. */
  readonly host?: string
  /** Lets in only who shows a certificate. */
  readonly wantsCertificate?: boolean
}

/** The URL of `server` by https; `peers` are the names that clients showed a certificate for. */
export async function withTls(
  server: ScriptedServer,
  { host = 'localhost', wantsCertificate = false }: TlsOptions = {},
): Promise<{ readonly url: string; readonly peers: readonly string[] }> {
  const peers: string[] = []
  const tls = createServer(
    {
      key: readFileSync(key),
      cert: readFileSync(cert),
      ca: readFileSync(ca),
      requestCert: wantsCertificate,
      rejectUnauthorized: wantsCertificate,
    },
    (socket) => {
      if (wantsCertificate) peers.push(String(socket.getPeerCertificate().subject?.CN))
      tie(socket, connect(server.port, '127.0.0.1'))
    },
  )
  tls.on('tlsClientError', () => undefined)
  const port = await listen(tls, host === 'localhost' ? '127.0.0.1' : host)
  return { url: `https://${host}:${port}${server.path}`, peers }
}

/** Its port; it and its connections are closed when the test ends. */
export async function listen(server: Server, address = '127.0.0.1'): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, address, resolve))
  onTestFinished(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return (server.address() as AddressInfo).port
}

/** Ties two sockets together until one of them ends. */
export function tie(near: Socket, far: Socket): void {
  near.on('error', () => far.destroy())
  far.on('error', () => near.destroy())
  near.on('close', () => far.destroy())
  far.on('close', () => near.destroy())
  near.pipe(far)
  far.pipe(near)
}

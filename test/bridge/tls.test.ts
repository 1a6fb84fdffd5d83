/** Whom the bridge trusts, and who it says it is. */
import { readFileSync } from 'node:fs'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { createServer, type TLSSocket } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { BridgeProcess, root } from '../support/bridge-process.ts'
import { initializeParams } from '../support/messages.ts'
import { ScriptedServer } from '../support/scripted-server.ts'

const certs = join(root, 'test', 'feed', 'certs')
const [ca, key, cert] = ['ca.pem', 'server.key', 'server.pem'].map((name) => join(certs, name)) as [
  string,
  string,
  string,
]

/** https in front of a server; `peers` are the names that clients showed a certificate for. */
async function withTls(
  server: ScriptedServer,
  wantsCertificate: boolean,
  host = 'localhost',
): Promise<{ url: string; peers: string[] }> {
  const peers: string[] = []
  const sockets = new Set<Socket>()
  const tls = createServer(
    {
      key: readFileSync(key),
      cert: readFileSync(cert),
      ca: readFileSync(ca),
      requestCert: wantsCertificate,
      rejectUnauthorized: wantsCertificate,
    },
    (socket: TLSSocket) => {
      sockets.add(socket)
      if (wantsCertificate) peers.push(String(socket.getPeerCertificate().subject?.CN))
      const far = connect(server.port, '127.0.0.1')
      socket.pipe(far).pipe(socket)
      far.on('error', () => socket.destroy())
      socket.on('error', () => far.destroy())
    },
  )
  tls.on('tlsClientError', () => undefined)
  await new Promise<void>((resolve) => tls.listen(0, host.replace('localhost', '127.0.0.1'), resolve))
  onTestFinished(() => {
    tls.close()
    for (const socket of sockets) socket.destroy()
  })
  return { url: `https://${host}:${(tls.address() as AddressInfo).port}${server.path}`, peers }
}

test('a server that wants a client certificate gets the one of --cert and --key', async () => {
  const server = await ScriptedServer.start()
  const { url, peers } = await withTls(server, true)
  const bridge = await BridgeProcess.connected(url, { args: ['--ca', ca, '--cert', cert, '--key', key] })
  expect((await bridge.call('ping')).result).toBeDefined()
  expect(peers.length).toBeGreaterThan(0)
  expect(new Set(peers)).toEqual(new Set(['localhost']))
})

test('without one the error names the host, and the process lives on', async () => {
  const server = await ScriptedServer.start()
  const { url } = await withTls(server, true)
  const bridge = BridgeProcess.start(url, { args: ['--ca', ca, '--patience', '500ms'] })
  const reply = await bridge.call('initialize', initializeParams)
  expect(reply.error?.message).toContain('https://localhost:')
  expect(reply.error?.data?.code).toBe('SERVER_UNREACHABLE')
  expect(bridge.exit).toBeUndefined()
})

test('a certificate that nobody vouches for is named at once, with what makes it trusted', async () => {
  const server = await ScriptedServer.start()
  const { url } = await withTls(server, false)
  const bridge = BridgeProcess.start(url, { env: { SSL_CERT_FILE: '', NODE_EXTRA_CA_CERTS: '' } })
  const { error } = await bridge.call('initialize', initializeParams)
  expect(error?.data?.code).toBe('CERTIFICATE_REFUSED')
  expect(error?.message).toMatch(
    /^the certificate of https:.* is refused: .*SELF_SIGNED_CERT_IN_CHAIN.*Try: .*--ca/,
  )
})

test('so is one of another host', async () => {
  const server = await ScriptedServer.start()
  const { url } = await withTls(server, false, '127.0.0.2')
  const bridge = BridgeProcess.start(url, { args: ['--ca', ca] })
  const { error } = await bridge.call('initialize', initializeParams)
  expect(error?.data?.code).toBe('CERTIFICATE_REFUSED')
  expect(error?.message).toMatch(/ERR_TLS_CERT_ALTNAME_INVALID.*Try: check the address/)
})

test.each([
  ['SSL_CERT_FILE', { SSL_CERT_FILE: ca }],
  ['NODE_EXTRA_CA_CERTS', { NODE_EXTRA_CA_CERTS: ca }],
])('%s makes a private authority trusted', async (_name, env) => {
  const server = await ScriptedServer.start()
  const { url } = await withTls(server, false)
  const bridge = await BridgeProcess.connected(url, { env })
  expect((await bridge.call('ping')).result).toBeDefined()
})

test('--cert without --key, and files that cannot be used, are said before anything is sent', async () => {
  const wrong: [string[], RegExp][] = [
    [['--cert', cert], /belong together/],
    [['--ca', join(certs, 'no-such-file.pem')], /no-such-file\.pem cannot be read/],
    [['--ca', join(certs, 'README.md')], /is not PEM/],
  ]
  for (const [args, text] of wrong) {
    const bridge = BridgeProcess.start('https://localhost:9/mcp', { args })
    expect((await bridge.gone()).code).toBe(2)
    expect(bridge.stderr).toMatch(text)
    expect(bridge.stderr).toContain('try: ')
  }
})

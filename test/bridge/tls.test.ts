/** Whom the bridge trusts, and who it says it is. */
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import tls from 'node:tls'
import { describe, expect, test } from 'vitest'
import { simulator } from '../feed/feed-client.ts'
import { BridgeProcess } from '../support/bridge-process.ts'
import { emptyFolder } from '../support/empty-folder.ts'
import { eventually } from '../support/eventually.ts'
import { initializeParams } from '../support/messages.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { ca, cert, certs, key, withTls } from '../support/tls.ts'

test('a server that wants a client certificate gets the one of --cert and --key', async () => {
  const server = await ScriptedServer.start()
  const { url, peers } = await withTls(server, { wantsCertificate: true })
  const bridge = await BridgeProcess.connected(url, { args: ['--ca', ca, '--cert', cert, '--key', key] })
  expect((await bridge.call('ping')).result).toBeDefined()
  expect(peers.length).toBeGreaterThan(0)
  expect(new Set(peers)).toEqual(new Set(['localhost']))
})

test.each([
  ['without --ca', []],
  ['beside a --ca that vouches for another', ['--ca', cert]],
])('so it does %s, where NODE_EXTRA_CA_CERTS vouches for the server', async (_, more) => {
  const server = await ScriptedServer.start()
  const { url, peers } = await withTls(server, { wantsCertificate: true })
  const bridge = await BridgeProcess.connected(url, {
    args: ['--cert', cert, '--key', key, ...more],
    env: { NODE_EXTRA_CA_CERTS: ca },
  })
  expect((await bridge.call('ping')).result).toBeDefined()
  expect(new Set(peers)).toEqual(new Set(['localhost']))
})

test('without one the error names the host, and the process lives on', async () => {
  const server = await ScriptedServer.start()
  const { url } = await withTls(server, { wantsCertificate: true })
  const bridge = BridgeProcess.start(url, { args: ['--ca', ca, '--patience', '500ms'] })
  const reply = await bridge.call('initialize', initializeParams)
  expect(reply.error?.message).toMatch(/^localhost:\d+\/mcp could not/)
  expect(reply.error?.data?.code).toBe('SERVER_UNREACHABLE')
  expect(bridge.exit).toBeUndefined()
})

test('a certificate that nobody vouches for is named at once, with what makes it trusted', async () => {
  const server = await ScriptedServer.start()
  const { url } = await withTls(server)
  const bridge = BridgeProcess.start(url, { env: { SSL_CERT_FILE: '', NODE_EXTRA_CA_CERTS: '' } })
  const { error } = await bridge.call('initialize', initializeParams)
  expect(error?.data?.code).toBe('CERTIFICATE_REFUSED')
  expect(error?.message).toMatch(
    /^the certificate of localhost:.* is refused: .*SELF_SIGNED_CERT_IN_CHAIN.*Try: .*--ca/,
  )
})

/** OpenSSL's folder of them, which Node reads as the operating system's where that has no store of its own. */
describe.runIf(process.platform === 'linux' && 'setDefaultCACertificates' in tls)(
  'a certificate that only the operating system vouches for is good',
  () => {
    function systemWith(certificate: string) {
      const folder = emptyFolder()
      copyFileSync(certificate, join(folder, 'company.pem'))
      return { SSL_CERT_FILE: '', SSL_CERT_DIR: folder, NODE_EXTRA_CA_CERTS: '' }
    }

    test('for a server', async () => {
      const server = await ScriptedServer.start()
      const { url } = await withTls(server)
      const bridge = await BridgeProcess.connected(url, { env: systemWith(ca) })
      expect((await bridge.call('ping')).result).toBeDefined()
    })

    test('for a moot', async () => {
      const moot = await simulator({
        tls: { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') },
      })
      const bridge = BridgeProcess.start(undefined, {
        args: ['moot', '--space', 'sprint-planning', '--hold', '10ms'],
        env: { ...systemWith(ca), CONVO_API_KEY: moot.key, CONVO_API_URL: moot.url },
      })
      await bridge.handshake()
      await eventually('the space is followed', () => moot.sockets.count('sprint-planning') > 0)
      moot.publish('sprint-planning', { text: '@MyAgent are you there?' })
      await bridge.waitFor('it is told', () => bridge.channel().length === 1)
    })

    test('for all that is asked of a moot at once', async () => {
      const moot = await simulator({
        tls: { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') },
      })
      const bridge = BridgeProcess.start(undefined, {
        args: ['moot', '--space', 'sprint-planning', '--auto-subscribe', '--log-level', 'info'],
        env: { ...systemWith(ca), CONVO_API_KEY: moot.key, CONVO_API_URL: moot.url },
      })
      await bridge.handshake()
      await eventually('the space is followed', () => moot.sockets.count('sprint-planning') > 0)
      await eventually('all are listed', () => moot.calls.some(({ path }) => path.includes('/me/spaces')))
      expect(bridge.stderr).not.toContain('not trusted')
    })
  },
)

test('so is one of another host', async () => {
  const server = await ScriptedServer.start()
  const { url } = await withTls(server, { host: '127.0.0.2' })
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
  const { url } = await withTls(server)
  const bridge = await BridgeProcess.connected(url, { env })
  expect((await bridge.call('ping')).result).toBeDefined()
})

test('SSL_CERT_FILE vouches for a server that Node does not trust, also beside a NODE_EXTRA_CA_CERTS that is gone', async () => {
  const server = await ScriptedServer.start()
  const { url } = await withTls(server)
  const bridge = BridgeProcess.start(url, { env: { SSL_CERT_FILE: ca, NODE_EXTRA_CA_CERTS: '/nope' } })
  expect((await bridge.call('initialize', initializeParams)).result).toBeDefined()
  const of = await BridgeProcess.connected(url, { env: { SSL_CERT_FILE: cert, NODE_EXTRA_CA_CERTS: ca } })
  expect((await of.call('ping')).result).toBeDefined()
})

test('where it does not, the certificate is refused each time, and named', async () => {
  const server = await ScriptedServer.start()
  const { url } = await withTls(server)
  const bridge = BridgeProcess.start(url, { env: { SSL_CERT_FILE: cert, NODE_EXTRA_CA_CERTS: '' } })
  for (let i = 0; i < 2; i++) {
    const { error } = await bridge.call('initialize', initializeParams)
    expect(error?.data?.code).toBe('CERTIFICATE_REFUSED')
    expect(error?.message).toMatch(/^the certificate of localhost:.* is refused: .*SELF_SIGNED_CERT_IN_CHAIN/)
  }
})

test('--cert without --key, and files that cannot be used, are said before anything is sent', async () => {
  const wrong: [string[], RegExp][] = [
    [['--cert', cert], /belong together/],
    [['--ca', join(certs, 'no-such-file.pem')], /no-such-file\.pem cannot be read/],
    [['--ca', join(certs, 'README.md')], /is not PEM/],
    [['--ca', key], /holds no certificate/],
    [['--cert', cert, '--key', cert], /holds no private key/],
  ]
  for (const [args, text] of wrong) {
    const bridge = BridgeProcess.start('https://localhost:9/mcp', { args })
    expect((await bridge.gone()).code).toBe(2)
    expect(bridge.stderr).toMatch(text)
    expect(bridge.stderr).toContain('try: ')
  }
})

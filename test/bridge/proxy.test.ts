/** Through the proxy of the environment, and past it: what is sent to this machine stays on it. */
import { createServer } from 'node:http'
import type { Socket } from 'node:net'
import { expect, test } from 'vitest'
import { proxyFor } from '../../src/proxy.ts'
import { BridgeProcess, bin } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { httpProxy } from '../support/http-proxy.ts'
import { initializeParams } from '../support/messages.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { patience } from '../support/settings.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'
import { ca, listen, withTls } from '../support/tls.ts'

test('https through HTTPS_PROXY: calls and pushes arrive, every connection is a tunnel', async () => {
  const server = await ScriptedServer.start()
  const { url } = await withTls(server)
  const proxy = await httpProxy()
  const bridge = await BridgeProcess.connected(url, {
    args: ['--ca', ca],
    env: { HTTPS_PROXY: proxy.url, CHAMADE_API_KEY: 'key_0123456789' },
  })
  expect((await bridge.call('tools/call')).error).toBeUndefined()
  await eventually('a push stream', () => server.listening())
  server.push('{"jsonrpc":"2.0","method":"notifications/x"}')
  await bridge.waitFor('the push', () => bridge.received('notifications/x').length === 1)
  bridge.eof()
  expect((await bridge.gone()).code).toBe(0)
  expect(server.live()).toEqual([])
  expect(new Set(proxy.asked)).toEqual(new Set([new URL(url).host]))
})

test('after a sleep neither a call nor the push stream takes a tunnel from before it', async () => {
  const server = await ScriptedServer.start()
  const proxy = await httpProxy()
  const asleep =
    'const now = Date.now; let ms = 0; Date.now = () => now() + ms; process.on("SIGUSR2", () => { ms += 3600e3 })'
  const bridge = await BridgeProcess.connected((await withTls(server)).url, {
    args: ['--ca', ca, '--log-level', 'info'],
    env: { HTTPS_PROXY: proxy.url },
    command: [process.execPath, '--import', `data:text/javascript,${asleep}`, bin],
  })
  await eventually('a push stream', () => server.listening())
  await bridge.call('tools/call')
  const before = proxy.asked.length
  bridge.signal('SIGUSR2')
  await bridge.waitFor('the end of the sleep', () => bridge.stderr.includes('the clock jumped'))
  await bridge.call('tools/call')
  expect(proxy.asked.length).toBe(before + 1)
  await bridge.waitFor('the push stream again', () => /up again/.test(bridge.stderr))
  expect(proxy.asked.length).toBeLessThanOrEqual(before + 2)
})

test('https without a proxy: the same server, and no tunnel', async () => {
  const server = await ScriptedServer.start()
  const proxy = await httpProxy()
  const bridge = await BridgeProcess.connected((await withTls(server)).url, {
    args: ['--ca', ca],
    env: { HTTPS_PROXY: proxy.url, NO_PROXY: 'localhost' },
  })
  expect((await bridge.call('tools/call')).error).toBeUndefined()
  expect(proxy.asked).toEqual([])
})

const MCP = 'https://mcp.example.com/mcp'
const SIX = 'https://[2001:db8::1]:8443/mcp'
test.each([
  [MCP, 'example.org, xample.com mcp.example.com:8443', true],
  [MCP, 'localhost,mcp.example.com', false],
  [MCP, 'localhost  MCP.Example.com:443', false],
  [MCP, 'example.com', false],
  [MCP, '.example.com', false],
  [MCP, '*.example.com', false],
  [MCP, '*', false],
  ['http://mcp.example.com/mcp', 'mcp.example.com:443', true],
  ['http://mcp.example.com/mcp', 'mcp.example.com:80', false],
  [SIX, '2001:db8::2,[2001:db8::1]:443', true],
  [SIX, '2001:db8::1', false],
  [SIX, '[2001:db8::1]', false],
  [SIX, '[2001:db8::1]:8443', false],
  ['wss://mootup.io/channel', 'mootup.io:80', true],
  ['wss://mootup.io/channel', 'mootup.io:443', false],
  ['ws://mootup.io/channel', 'mootup.io:80', false],
])('%s with NO_PROXY=%s: through the proxy? %s', (url, noProxy, isThrough) => {
  for (const name of ['NO_PROXY', 'no_proxy']) {
    const found = proxyFor(new URL(url), { ALL_PROXY: 'proxy.example.net:3128', [name]: noProxy })
    expect(found?.url.host).toBe(isThrough ? 'proxy.example.net:3128' : undefined)
  }
})

test('of several variables that of the protocol names the proxy, in small letters first', () => {
  const env = { ALL_PROXY: 'http://all:1', HTTP_PROXY: 'http://plain:2', HTTPS_PROXY: 'http://tls:3' }
  const of = (url: string, more = {}): string | undefined =>
    proxyFor(new URL(url), { ...env, ...more })?.variable
  expect([of(MCP), of('http://mcp.example.com')]).toEqual(['HTTPS_PROXY', 'HTTP_PROXY'])
  expect([of('wss://mootup.io'), of('ws://mootup.io')]).toEqual(['HTTPS_PROXY', 'HTTP_PROXY'])
  expect(of(MCP, { https_proxy: 'http://small:4' })).toBe('https_proxy')
  expect(of(MCP, { HTTPS_PROXY: '' })).toBe('ALL_PROXY')
})

test('a proxy URL with more than host and port works, as it does for other programs', async () => {
  const server = await ScriptedServer.start()
  const proxy = await httpProxy()
  const bridge = await BridgeProcess.connected((await withTls(server)).url, {
    args: ['--ca', ca],
    env: { HTTPS_PROXY: `${proxy.url}/proxy.pac?for=all#them` },
  })
  expect((await bridge.call('tools/call')).error).toBeUndefined()
  expect(proxy.asked).not.toEqual([])
})

test('a key for this machine does not leave it in plain http: HTTP_PROXY elsewhere is passed by', async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.connected(server.url, {
    env: { HTTP_PROXY: 'http://proxy.invalid:3128', CHAMADE_API_KEY: 'key_0123456789' },
  })
  expect((await bridge.call('tools/call')).error).toBeUndefined()
  expect(server.posts('tools/call')[0]?.headers.authorization).toBe('Bearer key_0123456789')
})

test('a proxy password that is not percent-encoded: exit 2, says so, and does not print it', async () => {
  const bridge = BridgeProcess.start('http://mcp.example.com/mcp', {
    env: { HTTP_PROXY: 'http://user:50%off@127.0.0.1:9' },
  })
  expect((await bridge.gone()).code).toBe(2)
  expect(bridge.stderr).toMatch(/^error: .*percent-encoded\ntry: /)
  expect(bridge.stderr).not.toContain('50%off')
})

test('a proxy that is not there is named in the error', async () => {
  const bridge = BridgeProcess.start('https://mcp.example.invalid/mcp', {
    args: patience(300),
    // (Nobody listens on port 9.)
    env: { HTTPS_PROXY: 'http://user:secret@127.0.0.1:9' },
  })
  const { error } = await bridge.reply(bridge.ask('tools/list'))
  expect(error?.message).toContain('through the proxy 127.0.0.1:9')
  expect(JSON.stringify(error) + bridge.stderr).not.toContain('secret')
})

test.each([
  [407, 'the proxy answered 407: its URL needs a user name and a password'],
  [502, 'the proxy answered 502'],
])('a proxy that makes no tunnel is quoted: %i', async (status, words) => {
  const proxy = createServer()
  proxy.on('connect', (_, socket: Socket) => socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\n\r\n`))
  const bridge = BridgeProcess.start('https://mcp.example.invalid/mcp', {
    args: patience(300),
    env: { HTTPS_PROXY: `http://127.0.0.1:${await listen(proxy)}` },
  })
  const { error } = await bridge.reply(bridge.ask('tools/list'))
  expect(error?.message).toContain(`${words} (through the proxy 127.0.0.1:`)
})

test('a proxy that hangs up when it is asked for a tunnel is not asked again and again', async () => {
  const proxy = await httpProxy()
  proxy.status = 0
  const line = await TcpProxy.start(proxy.port)
  const bridge = BridgeProcess.start('https://mcp.example.invalid/mcp', {
    args: patience(300),
    env: { HTTPS_PROXY: `http://127.0.0.1:${line.port}` },
  })
  const { error } = await bridge.reply(bridge.ask('tools/list'))
  expect(error?.message).toContain('the proxy hung up (through the proxy 127.0.0.1:')
  expect(line.accepted).toBeLessThan(10)
})

test('a request waits for a proxy that swallows what it is asked no longer than for a server', async () => {
  const server = await ScriptedServer.start()
  const line = await TcpProxy.start((await httpProxy()).port)
  const bridge = await BridgeProcess.connected((await withTls(server)).url, {
    args: ['--ca', ca, '--stateful', ...patience(1_000)],
    env: { HTTPS_PROXY: `http://127.0.0.1:${line.port}` },
  })
  await eventually('the push stream', () => server.listening())
  await eventually('no connection beside it', () => line.connections === 1, 10_000)
  line.swallow = true
  const { error } = await bridge.call('tools/call', {}, 8_000)
  expect(error?.data?.code).toBe('SERVER_UNREACHABLE')
  expect(error?.message).toContain('(through the proxy 127.0.0.1:')
})

test.each([
  ['https', 'a-token:', 'a-token'],
  ['https', ':a-pass%word', ':a-pass%25word'],
  ['http', 'a-token:', 'a-token'],
])('a proxy for %s whose login is %s is shown it', async (scheme, login, written) => {
  const server = await ScriptedServer.start()
  const proxy = await httpProxy({ login })
  const name = proxy.url.replace('//', `//${written}@`)
  const bridge = await BridgeProcess.connected(
    scheme === 'https' ? (await withTls(server)).url : `http://mcp.invalid:${server.port}/mcp`,
    {
      args: scheme === 'https' ? ['--ca', ca] : [],
      env: { [`${scheme.toUpperCase()}_PROXY`]: name, CHAMADE_LOG_LEVEL: 'debug' },
    },
  )
  expect((await bridge.call('tools/call')).error).toBeUndefined()
  expect(bridge.stderr).not.toMatch(/a-token|a-pass/)
})

test('a call that a proxy does not forward without a login was not run: it is sent again', async () => {
  const server = await ScriptedServer.start()
  const proxy = await httpProxy()
  const bridge = await BridgeProcess.connected(`http://mcp.invalid:${server.port}/mcp`, {
    args: patience(10_000),
    env: { HTTP_PROXY: proxy.url },
  })
  await eventually('a push stream', () => server.listening())
  proxy.status = 407
  const id = bridge.ask('tools/call')
  await pause(500)
  proxy.status = undefined
  expect((await bridge.reply(id, 10_000)).error).toBeUndefined()
  expect(server.posts('tools/call')).toHaveLength(1)
})

test.each([
  [
    'http',
    403,
    /refused the API key from --header \(HTTP 403: .*; perhaps the proxy localhost:\d+ said it\)/,
  ],
  ['http', 401, /refused the API key from --header \(HTTP 401: [^;]*\)/],
  ['https', 403, /could not be reached.*the proxy answered 403/],
])('over %s, %i of a proxy is not put down to the key alone', async (protocol, status, words) => {
  const proxy = await httpProxy()
  proxy.status = status
  const bridge = BridgeProcess.start(`${protocol}://mcp.invalid/mcp`, {
    args: ['--allow-http', '--header', 'Authorization: Bearer key_0123456789', ...patience(2_000)],
    env: { HTTP_PROXY: proxy.url, HTTPS_PROXY: proxy.url },
  })
  const { error } = await bridge.call('initialize', initializeParams)
  expect(error?.message).toMatch(words)
})

test.each([
  [401, /^mcp\.invalid\/mcp wants an API key \(HTTP 401: .*and none is set\. Try: --header '/],
  [
    403,
    /^mcp\.invalid\/mcp refuses access \(HTTP 403: .*no API key is set\. Try: if it wants a key: --header '/,
  ],
])('a server of others that says %i is not told of by what only Chamade takes', async (status, words) => {
  const proxy = await httpProxy()
  proxy.status = status
  const bridge = BridgeProcess.start('http://mcp.invalid/mcp', {
    env: { HTTP_PROXY: proxy.url, CHAMADE_API_KEY: '' },
  })
  const { error } = await bridge.call('initialize', initializeParams)
  expect(error?.message).toMatch(words)
  expect(error?.message).not.toContain('CHAMADE_API_KEY')
})

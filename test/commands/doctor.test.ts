/**
 * `chamade-mcp doctor` names the link that is down: one test a fault, each made for real.
 */

import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer, request as httpRequest } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { STREAM_CHECKS } from '../../src/commands/doctor/stream.ts'
import type { Watched } from '../../src/commands/doctor/watch.ts'
import type { FaultName } from '../../src/simulator/faults.ts'
import { type Simulator, startSimulator } from '../../src/simulator/simulator.ts'
import { VERSION } from '../../src/version.ts'
import { baseEnv } from '../support/bridge-process.ts'
import { emptyFolder } from '../support/empty-folder.ts'
import { eventually } from '../support/eventually.ts'
import { httpProxy } from '../support/http-proxy.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'
import { certs } from '../support/tls.ts'
import { Cli, runCli } from './support.ts'

const KEY = 'chmd_doctor-test-key'
const pem = (name: string): string => readFileSync(join(certs, name), 'utf8')

interface Found {
  readonly state: string
  readonly text: string
  readonly advice?: string
}

interface Examined {
  readonly code: number | null
  readonly checks: Readonly<Record<string, Found>>
  readonly output: string
}

interface Place {
  readonly home?: string
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
}

async function examine(url: string, place: Place = {}, args: readonly string[] = []): Promise<Examined> {
  const env = { CHAMADE_API_KEY: KEY, ...place.env }
  const { code, stdout, stderr } = await runCli(['doctor', url, '--json', '--wait', '400ms', ...args], {
    ...place,
    env,
  })
  const { checks } = JSON.parse(stdout) as { checks: (Found & { name: string })[] }
  return {
    code,
    checks: Object.fromEntries(checks.map((each) => [each.name, each])),
    output: stdout + stderr,
  }
}

async function simulator(): Promise<Simulator> {
  const started = await startSimulator({ keys: [KEY], pingMs: 60 })
  onTestFinished(() => started.close())
  return started
}

function states(checks: Examined['checks'], ...names: string[]): string[] {
  return names.map((name) => `${name} ${checks[name]?.state}`)
}

const SERVER = [
  'settings',
  'proxy',
  'connect',
  'http',
  'key',
  'initialize',
  'stateless',
  'stateful',
  'channel',
  'push',
]
const REST = ['session-404', 'tools', 'round-trip', 'first-byte', 'keep-alive']

describe('out there', () => {
  test('all is well with a healthy server, and no session is left behind', async () => {
    const server = await simulator()
    const { checks, code } = await examine(server.mcpUrl)
    expect(states(checks, ...SERVER, ...REST)).toEqual([...SERVER, ...REST].map((name) => `${name} ok`))
    expect(code).toBe(0)
    expect(server.sessions).toEqual([])
  })

  const faults: readonly [FaultName, string, string, RegExp][] = [
    ['503', 'http', 'fail', /HTTP 503, it asks to wait \d+ s \(deploying/],
    ['429', 'http', 'fail', /HTTP 429, it asks to wait/],
    ['502', 'http', 'fail', /HTTP 502 \(502 Bad Gateway/],
    ['down', 'http', 'fail', /ECONNRESET|socket hang up/],
    ['bad-key', 'key', 'fail', /the key from CHAMADE_API_KEY is refused \(HTTP 401\)/],
    ['hold-stream', 'push', 'fail', /still holds another one \(HTTP 409\)/],
    ['forget-400', 'session-404', 'warn', /HTTP 400 instead of 404/],
  ]
  for (const [fault, name, state, text] of faults) {
    test(`names the fault ${fault}: ${name}`, async () => {
      const server = await simulator()
      await server.fault(fault, { seconds: 30 })
      const { checks, code } = await examine(server.mcpUrl)
      expect(checks[name]).toMatchObject({ state, text: expect.stringMatching(text) as string })
      expect(checks[name]?.advice).toBeTruthy()
      expect(code).toBe(state === 'fail' ? 1 : 0)
      // The first thing that is wrong is the only thing that is wrong.
      const others = Object.entries(checks).filter(
        ([each]) => [...SERVER, ...REST].includes(each) && each !== name,
      )
      expect(others.filter(([, { state: other }]) => other === 'fail' || other === 'warn')).toEqual([])
    })
  }

  test('of a key that is no variable the advice is not the variable, which it wins over', async () => {
    const server = await ScriptedServer.start()
    server.before((x) => x.reply(401))
    const { checks } = await examine(server.url, {}, ['--header', 'Authorization: Bearer wrong_0123456789'])
    expect(checks.key).toMatchObject({ state: 'fail', text: 'the key from --header is refused (HTTP 401)' })
    expect(checks.key?.advice).not.toContain('CHAMADE_API_KEY')
  })

  test('names a slow server', async () => {
    const server = await ScriptedServer.start()
    server.before(async (x) => {
      if (x.rpc.method === 'ping') await new Promise((resolve) => setTimeout(resolve, 1_050))
      return false
    })
    const { checks } = await examine(server.url)
    expect(checks['round-trip']).toMatchObject({
      state: 'warn',
      text: expect.stringMatching(/^p50 1\d\d\d ms/) as string,
    })
  }, 40_000)

  test('names a port on which nothing listens', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    await new Promise((resolve) => server.close(resolve))
    const { checks, code } = await examine(`http://127.0.0.1:${port}/mcp`)
    expect(checks.connect).toMatchObject({
      state: 'fail',
      text: expect.stringContaining('ECONNREFUSED') as string,
    })
    expect(states(checks, 'http', 'push', 'first-byte')).toEqual([
      'http skip',
      'push skip',
      'first-byte skip',
    ])
    expect(code).toBe(1)
  })

  test('names a host that has no address', async () => {
    const { checks } = await examine('https://nowhere.invalid/mcp')
    expect(checks.dns).toMatchObject({
      state: 'fail',
      text: expect.stringContaining('nowhere.invalid cannot be resolved') as string,
    })
    expect(checks.connect?.state).toBe('skip')
  })

  test('names a TLS port that speaks plain http, directly and through a proxy', async () => {
    const server = await simulator()
    const advice = 'it may speak plain http: write http:// in the URL'
    const text = expect.stringMatching(
      /(?:wrong version number|packet length too long) \(ERR_SSL_\w+\)$/,
    ) as string
    const { checks } = await examine(`https://127.0.0.1:${server.port}/mcp/`)
    expect(checks.tls).toMatchObject({ state: 'fail', text, advice })
    expect(checks.http).toMatchObject({ state: 'skip', text: 'not reached' })
    const env = { HTTPS_PROXY: (await httpProxy()).url }
    const proxied = await examine(`https://mcp.invalid:${server.port}/mcp/`, { env })
    expect(proxied.checks.http).toMatchObject({ state: 'fail', text, advice })
  })

  test.each([
    [
      407,
      'the proxy answered 407: its URL needs a user name and a password',
      /http:\/\/user:password@host:port/,
    ],
    [403, 'the proxy answered 403', /NO_PROXY/],
  ])('names a proxy that answers %d, and what helps', async (status, text, hint) => {
    const proxy = await httpProxy()
    proxy.status = status
    const { checks } = await examine('https://mcp.invalid/mcp/', { env: { HTTPS_PROXY: proxy.url } })
    expect(checks.http).toMatchObject({ state: 'fail', text, advice: expect.stringMatching(hint) })
  })

  test('names a TLS port that speaks neither', async () => {
    const server = createServer((socket) => socket.on('error', () => undefined).destroy())
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
    const { checks } = await examine(`https://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`)
    expect(checks.tls).toMatchObject({ state: 'fail', advice: 'is this really the port of a TLS server?' })
    expect(checks.http?.state).toBe('skip')
  })

  test('names a certificate that nobody vouches for, and accepts it with --ca', async () => {
    const server = createTlsServer(
      { key: pem('server.key'), cert: pem('server.pem') },
      (_request, response) => {
        response.writeHead(404).end('not here')
      },
    )
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    onTestFinished(() => {
      server.close()
    })
    const url = `https://localhost:${(server.address() as AddressInfo).port}/mcp`
    const { checks } = await examine(url)
    expect(checks.tls).toMatchObject({
      state: 'fail',
      text: expect.stringContaining('the certificate is not accepted') as string,
      advice: expect.stringContaining('--ca FILE') as string,
    })
    expect(checks.http?.state).toBe('skip')
    const trusted = await examine(url, {}, ['--ca', join(certs, 'ca.pem')])
    expect(trusted.checks.tls).toMatchObject({
      state: 'ok',
      text: expect.stringMatching(/^TLSv1\.[23], certificate of .+, good for \d+ more days$/) as string,
    })
    expect(trusted.checks.http?.text).toContain('HTTP 404')
  })

  test('names a proxy that is not there', async () => {
    const server = await simulator()
    const { checks } = await examine(server.mcpUrl, {
      env: { HTTP_PROXY: 'http://user:pr0xy-pass@127.0.0.1:9' },
    })
    expect(checks.proxy).toMatchObject({
      state: 'fail',
      text: expect.stringContaining('127.0.0.1:9 from HTTP_PROXY') as string,
    })
  })

  test('asks every question through the proxy that the bridge uses, and names that one', async () => {
    const server = await simulator()
    const forwarded: (string | undefined)[] = []
    const proxy = createHttpServer((request, response) => {
      forwarded.push(request.method)
      const { method, headers } = request
      const onward = httpRequest(request.url ?? '', { method, headers }, (reply) => {
        response.writeHead(reply.statusCode ?? 0, reply.headers)
        reply.pipe(response)
      })
      onward.on('error', () => response.destroy())
      request.pipe(onward)
    })
    await new Promise<void>((resolve) => {
      proxy.listen(0, '127.0.0.1', resolve)
    })
    onTestFinished(() => {
      proxy.close().closeAllConnections()
    })
    const host = `127.0.0.1:${(proxy.address() as AddressInfo).port}`
    // (For an http URL nobody asks the first one.)
    const env = { HTTPS_PROXY: 'http://127.0.0.1:9', ALL_PROXY: host }
    const { checks } = await examine(server.mcpUrl, { env })
    expect(checks.proxy).toMatchObject({
      state: 'ok',
      text: expect.stringContaining(`${host} from ALL_PROXY`) as string,
    })
    expect(states(checks, 'http', 'key', 'initialize', 'stateful', 'push', 'tools')).toEqual([
      'http ok',
      'key ok',
      'initialize ok',
      'stateful ok',
      'push ok',
      'tools ok',
    ])
    expect(forwarded).toContain('GET')
  })

  const scripted: readonly [string, (server: ScriptedServer) => void, string, string, RegExp][] = [
    [
      'a wrong path',
      (s) => s.before((x) => x.reply(404, '<h1>nope</h1>')),
      'http',
      'fail',
      /no MCP endpoint at this path \(HTTP 404\)/,
    ],
    [
      'a page instead of an answer',
      (s) => s.before((x) => x.reply(200, '<title>Sign in</title>', { 'content-type': 'text/html' })),
      'initialize',
      'fail',
      /initialize was not answered: Sign in/,
    ],
    [
      'an OAuth login',
      (s) =>
        s.before((x) => x.reply(401, '', { 'www-authenticate': 'Bearer resource_metadata="https://x"' })),
      'key',
      'fail',
      /wants an OAuth login|is refused/,
    ],
    [
      'no session',
      (s) => {
        s.sessionsOffered = false
      },
      'stateful',
      'warn',
      /no session id is issued/,
    ],
    [
      'no channel',
      (s) => {
        s.capabilities = { tools: {} }
      },
      'channel',
      'warn',
      /claude\/channel is not declared/,
    ],
    [
      'a channel declared to be none',
      (s) => {
        s.capabilities = { experimental: { 'claude/channel': false } }
      },
      'channel',
      'warn',
      /claude\/channel is not declared/,
    ],
    [
      'headers that wait for the first event',
      (s) => s.before((x) => x.request.method === 'GET'),
      'push',
      'warn',
      /no response headers within 10 s: they may come with the first event/,
    ],
    [
      'no push stream',
      (s) => {
        s.pushOffered = false
      },
      'push',
      'warn',
      /offers no push stream \(HTTP 405\)/,
    ],
    [
      'no push stream, told by no content',
      (s) => s.before((x) => (x.request.method === 'GET' ? x.reply(204) : false)),
      'push',
      'warn',
      /offers no push stream \(HTTP 204\)/,
    ],
    [
      'a server that takes any session',
      (s) => {
        s.refuseLost = (x) => x.result({})
      },
      'session-404',
      'warn',
      /is accepted \(HTTP 200\)/,
    ],
    [
      'no tools',
      (s) => {
        s.tools = []
      },
      'tools',
      'warn',
      /no tools/,
    ],
    [
      'a stream that is held back',
      (s) => {
        s.heartbeatMs = 0
      },
      'first-byte',
      'skip',
      /^nothing in 400 ms, which is shorter than most keep-alive intervals$/,
    ],
    [
      'a stream that is cut',
      (s) => s.before(cutStream),
      'first-byte',
      'fail',
      /the push stream .* without one byte/,
    ],
    [
      'a redirect to elsewhere',
      (s) => s.before((x) => x.reply(301, '', { location: 'https://elsewhere.example/mcp?token=s3cret' })),
      'http',
      'warn',
      /HTTP 301 to https:\/\/elsewhere\.example\/mcp$/,
    ],
  ]
  for (const [what, fault, name, state, text] of scripted) {
    test(`names ${what}: ${name}`, async () => {
      const server = await ScriptedServer.start({
        capabilities: { tools: {}, experimental: { 'claude/channel': {} } },
      })
      fault(server)
      const { checks } = await examine(server.url)
      expect(checks[name]).toMatchObject({ state, text: expect.stringMatching(text) as string })
      expect(checks[name]?.advice).toBeTruthy()
    })
  }

  test('blames a proxy for a silent stream only when it has listened for long enough', async () => {
    const [firstByte] = STREAM_CHECKS
    const now = performance.now()
    const stream: Watched = {
      openedAt: now - 60_000,
      arrivals: [],
      ended: undefined,
      changed: () => new Promise(() => undefined),
      stop: () => undefined,
    }
    const found = (waitMs: number) =>
      firstByte?.run(
        { facts: { stream }, waitMs, signal: new AbortController().signal } as never,
        () => undefined,
      )
    expect(await found(35_000)).toMatchObject({
      state: 'warn',
      advice: expect.stringContaining('proxy_buffering') as string,
    })
    expect(await found(2_000)).toEqual({
      state: 'skip',
      text: expect.stringContaining('nothing in 2 s') as string,
      advice: 'listen longer: --wait 35s',
    })
  })

  test.each([
    [400, 'text/plain', 'Bad Request'],
    [418, 'application/json', '{"teapot":true}'],
    [200, 'text/html', '<h1>Welcome</h1>'],
  ])('an answer that is no MCP (HTTP %d, %s) proves nothing about a key', async (status, type, body) => {
    const server = await ScriptedServer.start()
    server.before((x) => x.reply(status, body, { 'content-type': type }))
    const { checks, code } = await examine(server.url)
    expect(code).toBe(1)
    expect(checks.key).toMatchObject({
      state: 'skip',
      text: `HTTP ${status} without an answer to initialize says nothing about the key from CHAMADE_API_KEY`,
    })
    expect(checks.initialize?.state).toBe('fail')
  })

  test('a 403 that the server explains is not taken for a missing key', async () => {
    const server = await ScriptedServer.start()
    server.before((x) => x.error(-32000, 'Invalid Host: mcp.example', 403) ?? true)
    const { checks } = await examine(server.url, { env: { CHAMADE_API_KEY: '' } })
    expect(checks.key?.state).toBe('skip')
    expect(checks.initialize?.text).toContain('Invalid Host: mcp.example')
  })

  test.each([
    [401, 'the server wants a key and none is set (HTTP 401)', /^--header /],
    [403, 'the server refuses access and no key is set (HTTP 403)', /^if it wants a key: --header /],
  ])(
    'a server of others that says %i gets its key in other ways than Chamade',
    async (status, text, hint) => {
      const proxy = await httpProxy()
      proxy.status = status
      const env = { HTTP_PROXY: proxy.url, CHAMADE_API_KEY: '' }
      const { checks } = await examine('http://mcp.invalid/mcp', { env })
      expect(checks.key).toMatchObject({ state: 'fail', text, advice: expect.stringMatching(hint) })
    },
  )

  test('waits with --long for what closes an idle stream', async () => {
    const server = await ScriptedServer.start()
    const cut = setInterval(() => {
      for (const session of server.live())
        if (session.push.open && performance.now() - session.openedAt > 900) server.cutAll()
    }, 50)
    onTestFinished(() => clearInterval(cut))
    const { checks } = await examine(server.url, {}, ['--long'])
    expect(checks.idle).toMatchObject({
      state: 'warn',
      text: expect.stringMatching(/the push stream .* after (\d{3} ms|1\.?\d* s)/) as string,
    })
  })
})

function cutStream(x: Exchange): unknown {
  if (x.request.method !== 'GET') return false
  x.response.writeHead(200, { 'content-type': 'text/event-stream' })
  x.response.flushHeaders()
  setTimeout(() => x.reset(), 50)
  return true
}

describe('here', () => {
  /** A place with these files; JSON values are written as JSON. */
  function placeWith(files: Readonly<Record<string, unknown>>): { home: string; cwd: string } {
    const home = emptyFolder()
    const cwd = join(home, 'project')
    mkdirSync(cwd)
    for (const [name, content] of Object.entries(files)) {
      const file = join(home, name)
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
    }
    return { home, cwd }
  }
  const nowhere = 'http://127.0.0.1:9/mcp'
  const entry = { command: 'npx', args: ['-y', '@chamade/mcp-server@3', '--stateful'], env: {} }
  const config = (servers: object): Readonly<Record<string, unknown>> => ({
    'project/.mcp.json': { mcpServers: servers },
  })

  test('the name of a variable among the arguments is no key', async () => {
    const args = [
      'run',
      '-i',
      '-e',
      'CONVO_API_KEY',
      '-e',
      'CHMD_API_KEY',
      'me/chamade',
      'npx',
      ...entry.args,
    ]
    const docker = { command: 'docker', args, env: { CONVO_API_KEY: '${CONVO_API_KEY}' } }
    const { checks } = await examine(nowhere, placeWith(config({ c: docker })))
    expect(JSON.stringify(checks.config)).not.toContain('a key stands in its arguments')
    expect(checks.config?.state).toBe('ok')
  })

  test('finds the entry and its launch line', async () => {
    const { checks } = await examine(nowhere, placeWith(config({ 'my-chamade': entry })))
    expect(checks.config).toMatchObject({
      state: 'ok',
      text: '"my-chamade" in Claude Code (it asks for your approval when it starts)',
    })
    expect(checks['launch-line']?.text).toContain(
      'claude --dangerously-load-development-channels server:my-chamade',
    )
  })

  const problems: readonly [string, Readonly<Record<string, unknown>>, string, RegExp][] = [
    [
      'a broken file',
      { 'project/.mcp.json': '{"mcpServers": {' },
      'config',
      /\.mcp\.json is broken \(line 1/,
    ],
    ['no entry at all', {}, 'config', /no client here has an entry/],
    [
      'a key in the arguments',
      config({
        c: { ...entry, args: [...entry.args, '--header', 'Authorization: Bearer chmd_in-the-args'] },
      }),
      'config',
      /a key stands in its arguments/,
    ],
    [
      'a placeholder',
      config({ c: { ...entry, env: { CHAMADE_API_KEY: 'put-your-key-here' } } }),
      'config',
      /key is still missing/,
    ],
    [
      'no major version',
      config({ c: { ...entry, args: ['-y', '@chamade/mcp-server'] } }),
      'config',
      /whatever version is newest/,
    ],
    [
      'an entry switched off',
      { ...config({ c: entry }), '.claude/settings.json': { disabledMcpjsonServers: ['c'] } },
      'config',
      /switched off by "disabledMcpjsonServers"/,
    ],
    [
      'a variable that is not set',
      config({ c: { ...entry, env: { CHAMADE_API_KEY: '${MY_OWN_KEY}' } } }),
      'environment',
      /names \$\{MY_OWN_KEY\}, which is not set/,
    ],
    [
      'the same server twice',
      { ...config({ a: entry }), '.claude.json': { mcpServers: { b: entry } } },
      'duplicates',
      /twice: "a" \(.*\.mcp\.json\) and "b"/,
    ],
    [
      'telemetry switched off in the settings',
      { '.claude/settings.json': { env: { DISABLE_TELEMETRY: '1' } } },
      'channels-off',
      /settings\.json sets DISABLE_TELEMETRY/,
    ],
    [
      'channels switched off in the settings',
      { 'project/.claude/settings.json': { channelsEnabled: false } },
      'channels-off',
      /channelsEnabled: false/,
    ],
    [
      'a program that is not installed',
      config({ c: { command: 'chamade-mcp', args: ['--stateful'] } }),
      'npx',
      /"c" of Claude Code starts chamade-mcp, which is not on the PATH/,
    ],
    [
      'an old package in the cache of npx',
      {
        ...config({ c: entry }),
        '.npm/_npx/1f/node_modules/@chamade/mcp-server/package.json': { version: '3.0.0' },
      },
      'npx',
      /the cache of npx holds 3\.0\.0/,
    ],
  ]
  for (const [what, files, name, text] of problems) {
    test(`names ${what}: ${name}`, async () => {
      const { checks, output } = await examine(nowhere, placeWith(files))
      expect(checks[name]).toMatchObject({ text: expect.stringMatching(text) as string })
      expect(['warn', 'fail']).toContain(checks[name]?.state)
      expect(checks[name]?.advice).toBeTruthy()
      expect(output).not.toContain('chmd_in-the-args')
    })
  }

  test('shows no id of a session, be it that of the endpoint without ?stateful', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', (x) => {
      server.sessionsOffered = !x.request.url.includes('stateful')
      server.welcome(x)
    })
    server.on('tools/list', (x) => x.error(-32603, `worker of ${x.request.session} died`))
    const { checks, output } = await examine(server.url)
    expect(checks.tools?.text).toMatch(/^tools\/list is refused: worker of .* died$/)
    for (const id of server.sessions.keys()) expect(output).not.toContain(id)
  })

  test('takes two servers of one host, or two that are not known, for two', async () => {
    const http = (url: string): object => ({
      command: 'npx',
      args: ['-y', '@chamade/mcp-server@3', '--url', url],
    })
    for (const [a, b, isOne] of [
      ['https://x.example/tickets/mcp', 'https://x.example/wiki/mcp', false],
      ['${TICKETS_URL}', '${WIKI_URL}', false],
      ['https://x.example/mcp?stateful', 'https://x.example/mcp/', true],
      ['${HERE:-https://x.example/mcp}', 'https://x.example/mcp', true],
    ] as const) {
      const { checks } = await examine(nowhere, placeWith(config({ a: http(a), b: http(b) })))
      expect(/twice/.test(checks.duplicates?.text ?? '')).toBe(isOne)
    }
  })

  test('an entry that was declined in the dialog of Claude Code: what helps is not /mcp, which does not list it', async () => {
    const no = { 'project/.claude/settings.local.json': { disabledMcpjsonServers: ['c'] } }
    const { checks } = await examine(nowhere, placeWith({ ...config({ c: entry }), ...no }))
    expect(checks.config?.advice).toBe(
      'in this folder run claude mcp reset-project-choices, then start Claude Code and choose to use it',
    )
  })

  test.each(['project', 'local', 'user'])(
    'an entry that was disabled in /mcp, scope %s: that helps',
    async (scope) => {
      const place = placeWith(scope === 'project' ? config({ c: entry }) : {})
      const mcpServers = { c: entry }
      const here = { disabledMcpServers: ['c'], ...(scope === 'local' ? { mcpServers } : {}) }
      const own = { projects: { [place.cwd]: here }, ...(scope === 'user' ? { mcpServers } : {}) }
      writeFileSync(join(place.home, '.claude.json'), JSON.stringify(own))
      const { checks } = await examine(nowhere, place)
      expect(checks.config).toMatchObject({
        state: 'warn',
        text: '"c" of Claude Code: is switched off by "disabledMcpServers"',
        advice: 'enable it with /mcp in Claude Code',
      })
    },
  )

  describe.skipIf(process.platform !== 'linux')('what Claude Code wrote of its starts', () => {
    const flag = '--dangerously-load-development-channels'
    /** Its log of a server, as it writes one without --debug. */
    function withLog(name: string, ...lines: readonly string[]): { home: string; cwd: string } {
      const place = placeWith(config({ c: entry, c_2: entry, other: { command: 'other' } }))
      const project = place.cwd.replaceAll(/[^A-Za-z0-9]/g, '-')
      const folder = join(place.home, '.cache', 'claude-cli-nodejs', project, `mcp-logs-${name}`)
      mkdirSync(folder, { recursive: true })
      const text = lines.map((debug) => `${JSON.stringify({ debug, cwd: place.cwd })}\n`).join('')
      writeFileSync(join(folder, '2026-11-22T06-04-13-055Z.jsonl'), text)
      return place
    }

    test.each([
      ['server c not in --channels list for this session', `start it with ${flag} server:c`],
      ['channels feature is not currently available', 'Claude Code must reach Anthropic with telemetry on'],
      ['channels requires claude.ai authentication (run /login)', 'see '],
    ])('names why it drops events, and what helps: %s', async (why, advice) => {
      const place = withLog('c', 'Successfully connected', `Channel notifications skipped: ${why}`)
      const { checks } = await examine(nowhere, place)
      expect(checks['claude-log']).toMatchObject({ state: 'warn' })
      expect(checks['claude-log']?.text).toMatch(/^Claude Code dropped what "c" pushes \(.* UTC\): /)
      expect(checks['claude-log']?.text).toContain(why)
      expect(checks['claude-log']?.advice?.startsWith(advice)).toBe(true)
    })

    test('says that it listens', async () => {
      const { checks } = await examine(nowhere, withLog('c', 'Channel notifications registered'))
      expect(checks['claude-log']).toMatchObject({
        state: 'ok',
        text: 'when it was last started here, Claude Code listened to "c"',
      })
    })

    test('finds the log of an entry in whose name it puts other characters', async () => {
      const { checks } = await examine(nowhere, withLog('c-2', 'Channel notifications registered'))
      expect(checks['claude-log']?.text).toBe('when it was last started here, Claude Code listened to "c_2"')
    })

    test('a server of others, which is no channel, is no news', async () => {
      const skipped = 'Channel notifications skipped: server did not declare claude/channel capability'
      const { checks } = await examine(nowhere, withLog('other', skipped))
      expect(checks['claude-log']?.state).toBe('skip')
    })
  })

  // Those with true are on by any value, as Claude Code 2.1.330 reads them.
  test.each([
    ['DISABLE_TELEMETRY', true],
    ['CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC', true],
    ['DO_NOT_TRACK', false],
    ['DISABLE_GROWTHBOOK', false],
    ['CLAUDE_CODE_DISABLE_FEATURE_FLAGS', false],
    ['CLAUDE_CODE_USE_BEDROCK', false],
    ['CLAUDE_CODE_USE_VERTEX', false],
    ['CLAUDE_CODE_USE_FOUNDRY', false],
    ['CLAUDE_CODE_USE_MANTLE', false],
    ['CLAUDE_CODE_USE_ANTHROPIC_AWS', false],
    ['CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD', false],
  ])('names %s, which switches channels off', async (name, byAny) => {
    const { checks } = await examine(nowhere, { env: { [name]: '1' } })
    expect(checks['channels-off']).toMatchObject({
      state: 'fail',
      text: expect.stringMatching(`^${name} is set: it \\w+s `) as string,
      advice: `unset ${name} where Claude Code is started`,
    })
    for (const no of ['0', 'no']) {
      const state = byAny ? 'fail' : 'ok'
      expect((await examine(nowhere, { env: { [name]: no } })).checks['channels-off']?.state).toBe(state)
    }
  })

  test.each([
    ['DISABLE_TELEMETRY', '', 'ok'],
    ['DISABLE_TELEMETRY', 0, 'fail'],
    ['DISABLE_TELEMETRY', false, 'fail'],
    ['DO_NOT_TRACK', true, 'fail'],
    ['DO_NOT_TRACK', 0, 'ok'],
    ['CLAUDE_CODE_USE_GATEWAY', '1', 'ok'],
  ])('reads %s of the settings, %j, as Claude Code does', async (name, value, state) => {
    const place = placeWith({ '.claude/settings.json': { env: { [name]: value } } })
    expect((await examine(nowhere, place)).checks['channels-off']?.state).toBe(state)
  })

  test('names a variable that was never expanded', async () => {
    const { checks } = await examine(nowhere, { env: { CHAMADE_API_KEY: '${CHAMADE_API_KEY}' } })
    expect(checks.environment).toMatchObject({
      state: 'fail',
      text: expect.stringContaining('the literal text ${CHAMADE_API_KEY}') as string,
    })
    expect(checks.settings?.state).toBe('warn')
  })

  test('says what stands in the place of a key: the placeholder is no secret', async () => {
    const { checks } = await examine(nowhere, { env: { CHAMADE_API_KEY: 'put-your-key-here' } })
    expect(checks.environment?.text).toBe('CHAMADE_API_KEY still says put-your-key-here')
  })

  describe.skipIf(process.platform === 'win32')('programs', () => {
    function withProgram(name: string, prints: string, folder = emptyFolder()): Place {
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, name), `#!/bin/sh\necho '${prints}'\n`)
      chmodSync(join(folder, name), 0o755)
      return { env: { PATH: `${folder}:${baseEnv.PATH ?? ''}` } }
    }

    test('names a Claude Code that is too old for channels, and accepts a new one', async () => {
      const old = await examine(nowhere, withProgram('claude', '2.1.79 (Claude Code)'))
      expect(old.checks['claude-code']).toMatchObject({
        state: 'fail',
        text: 'Claude Code 2.1.79 has no channels',
      })
      const fresh = await examine(nowhere, withProgram('claude', '2.1.328 (Claude Code)'))
      expect(fresh.checks['claude-code']).toMatchObject({ state: 'ok', text: 'Claude Code 2.1.328' })
    })

    test('takes a program that npx alone has put on the PATH for none that a client finds', async () => {
      const folder = join(emptyFolder(), '_npx', '1f', 'node_modules', '.bin')
      const { env } = withProgram('chamade-mcp', VERSION, folder)
      const started = await examine(nowhere, { env: { ...env, npm_command: 'exec' } })
      expect(started.checks.npx?.text).toBe('no entry starts it through npx')
      const { checks } = await examine(nowhere, { env: { ...env, npm_command: 'run' } })
      expect(checks.npx?.text).toBe(`chamade-mcp ${VERSION} is on the PATH`)
    })

    test('names a node that is too old', async () => {
      const { checks } = await examine(nowhere, withProgram('node', 'v18.20.0'))
      expect(checks.node).toMatchObject({ state: 'fail', text: 'node 18.20.0 on the PATH is too old' })
    })

    test.skipIf(process.platform !== 'linux').each([
      ['chamdae', 'with server:chamdae, which is no entry here'],
      ['chamade', 'without server:moot-channel'],
    ])('names a running Claude Code that was started with server:%s: %s', async (name, what) => {
      const moot = { command: 'npx', args: ['-y', '@chamade/mcp-server@3', 'moot'] }
      const place = placeWith(config({ chamade: entry, 'moot-channel': moot }))
      const program = join(place.home, 'claude')
      writeFileSync(program, 'setTimeout(() => undefined, 60_000)')
      const flag = '--dangerously-load-development-channels'
      const args = [program, flag, `server:${name}`]
      const child = spawn(process.execPath, args, { cwd: place.cwd, stdio: 'ignore' })
      onTestFinished(() => {
        child.kill('SIGKILL')
      })
      const { checks } = await examine(nowhere, place)
      expect(checks['launch-line']).toMatchObject({
        state: 'warn',
        text: `1 of 1 running Claude Code ${what} (process ${child.pid})`,
        advice: `start it like this: claude ${flag} server:chamade server:moot-channel`,
      })
    })
  })
})

describe('the report', () => {
  test('shows no secret, wherever one is planted', async () => {
    const server = await simulator()
    const url = `${server.mcpUrl}?token=qu3ry-s3cret`
    const env = {
      CHAMADE_API_KEY: 'chmd_pl4nted',
      HTTPS_PROXY: 'http://me:pr0xy-s3cret@127.0.0.1:9',
      MY_TOKEN: 'h3ader-s3cret',
    }
    const args = ['doctor', url, '--wait', '100ms', '--header', 'X-Token: ${MY_TOKEN}']
    for (const more of [[], ['--json']]) {
      const { stdout, stderr } = await runCli([...args, ...more], { env })
      expect(stdout + stderr).not.toMatch(/pl4nted|qu3ry-s3cret|pr0xy-s3cret|h3ader-s3cret/)
    }
  })

  test('is a plain list without a terminal', async () => {
    const server = await simulator()
    const { stdout } = await runCli(['doctor', server.mcpUrl, '--wait', '400ms'], {
      env: { CHAMADE_API_KEY: KEY },
    })
    expect(stdout).not.toContain('\u001b')
    expect(stdout).toMatch(/^ {2}✓ key {14}the key from CHAMADE_API_KEY is accepted$/m)
    expect(stdout).toMatch(/^ {21}→ npx -y @chamade\/mcp-server@3 init$/m)
    expect(stdout).toMatch(/\n\n1 warning\n$/)
  })

  test('says a wrong setting as the finding it is', async () => {
    const { code, stdout } = await runCli([
      'doctor',
      'http://example.invalid/mcp',
      '--json',
      '--header',
      'no colon',
    ])
    expect(code).toBe(1)
    const { checks } = JSON.parse(stdout) as { checks: (Found & { name: string })[] }
    expect(checks[0]).toMatchObject({ name: 'settings', state: 'fail', text: 'a --header has no colon' })
  })

  test('is broken off where nobody answers: nothing is blamed for that', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', () => undefined)
    const cli = new Cli(['doctor', server.url, '--json'])
    await eventually('it asks', () => server.posts('initialize').length > 0, 10_000)
    cli.child.kill('SIGINT')
    const { code, stdout } = await cli.ended
    expect(code).toBe(130)
    const report = JSON.parse(stdout) as { checks: { name: string; state: string }[] }
    expect(report).toMatchObject({ ok: false, stopped: true })
    expect(report.checks.map(({ name }) => name)).not.toContain('http')
    expect(report.checks.filter(({ state }) => state === 'fail')).toEqual([])
  })

  test('is broken off while it listens: silence that was not waited for is none', async () => {
    const server = await ScriptedServer.start()
    const cli = new Cli(['doctor', server.url, '--wait', '30s'])
    await eventually('it listens', () => cli.stdout.includes('The push stream'), 20_000)
    cli.child.kill('SIGINT')
    const { code, stdout } = await cli.ended
    expect(code).toBe(130)
    expect(stdout).not.toMatch(/first-byte|keep-alive|all is well/)
    expect(stdout).toMatch(/stopped before all was looked at\n$/)
  })
})

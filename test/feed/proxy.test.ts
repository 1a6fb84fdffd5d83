/**
 * A moot behind the proxy of the environment: calls and sockets go through it, what goes wrong there is said by its
 * name, and all that is promised of a direct connection (healing, liveness, back-pressure) holds in a tunnel.
 */
import { readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { Transform } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { type HttpProxy, httpProxy } from '../support/http-proxy.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'
import { ca, cert, key, listen } from '../support/tls.ts'
import {
  type Changes,
  connected,
  type Env,
  type FeedClient,
  type Simulator,
  simulator,
  takesNothing,
} from './feed-client.ts'

const SPACE = 'sprint-planning'
const certificate = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') }

/** Where a moot is for whoever comes through a proxy. */
interface Place {
  readonly moot: Simulator
  /** As the proxy is asked for it. */
  readonly host: string
  readonly env: Env
}

/** By plain http nobody but a proxy finds it. By https it is at `localhost`, where its certificate is good. */
async function place(scheme: 'http' | 'https'): Promise<Place> {
  const moot = await simulator(scheme === 'https' ? { tls: certificate } : {})
  const host = `${scheme === 'https' ? 'localhost' : 'moot.invalid'}:${new URL(moot.url).port}`
  const env = { CONVO_API_URL: `${scheme}://${host}`, CONVO_ALLOW_HTTP: '1', SSL_CERT_FILE: ca }
  return { moot, host, env }
}

/** With a proxy of every protocol, and a line to it that can be cut. */
async function lineTo(proxy: HttpProxy): Promise<[Env, TcpProxy]> {
  const line = await TcpProxy.start(proxy.port)
  return [{ ALL_PROXY: `${new URL(proxy.url).protocol}//localhost:${line.port}` }, line]
}

async function followed(moot: Simulator, client: FeedClient): Promise<void> {
  await eventually('the stream is up', () => client.pushStatuses(SPACE).at(-1)?.state === 'up')
  await eventually('the space is followed', () => moot.sockets.count(SPACE) > 0)
}

/** Says something, and it is told. */
async function tells(moot: Simulator, client: FeedClient, text: string): Promise<void> {
  await followed(moot, client)
  moot.publish(SPACE, { text: `@MyAgent ${text}` })
  await eventually('it is told', () => client.contents.some((content) => content.endsWith(text)))
}

describe('what goes through it', () => {
  test('https and wss through HTTPS_PROXY: all of it in tunnels', async () => {
    const { moot, host, env } = await place('https')
    const proxy = await httpProxy()
    const client = await connected(moot, { ...env, HTTPS_PROXY: proxy.url, HTTP_PROXY: 'http://127.0.0.1:9' })
    await client.tool('subscribe', { space_id: SPACE })
    await tells(moot, client, 'in a tunnel')
    expect(new Set(proxy.asked)).toEqual(new Set([host]))
    expect(proxy.asked.length).toBeGreaterThan(1)
    expect(proxy.forwarded).toEqual([])
  })

  test('http through HTTP_PROXY: calls are forwarded, a socket takes a tunnel', async () => {
    const { moot, host, env } = await place('http')
    const proxy = await httpProxy()
    const more = { HTTP_PROXY: proxy.url, HTTPS_PROXY: 'http://127.0.0.1:9', CONVO_SPACE_ID: SPACE }
    const client = await connected(moot, { ...env, ...more })
    await tells(moot, client, 'through it')
    expect(proxy.asked).toEqual([host])
    expect(proxy.forwarded).toContain(`http://${host}/api/spaces/${SPACE}/join`)
    expect(proxy.forwarded.length).toBe(moot.calls.length)
  })

  test('a proxy that is reached by https itself', async () => {
    const { moot, host, env } = await place('https')
    const proxy = await httpProxy({ tls: true })
    const client = await connected(moot, { ...env, ALL_PROXY: proxy.url, CONVO_SPACE_ID: SPACE })
    await tells(moot, client, 'in a tunnel in a tunnel')
    expect(new Set(proxy.asked)).toEqual(new Set([host]))
  })

  test('many spaces at once', async () => {
    const { moot, env } = await place('https')
    for (let i = 0; i < 20; i++) moot.space(`space-${i}`)
    const proxy = await httpProxy()
    const client = await connected(moot, { ...env, HTTPS_PROXY: proxy.url })
    expect((await client.tool('subscribe')).text).toMatch(/^Subscribed to 21 new/)
    await eventually('all of them', () => moot.sockets.count() === 21)
    expect(proxy.asked.length).toBeGreaterThan(21)
  })

  test.each([
    ['the socket for all spaces', 'moot.invalid', [1, 0]],
    ['the calls', 'localhost', [0, 1]],
  ])('NO_PROXY names the other: only %s through the proxy', async (_, through, [socket, calls]) => {
    const { moot } = await place('http')
    const at = (scheme: string, name: string): string => `${scheme}://${name}:${new URL(moot.url).port}`
    const isSocket = socket === 1
    const proxy = await httpProxy()
    const client = await connected(moot, {
      CONVO_API_URL: at('http', isSocket ? 'localhost' : 'moot.invalid'),
      CONVO_CHANNEL_URL: `${at('ws', isSocket ? 'moot.invalid' : 'localhost')}/channel`,
      CONVO_ALLOW_HTTP: '1',
      CONVO_SPACE_ID: SPACE,
      HTTP_PROXY: proxy.url,
      NO_PROXY: 'localhost',
    })
    await tells(moot, client, `through ${through}`)
    expect(proxy.asked.length).toBe(socket)
    expect(proxy.forwarded.length > 0 ? 1 : 0).toBe(calls)
  })

  test('what is on this machine is not sent to a proxy elsewhere', async () => {
    const moot = await simulator()
    const client = await connected(moot, { HTTP_PROXY: 'http://proxy.invalid:3128', CONVO_SPACE_ID: SPACE })
    await tells(moot, client, 'at home')
  })
})

test('what was changed on the way is said in words, not as a line of the source of OpenSSL', async () => {
  const { moot, env } = await place('https')
  let isNoisy = false
  const noise = (): Transform =>
    new Transform({
      transform(chunk: Buffer, _, done) {
        if (isNoisy) chunk.writeUInt8(chunk.readUInt8(chunk.length - 1) ^ 1, chunk.length - 1)
        done(null, chunk)
      },
    })
  const line = createServer((near) => {
    const far = connect(Number(new URL(moot.url).port), '127.0.0.1')
    for (const socket of [near, far]) socket.on('error', () => undefined)
    near.on('close', () => far.destroy())
    near.pipe(far).pipe(noise()).pipe(near)
  })
  const CONVO_API_URL = `https://localhost:${await listen(line)}`
  const client = await connected(moot, { ...env, CONVO_API_URL, CONVO_SPACE_ID: SPACE })
  await followed(moot, client)
  isNoisy = true
  moot.publish(SPACE, { text: '@MyAgent in the noise' })
  const down = await eventually('it is noticed', () =>
    client.pushStatuses(SPACE).find(({ state }) => state === 'down'),
  )
  expect(down.reason).toMatch(/^[^:]+ \(ERR_SSL_\w+\)$/)
  isNoisy = false
  await client.hears(1)
})

describe('what goes wrong there is said by its name', () => {
  /** Only the calls go through the proxy, or only the socket. */
  const ways = ['the calls', 'the socket'] as const
  const schemes = ['http', 'https'] as const

  /** A client whose `way` leads through `url`; the other is direct. */
  async function client(
    way: (typeof ways)[number],
    scheme: (typeof schemes)[number],
    url: string,
    changes: Changes = {},
  ): Promise<[Simulator, FeedClient]> {
    const { moot } = await place(scheme)
    const { port } = new URL(moot.url)
    const [through, direct] = [`localhost:${port}`, `127.0.0.1:${port}`]
    const env = {
      CONVO_API_URL: `${scheme}://${way === 'the calls' ? through : direct}`,
      CONVO_CHANNEL_URL: `${scheme.replace('http', 'ws')}://${way === 'the calls' ? direct : through}/channel`,
      SSL_CERT_FILE: ca,
      ALL_PROXY: url,
      NO_PROXY: '127.0.0.1',
    }
    return [moot, await connected(moot, env, changes)]
  }

  const both = ways.flatMap((way) => schemes.map((scheme) => [way, scheme] as const))

  test.each([
    ['a proxy that wants a login', 407, 'the proxy answered 407: its URL needs a user name and a password'],
    ['a proxy that forbids it', 403, 'the proxy answered 403'],
    ['a proxy that does not find it', 502, 'the proxy answered 502'],
    ['a proxy that hangs up', 0, 'the proxy hung up'],
  ])('%s is named, and asked again until it makes a tunnel', async (_, status, words) => {
    for (const way of ways) {
      const proxy = await httpProxy()
      proxy.status = status
      const [moot, feed] = await client(way, 'https', proxy.url)
      const { text } = await feed.tool('subscribe', { space_id: SPACE })
      expect(text).toContain(`${words} (through the proxy localhost:${proxy.port})`)
      const setting = way === 'the calls' ? 'CONVO_API_URL' : 'CONVO_CHANNEL_URL'
      expect(text).toContain(`check ${setting}, ALL_PROXY and your network`)
      expect(text).toContain('The subscription is kept')
      proxy.status = undefined
      await tells(moot, feed, 'let in')
    }
  })

  test('a call that it should forward without a login is one of those', async () => {
    const proxy = await httpProxy()
    proxy.status = 407
    const [moot, feed] = await client('the calls', 'http', proxy.url)
    const { text } = await feed.tool('subscribe', { space_id: SPACE })
    expect(text).toMatch(/the proxy answered 407: its URL needs .* \(through the proxy localhost:\d+\)/)
    proxy.status = undefined
    await tells(moot, feed, 'let in')
  })

  test.each(both)('a proxy that is not there: %s over %s', async (way, scheme) => {
    // (Nobody listens on port 9.)
    const [, feed] = await client(way, scheme, 'http://me:s3cret-word@127.0.0.1:9')
    const { text } = await feed.tool('subscribe', { space_id: SPACE })
    expect(text).toMatch(/ECONNREFUSED.*\(through the proxy 127\.0\.0\.1:9\).*The subscription is kept/s)
    expect(text + feed.log).not.toContain('s3cret-word')
  })

  test.each(both)(
    'a proxy that swallows what it is asked holds up nobody for long: %s over %s',
    async (way, scheme) => {
      const proxy = await httpProxy()
      const [{ ALL_PROXY = '' }, line] = await lineTo(proxy)
      line.swallow = true
      const [moot, feed] = await client(way, scheme, ALL_PROXY, { limits: { handshakeMs: 100, httpMs: 100 } })
      const { text } = await feed.tool('subscribe', { space_id: SPACE })
      expect(text).toMatch(/no (whole )?answer .*within 100 ms \(through the proxy localhost:\d+\).*is kept/s)
      line.swallow = false
      await tells(moot, feed, 'no more')
      await eventually('what was given up is gone', () => line.connections <= 3)
    },
  )
})

describe.each([
  ['http', 'http'],
  ['https', 'http'],
  ['https', 'https'],
] as const)('over %s in a tunnel of a proxy that speaks %s', (scheme, spoken) => {
  const ours = (): Promise<HttpProxy> => httpProxy({ tls: spoken === 'https' })

  async function start(changes: Changes = {}): Promise<[Simulator, FeedClient, TcpProxy]> {
    const { moot, env } = await place(scheme)
    const [through, line] = await lineTo(await ours())
    const client = await connected(moot, { ...env, ...through, CONVO_SPACE_ID: SPACE }, changes)
    await tells(moot, client, 'begun')
    expect(line.accepted).toBeGreaterThan(1)
    return [moot, client, line]
  }

  test('a proxy that dies takes nothing with it: what is said meanwhile is told when it is back', async () => {
    const [moot, client, line] = await start()
    await line.refuse()
    line.cut()
    await eventually('it is noticed', () => client.pushStatuses(SPACE).some(({ state }) => state === 'down'))
    moot.publish(SPACE, { text: '@MyAgent meanwhile' })
    await eventually('an attempt', () => client.pushStatuses(SPACE).at(-1)?.state === 'retrying')
    await line.listen()
    await client.hears(2)
    await tells(moot, client, 'again')
    expect(client.contents.map((content) => content.split('@MyAgent ').at(-1))).toEqual([
      'begun',
      'meanwhile',
      'again',
    ])
    const down = client.pushStatuses(SPACE).find(({ state }) => state === 'down')
    expect(down?.reason).toMatch(/\(through the proxy localhost:\d+\)$/)
    const tried = client.pushStatuses(SPACE).find(({ state }) => state === 'retrying')
    expect(tried?.reason).toMatch(/ECONNREFUSED.* \(through the proxy localhost:\d+\)$/)
  })

  test('a tunnel that passes nothing on is noticed and replaced', async () => {
    const [moot, client, line] = await start({ limits: { pingMs: 60, httpMs: 300, historyMs: 300 } })
    line.abandon()
    moot.publish(SPACE, { text: '@MyAgent in silence' })
    await client.hears(2)
    expect(client.log).toMatch(/no sign of life for 60 ms \(through the proxy localhost:\d+\)/)
  })

  test('a quiet one whose server answers pings is left alone', async () => {
    const [moot, client] = await start({ limits: { pingMs: 100, heartbeatMs: 100 } })
    const beats = (): number => moot.sockets.received.filter(({ type }) => type === 'heartbeat').length
    await eventually('several heartbeats', () => beats() >= 6)
    expect(client.pushStatuses(SPACE)).toHaveLength(1)
  })

  test('a frame beyond the limit costs the connection, not the event', async () => {
    const [moot, client] = await start({ limits: { maxFrameBytes: 64 * 1024 } })
    moot.publish(SPACE, { text: `@MyAgent ${'x'.repeat(100_000)}` })
    await client.hears(2)
    expect(client.log).toMatch(/down: lost, or a frame was refused/)
  })

  test('a body beyond the limit is refused', async () => {
    const { moot, env } = await place(scheme)
    const [through, line] = await lineTo(await ours())
    const changes = { limits: { maxBodyBytes: 1_000 } }
    for (let i = 0; i < 50; i++) moot.space(`a-space-with-a-name-of-some-length-${i}`)
    const client = await connected(moot, { ...env, ...through }, changes)
    expect((await client.tool('subscribe')).text).toMatch(/could not list the spaces.*exceeded/)
    expect(line.accepted).toBeGreaterThan(0)
  })

  test('while the client takes nothing, it is not read; then all comes, in order', async () => {
    const [moot, client] = await start({ limits: { maxQueued: 10_000, pingMs: 150 } })
    let open = (): void => undefined
    client.gate = new Promise((resolve) => {
      open = resolve
    })
    for (let i = 0; i < 15_000; i++) moot.publish(SPACE, { text: `@MyAgent ${i} ${'x'.repeat(1_900)}` })
    await eventually('the server has to wait', () => moot.sockets.backlog(SPACE) > 1_000_000)
    const settled = () => takesNothing(moot, SPACE)
    await eventually('nothing is taken any more', settled, 10_000)
    // Several of our pings: not being read ourselves is no reason to give the connection up.
    await pause(600)
    expect(await settled()).toBe(true)
    client.gate = undefined
    open()
    await client.hears(15_001, 20_000)
    const numbers = client.contents.slice(1).map((content) => Number(/@MyAgent (\d+) /.exec(content)?.[1]))
    expect(numbers).toEqual(numbers.map((_, i) => i))
    expect(client.pushStatuses(SPACE)).toHaveLength(1)
  }, 30_000)

  test('the end leaves no connection behind', async () => {
    const [moot, client, line] = await start()
    await client.upstream.close(1_000)
    expect(moot.sockets.closedWith).toEqual([1000])
    await eventually('all of them are gone', () => line.connections === 0)
  })

  test('nor does the end during a handshake that hangs', async () => {
    const { moot, env } = await place(scheme)
    moot.weather.hangHandshakes = true
    const [through, line] = await lineTo(await ours())
    const client = await connected(moot, { ...env, ...through, CONVO_SPACE_ID: SPACE })
    await eventually('it is dialing', () => moot.sockets.waiting > 0)
    expect(line.accepted).toBeGreaterThan(1)
    await client.upstream.close(1_000)
    await eventually('all of them are gone', () => line.connections === 0)
  })
})

describe('the process', () => {
  const args = ['moot', '--space', SPACE, '--hold', '10ms', '--log-level', 'debug']

  test('a login is shown to the proxy, and not in the log', async () => {
    const { moot, env } = await place('https')
    const proxy = await httpProxy({ login: 'me:pr0xy%word' })
    const HTTPS_PROXY = proxy.url.replace('//', '//me:pr0xy%25word@')
    const bridge = BridgeProcess.start(undefined, {
      args,
      env: { ...env, CONVO_API_KEY: moot.key, HTTPS_PROXY, NODE_DEBUG: 'undici,websocket' },
    })
    await bridge.handshake()
    await bridge.waitFor('it is up', () => bridge.stderr.includes(`push stream ${SPACE} up`))
    proxy.status = 407
    moot.sockets.drop('cut')
    await bridge.waitFor('a refusal', () => bridge.stderr.includes('the proxy answered 407'))
    expect(bridge.stderr).toContain(`down: the server or the proxy localhost:${proxy.port} hung up`)
    expect(`${bridge.stderr}${Buffer.concat(bridge.lines)}`).not.toMatch(/pr0xy|bWU6/)
  })

  test('a proxy that dies and comes back is told to the agent, by name, where something is missing', async () => {
    const { moot, env } = await place('https')
    const [{ ALL_PROXY = '' }, line] = await lineTo(await httpProxy())
    const bridge = BridgeProcess.start(undefined, {
      args,
      env: { ...env, CONVO_API_KEY: moot.key, HTTPS_PROXY: ALL_PROXY },
    })
    await bridge.handshake()
    await bridge.waitFor('it is up', () => bridge.stderr.includes(`push stream ${SPACE} up`))
    moot.publish(SPACE, { text: '@MyAgent first' })
    await bridge.waitFor('the first', () => bridge.channel().length === 1)
    await line.refuse()
    line.cut()
    moot.space(SPACE).events = []
    await bridge.waitFor('it is noticed', () => bridge.stderr.includes(`push stream ${SPACE} down`))
    await line.listen()
    await bridge.waitFor('the notice', () => bridge.channel().length === 2, 15_000)
    expect(bridge.received('notifications/claude/channel')[1]?.params).toMatchObject({
      meta: {
        event_type: 'channel_gap',
        stream: SPACE,
        reason: expect.stringContaining(`(through the proxy ${new URL(ALL_PROXY).host})`),
      },
    })
  })

  test.each([
    [
      'socks5://127.0.0.1:9',
      /^error: the proxy in ALL_PROXY is not an http or https URL\ntry: set ALL_PROXY/,
    ],
    ['http://user:50%off@127.0.0.1:9', /^error: .*percent-encoded\ntry: /],
  ])('ALL_PROXY=%s is said before the first byte, and exits with 2', async (ALL_PROXY, words) => {
    const bridge = BridgeProcess.start(undefined, { args, env: { CONVO_API_KEY: 'convo_key', ALL_PROXY } })
    bridge.send({ jsonrpc: '2.0', id: 1, method: 'ping' })
    expect((await bridge.gone()).code).toBe(2)
    expect(bridge.stderr).toMatch(words)
    expect(bridge.stderr).not.toContain('50%off')
    expect(bridge.lines).toEqual([])
  })

  test('listen --moot goes the same way', async () => {
    const { moot, env } = await place('http')
    const proxy = await httpProxy()
    const { CONVO_API_URL = '', CONVO_ALLOW_HTTP: _, ...rest } = env
    const listening = BridgeProcess.start(undefined, {
      args: ['listen', '--moot', CONVO_API_URL, '--allow-http', '--count', '1', '--for', '20s'],
      env: { ...rest, CONVO_API_KEY: moot.key, HTTP_PROXY: proxy.url },
    })
    await eventually('the space is followed', () => moot.sockets.count(SPACE) > 0, 10_000)
    moot.publish(SPACE, { text: '@MyAgent are you there?' })
    expect((await listening.gone()).code).toBe(0)
    expect(proxy.asked.length).toBe(1)
  })
})

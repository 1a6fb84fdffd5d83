/** The far side without a process around it, where a process would have to wait too long, or hides too much. */

import net, { type AddressInfo, createServer } from 'node:net'
import { Client, type Dispatcher } from 'undici'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { BridgeError } from '../../src/errors.ts'
import { DEFAULT_TIMING, type HttpConfig } from '../../src/http/config.ts'
import { Exchange } from '../../src/http/exchange.ts'
import { Liveness } from '../../src/http/liveness.ts'
import { throughProxy } from '../../src/http/network.ts'
import type { Outcome } from '../../src/http/outcome.ts'
import { openHttp } from '../../src/http/upstream.ts'
import { compose } from '../../src/protocol.ts'
import { Abort, systemClock } from '../../src/retry.ts'
import type { Upstream } from '../../src/sides.ts'
import type { Status } from '../../src/status.ts'
import { eventually, pause } from '../support/eventually.ts'
import { httpConfig } from '../support/http-config.ts'
import { initialize, initialized } from '../support/messages.ts'
import { type Exchange as Received, ScriptedServer } from '../support/scripted-server.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'

const subscribe = { jsonrpc: '2.0', id: 1, method: 'resources/subscribe', params: { uri: 'test://a' } }

/** The far side in front of `server`, and what it has delivered and reported; closed when the test ends. */
function connect(
  server: ScriptedServer,
  more: Partial<HttpConfig>,
): { upstream: Upstream; delivered: string[]; reported: Status[] } {
  const delivered: string[] = []
  const reported: Status[] = []
  const upstream = openHttp(httpConfig(server.url, more))({
    deliver: (message) => void delivered.push(message.raw.toString()),
    report: (status) => reported.push(status),
  })
  onTestFinished(() => upstream.close(100))
  return { upstream, delivered, reported }
}

/** The same, its handshake made. */
async function connected(
  server: ScriptedServer,
  more: Partial<HttpConfig> = {},
): Promise<ReturnType<typeof connect>> {
  const far = connect(server, more)
  await far.upstream.send(compose(initialize()))
  await far.upstream.send(compose(initialized))
  return far
}

test('a GET that a balancer has swallowed is made again, and one that only begins late is not cut for ever', async () => {
  const server = await ScriptedServer.start()
  let swallowed = 3
  server.before((x) => x.request.method === 'GET' && swallowed-- > 0)
  await connected(server, { headersMs: 100 })
  await eventually('the push stream', () => server.listening())
  const at = server.of('GET').map((each) => each.at)
  const gaps = at.slice(1).map((each, i) => each - (at[i] ?? 0))
  // 100, 200 and 400 ms, and the delays of the backoff.
  expect(gaps).toHaveLength(3)
  expect(gaps[2]).toBeGreaterThanOrEqual(390)
})

test('an initialize that waits for a notification is withdrawn by its cancellation: nothing is sent', async () => {
  const server = await ScriptedServer.start()
  server.before((x) => x.rpc.method === 'notifications/x')
  const { upstream, delivered } = await connected(server, { barrierMs: 200 })
  void upstream.send(compose({ jsonrpc: '2.0', method: 'notifications/x' })).catch(() => undefined)
  await eventually('the notification', () => server.posts('notifications/x').length === 1)
  const before = delivered.length
  const opening = upstream.send(compose(initialize(5)))
  const requestId = 5
  await upstream.send(compose({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId } }))
  await opening
  expect(delivered).toHaveLength(before)
  expect(server.posts('initialize')).toHaveLength(1)
  expect(server.posts('notifications/cancelled')).toHaveLength(0)
})

test('of two that initialize at once while the server is away the first is superseded', async () => {
  const server = await ScriptedServer.start()
  await server.down()
  const { upstream } = connect(server, { patienceMs: 1_000 })
  const first = upstream.send(compose(initialize(1)))
  const second = upstream.send(compose(initialize(2)))
  await expect(first).rejects.toMatchObject({ code: 'SUPERSEDED' })
  await expect(second).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' })
})

test('a server whose headers came by themselves is not given ever more time for them', async () => {
  const server = await ScriptedServer.start()
  await connected(server, {
    headersMs: 100,
    backoff: { ...DEFAULT_TIMING.backoff, baseMs: 10, capMs: 20 },
  })
  await eventually('the push stream', () => server.listening())
  await pause(150)
  let swallowed = 6
  server.before((x) => x.request.method === 'GET' && swallowed-- > 0)
  const asked = server.of('GET').length
  server.cutAll()
  await eventually('the push stream again', () => server.listening())
  const at = server
    .of('GET')
    .slice(asked)
    .map((each) => each.at)
  expect(at).toHaveLength(7)
  // 600 ms and the delays of the backoff; doubled each time it would be 6,300.
  expect((at.at(-1) ?? 0) - (at[0] ?? 0)).toBeLessThan(4_000)
})

test('how long a server asked to wait before its stream is asked for again is over with its session', async () => {
  const server = await ScriptedServer.start()
  let asked = 0
  server.before((x) => x.request.method === 'GET' && ++asked === 1 && x.stream().write('retry: 60000\n\n'))
  const { upstream } = await connected(server)
  await eventually('the first GET', () => asked === 1)
  server.wipe()
  await upstream.send(compose(subscribe))
  await eventually('the stream of the next session', () => server.listening())
  server.session.push.cut()
  await eventually('it is asked for again', () => asked === 3)
})

test('a GET that gets no headers is no word of the session: a ping finds out that it is gone', async () => {
  const server = await ScriptedServer.start()
  const far = await connected(server, { headersMs: 100 })
  await eventually('the push stream', () => server.listening())
  // A server that holds back whatever it does not know: only a POST is told that the session is gone.
  const gone = server.of('GET')[0]?.headers['mcp-session-id']
  server.before((x) => x.request.method === 'GET' && x.request.headers['mcp-session-id'] === gone)
  server.wipe()
  server.cutAll()
  await eventually('the push stream of a new session', () => server.listening())
  server.push({ jsonrpc: '2.0', method: 'notifications/x' })
  await eventually('what is pushed then', () => far.delivered.join().includes('notifications/x'))
})

test('a server that has no push stream, in words of its own, is asked seldom after a minute', async () => {
  const server = await ScriptedServer.start()
  server.before((x) => (x.request.method === 'GET' ? x.reply(400, 'what?') : false))
  let minute = 0
  const clock = { now: () => systemClock.now() + minute, uptime: () => systemClock.uptime() + minute }
  const backoff = { ...DEFAULT_TIMING.backoff, baseMs: 10, capMs: 20 }
  const delays: number[] = []
  const upstream = openHttp(httpConfig(server.url, { clock, backoff, clockJumpMs: 3_600_000 }))({
    deliver: () => undefined,
    report: (status) => status.kind === 'push' && delays.push(status.delayMs ?? 0),
  })
  onTestFinished(() => upstream.close(100))
  await upstream.send(compose(initialize()))
  await upstream.send(compose(initialized))
  await eventually('some attempts', () => delays.length > 8)
  expect(Math.max(...delays)).toBeLessThanOrEqual(20)
  minute = 61_000
  await eventually('a long pause', () => (delays.at(-1) ?? 0) >= 15_000)
})

test.each([true, false])(
  'a push stream that is taken for a minute is warned of, where asked for: %s',
  async (stateful) => {
    const server = await ScriptedServer.start()
    server.before((x) => (x.request.method === 'GET' ? x.reply(409) : false))
    let minute = 0
    const clock = { now: () => systemClock.now() + minute, uptime: () => systemClock.uptime() + minute }
    const backoff = { ...DEFAULT_TIMING.backoff, baseMs: 10, capMs: 20 }
    const severe: unknown[] = []
    const upstream = openHttp(httpConfig(server.url, { clock, backoff, stateful, clockJumpMs: 3_600_000 }))({
      deliver: () => undefined,
      report: (status) => status.kind === 'push' && severe.push(status.severe),
    })
    onTestFinished(() => upstream.close(100))
    await upstream.send(compose(initialize()))
    await upstream.send(compose(initialized))
    await eventually('some attempts', () => severe.length > 4)
    expect(severe).not.toContain(true)
    minute = 61_000
    const before = severe.length
    await eventually('more of them', () => severe.length > before + 4)
    expect(severe.at(-1)).toBe(stateful || undefined)
  },
)

test('a renewal that comes to its end after the client has initialized again is none: its session ends', async () => {
  const server = await ScriptedServer.start()
  const { upstream, delivered } = await connected(server, { patienceMs: 60_000 })
  server.wipe()
  let again = (): void => {}
  const isOurs = (x: Received): boolean => x.rpc.id?.startsWith('"chamade') === true
  server.on('initialize', async (x) => {
    if (isOurs(x)) await pause(800)
    else await new Promise<void>((resolve) => (again = resolve))
    server.welcome(x)
  })
  server.on('notifications/initialized', async (x) => {
    await pause(800)
    x.reply(202)
  })
  const lost = upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' })).catch(String)
  await eventually('the renewal', () => server.posts('initialize').length === 2)
  const second = upstream.send(compose(initialize(2)))
  expect(await lost).toMatch(/initialized again/)
  await eventually('the end of the renewed session', () => server.of('DELETE').length > 0)
  await eventually('the second', () => server.posts('initialize').length === 3)
  expect(server.posts('initialize').map((post) => post.rpc?.id)).toEqual(['0', expect.any(String), '2'])
  again()
  await second
  expect(delivered.at(-1)).toContain('"id":2,"result"')
  expect(server.live()).toHaveLength(1)
})

test('the session of a renewal that failed is still being ended at the goodbye: that is waited for', async () => {
  const server = await ScriptedServer.start()
  const { upstream } = await connected(server)
  server.wipe()
  let refused = 0
  server.on('notifications/initialized', (x) => x.reply(refused++ === 0 ? 503 : 202))
  let first: (() => void) | undefined
  server.before((x) => {
    if (x.request.method !== 'DELETE' || server.of('DELETE').length > 1) return false
    first = () => x.reset()
    return true
  })
  await upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' }))
  const cut = await eventually('it is being ended', () => first)
  const closed = upstream.close(1_000)
  await pause(20)
  cut()
  await closed
  expect([...server.sessions.values()].map((session) => session.endedBy)).toEqual([
    'wipe',
    'delete',
    'delete',
  ])
})

test('a renewal that is put off, of a server that refuses each session, is not begun in the goodbye', async () => {
  const server = await ScriptedServer.start()
  server.before((x) => x.request.method === 'GET' || x.request.method === 'DELETE')
  const backoff = { ...DEFAULT_TIMING.backoff, baseMs: 60_000, capMs: 60_000 }
  const { upstream } = await connected(server, { backoff, random: () => 1 })
  for (const method of ['ping', 'tools/call']) server.on(method, (x) => x.error(-32000, 'no session', 400))
  await expect(upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' }))).rejects.toThrow(
    'keeps forgetting the session',
  )
  expect(server.posts('initialize')).toHaveLength(3)
  await upstream.close(200)
  expect(server.posts('initialize')).toHaveLength(3)
})

test('a client that takes its time over an answer does not make the session look alive meanwhile', async () => {
  const server = await ScriptedServer.start()
  let passed = 0
  const clock = { now: () => systemClock.now() + passed, uptime: systemClock.uptime }
  let readOn: (() => void) | undefined
  const downAt: number[] = []
  const upstream = openHttp(httpConfig(server.url, { clock, clockJumpMs: 3_600_000 }))({
    deliver: (message) =>
      message.raw.includes('"id":1') ? new Promise((resolve) => (readOn = resolve)) : undefined,
    report: (status) => status.kind === 'push' && status.state === 'down' && downAt.push(status.at),
  })
  onTestFinished(() => upstream.close(100))
  await upstream.send(compose(initialize()))
  await upstream.send(compose(initialized))
  await eventually('the push stream', () => server.listening())
  const call = upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' }))
  const read = await eventually('its answer', () => readOn)
  passed = 60_000
  read()
  await call
  server.wipe()
  await upstream.send(compose({ jsonrpc: '2.0', id: 2, method: 'tools/call' }))
  expect(downAt).toHaveLength(1)
  expect(downAt[0]).toBeLessThan(systemClock.now() + 30_000)
})

test('an initialize does not wait for a renewal whose own is never answered', async () => {
  const server = await ScriptedServer.start()
  const { upstream, delivered } = await connected(server, { patienceMs: 60_000 })
  server.wipe()
  server.on('initialize', (x) => x.rpc.id?.startsWith('"chamade') || server.welcome(x))
  void upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' })).catch(() => undefined)
  await eventually('the renewal', () => server.posts('initialize').length === 2)
  void upstream.send(compose(initialize(2))).catch(() => undefined)
  await eventually('its answer', () => delivered.at(-1)?.includes('"id":2,"result"'), 5_000)
})

test('an initialize does not wait for a renewal whose initialized is never answered: its session ends', async () => {
  const server = await ScriptedServer.start()
  const { upstream, delivered } = await connected(server, { patienceMs: 60_000 })
  server.wipe()
  server.on('notifications/initialized', () => undefined)
  void upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' })).catch(() => undefined)
  await eventually('the renewal', () => server.posts('notifications/initialized').length === 2)
  void upstream.send(compose(initialize(2))).catch(() => undefined)
  await eventually('its answer', () => delivered.at(-1)?.includes('"id":2,"result"'), 5_000)
  await upstream.close(1_000)
  expect([...server.sessions.values()].map((session) => session.endedBy)).toEqual([
    'wipe',
    'delete',
    'delete',
  ])
})

test('an initialize that waits for the end of a renewal, and is followed by another, ends then and sends nothing', async () => {
  const server = await ScriptedServer.start()
  const { upstream } = await connected(server, { privateLimitMs: 60_000, patienceMs: 60_000 })
  server.wipe()
  let renewal = (): void => {}
  server.on('initialize', (x) => {
    if (x.rpc.id?.startsWith('"chamade')) renewal = () => server.welcome(x)
    else server.welcome(x)
  })
  void upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' })).catch(() => undefined)
  await eventually('the renewal', () => server.posts('initialize').length === 2)
  const second = upstream.send(compose(initialize(2)))
  await pause(20)
  const third = upstream.send(compose(initialize(3)))
  await expect(second).rejects.toThrow('initialized again')
  renewal()
  await third
  expect(server.posts('initialize').map((post) => post.rpc?.id)).toEqual(['0', expect.any(String), '3'])
})

test('an initialize that waits for the end of the session before, and is followed by another, sends nothing', async () => {
  const server = await ScriptedServer.start()
  const { upstream } = await connected(server)
  let deleted = (): void => {}
  server.before((x) => {
    if (x.request.method !== 'DELETE') return false
    deleted = () => x.reply(200)
    return true
  })
  const second = upstream.send(compose(initialize(2))).catch(String)
  await eventually('the DELETE', () => server.of('DELETE').length === 1)
  const third = upstream.send(compose(initialize(3)))
  deleted()
  expect(await second).toMatch(/initialized again/)
  await third
  expect(server.posts('initialize').map((post) => post.rpc?.id)).toEqual(['0', '3'])
})

test('a request of a pipe, whose last attempt at a session comes late, says why there is none', async () => {
  const server = await ScriptedServer.start()
  let passed = 0
  const clock = { now: systemClock.now, uptime: () => systemClock.uptime() + passed }
  server.on('notifications/initialized', async (x) => {
    // The first leaves the second hardly any time.
    if (passed > 0) await pause(300)
    passed = 9_850
    x.reply(503)
  })
  const { upstream } = connect(server, { clock, patienceMs: 10_000 })
  const list = upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/list' }))
  await expect(list).rejects.toThrow('took no initialized: HTTP 503')
})

test('requests of a pipe, of which one after the other asks for a session in vain, all say why there is none', async () => {
  const server = await ScriptedServer.start()
  await server.down()
  const { upstream } = connect(server, { patienceMs: 200 })
  const ask = (id: number) =>
    upstream.send(compose({ jsonrpc: '2.0', id, method: 'tools/list' })).catch(String)
  const said = await Promise.all([1, 2, 3, 4, 5].map(ask))
  expect(said.filter((each) => !String(each).includes('ECONNREFUSED'))).toEqual([])
})

test('a call that finds its session gone, and no other to be had, is told so and not what the server said to initialize', async () => {
  const server = await ScriptedServer.start()
  const { upstream } = connect(server, { patienceMs: 100 })
  await upstream.send(compose(initialize()))
  server.wipe()
  server.on('initialize', (x) => x.error(-32600, 'no more of you', 400))
  const failure = await upstream
    .send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' }))
    .catch((error: BridgeError) => error.toRpcError())
  expect(failure).toMatch(
    /refused to initialize again: HTTP 400: .*no more of you.*\. Try: look .*nothing was run.*"SERVER_REFUSED"/,
  )
})

test('a call to a server whose processes do not share their sessions is told of that', async () => {
  const server = await ScriptedServer.start()
  const { upstream } = connect(server, { patienceMs: 100 })
  await upstream.send(compose(initialize()))
  server.before((x) => x.request.session !== undefined && server.refuseLost(x) === undefined)
  void upstream.send(compose(initialized)).catch(() => undefined)
  const failure = await upstream
    .send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' }))
    .catch((error: BridgeError) => error.toRpcError())
  expect(failure).toMatch(/lost it at once\. Try: try .*may not share their sessions; nothing was run/)
})

test.each([
  ['is answered by a gateway', (x: Received) => x.reply(502)],
  ['is cut off', (x: Received) => x.reset()],
])('a subscription that %s in a renewal is said again', async (_, fail) => {
  const server = await ScriptedServer.start()
  const { upstream } = await connected(server)
  await upstream.send(compose(subscribe))
  server.wipe()
  let failed = 0
  server.before((x) => x.rpc.method === 'resources/subscribe' && failed++ === 0 && fail(x) === undefined)
  await upstream.send(compose({ jsonrpc: '2.0', id: 2, method: 'tools/call' }))
  const said = server.posts('resources/subscribe').filter((post) => post.session === server.session.id)
  expect(said).toHaveLength(2)
})

test('a session made anew that lets nobody in, not even for its initialized, is left for another: what was set is set in that', async () => {
  const server = await ScriptedServer.start({ capabilities: { resources: { subscribe: true } } })
  const { upstream, reported } = await connected(server)
  await upstream.send(compose(subscribe))
  const [first] = server.sessions.keys()
  const isSecond = (x: Received): boolean => x.session === [...server.sessions.values()][1]
  server.before((x) => x.session !== undefined && isSecond(x) && x.request.method === 'POST' && x.reply(401))
  server.wipe()
  server.cutAll()
  await eventually('the next session', () => server.listening())
  expect(server.session.id).not.toBe(first)
  expect(server.sessions.size).toBe(3)
  const told = server.posts('resources/subscribe').filter(({ status }) => status === 200)
  expect(told.map(({ session }) => session)).toEqual([first, server.session.id])
  expect(reported.filter(({ kind }) => kind === 'note')).toEqual([])
})

test('a subscription that an old process answers by 404 all through a renewal is said again later', async () => {
  const server = await ScriptedServer.start()
  const { upstream } = await connected(server)
  await upstream.send(compose(subscribe))
  server.wipe()
  let old = 3
  server.before((x) => x.rpc.method === 'resources/subscribe' && old-- > 0 && x.reply(404) === undefined)
  await upstream.send(compose({ jsonrpc: '2.0', id: 2, method: 'tools/call' }))
  const said = () => server.posts('resources/subscribe').filter((post) => post.session === server.session.id)
  await eventually('it is taken', () => said().at(-1)?.status === 200, 4_000)
  expect(said().map(({ status }) => status)).toEqual([404, 404, 404, 200])
  expect(server.sessions.size).toBe(2)
})

test('a 401 of an old process in a session just made does not make the next loss that is told by 401 a matter of the key', async () => {
  const server = await ScriptedServer.start({ push: false })
  const refuse = (x: Received): void => x.reply(401)
  server.refuseLost = refuse
  let passed = 0
  const clock = { now: systemClock.now, uptime: () => systemClock.uptime() + passed }
  const { upstream } = await connected(server, { clock })
  const list = () => upstream.send(compose({ jsonrpc: '2.0', id: 2, method: 'tools/list' }))
  await list()
  server.wipe()
  let old = 1
  server.before(
    (x) =>
      x.rpc.method === 'tools/list' &&
      x.session?.endedBy === undefined &&
      old-- > 0 &&
      refuse(x) === undefined,
  )
  await expect(list()).rejects.toMatchObject({ code: 'KEY_MISSING' })
  await list()
  server.wipe()
  await expect(list()).rejects.toMatchObject({ code: 'KEY_MISSING' })
  passed = 10_000
  await list()
  server.wipe()
  await list()
})

test('a 403 to pings and one tool alone costs no session again, however long after', async () => {
  const server = await ScriptedServer.start({ push: false })
  server.before((x) => ['ping', 'tools/call'].includes(x.rpc.method ?? '') && (x.reply(403) ?? true))
  let passed = 0
  const clock = { now: systemClock.now, uptime: () => systemClock.uptime() + passed }
  const { upstream } = await connected(server, { clock })
  const send = (method: string) => upstream.send(compose({ jsonrpc: '2.0', id: 2, method }))
  const sessions: number[] = []
  for (let round = 0; round < 4; round++) {
    await expect(send('tools/call')).rejects.toThrow('403')
    sessions.push(server.sessions.size)
    await send('tools/list')
    passed += 10_000
  }
  expect(new Set(sessions).size).toBe(1)
})

test('a server that asks to be left alone when it hears initialized is: it begins no session meanwhile', async () => {
  const server = await ScriptedServer.start()
  const { upstream } = await connected(server)
  let busy = 1
  server.on('notifications/initialized', (x) =>
    busy-- > 0 ? x.reply(429, '', { 'retry-after': '1' }) : x.reply(202),
  )
  server.wipe()
  server.cutAll()
  await upstream.send(compose({ jsonrpc: '2.0', id: 2, method: 'tools/list' }))
  const [, refused, next] = server.posts('initialize')
  expect((next?.at ?? 0) - (refused?.at ?? 0)).toBeGreaterThanOrEqual(950)
})

test('a subscription that a server just started takes long over in a renewal is given the time', async () => {
  const server = await ScriptedServer.start()
  const { upstream } = await connected(server)
  await upstream.send(compose(subscribe))
  server.wipe()
  server.on('resources/subscribe', async (x) => {
    await pause(4_000)
    x.result({})
  })
  await upstream.send(compose({ jsonrpc: '2.0', id: 2, method: 'tools/call' }))
  const said = server.posts('resources/subscribe').filter((post) => post.session === server.session.id)
  expect(said.map(({ aborted }) => aborted)).toEqual([false])
})

test('a subscription that the goodbye ends in a renewal is not said to be refused', async () => {
  const server = await ScriptedServer.start()
  const { upstream, reported } = await connected(server)
  await upstream.send(compose(subscribe))
  server.wipe()
  server.on('resources/subscribe', () => undefined)
  const call = upstream.send(compose({ jsonrpc: '2.0', id: 2, method: 'tools/call' })).catch(String)
  await eventually('it is said again', () => server.posts('resources/subscribe').length === 2)
  await upstream.close(300)
  await call
  // It would be said now.
  await pause(20)
  expect(reported.filter(({ kind }) => kind === 'note')).toEqual([])
})

test('a subscription of before the client has initialized again is not said to be refused', async () => {
  const server = await ScriptedServer.start()
  const { upstream, reported } = await connected(server)
  await upstream.send(compose(subscribe))
  let held: Received | undefined
  server.on('resources/subscribe', (x) => {
    held = x
  })
  server.wipe()
  server.cutAll()
  await eventually('it is said again', () => held !== undefined)
  await upstream.send(compose(initialize()))
  held?.error(-32602, 'no such resource', 200)
  await eventually('that is heard', () => server.posts('resources/subscribe')[1]?.status === 200)
  // It would be said now.
  await pause(50)
  expect(reported.filter(({ kind }) => kind === 'note')).toEqual([])
})

test('a session in which nothing but events came was not renewed in vain: the next comes at once', async () => {
  const server = await ScriptedServer.start()
  const backoff = { ...DEFAULT_TIMING.backoff, baseMs: 60_000, capMs: 60_000 }
  const { delivered } = await connected(server, { backoff, random: () => 1 })
  for (const content of ['first', 'second', 'third', 'fourth']) {
    await eventually('the push stream', () => server.listening())
    server.pushChannel(content)
    await eventually('its event', () => delivered.at(-1)?.includes(content))
    server.session.push.cut()
    server.wipe()
  }
  await eventually('the last stream', () => server.listening())
})

test('a call that waits to be sent again goes as soon as the session is made anew', async () => {
  const server = await ScriptedServer.start()
  const backoff = { ...DEFAULT_TIMING.backoff, baseMs: 60_000, capMs: 60_000 }
  const { upstream } = await connected(server, { backoff, random: () => 1, patienceMs: 120_000 })
  const recovered = server.before((x) => (x.rpc.method === 'tools/list' ? x.reply(502) : false))
  const list = upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/list' }))
  await eventually('its second attempt', () => server.posts('tools/list').length === 2)
  recovered()
  server.wipe()
  await upstream.send(compose({ jsonrpc: '2.0', id: 2, method: 'tools/call' }))
  await list
  expect(server.posts('tools/list').map(({ status }) => status)).toEqual([502, 502, 200])
})

test('a call whose answer is asked for again in vain fails as soon as the session is made anew', async () => {
  const server = await ScriptedServer.start()
  const backoff = { ...DEFAULT_TIMING.backoff, baseMs: 60_000, capMs: 60_000 }
  const { upstream } = await connected(server, { backoff, random: () => 1, resumeMs: 120_000 })
  await eventually('the push stream', () => server.listening())
  server.on('tools/call', (x) => {
    x.response.writeHead(200, { 'content-type': 'text/event-stream' })
    x.response.end('id: 7\ndata:\n\n')
  })
  server.before((x) => (x.request.headers['last-event-id'] === '7' ? x.reply(503) : false))
  const call = upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' }))
  const resumes = () => server.of('GET').filter((x) => x.headers['last-event-id'] === '7').length
  const failed = expect(call).rejects.toMatchObject({ code: 'RESPONSE_LOST' })
  await eventually('its second attempt', () => resumes() === 2)
  server.wipe()
  await upstream.send(compose({ jsonrpc: '2.0', id: 2, method: 'tools/list' }))
  await failed
})

test('a session whose initialize has named it and is never answered to its end is ended at the goodbye', async () => {
  const server = await ScriptedServer.start()
  server.on('initialize', (x) => {
    x.response
      .writeHead(200, { 'content-type': 'text/event-stream', 'mcp-session-id': 'half' })
      .flushHeaders()
  })
  const { upstream } = connect(server, {})
  void upstream.send(compose(initialize())).catch(() => undefined)
  await eventually('the initialize', () => server.posts('initialize').length === 1)
  await upstream.close(300)
  expect(server.of('DELETE').map((each) => each.session)).toEqual(['half'])
})

describe('a first initialize without an answer', () => {
  test('that a balancer has swallowed leaves time for another', async () => {
    const server = await ScriptedServer.start()
    let swallowed = 0
    server.before((x) => x.rpc.method === 'initialize' && swallowed++ === 0)
    const { upstream, delivered } = connect(server, { patienceMs: 2_500 })
    await upstream.send(compose(initialize()))
    expect(delivered).toEqual([expect.stringContaining('"id":0,"result"')])
    expect(server.posts('initialize')).toHaveLength(2)
  })

  test('does not keep another waiting for longer, the longer the patience is', async () => {
    const server = await ScriptedServer.start()
    let swallowed = 0
    server.before((x) => x.rpc.method === 'initialize' && swallowed++ === 0)
    const { upstream, delivered } = connect(server, { patienceMs: 60_000, privateLimitMs: 2_500 })
    await upstream.send(compose(initialize()))
    expect(delivered).toEqual([expect.stringContaining('"id":0,"result"')])
    expect(server.posts('initialize')).toHaveLength(2)
  })

  test('of a server that is slow is the one that counts; the session of the other ends', async () => {
    const server = await ScriptedServer.start()
    const open: (() => void)[] = []
    server.on('initialize', (x) => open.push(() => server.welcome(x)))
    const { upstream, delivered } = connect(server, { patienceMs: 2_500 })
    const sent = upstream.send(compose(initialize()))
    await eventually('both', () => open.length === 2)
    open[0]?.()
    await sent
    open[1]?.()
    await eventually('the end of the second', () => server.of('DELETE').length === 1)
    await upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' }))
    expect(delivered).toHaveLength(2)
    expect([...server.sessions.values()].map((session) => session.endedBy)).toEqual([undefined, 'delete'])
  })

  test('may be why a second one is refused: it is waited for', async () => {
    const server = await ScriptedServer.start()
    const first: Received[] = []
    server.on('initialize', (x) => {
      if (first.length > 0) x.error(-32600, 'already initialized', 400)
      else first.push(x)
    })
    const { upstream, delivered } = connect(server, { patienceMs: 2_500 })
    const sent = upstream.send(compose(initialize()))
    await eventually('the refusal', () => server.posts('initialize')[1]?.status === 400)
    const [x] = first
    if (x !== undefined) server.welcome(x)
    await sent
    expect(delivered).toEqual([expect.stringContaining('"id":0,"result"')])
    expect(server.posts('initialize')).toHaveLength(2)
  })

  test('that fails after a second one was refused does not begin a storm', async () => {
    const server = await ScriptedServer.start()
    const first: Received[] = []
    let refuse = (x: Received): void => x.error(-32600, 'already initialized', 400)
    server.on('initialize', (x) => (first.length > 0 ? refuse(x) : first.push(x)))
    const { upstream } = connect(server, { patienceMs: 2_500 })
    const sent = upstream.send(compose(initialize())).catch((error: unknown) => error)
    await eventually('the refusal', () => server.posts('initialize')[1]?.status === 400)
    refuse = (x) => x.reply(503)
    first[0]?.reply(503)
    expect(await sent).toMatchObject({ code: 'SERVER_UNREACHABLE' })
    expect(server.posts('initialize').length).toBeLessThan(20)
  })
})

test('a request whose server shows another certificate now is told of that', async () => {
  const server = await ScriptedServer.start()
  const url = new URL(server.url)
  const expired = Object.assign(new Error('certificate has expired'), { code: 'CERT_HAS_EXPIRED' })
  let refusing = false
  const stranger = new Client(url.origin)
  stranger.dispatch = (_, handler) => {
    handler.onResponseError?.(undefined as unknown as Dispatcher.DispatchController, expired)
    return true
  }
  // (What has idled for so long is not used again.)
  const clock = { ...systemClock, uptime: () => systemClock.uptime() + (refusing ? 5_000 : 0) }
  const open = (): Dispatcher => (refusing ? stranger : new Client(url.origin))
  const { upstream } = connect(server, {
    proxy: { open, url, variable: 'HTTP_PROXY' },
    clock,
    patienceMs: 700,
  })
  await upstream.send(compose(initialize()))
  refusing = true
  const call = compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' })
  await expect(upstream.send(call)).rejects.toMatchObject({ code: 'CERTIFICATE_REFUSED' })
})

test('where no address of a name answered in time, each is given more', async () => {
  const server = await ScriptedServer.start()
  const dialled: unknown[] = []
  const really = net.connect as (options: object) => net.Socket
  const dial = vi.spyOn(net, 'connect').mockImplementation(((options: object) => {
    dialled.push((options as net.TcpNetConnectOpts).autoSelectFamilyAttemptTimeout)
    if (dialled.length > 2) return really(options)
    const socket = new net.Socket()
    const late = Object.assign(new Error('connect ETIMEDOUT'), { code: 'ETIMEDOUT' })
    const unreachable = Object.assign(new Error('connect ENETUNREACH'), { code: 'ENETUNREACH' })
    const errors = dialled.length === 1 ? [unreachable] : [late, unreachable]
    queueMicrotask(() => socket.destroy(new AggregateError(errors)))
    return socket
  }) as typeof net.connect)
  onTestFinished(() => dial.mockRestore())
  const { upstream } = connect(server, {})
  await upstream.send(compose(initialize()))
  expect(dialled).toEqual([undefined, undefined, 2_500])
})

test('an initialized that a balancer swallows in a renewal leaves time for another attempt', async () => {
  const server = await ScriptedServer.start()
  const { upstream, delivered } = await connected(server, { patienceMs: 900, reopenSpacingMs: 20 })
  server.wipe()
  let swallowed = 0
  server.before((x) => x.rpc.method === 'notifications/initialized' && swallowed++ === 0)
  await upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' }))
  expect(delivered.at(-1)).toContain('"id":1,"result"')
  expect(server.posts('initialize')).toHaveLength(3)
  await eventually('the end of the one that is of no use', () => server.live().length === 1)
})

test('the push stream opens though the server never answers the initialized', async () => {
  const server = await ScriptedServer.start()
  server.before((x) => x.rpc.method === 'notifications/initialized')
  const { upstream } = connect(server, { barrierMs: 30 })
  await upstream.send(compose(initialize()))
  upstream.send(compose(initialized)).catch(() => undefined)
  await eventually('the push stream', () => server.listening())
})

test('a call that was given up leaves no connection, and opens none', async () => {
  const server = await ScriptedServer.start()
  server.before(() => true)
  const proxy = await TcpProxy.start(server.port)
  const exchange = new Exchange(httpConfig(`http://127.0.0.1:${proxy.port}/mcp`))
  onTestFinished(() => exchange.destroy())
  const signals = Array.from({ length: 20 }, () => new Abort())
  const calls = signals.map((signal) => exchange.call({ method: 'POST', body: Buffer.from('{}'), signal }))
  await eventually('all of them', () => server.requests.length === 20)
  for (const signal of signals) signal.abort('enough')
  await Promise.all(calls)
  await eventually('their end', () => proxy.connections === 0)
  await pause(100)
  expect(proxy.accepted).toBe(20)
})

test('a proxy that swallows the wish for a tunnel fails a call as one that was not sent', async () => {
  const swallowing = createServer((socket) => socket.on('error', () => {}).resume())
  await new Promise<void>((resolve) => swallowing.listen(0, '127.0.0.1', resolve))
  const proxy = new URL(`http://127.0.0.1:${(swallowing.address() as AddressInfo).port}`)
  const open = () => throughProxy(proxy, undefined, 50)
  const exchange = new Exchange(
    httpConfig('https://mcp.example.invalid/mcp', { proxy: { open, url: proxy, variable: 'HTTPS_PROXY' } }),
  )
  onTestFinished(() => {
    exchange.destroy()
    swallowing.close()
  })
  const outcome = await exchange.call({ method: 'POST', body: Buffer.from('{}'), signal: new Abort() })
  expect(outcome).toMatchObject({ kind: 'unavailable', sent: false })
  expect(outcome).toMatchObject({ why: `the proxy did not answer (through the proxy ${proxy.host})` })
})

describe('an idle connection', () => {
  /** Two clocks that a sleep, or time, moves on. */
  function exchangeThrough(
    proxy: TcpProxy,
    more: Partial<HttpConfig> = {},
  ): {
    exchange: Exchange
    asleep: (ms: number, runs: boolean) => void
  } {
    const ahead = { now: 0, uptime: 0 }
    const clock = {
      now: () => Date.now() + ahead.now,
      uptime: () => performance.now() + ahead.uptime,
    }
    const exchange = new Exchange(httpConfig(`http://127.0.0.1:${proxy.port}/mcp`, { clock, ...more }))
    onTestFinished(() => exchange.destroy())
    const asleep = (ms: number, runs: boolean): void => {
      ahead.now += ms
      if (runs) ahead.uptime += ms
    }
    return { exchange, asleep }
  }

  function ask(exchange: Exchange, body = '{}'): Promise<Outcome> {
    return exchange.call({ method: 'POST', body: Buffer.from(body), signal: new Abort() })
  }

  test.each([
    ['that stands still in it', false],
    ['that runs on in it', true],
  ])('from before a sleep is not used after it, on a system with an uptime %s', async (_, runs) => {
    const server = await ScriptedServer.start()
    server.before((x) => x.json({}))
    const proxy = await TcpProxy.start(server.port)
    const { exchange, asleep } = exchangeThrough(proxy)
    await Promise.all([ask(exchange), ask(exchange)])
    await ask(exchange)
    expect(proxy.accepted).toBe(2)
    proxy.abandon()
    asleep(3_600_000, runs)
    expect(await Promise.all([ask(exchange), ask(exchange)])).toMatchObject([
      { kind: 'answer' },
      { kind: 'answer' },
    ])
    expect(proxy.accepted).toBe(4)
  })

  test('to a proxy is none either', async () => {
    const server = await ScriptedServer.start()
    server.before((x) => x.json({}))
    const tcp = await TcpProxy.start(server.port)
    const proxy = new URL(`http://127.0.0.1:${tcp.port}`)
    const { exchange, asleep } = exchangeThrough(tcp, {
      url: 'http://mcp.example.invalid/mcp',
      proxy: { open: () => throughProxy(proxy, undefined), url: proxy, variable: 'HTTP_PROXY' },
    })
    await Promise.all([ask(exchange), ask(exchange)])
    await ask(exchange)
    expect(tcp.accepted).toBe(2)
    expect(server.requests[0]?.url).toBe('http://mcp.example.invalid/mcp')
    tcp.abandon()
    asleep(3_600_000, false)
    expect(await ask(exchange)).toMatchObject({ kind: 'answer' })
    expect(tcp.accepted).toBe(3)
  })

  test('is left after 4 s, whatever the server allows, and a busy one is left alone', async () => {
    const server = await ScriptedServer.start()
    let answerLate = (): void => undefined
    server.before((x) => {
      const answer = (): void => x.json({}, 200, { 'keep-alive': 'timeout=300' })
      if (x.request.body.toString() === '{"slow":true}') answerLate = answer
      else answer()
    })
    const proxy = await TcpProxy.start(server.port)
    const { exchange, asleep } = exchangeThrough(proxy)
    const slow = ask(exchange, '{"slow":true}')
    await ask(exchange)
    asleep(3_900, true)
    await ask(exchange)
    expect(proxy.accepted).toBe(2)
    asleep(4_100, true)
    await ask(exchange)
    expect(proxy.accepted).toBe(3)
    answerLate()
    expect(await slow).toMatchObject({ kind: 'answer' })
  })
})

describe('how long a stream may be silent', () => {
  function heard(...beats: number[]): Liveness {
    const liveness = new Liveness(5_000, 90_000)
    for (const at of beats) liveness.beat(at)
    return liveness
  }

  test('comments that come in one go are no cadence', () => {
    const liveness = heard(0, 1, 2, 3, 4)
    expect(liveness.allowedSilenceMs).toBeUndefined()
    liveness.beat(15_000)
    liveness.beat(30_000)
    expect(liveness.allowedSilenceMs).toBe(90_000)
    liveness.beat(45_000)
    expect(liveness.allowedSilenceMs).toBe(3 * 15_000)
  })

  test('of one or two intervals it is not sure: six of them, and no less than it was told', () => {
    expect(heard(0, 15_000).allowedSilenceMs).toBe(90_000)
    expect(heard(0, 15_000, 35_000).allowedSilenceMs).toBe(120_000)
  })

  test('a stream after it is expected to have the pace; one that has it takes back all doubts', () => {
    const liveness = heard(0, 15_000, 30_000, 45_000)
    liveness.begin()
    expect(liveness.allowedSilenceMs).toBe(45_000)
    liveness.suspect()
    liveness.begin()
    expect(liveness.allowedSilenceMs).toBe(90_000)
    for (const at of [500_000, 515_000, 530_000, 545_000]) liveness.beat(at)
    expect(liveness.allowedSilenceMs).toBe(45_000)
    // It had the pace: its end is no reason to give the next one more time.
    liveness.suspect()
    liveness.begin()
    expect(liveness.allowedSilenceMs).toBe(45_000)
  })

  test('an interval in which we were stopped is no part of the pace, whether its end or the next look comes first', () => {
    const liveness = heard(0, 1_000, 2_000, 3_000)
    liveness.awake(3_000)
    liveness.beat(33_000)
    expect(liveness.allowedSilenceMs).toBe(5_000)
    liveness.awake(33_001)
    liveness.awake(34_001)
    liveness.awake(64_001)
    liveness.beat(64_002)
    expect(liveness.allowedSilenceMs).toBe(5_000)
    liveness.awake(65_001)
    liveness.beat(66_002)
    expect(liveness.allowedSilenceMs).toBe(3 * 2_000)
  })

  test('a few comments at the start of each stream are no pace, however many streams there are', () => {
    const liveness = heard()
    for (let at = 0; at < 10_000_000; at += 1_000_000) {
      liveness.begin()
      for (const beat of [at, at + 60, at + 120]) liveness.beat(beat)
      expect(liveness.allowedSilenceMs).toBeUndefined()
    }
  })

  test('a server that gave its pace up is not given up for it again and again', () => {
    const liveness = heard(0, 15_000, 30_000, 45_000)
    const allowed = [1, 2, 3].map(() => {
      liveness.begin()
      const ms = liveness.allowedSilenceMs
      liveness.suspect()
      return ms
    })
    expect(allowed).toEqual([45_000, 90_000, undefined])
  })
})

test('hundreds of open requests are ended in turns: a limit on the goodbye is held while they are', async () => {
  const server = await ScriptedServer.start()
  server.before((x) => x.rpc.method === 'tools/call')
  const { upstream } = connect(server, {})
  await upstream.send(compose(initialize()))
  let turns = 0
  let closed = false
  const endedIn = new Set<number>()
  const calls = [...Array(300).keys()].map((i) =>
    upstream
      .send(compose({ jsonrpc: '2.0', id: i + 1, method: 'tools/call' }))
      .catch(() => endedIn.add(turns)),
  )
  await eventually('all of them', () => server.posts('tools/call').length === calls.length)
  const count = (): void => {
    turns++
    if (!closed) setImmediate(count)
  }
  count()
  await upstream.close(100)
  await Promise.all(calls)
  closed = true
  expect(endedIn.size).toBeGreaterThan(2)
})

test('of a session lost while the client does not read, the break begins where it stopped reading', async () => {
  const server = await ScriptedServer.start()
  const facts: Status[] = []
  let holding = false
  let read = (): void => undefined
  const upstream = openHttp(httpConfig(server.url))({
    deliver: (message) => {
      if (message.kind !== 'notification') return undefined
      holding = true
      return new Promise((resolve) => {
        read = resolve
      })
    },
    report: (fact) => void facts.push(fact),
  })
  onTestFinished(() => upstream.close(100))
  await upstream.send(compose(initialize()))
  await upstream.send(compose(initialized))
  await eventually('the push stream', () => server.listening())
  server.pushChannel('read')
  await eventually('the client to stop reading', () => holding)
  const stoppedAt = Date.now()
  await pause(20)
  server.pushChannel('unread')
  server.wipe()
  await upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' }))
  const down = facts.find((fact) => fact.kind === 'push' && fact.state === 'down')
  expect(down).toMatchObject({ at: expect.any(Number) })
  expect(down?.kind === 'push' && down.at).toBeLessThanOrEqual(stoppedAt)
  read()
})

test('of a stream that breaks while the client does not read, the break begins where it stopped reading', async () => {
  const server = await ScriptedServer.start()
  const proxy = await TcpProxy.start(server.port)
  const facts: Status[] = []
  let gate: Promise<void> | undefined
  const upstream = openHttp(httpConfig(`http://127.0.0.1:${proxy.port}/mcp`))({
    deliver: (message) => (message.kind === 'notification' ? gate : undefined),
    report: (fact) => void facts.push(fact),
  })
  onTestFinished(() => upstream.close(100))
  await upstream.send(compose(initialize()))
  await upstream.send(compose(initialized))
  await eventually('the push stream', () => server.listening())
  let read = (): void => undefined
  gate = new Promise((resolve) => {
    read = resolve
  })
  for (let i = 0; i < 5_000; i++) server.pushChannel('x'.repeat(1_000))
  await pause(300)
  const brokenAt = Date.now()
  proxy.cut()
  await pause(50)
  read()
  const down = (): Status | undefined => facts.find((fact) => fact.kind === 'push' && fact.state === 'down')
  await eventually('the break', () => down() !== undefined)
  const fact = down()
  expect(fact?.kind === 'push' && fact.at).toBeLessThan(brokenAt - 100)
})

test('many requests that wait for the server do not all listen to one signal of the platform, which looks through its listeners at each', async () => {
  const server = await ScriptedServer.start()
  server.before((x) => (x.rpc.method === 'ping' ? x.reply(502) : false))
  const { upstream } = connect(server, { patienceMs: 60_000 })
  await upstream.send(compose(initialize()))
  const listened = vi.spyOn(EventTarget.prototype, 'addEventListener')
  onTestFinished(() => listened.mockRestore())
  for (let id = 1; id <= 100; id++) {
    upstream.send(compose({ jsonrpc: '2.0', id, method: 'ping' })).catch(() => undefined)
  }
  await eventually('each to be refused twice', () => server.posts('ping').length > 200)
  const times = new Map<unknown, number>()
  for (const target of listened.mock.contexts) times.set(target, (times.get(target) ?? 0) + 1)
  expect(times.size).toBeGreaterThan(0)
  expect(Math.max(...times.values())).toBeLessThan(100)
})

test('a request behind many notifications that the server does not answer waits for their time once', async () => {
  const server = await ScriptedServer.start()
  server.before((x) => x.rpc.method === 'notifications/n')
  const { upstream } = connect(server, { barrierMs: 300 })
  await upstream.send(compose(initialize()))
  await upstream.send(compose(initialized))
  const began = systemClock.uptime()
  const numbers = [...Array(30).keys()]
  for (const n of numbers) {
    const params = { n }
    upstream.send(compose({ jsonrpc: '2.0', method: 'notifications/n', params })).catch(() => undefined)
  }
  await upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'ping' }))
  // One after the other they had nine seconds.
  expect(systemClock.uptime() - began).toBeLessThan(4_500)
  await eventually('all of them', () => server.posts('notifications/n').length === 30)
})

test('an answer that was had from a resumed stream leaves no timer behind', async () => {
  const server = await ScriptedServer.start()
  server.on('tools/call', async (x) => {
    const stream = x.stream(true)
    stream.send({ jsonrpc: '2.0', method: 'notifications/progress' })
    await eventually('what was sent', () => delivered.some((raw) => raw.includes('progress')))
    stream.cut()
    stream.send(x.answer({ done: true }))
    stream.finish()
  })
  const resumedSilenceMs = 54_321
  const { upstream, delivered } = connect(server, { resumedSilenceMs })
  await upstream.send(compose(initialize()))
  const set = vi.spyOn(globalThis, 'setTimeout')
  const cleared = vi.spyOn(globalThis, 'clearTimeout')
  onTestFinished(() => [set, cleared].forEach((spy) => void spy.mockRestore()))
  await upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call' }))
  expect(delivered.at(-1)).toContain('done')
  const looks = set.mock.results.filter((_, i) => set.mock.calls[i]?.[1] === resumedSilenceMs)
  expect(looks).toHaveLength(1)
  expect(cleared.mock.calls.flat()).toContain(looks[0]?.value)
})

test('a refusal of the stream, understood when the client has initialized again, is not told of the next stream', async () => {
  const server = await ScriptedServer.start()
  let ping: Received | undefined
  server.on('ping', (x) => {
    ping = x
  })
  const isOpen = server.before((x) => x.request.method === 'GET' && x.reply(403, 'not you'))
  const backoff = { ...DEFAULT_TIMING.backoff, baseMs: 10, capMs: 20 }
  const { upstream, reported } = await connected(server, { backoff })
  await eventually('the question what that means', () => ping !== undefined)
  isOpen()
  await upstream.send(compose(initialize(7)))
  await upstream.send(compose(initialized))
  const pushes = () => reported.flatMap((each) => (each.kind === 'push' ? [each.state] : []))
  await eventually('the next stream', () => pushes().at(-1) === 'up')
  ping?.result()
  await pause(100)
  expect(pushes().at(-1)).toBe('up')
})

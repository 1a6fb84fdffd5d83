/**
 * What takes half a minute by design: slow retries after refusals, the ping of an idle stream, patience at its
 * default. All scenes run
 * side by side in one test, because nearly all of it is waiting.
 */
import { expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually } from '../support/eventually.ts'
import { ScriptedServer, type ServerOptions } from '../support/scripted-server.ts'
import { stateful } from '../support/settings.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'

type Scene = (
  start: (options?: ServerOptions) => Promise<{ server: ScriptedServer; bridge: BridgeProcess }>,
) => Promise<void>

async function flows(server: ScriptedServer, bridge: BridgeProcess, withinMs: number): Promise<void> {
  await eventually('a push stream again', () => server.listening(), withinMs)
  server.push({ jsonrpc: '2.0', method: 'notifications/proof' })
  await bridge.waitFor('an event', () => bridge.received('notifications/proof').length === 1)
}

/** In the middle of a redeploy every GET is refused with `status`, for a while. */
const refused =
  (status: number): Scene =>
  async (start) => {
    const { server, bridge } = await start()
    const stop = server.before((x) => (x.request.method === 'GET' ? x.reply(status) : false))
    server.session.push.cut()
    await bridge.waitFor('a line on stderr', () => bridge.stderr.includes(String(status)), 5_000)
    const refusals = server.of('GET').length
    stop()
    await flows(server, bridge, 35_000)
    // One or two attempts before the rest, not a loop.
    expect(refusals, `${status}`).toBeLessThan(6)
    expect(server.sessions.size, `${status}`).toBe(1)
  }

/** The whole server refuses, as behind a wrong proxy: the renewal too. */
const refusedAltogether =
  (status: number): Scene =>
  async (start) => {
    const { server, bridge } = await start()
    const stop = server.before((x) => x.reply(status))
    await server.restart()
    await bridge.waitFor('a line on stderr', () => bridge.stderr.includes(String(status)), 25_000)
    stop()
    await flows(server, bridge, 40_000)
    expect(server.live()).toHaveLength(1)
  }

/** Sessions wiped, sockets kept, no heartbeat: only our own ping can meet the 404. */
const wipedInSilence: Scene = async (start) => {
  const { server, bridge } = await start()
  const old = server.session
  server.wipe()
  expect(old.push.open).toBe(true)
  await flows(server, bridge, 45_000)
  expect(server.posts('ping').length).toBeGreaterThanOrEqual(1)
  expect(
    server.posts().filter((post) => post.rpc?.method === 'ping' && post.session === old.id),
  ).toHaveLength(1)
}

/** The same, and the server says 400 and not 404: the ping is all there is to tell it. */
const wipedWithoutA404: Scene = async (start) => {
  const { server, bridge } = await start()
  server.refuseLost = (x) => x.error(-32000, 'no valid session', 400)
  server.wipe()
  await flows(server, bridge, 45_000)
}

/** A server that refuses every ping: it costs one session, not one every half a minute. */
const pingsRefused: Scene = async (start) => {
  const { server, bridge } = await start()
  server.on('ping', (x) => x.reply(400, 'what?'))
  await eventually('the second ping of the second session', () => server.posts('ping').length >= 3, 75_000)
  expect(server.posts('initialize')).toHaveLength(2)
  await flows(server, bridge, 5_000)
}

/** The network dies without a word, no heartbeat: the ping gets no answer, the stream is replaced. */
const deadInSilence: Scene = async () => {
  const server = await ScriptedServer.start()
  server.secondStream = 'replace'
  const proxy = await TcpProxy.start(server.port)
  const bridge = await BridgeProcess.connected(`http://127.0.0.1:${proxy.port}/mcp`, stateful)
  await eventually('the push stream', () => server.listening())
  // (Its headers must be through: a GET without any is made anew sooner.)
  server.push({ jsonrpc: '2.0', method: 'notifications/first' })
  await bridge.waitFor('an event', () => bridge.received('notifications/first').length === 1)
  proxy.abandon()
  proxy.swallow = true
  await eventually('a ping into the void', () => proxy.connections > 0, 40_000)
  proxy.swallow = false
  const gets = server.of('GET').length
  await eventually('another stream', () => server.of('GET').length > gets, 20_000)
  await flows(server, bridge, 10_000)
}

/** The first stream opens six seconds after initialized: that is a break, and is told. */
const lateFirst: Scene = async () => {
  const server = await ScriptedServer.start({ capabilities: { experimental: { 'claude/channel': {} } } })
  let from: number | undefined
  server.before((x) => {
    if (x.request.method !== 'GET') return false
    from ??= performance.now()
    return performance.now() - from < 6_000 ? x.reply(503) : false
  })
  const bridge = await BridgeProcess.connected(server.url, stateful)
  await bridge.waitFor(
    'the notice',
    () => bridge.received('notifications/claude/channel').length === 1,
    20_000,
  )
  expect(bridge.received('notifications/claude/channel')[0]?.params?.meta).toMatchObject({
    event_type: 'channel_gap',
  })
}

/** initialize is accepted and never answered: an error after 25 s, before the client gives up at 30 s. */
const hangingInitialize: Scene = async () => {
  const server = await ScriptedServer.start()
  server.on('initialize', () => {})
  const bridge = BridgeProcess.start(server.url)
  const at = performance.now()
  const reply = await bridge.call('initialize', { protocolVersion: '2025-11-25', capabilities: {} }, 29_000)
  expect(reply.error?.data?.code).toBe('SERVER_UNREACHABLE')
  expect(performance.now() - at).toBeGreaterThan(23_000)
}

/** A broken answer with a cursor is sought for 25 s, then it is lost. */
const resumeInVain: Scene = async (start) => {
  const { server, bridge } = await start()
  server.on('tools/call', (x) => {
    const stream = x.stream(true)
    stream.send({
      jsonrpc: '2.0',
      method: 'notifications/progress',
      params: { progressToken: 1, progress: 1 },
    })
  })
  const id = bridge.ask('tools/call')
  await bridge.waitFor('the progress', () => bridge.received('notifications/progress').length === 1)
  await server.down()
  const at = performance.now()
  expect((await bridge.reply(id, 40_000)).error?.data?.code).toBe('RESPONSE_LOST')
  expect(performance.now() - at).toBeGreaterThan(20_000)
  await server.up()
  await flows(server, bridge, 15_000)
}

/** A notification that is never answered is given up after 30 s, and said to be lost. */
const hangingNotification: Scene = async (start) => {
  const { server, bridge } = await start()
  server.on('notifications/x', () => {})
  bridge.notify('notifications/x')
  await bridge.waitFor('the line on stderr', () => bridge.stderr.includes('notifications/x'), 40_000)
  expect((await bridge.call('ping')).result).toEqual({})
}

test('refusals in the middle of a redeploy, a session wiped in silence, a network that dies in silence, patience that ends', {
  timeout: 90_000,
}, async () => {
  const start = async (options: ServerOptions = {}) => {
    const server = await ScriptedServer.start(options)
    const bridge = await BridgeProcess.connected(server.url, stateful)
    await eventually('the push stream', () => server.listening(), 10_000)
    return { server, bridge }
  }
  const scenes: Scene[] = [
    refused(401),
    refused(403),
    refused(405),
    refusedAltogether(401),
    refusedAltogether(404),
    refusedAltogether(405),
    wipedInSilence,
    wipedWithoutA404,
    pingsRefused,
    deadInSilence,
    lateFirst,
    hangingInitialize,
    resumeInVain,
    hangingNotification,
  ]
  const results = await Promise.allSettled(scenes.map((scene) => scene(start)))
  expect(
    results.flatMap((result, i) =>
      result.status === 'rejected' ? [`scene ${i}: ${String(result.reason)}`] : [],
    ),
  ).toEqual([])
})

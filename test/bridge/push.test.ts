/**
 * A push stream that never goes deaf: every fault heals by itself, with no traffic of the client.
 * In each test the client is silent from the fault on.
 */
import { describe, expect, test } from 'vitest'
import { DEFAULT_BACKOFF } from '../../src/retry.ts'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { heard, notification, sse } from '../support/messages.ts'
import { type Exchange, ScriptedServer, type ServerOptions } from '../support/scripted-server.ts'
import { stateful } from '../support/settings.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'

async function listening(
  options: ServerOptions = {},
): Promise<{ server: ScriptedServer; bridge: BridgeProcess }> {
  const server = await ScriptedServer.start(options)
  const bridge = await BridgeProcess.listening(server)
  return { server, bridge }
}

/** Push flows: an event sent now arrives. */
async function flows(server: ScriptedServer, bridge: BridgeProcess, withinMs = 9_000): Promise<void> {
  await eventually('a push stream again', () => server.listening(), withinMs)
  server.push({ jsonrpc: '2.0', method: 'notifications/proof' })
  await bridge.waitFor('the event', () => bridge.received('notifications/proof').length === 1)
}

/** The client's own messages and nothing else reached the server as POSTs in this session, but ours. */
const clientPosts = ['initialize', 'notifications/initialized', 'ping', undefined]

describe('heals by itself', () => {
  const gets = (server: ScriptedServer, times: number, fault: (x: Exchange) => void): void => {
    let left = times
    server.before((x) => (x.request.method === 'GET' && left-- > 0 ? (fault(x) ?? true) : false))
  }

  test.each<[string, (server: ScriptedServer) => unknown]>([
    ['a clean end', (server) => server.session.push.hangUp()],
    ['a reset', (server) => server.session.push.cut()],
    ['a reset of everything', (server) => server.cutAll()],
    [
      'a closed port',
      (server) =>
        server
          .down()
          .then(() => pause(700))
          .then(() => server.up()),
    ],
    ['a redeploy: sessions wiped', (server) => server.restart()],
    ['a redeploy of a second', (server) => server.restart(1_000)],
    [
      'sessions wiped, stream ended',
      (server) => {
        const { push } = server.session
        server.wipe()
        push.hangUp()
      },
    ],
    [
      '502 with HTML from a proxy',
      (server) => {
        gets(server, 3, (x) => x.reply(502, '<html>Bad gateway</html>', { 'content-type': 'text/html' }))
        server.session.push.cut()
      },
    ],
    [
      '500 on the GET',
      (server) => {
        gets(server, 3, (x) => x.reply(500))
        server.session.push.cut()
      },
    ],
    [
      '503 with Retry-After',
      (server) => {
        gets(server, 1, (x) => x.reply(503, '', { 'retry-after': '1' }))
        server.session.push.cut()
      },
    ],
    [
      '409: the server still holds the old stream',
      (server) => {
        gets(server, 4, (x) => x.error(-32000, 'Conflict', 409))
        server.session.push.cut()
      },
    ],
    [
      'resets during the GET',
      (server) => {
        gets(server, 3, (x) => x.reset())
        server.session.push.cut()
      },
    ],
    [
      'a redeploy with initialize refused by 503 at first',
      (server) => {
        let left = 2
        server.on('initialize', (x) => (left-- > 0 ? x.reply(503) : server.welcome(x)))
        return server.restart()
      },
    ],
  ])('%s', async (_, fault) => {
    const { server, bridge } = await listening()
    const before = server.requests.length
    await fault(server)
    await flows(server, bridge)
    expect(server.mostLive).toBeLessThanOrEqual(1)
    expect(server.live()).toHaveLength(1)
    for (const request of server.requests.slice(before)) expect(clientPosts).toContain(request.rpc?.method)
  })

  test('a session wiped under an open stream is found by the next call, and the push moves with it', async () => {
    const { server, bridge } = await listening()
    server.wipe()
    expect((await bridge.call('tools/call')).error).toBeUndefined()
    await flows(server, bridge)
    expect(server.sessions.size).toBe(2)
  })

  test('ten restarts in a row, at odd moments', async () => {
    const { server, bridge } = await listening()
    for (let i = 0; i < 10; i++) {
      await server.restart()
      await pause(i * 17)
    }
    await flows(server, bridge)
    expect(server.mostLive).toBe(1)
  })
})

test('after an outage of 1.5 s ten bridges are back, the last within the cap of the backoff', {
  timeout: 40_000,
}, async () => {
  // How they are spread, and when half of them are back, is luck for ten and arithmetic for a fleet: test/herd.test.ts.
  const server = await ScriptedServer.start()
  await Promise.all([...Array(10)].map(() => BridgeProcess.connected(server.url, stateful)))
  const open = () => server.live().filter((session) => session.push.open)
  await eventually('ten streams', () => open().length === 10, 10_000)
  await server.restart(1_500)
  const upAt = performance.now()
  await eventually('ten streams again', () => open().length === 10, 10_000)
  const back = open().map(({ id }) => {
    const get = server.of('GET').find((each) => each.session === id)
    return (get?.at ?? Number.NaN) - upAt
  })
  const sorted = back.sort((a, b) => a - b).map(Math.round)
  expect(sorted[9]).toBeLessThan(DEFAULT_BACKOFF.capMs + 1_000)
})

test.each([[[]], [['--stateful']]])(
  'a server without session ids whose first GET fails by 500 is asked for its push stream again (%j)',
  async (args) => {
    const server = await ScriptedServer.start({ sessions: false })
    let gets = 0
    server.before((x) => {
      if (x.request.method !== 'GET') return false
      return ++gets === 1 ? x.reply(500, 'starting') : x.stream().send(notification(1))
    })
    const bridge = await BridgeProcess.connected(server.url, { args })
    await bridge.waitFor('the event', () => heard(bridge).includes(1), 8_000)
  },
)

test.each([
  ['retry: 3000000000', (x: Exchange) => x.reply(200, 'retry: 3000000000\n\n', sse)],
  ['Retry-After: 9999999', (x: Exchange) => x.reply(429, '', { 'retry-after': '9999999' })],
])('the push stream is not asked for in a loop after %s', async (_, answer) => {
  const server = await ScriptedServer.start()
  server.before((x) => x.request.method === 'GET' && answer(x))
  const bridge = await BridgeProcess.connected(server.url)
  await eventually('the first', () => server.of('GET').length > 0)
  await pause(300)
  expect(server.of('GET').length).toBeLessThanOrEqual(2)
  expect(bridge.stderr).not.toContain('TimeoutOverflowWarning')
})

describe('cursors', () => {
  test('four clean ends with events in between: five of five, in order, nothing twice, no gap', async () => {
    const { server, bridge } = await listening({
      replay: true,
      capabilities: { experimental: { 'claude/channel': {} } },
    })
    server.push(notification(0))
    await bridge.waitFor('the first', () => heard(bridge).length === 1)
    for (let n = 1; n <= 4; n++) {
      server.session.push.hangUp()
      server.push(notification(n))
      await bridge.waitFor(`event ${n}`, () => heard(bridge).length === n + 1, 8_000)
    }
    expect(heard(bridge)).toEqual([0, 1, 2, 3, 4])
    expect(bridge.channel()).toEqual([])
    const resumed = server.of('GET').slice(1)
    expect(resumed.map((get) => get.headers['last-event-id'])).toEqual(
      [1, 2, 3, 4].map((n) => `${server.session.push.key}/${n}`),
    )
  })

  test('a server that replays the event of the cursor too: it is not delivered twice', async () => {
    const { server, bridge } = await listening({ replay: true })
    const id = server.session.push.send(notification(1))
    await bridge.waitFor('the event', () => heard(bridge).length === 1)
    server.before((x) => {
      if (x.request.headers['last-event-id'] !== id) return false
      x.response.writeHead(200, sse)
      return x.response.write(`id: ${id}\ndata: ${notification(1)}\n\nid: x/2\ndata: ${notification(2)}\n\n`)
    })
    server.session.push.cut()
    await bridge.waitFor('the next event', () => heard(bridge).includes(2))
    expect(heard(bridge)).toEqual([1, 2])
  })

  test('an event that is replayed behind a comment is delivered once', async () => {
    const server = await ScriptedServer.start()
    let streams = 0
    const first = `: connected\n\nid: e1\ndata: ${notification(1)}\n\n`
    server.before((x) => {
      if (x.request.method !== 'GET') return false
      return ++streams === 1
        ? x.reply(200, first, sse)
        : x.stream().write(`${first}id: e2\ndata: ${notification(2)}\n\n`)
    })
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.waitFor('the second event', () => heard(bridge).includes(2))
    expect(heard(bridge)).toEqual([1, 2])
  })

  test('events that are numbered anew on every stream are all delivered', async () => {
    const server = await ScriptedServer.start()
    let streams = 0
    server.before((x) => {
      if (x.request.method !== 'GET') return false
      const text = `id: 1\ndata: ${notification(++streams)}\n\n`
      return streams < 3 ? x.reply(200, text, sse) : x.stream().write(text)
    })
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.waitFor('the third event', () => heard(bridge).includes(3))
    expect(heard(bridge)).toEqual([1, 2, 3])
  })

  test('400 to a cursor: once more without it', async () => {
    const { server, bridge } = await listening({ replay: true })
    server.push(notification(1))
    await bridge.waitFor('the event', () => heard(bridge).length === 1)
    server.before((x) =>
      x.request.headers['last-event-id'] === undefined ? false : x.error(-32000, 'unknown event id', 400),
    )
    server.session.push.cut()
    await eventually('a stream without a cursor', () => server.listening(), 5_000)
    server.push(notification(2))
    await bridge.waitFor('the next event', () => heard(bridge).length === 2)
    expect(server.sessions.size).toBe(1)
  })

  test('one that cannot stand in a header: the stream comes back without it', async () => {
    const { server, bridge } = await listening()
    server.session.push.write(`id: a\u0001b\ndata: ${notification(1)}\n\n`)
    await bridge.waitFor('the push', () => heard(bridge).length === 1)
    server.session.push.hangUp()
    await eventually('the second', () => server.of('GET').length === 2 && server.listening())
    expect(server.of('GET')[1]?.headers['last-event-id']).toBeUndefined()
    server.push(notification(2))
    await bridge.waitFor('the next push', () => heard(bridge).length === 2)
  })

  test('retry is a floor: the next GET comes no sooner', async () => {
    const { server } = await listening()
    server.session.push.retry(600)
    await pause(50)
    server.session.push.hangUp()
    const at = performance.now()
    await eventually('the next GET', () => server.of('GET').length === 2)
    expect((server.of('GET')[1]?.at ?? 0) - at).toBeGreaterThan(560)
  })

  test('a cursor does not follow into the next session', async () => {
    const { server, bridge } = await listening({ replay: true })
    server.push(notification(1))
    await bridge.waitFor('the event', () => heard(bridge).length === 1)
    await server.restart()
    await flows(server, bridge)
    expect(
      server.of('GET').find((get) => get.session === server.session.id)?.headers['last-event-id'],
    ).toBeUndefined()
  })
})

describe('half-open', () => {
  test('a stream whose heartbeat stops is replaced after about five seconds, with its cursor', {
    timeout: 25_000,
  }, async () => {
    const server = await ScriptedServer.start({ replay: true })
    server.secondStream = 'replace'
    await server.down()
    server.heartbeatMs = 100
    await server.up()
    const proxy = await TcpProxy.start(server.port)
    const bridge = await BridgeProcess.connected(`http://127.0.0.1:${proxy.port}/mcp`, stateful)
    await eventually('the push stream', () => server.listening())
    server.push(notification(1))
    await bridge.waitFor('the event', () => heard(bridge).length === 1)
    await pause(600)
    proxy.abandon()
    const at = performance.now()
    server.push(notification(2))
    await bridge.waitFor('the event that was pushed into the void', () => heard(bridge).length === 2, 12_000)
    expect(performance.now() - at).toBeGreaterThan(4_500)
    expect(performance.now() - at).toBeLessThan(8_000)
    expect(heard(bridge)).toEqual([1, 2])
    expect(server.sessions.size).toBe(1)
  })

  test('a quiet stream without a heartbeat is left alone', async () => {
    const { server, bridge } = await listening()
    await pause(1_500)
    expect(server.of('GET')).toHaveLength(1)
    expect(server.posts('ping')).toEqual([])
    server.push(notification(1))
    await bridge.waitFor('the event', () => heard(bridge).length === 1)
  })
})

describe('bursts', () => {
  test('20,000 events at once: all of them, in order', { timeout: 30_000 }, async () => {
    const { server, bridge } = await listening()
    const { push } = server.session
    for (let n = 0; n < 20_000; n++) {
      if (!push.write(`data: ${notification(n)}\n\n`)) await push.drained()
    }
    await bridge.waitFor('all of them', () => bridge.lines.length >= 20_001, 20_000)
    expect(heard(bridge)).toEqual([...Array(20_000).keys()])
  })

  test('events arrive while calls are answered, and neither waits for the other', async () => {
    const { server, bridge } = await listening()
    const ids = [...Array(50).keys()].map((n) => {
      server.push(notification(n))
      return bridge.ask('tools/call', { n })
    })
    for (const id of ids) await bridge.reply(id)
    await bridge.waitFor('fifty events', () => heard(bridge).length === 50)
    expect(heard(bridge)).toEqual([...Array(50).keys()])
  })
})

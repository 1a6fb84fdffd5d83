/** One session per process, none before the client's own initialize, and a lost one is replaced behind its back. */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { initialize, initializeParams } from '../support/messages.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'
import { patience, stateful } from '../support/settings.ts'

describe('before initialize', () => {
  test('the era probe is answered at once with -32601, and nothing is connected', async () => {
    const server = await ScriptedServer.start()
    const bridge = BridgeProcess.start(server.url, stateful)
    bridge.send({
      jsonrpc: '2.0',
      id: 'server-discover-probe-1',
      method: 'server/discover',
      params: { _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' } },
    })
    expect((await bridge.reply('server-discover-probe-1')).error?.code).toBe(-32601)
    bridge.send({ jsonrpc: '2.0', id: 'p', method: 'ping' })
    expect((await bridge.reply('p')).result).toEqual({})
    await pause(100)
    expect(server.requests).toEqual([])
    await bridge.handshake()
    expect(server.sessions.size).toBe(1)
  })

  test('the probe is answered at once though the server is away', async () => {
    const bridge = BridgeProcess.start('http://127.0.0.1:9/mcp')
    bridge.send({ jsonrpc: '2.0', id: 1, method: 'server/discover' })
    expect((await bridge.reply(1, 2_000)).error?.code).toBe(-32601)
  })

  test('started and closed by a probing host: exit 0, nothing connected', async () => {
    const server = await ScriptedServer.start()
    const bridge = BridgeProcess.start(server.url, stateful)
    bridge.eof()
    expect((await bridge.gone()).code).toBe(0)
    expect(server.requests).toEqual([])
  })

  test.each([[[]], [['--stateful']]])(
    'a bare tools/list with no initialize before it is served (%j): our own handshake, no GET, DELETE at the end',
    async (args) => {
      const server = await ScriptedServer.start()
      const bridge = BridgeProcess.start(server.url, { args })
      bridge.send({ jsonrpc: '2.0', id: 1, method: 'tools/list' })
      bridge.eof()
      expect((await bridge.reply(1)).result.tools).toHaveLength(1)
      expect((await bridge.gone()).code).toBe(0)
      expect(bridge.lines).toHaveLength(1)
      expect(server.requests.map((each) => each.rpc?.method ?? each.method)).toEqual([
        'initialize',
        'notifications/initialized',
        'tools/list',
        'DELETE',
      ])
      expect(JSON.parse(server.posts('initialize')[0]?.rpc?.params ?? '')).toMatchObject({ capabilities: {} })
    },
  )

  test('of several with no initialize before them none overtakes our initialized', async () => {
    const server = await ScriptedServer.start()
    server.on('notifications/initialized', async (x) => {
      await pause(50)
      x.reply(202)
    })
    const bridge = BridgeProcess.start(server.url)
    bridge.send(
      '{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n{"jsonrpc":"2.0","id":2,"method":"tools/call"}',
    )
    await Promise.all([bridge.reply(1), bridge.reply(2)])
    const [said] = server.posts('notifications/initialized')
    const at = server.requests.filter((each) => each.rpc?.method?.startsWith('tools/')).map((each) => each.at)
    expect(Math.min(...at) - (said?.at ?? Number.POSITIVE_INFINITY)).toBeGreaterThanOrEqual(45)
  })

  test('one that the server turns away is said again: the bare request is served all the same', async () => {
    const server = await ScriptedServer.start()
    let refused = 0
    server.on('notifications/initialized', (x) => x.reply(refused++ === 0 ? 503 : 202))
    const bridge = BridgeProcess.start(server.url, stateful)
    expect((await bridge.call('tools/list')).result.tools).toHaveLength(1)
    expect([...server.sessions.values()].map((session) => session.endedBy)).toEqual(['delete', undefined])
  })

  test('a server that turns each away is waited for no longer than the patience', async () => {
    const server = await ScriptedServer.start()
    server.on('notifications/initialized', (x) => x.reply(503))
    const bridge = BridgeProcess.start(server.url, { args: patience(600) })
    expect((await bridge.call('tools/list')).error?.message).toContain('took no initialized')
    expect(server.posts('initialize').length).toBeGreaterThan(1)
  })

  test('an initialize after a bare request deletes that session and starts anew', async () => {
    const server = await ScriptedServer.start()
    const bridge = BridgeProcess.start(server.url, stateful)
    expect((await bridge.call('tools/list')).result.tools).toHaveLength(1)
    await bridge.handshake()
    await eventually('the push stream', () => server.listening())
    expect(server.sessions.size).toBe(2)
    expect([...server.sessions.values()].map((session) => session.endedBy)).toEqual(['delete', undefined])
  })
})

test('one session, one push stream, and a DELETE with its id at the end', async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.connected(server.url, stateful)
  await bridge.call('tools/list')
  await eventually('the push stream', () => server.listening())
  expect(server.sessions.size).toBe(1)
  expect(server.of('GET')).toHaveLength(1)
  bridge.eof()
  expect((await bridge.gone()).code).toBe(0)
  expect(server.of('DELETE').map((each) => each.session)).toEqual([...server.sessions.keys()])
  expect(server.live()).toEqual([])
})

test('the push stream is not opened before the client’s initialized', async () => {
  const server = await ScriptedServer.start()
  const bridge = BridgeProcess.start(server.url, stateful)
  bridge.send(initialize())
  await bridge.reply(0)
  await pause(200)
  expect(server.of('GET')).toEqual([])
  bridge.notify('notifications/initialized')
  await eventually('the push stream', () => server.listening())
  const initialized = server.posts('notifications/initialized')[0]?.at ?? 0
  expect(server.of('GET')[0]?.at).toBeGreaterThanOrEqual(initialized)
})

test.each([400, 500])(
  'a server that has no push stream and says so with a %d: who asked for push is warned, nobody else',
  async (status) => {
    const server = await ScriptedServer.start()
    server.before((x) => (x.request.method === 'GET' ? x.reply(status, 'what?') : false))
    const asking = await BridgeProcess.connected(server.url, stateful)
    await eventually('the warning', () =>
      asking.stderr.includes(`warn push stream still down: HTTP ${status}`),
    )
    const other = await BridgeProcess.connected(server.url)
    const asked = server.of('GET').length
    await eventually('some attempts', () => server.of('GET').length > asked + 5, 10_000)
    expect(other.stderr).toBe('')
  },
)

test.each([405, 204])('a server that offers no push stream: %i is fine, asked once', async (status) => {
  const server = await ScriptedServer.start()
  server.before((x) => (x.request.method === 'GET' ? x.reply(status) : false))
  const bridge = await BridgeProcess.connected(server.url, stateful)
  await eventually('the GET', () => server.of('GET').length === 1)
  await bridge.call('tools/list')
  await bridge.waitFor('the warning', () =>
    bridge.stderr.includes(`the server offers no push stream: HTTP ${status}`),
  )
  await pause(1_000)
  expect(server.of('GET')).toHaveLength(1)
})

test('a 204 is no push stream, whatever type it names', async () => {
  const server = await ScriptedServer.start()
  const none = { 'content-type': 'text/event-stream' }
  server.before((x) => (x.request.method === 'GET' ? x.reply(204, '', none) : false))
  const bridge = await BridgeProcess.connected(server.url, stateful)
  await bridge.waitFor('the warning', () =>
    bridge.stderr.includes('the server offers no push stream: HTTP 204'),
  )
})

test('a refusal that a ping is to explain waits for a gateway with nobody behind it', async () => {
  const server = await ScriptedServer.start({ push: false })
  const bridge = await BridgeProcess.connected(server.url)
  await bridge.call('ping')
  server.refuseLost = (x) => x.error(-32000, 'no valid session', 400)
  server.wipe()
  let until = 0
  server.before((x) => {
    if (until === 0 && x.rpc.method === 'ping') until = performance.now() + 700
    return performance.now() < until && x.reply(502)
  })
  expect((await bridge.call('tools/call', { n: 1 })).result.echo).toEqual({ n: 1 })
})

test('a session found lost after longer than the patience is made anew, and the call answered', async () => {
  const server = await ScriptedServer.start({ push: false })
  const bridge = await BridgeProcess.connected(server.url, { args: ['--patience', '300ms'] })
  await bridge.call('ping')
  let left = 1
  server.before((x) => {
    if (x.rpc.method !== 'tools/call' || left-- <= 0) return false
    setTimeout(() => {
      server.wipe()
      x.reply(404)
    }, 1_500)
    return true
  })
  expect((await bridge.call('tools/call', { n: 1 })).result.echo).toEqual({ n: 1 })
  expect(server.posts('initialize')).toHaveLength(2)
})

test('the initialize of the client arrives with its own params, byte for byte, and its answer too', async () => {
  const server = await ScriptedServer.start()
  server.instructions = 'be kind'
  const bridge = BridgeProcess.start(server.url)
  const params =
    '{"protocolVersion":"2025-06-18", "capabilities":{"x":{"n":1.0}},"clientInfo":{"name":"é","version":"0"},"z":[]}'
  bridge.send(`{"jsonrpc":"2.0","id":"i\\u0031","method":"initialize","params":${params}}`)
  await bridge.waitFor('the answer', () => bridge.lines.length === 1)
  expect(server.posts('initialize')[0]?.rpc?.params).toBe(params)
  expect(bridge.lines[0]?.toString()).toMatch(
    /^\{"jsonrpc":"2.0","id":"i\\u0031","result":\{"protocolVersion":"2025-06-18"/,
  )
  expect(bridge.replies[0]?.result.instructions).toBe('be kind')
})

describe('a second initialize of the client', () => {
  test('fails open requests, deletes the old session and opens the next', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', () => {})
    const bridge = await BridgeProcess.connected(server.url, stateful)
    const open = bridge.ask('tools/call')
    await eventually('the call', () => server.posts('tools/call').length === 1)
    const clientInfo = { name: 'again', version: '1' }
    bridge.send({ ...initialize('second'), params: { ...initializeParams, clientInfo } })
    expect((await bridge.reply('second')).result).toBeDefined()
    const { error } = await bridge.reply(open)
    expect(error?.data?.code).toBe('SUPERSEDED')
    expect(error?.message).toContain('may have run')
    bridge.notify('notifications/initialized')
    await eventually('the push stream of the second', () => server.listening())
    expect([...server.sessions.values()].map((session) => session.endedBy)).toEqual(['delete', undefined])
  })

  test('is answered by the server while an initialized of before it is sent again, which then ends', async () => {
    const server = await ScriptedServer.start()
    server.on('notifications/initialized', (x) => x.reply(503))
    let deleted = (): void => {}
    server.before((x) => {
      if (x.request.method !== 'DELETE' || server.of('DELETE').length > 1) return false
      deleted = () => x.reply(200)
      return true
    })
    const bridge = BridgeProcess.start(server.url, stateful)
    await bridge.handshake()
    const first = server.session
    await eventually('another attempt', () => server.posts('notifications/initialized').length > 2)
    const second = bridge.ask('initialize', { protocolVersion: '2025-11-25', capabilities: { roots: {} } })
    await eventually('the DELETE', () => server.of('DELETE').length === 1)
    // (Whoever waits for a session would open one now.)
    await pause(50)
    deleted()
    expect((await bridge.reply(second)).result).toBeDefined()
    await bridge.call('tools/list')
    expect(server.posts('initialize').map((post) => post.rpc?.id)).toEqual(['0', String(second)])
    const said = server.posts('notifications/initialized').map((post) => post.session)
    expect([...new Set(said)]).toEqual([first.id])
  })
})

describe('a session that the server forgot', () => {
  test('twenty calls meet the 404 together: one new session with the client’s own params, each call answered once', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    server.wipe()
    const ids = [...Array(20).keys()].map((n) => bridge.ask('tools/call', { n }))
    for (const [n, id] of ids.entries()) expect((await bridge.reply(id)).result.echo).toEqual({ n })
    for (const id of ids) expect(bridge.answersTo(id)).toHaveLength(1)
    expect(server.sessions.size).toBe(2)
    const [first, second, third] = server.posts('initialize')
    expect(second?.rpc?.params).toBe(first?.rpc?.params)
    expect(second?.session).toBeUndefined()
    expect(third).toBeUndefined()
    expect(server.posts('notifications/initialized').map((post) => post.session)).toEqual([
      ...server.sessions.keys(),
    ])
    // The client sees nothing of it but what may have changed.
    expect(bridge.replies.flatMap((each) => each?.method ?? [])).toEqual(['notifications/tools/list_changed'])
  })

  test('the initialize that is sent again has an id of its own', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    server.wipe()
    await bridge.call('ping')
    const ids = server.posts('initialize').map((post) => post.rpc?.id)
    expect(ids).toHaveLength(2)
    expect(new Set(ids).size).toBe(2)
  })

  test('in the new session `initialized` goes first, then what waited for it, then the push stream', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    server.wipe()
    await Promise.all([bridge.call('tools/call'), bridge.call('tools/list')])
    const second = [...server.sessions.keys()][1]
    await eventually('the push stream again', () => server.listening())
    const inSecond = server.requests.filter((each) => each.session === second)
    const said = inSecond.map((each) => each.rpc?.method ?? each.method)
    expect(said.filter((each) => each !== 'tools/list')).toEqual([
      'notifications/initialized',
      'tools/call',
      'GET',
    ])
    expect(said.indexOf('tools/list')).toBeGreaterThan(0)
    expect(server.mostLive).toBe(1)
  })

  test('a notification refused by 404 is sent again in the new session', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    server.wipe()
    bridge.notify('notifications/roots/list_changed')
    await eventually('it arrived', () =>
      server
        .posts('notifications/roots/list_changed')
        .some((post) => post.status === 202 && post.session === server.session.id),
    )
  })

  test.each([
    ['is asked of the old server once more: it is set all the same', 2],
    ['finds it forgotten again: there is another, and there it is set', 3],
  ])('what the client had set is set again, and that %s', async (_, sessions) => {
    const server = await ScriptedServer.start({ capabilities: { resources: { subscribe: true } } })
    const bridge = await BridgeProcess.connected(server.url, stateful)
    await bridge.call('resources/subscribe', { uri: 'test://a' })
    await eventually('the push stream', () => server.listening())
    let left = 1
    server.before((x) => {
      if (x.rpc.method !== 'resources/subscribe' || left-- <= 0) return false
      if (sessions === 2) return x.reply(404)
      server.wipe()
      return false
    })
    await server.restart()
    await eventually('the next session', () => server.live().length === 1 && server.listening(), 8_000)
    expect(server.posts('initialize')).toHaveLength(sessions)
    const last = server.posts('resources/subscribe').at(-1)
    expect([last?.session, last?.status]).toEqual([server.session.id, 200])
  })

  test('what the client had set is set again: log level and subscriptions, as it wrote them', async () => {
    const server = await ScriptedServer.start({
      capabilities: {
        logging: {},
        resources: { subscribe: true, listChanged: true },
        prompts: { listChanged: true },
      },
    })
    const bridge = await BridgeProcess.connected(server.url, stateful)
    await bridge.call('logging/setLevel', { level: 'debug', x: 1 })
    await bridge.call('resources/subscribe', { uri: 'test://a' })
    await bridge.call('resources/subscribe', { uri: 'test://b' })
    await bridge.call('resources/unsubscribe', { uri: 'test://b' })
    await eventually('the push stream', () => server.listening())
    const before = bridge.lines.length
    await server.restart()
    await eventually('the next session', () => server.live().length === 1 && server.listening(), 8_000)
    const restored = server.requests
      .filter((each) => each.session === server.session.id)
      .map((each) => each.rpc)
    expect(restored.find((rpc) => rpc?.method === 'logging/setLevel')?.params).toBe('{"level":"debug","x":1}')
    expect(restored.flatMap((rpc) => (rpc?.method === 'resources/subscribe' ? [rpc.params] : []))).toEqual([
      '{"uri":"test://a"}',
    ])
    await bridge.waitFor('the news', () => bridge.received('notifications/resources/updated').length === 1)
    expect(bridge.received('notifications/resources/updated')[0]?.params).toEqual({ uri: 'test://a' })
    expect(bridge.received('notifications/prompts/list_changed')).toHaveLength(1)
    expect(bridge.received('notifications/resources/list_changed')).toHaveLength(1)
    expect(bridge.received('notifications/tools/list_changed')).toEqual([])
    // No answer of ours leaks to the client.
    expect(bridge.replies.slice(before).filter((each) => each?.method === undefined)).toEqual([])
  })

  test.each([
    [429, { 'retry-after': '1' }],
    [503, { 'retry-after': '1' }],
    [408, {}],
    [500, {}],
  ])(
    'what the new session meets with %i is set in it later, and told as changed',
    async (status, headers) => {
      const server = await ScriptedServer.start({
        capabilities: { logging: {}, resources: { subscribe: true } },
      })
      const bridge = await BridgeProcess.connected(server.url, stateful)
      await bridge.call('logging/setLevel', { level: 'debug' })
      await bridge.call('resources/subscribe', { uri: 'test://a' })
      await bridge.call('resources/subscribe', { uri: 'test://b' })
      await eventually('the push stream', () => server.listening())
      await server.restart()
      let refused = 0
      const taken: string[] = []
      server.before((x) => {
        if (x.rpc.method !== 'resources/subscribe' && x.rpc.method !== 'logging/setLevel') return false
        if (refused++ < 3) return x.reply(status, '', headers)
        taken.push(x.rpc.params ?? '')
        return false
      })
      await eventually('all is set', () => taken.length === 3, 12_000)
      expect(taken.toSorted()).toEqual(['{"level":"debug"}', '{"uri":"test://a"}', '{"uri":"test://b"}'])
      await bridge.waitFor('news', () => bridge.received('notifications/resources/updated').length === 4)
    },
  )

  test('one setting that is to wait holds up no other', async () => {
    const server = await ScriptedServer.start({
      capabilities: { logging: {}, resources: { subscribe: true } },
    })
    const bridge = await BridgeProcess.connected(server.url, stateful)
    await bridge.call('logging/setLevel', { level: 'debug' })
    await bridge.call('resources/subscribe', { uri: 'test://a' })
    await eventually('the push stream', () => server.listening())
    await server.restart()
    const taken: string[] = []
    let refused = 0
    server.before((x) => {
      if (x.rpc.method === 'resources/subscribe') return x.reply(429, '', { 'retry-after': '600' }) ?? true
      if (x.rpc.method !== 'logging/setLevel') return false
      if (refused++ < 3) return x.reply(503) ?? true
      taken.push(x.rpc.params ?? '')
      return false
    })
    await eventually('the level is set', () => taken.length === 1, 12_000)
    expect(taken).toEqual(['{"level":"debug"}'])
  })

  test('of many calls refused by errors without an id, one after the other, each is sent again', async () => {
    const server = await ScriptedServer.start({ push: false })
    let late = 0
    server.refuseLost = (x) => {
      const error = { code: -32000, message: 'session expired' }
      setTimeout(() => x.json({ jsonrpc: '2.0', id: null, error }), x.rpc.method === 'ping' ? 0 : 30 * late++)
    }
    const bridge = await BridgeProcess.connected(server.url, stateful)
    await bridge.call('tools/call')
    server.wipe()
    const answers = await Promise.all(Array.from({ length: 8 }, (_, n) => bridge.call('tools/call', { n })))
    expect(answers.map(({ result }) => result?.echo)).toEqual(answers.map((_, n) => ({ n })))
  })

  describe('what the client sets while the old instance drains is set in the next session too', () => {
    /** One that answers the first of `method` only when it is told to. */
    async function draining(method: string) {
      const server = await ScriptedServer.start()
      let release = (): void => {}
      server.before((x) => {
        if (x.rpc.method !== method || server.posts(method).length > 1) return false
        release = () => x.result()
        return true
      })
      const bridge = await BridgeProcess.connected(server.url)
      return { server, bridge, release: () => release() }
    }

    test.each([
      ['resources/subscribe', { uri: 'test://a' }],
      ['resources/unsubscribe', { uri: 'test://a' }],
      ['logging/setLevel', { level: 'debug' }],
    ])('%s', async (method, params) => {
      const { server, bridge, release } = await draining(method)
      const id = bridge.ask(method, params)
      await eventually('it is with the old one', () => server.posts(method).length === 1)
      server.wipe()
      await bridge.call('tools/call')
      release()
      expect((await bridge.reply(id)).result).toEqual({})
      await eventually('it is said again', () => server.posts(method)[1]?.session === server.session.id)
      expect(server.posts(method)[1]?.rpc?.params).toBe(JSON.stringify(params))
    })

    test('an unsubscribe that is refused there for the moment is said again', async () => {
      const { server, bridge, release } = await draining('resources/unsubscribe')
      const id = bridge.ask('resources/unsubscribe', { uri: 'test://a' })
      await eventually('it is with the old one', () => server.posts('resources/unsubscribe').length === 1)
      server.wipe()
      await bridge.call('tools/call')
      const fair = server.before((x) => {
        if (x.rpc.method !== 'resources/unsubscribe') return false
        fair()
        return x.reply(503)
      })
      release()
      await bridge.reply(id)
      await eventually('it is said again', () => server.posts('resources/unsubscribe').length === 3, 8_000)
    })

    test('and when it succeeds in the midst of the renewal', async () => {
      const { server, bridge, release } = await draining('resources/subscribe')
      await bridge.call('logging/setLevel', { level: 'debug' })
      const id = bridge.ask('resources/subscribe', { uri: 'test://a' })
      await eventually('it is with the old one', () => server.posts('resources/subscribe').length === 1)
      server.wipe()
      let restored = (): void => {}
      server.on('logging/setLevel', (x) => {
        restored = () => x.result()
      })
      const call = bridge.ask('tools/call')
      await eventually('the level is restored', () => server.posts('logging/setLevel').length === 2)
      release()
      await bridge.reply(id)
      restored()
      await bridge.reply(call)
      await eventually('it is said again', () => server.posts('resources/subscribe').length === 2)
      expect(server.posts('resources/subscribe')[1]?.session).toBe(server.session.id)
    })

    test('but not over what it has set since', async () => {
      const { server, bridge, release } = await draining('logging/setLevel')
      const id = bridge.ask('logging/setLevel', { level: 'debug' })
      await eventually('it is with the old one', () => server.posts('logging/setLevel').length === 1)
      server.wipe()
      await bridge.call('logging/setLevel', { level: 'error' })
      release()
      await bridge.reply(id)
      server.wipe()
      await bridge.call('tools/call')
      const levels = server.posts('logging/setLevel').filter((post) => post.session === server.session.id)
      expect(levels.map((post) => post.rpc?.params)).toEqual(['{"level":"error"}'])
    })
  })

  test('requests of the server that were open are cancelled at the client; a late reply goes nowhere', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    server.push({ jsonrpc: '2.0', id: 'old', method: 'sampling/createMessage', params: {} })
    await bridge.waitFor('the question', () => bridge.received('sampling/createMessage').length === 1)
    await server.restart()
    await bridge.waitFor('its cancellation', () => bridge.received('notifications/cancelled').length === 1)
    expect(bridge.received('notifications/cancelled')[0]?.params?.requestId).toBe('old')
    await eventually('the next session', () => server.listening(), 8_000)
    bridge.send({ jsonrpc: '2.0', id: 'old', result: {} })
    await bridge.call('ping')
    expect(server.replies()).toEqual([])
  })

  test('another protocol version in the next session: the header says the new one, and a warning is written', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    server.protocolVersion = '2025-03-26'
    server.wipe()
    await bridge.call('tools/call')
    expect(server.posts('tools/call').at(-1)?.headers['mcp-protocol-version']).toBe('2025-03-26')
    expect(bridge.stderr).toContain('2025-03-26')
  })

  test('the same capabilities in another order are no others', async () => {
    const server = await ScriptedServer.start({
      capabilities: { tools: { listChanged: true, x: [1] }, logging: {} },
    })
    const bridge = await BridgeProcess.connected(server.url)
    server.capabilities = { logging: {}, tools: { x: [1], listChanged: true } }
    server.wipe()
    await bridge.call('tools/call')
    expect(bridge.stderr).not.toContain('other capabilities')
    server.capabilities = { logging: {}, tools: { x: [2], listChanged: true } }
    server.wipe()
    await bridge.call('tools/call')
    await bridge.waitFor('the warning', () => bridge.stderr.includes('other capabilities'))
  })

  test('a server whose next GET is 404 too, though it answers a ping, is not renewed for ever', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    server.before((x) => {
      return x.request.method === 'GET' ? x.reply(404) : false
    })
    await server.restart()
    await bridge.call('ping', {}, 8_000)
    await pause(2_500)
    expect(server.sessions.size).toBeLessThanOrEqual(3)
    expect((await bridge.call('tools/list')).result.tools).toHaveLength(1)
  })
})

describe('a server that does not know a method, and says so with', () => {
  test.each([
    ['404, as 2026-07-28 wants it', 404, true],
    ['404, of a ping too', 404, false],
    ['400, of a ping too', 400, false],
  ])('%s: its own error is the answer, and the session stands', async (_, status, knowsPing) => {
    const server = await ScriptedServer.start()
    const error = { code: -32601, message: 'Method not found' }
    server.before((x) => {
      const isUnknown = x.rpc.method?.startsWith('x/') || (x.rpc.method === 'ping' && !knowsPing)
      if (isUnknown) x.json(`{"jsonrpc":"2.0","id":${x.rpc.id},"error":${JSON.stringify(error)}}`, status)
      return isUnknown
    })
    const bridge = await BridgeProcess.listening(server)
    expect((await bridge.call('x/unknown')).error).toEqual(error)
    // This one makes the bridge ask whether the session lives.
    server.on('prompts/list', (x) => x.error(-32000, 'not now', 400))
    expect((await bridge.call('prompts/list')).error?.message).toBe('not now')
    expect((await bridge.call('x/unknown')).error).toEqual(error)
    expect(server.sessions.size).toBe(1)
    expect(server.posts('x/unknown')).toHaveLength(2)
    server.pushChannel('still here')
    await bridge.waitFor('the event', () => bridge.channel().length > 0)
    expect(bridge.channel()).toEqual(['still here'])
    expect(bridge.received('notifications/tools/list_changed')).toEqual([])
  })
})

describe('servers that do not say 404', () => {
  const refusals: [string, number, string][] = [
    [
      '400 with -32000 "No valid session ID provided" (SDK examples, mastra)',
      400,
      '{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}',
    ],
    ['400 with plain text (affine)', 400, 'Invalid or missing session ID'],
    ['400 with another error shape (actual)', 400, '{"error":"session not found"}'],
    ['410 without a body', 410, ''],
    [
      '500 with -32603',
      500,
      '{"jsonrpc":"2.0","error":{"code":-32603,"message":"Internal error"},"id":null}',
    ],
    [
      '200 with -32001 (agent-wiki)',
      200,
      '{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}',
    ],
  ]

  test.each(refusals)(
    '%s: the ping decides, the session is renewed, the call is answered',
    async (_, status, body) => {
      const server = await ScriptedServer.start()
      server.refuseLost = (x) =>
        x.reply(status, body, { 'content-type': body.startsWith('{') ? 'application/json' : 'text/plain' })
      const bridge = await BridgeProcess.connected(server.url)
      await bridge.call('ping')
      server.wipe()
      // A 500 may be said in the middle of a call: only what changes nothing is sent again.
      const method = status < 500 ? 'tools/call' : 'tools/list'
      const reply = await bridge.call(method, { n: 1 })
      expect(reply.error).toBeUndefined()
      if (method === 'tools/call') expect(reply.result.echo).toEqual({ n: 1 })
      expect(server.sessions.size).toBe(2)
      expect(bridge.replies.flatMap((each) => each?.error ?? [])).toEqual([])
    },
  )

  test('200 with an error whose words differ each time: the next call is answered', async () => {
    const server = await ScriptedServer.start()
    let times = 0
    server.refuseLost = (x) =>
      x.error(-32001, `Session not found (trace ${++times}, expired ${times} s ago)`, 200)
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    server.wipe()
    expect((await bridge.call('tools/call')).error?.message).toMatch(/Session not found/)
    expect((await bridge.call('tools/call', { n: 1 })).result.echo).toEqual({ n: 1 })
  })

  test('that refuse a ping in the words of any failure are asked for one session in vain, not for more', async () => {
    const server = await ScriptedServer.start()
    let times = 0
    for (const method of ['ping', 'tools/call'])
      server.on(method, (x) => x.error(-32000, `request ${++times} failed`, 200))
    const bridge = await BridgeProcess.connected(server.url)
    for (let i = 0; i < 4; i++) {
      expect((await bridge.call('tools/call')).error?.message).toMatch(/^request \d+ failed$/)
      await pause(100)
    }
    expect(server.sessions.size).toBeLessThanOrEqual(2)
  })

  test.each([
    ['500 in JSON-RPC', 500, true],
    ['500 without a body', 500, false],
    ['an error under the id of the call', 200, true],
  ])('a call that may have run is run once: %s, to the ping too', async (_, status, rpc) => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    let failing = true
    let ran = 0
    server.before((x) => {
      if (!failing || x.rpc.id === undefined || x.rpc.method === 'initialize') return false
      if (x.rpc.method === 'tools/call') ran++
      const error = '"error":{"code":-32000,"message":"the database is down"}'
      x.reply(status, rpc ? `{"jsonrpc":"2.0","id":${x.rpc.id},${error}}` : '', {
        'content-type': 'application/json',
      })
      return true
    })
    const reply = await bridge.call('tools/call')
    expect(ran).toBe(1)
    expect(reply.error?.message).toMatch(rpc ? /database is down/ : /may have run/)
    failing = false
    expect((await bridge.call('tools/call', { n: 2 })).result.echo).toEqual({ n: 2 })
  })

  test.each(refusals)(
    '%s on the push stream of an idle client: push flows again',
    async (_, status, body) => {
      const server = await ScriptedServer.start()
      server.refuseLost = (x) =>
        x.reply(status, body, { 'content-type': body.startsWith('{') ? 'application/json' : 'text/plain' })
      const bridge = await BridgeProcess.listening(server)
      await server.restart()
      await eventually('the next push stream', () => server.listening(), 10_000)
      server.push({ jsonrpc: '2.0', method: 'notifications/x' })
      await bridge.waitFor('an event', () => bridge.received('notifications/x').length === 1)
      expect(server.mostLive).toBe(1)
    },
  )

  test('the reply to a question of the server is refused by 400: push flows in the next session', async () => {
    const server = await ScriptedServer.start()
    server.refuseLost = (x) => x.error(-32000, 'Bad Request: No valid session ID provided', 400)
    const bridge = await BridgeProcess.listening(server)
    server.push({ jsonrpc: '2.0', id: 'q', method: 'roots/list' })
    await bridge.waitFor('the question', () => bridge.received('roots/list').length === 1)
    // (Its sockets stay: the push stream stands, bound to nothing.)
    server.wipe()
    bridge.send({ jsonrpc: '2.0', id: 'q', result: { roots: [] } })
    await eventually('the next push stream', () => server.listening(), 8_000)
    expect(server.replies()).toHaveLength(1)
  })

  test('a server that gave no session id, and after a redeploy wants one: the call is answered in a session, push flows', async () => {
    const server = await ScriptedServer.start({ sessions: false })
    const bridge = await BridgeProcess.connected(server.url, stateful)
    expect((await bridge.call('tools/call', { n: 1 })).error).toBeUndefined()
    server.sessionsOffered = true
    expect((await bridge.call('tools/call', { n: 2 })).result.echo).toEqual({ n: 2 })
    await eventually('the push stream', () => server.listening())
    expect(server.sessions.size).toBe(1)
  })

  test('a server without sessions that says 400 to a ping too: its refusal is the answer, each time', async () => {
    const server = await ScriptedServer.start({ sessions: false })
    server.on('ping', (x) => x.error(-32000, 'what?', 400))
    server.on('tools/call', (x) => x.error(-32000, 'no such tool', 400))
    const bridge = await BridgeProcess.connected(server.url)
    for (let n = 0; n < 3; n++) {
      expect((await bridge.call('tools/call')).error).toEqual({ code: -32000, message: 'no such tool' })
    }
    expect(server.posts('initialize')).toHaveLength(2)
  })

  test('408 to a call and to the ping is about the moment: the session lives, and what runs in it', async () => {
    const server = await ScriptedServer.start()
    let answer = (): void => {}
    server.on('tools/call', (x) => {
      answer = () => x.result({ slow: true })
    })
    const bridge = await BridgeProcess.listening(server)
    const slow = bridge.ask('tools/call')
    await eventually('the call', () => server.posts('tools/call').length === 1)
    const well = server.before((x) => (x.rpc.id === undefined ? false : x.reply(408)))
    expect((await bridge.call('tools/list')).error?.message).toContain('HTTP 408')
    well()
    answer()
    expect((await bridge.reply(slow)).result).toEqual({ slow: true })
    expect(server.posts('initialize')).toHaveLength(1)
    expect(server.of('DELETE')).toEqual([])
  })

  test('a 400 for the message’s own sake: the session answers a ping, the refusal is the answer', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.error(-32602, 'bad arguments', 400))
    const bridge = await BridgeProcess.connected(server.url)
    for (let i = 0; i < 3; i++) expect((await bridge.call('tools/call')).error?.message).toBe('bad arguments')
    expect(server.sessions.size).toBe(1)
    expect(server.posts('tools/call')).toHaveLength(3)
    expect(bridge.replies.filter((each) => each?.method === 'ping')).toEqual([])
  })

  test('a call that was refused does not wait long for the ping, whose answer counts all the same', async () => {
    const server = await ScriptedServer.start()
    const refuse = (x: Exchange): void => x.error(-32602, 'bad arguments', 400)
    server.on('tools/call', refuse)
    let late = (): void => {}
    server.on('ping', (x) => {
      late = () => refuse(x)
    })
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call', {}, 4_500)).error?.message).toBe('bad arguments')
    late()
    await eventually('the next session', () => server.posts('initialize').length === 2)
  })

  test('two refusals at once, only one of them about the session: that one is served in the next session', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    const old = server.session.id
    server.before((x) => {
      if (x.request.method !== 'POST' || x.request.session !== old) return false
      if (x.rpc.method === 'a/wrong') x.error(-32602, 'wrong', 400)
      else if (x.rpc.method === 'ping') setTimeout(() => x.reply(400, 'no valid session'), 150)
      else x.reply(400, 'no valid session')
      return true
    })
    const wrong = bridge.ask('a/wrong')
    await eventually('the deciding ping', () => server.posts('ping').length > 1)
    const call = bridge.ask('tools/call', { name: 'x' })
    expect((await bridge.reply(wrong)).error?.code).toBe(-32602)
    expect((await bridge.reply(call)).result).toBeDefined()
    await eventually('the old session is deleted', () => server.live().every((each) => each.id !== old))
  })

  test('a server that refuses everything but initialize: no tight loop, never two renewals at a time', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server, { args: ['--stateful', ...patience(1_500)] })
    let open = 0
    let most = 0
    server.on('initialize', async (x) => {
      most = Math.max(most, ++open)
      await pause(30)
      open--
      server.welcome(x)
    })
    server.before((x) => {
      if (x.rpc.method === 'initialize') return false
      x.error(-32000, 'Bad Request: No valid session ID provided', 400)
      return true
    })
    server.cutAll()
    const replies = await Promise.all([...Array(5)].map(() => bridge.call('tools/call', {}, 15_000)))
    for (const reply of replies) expect(reply.error).toBeDefined()
    await pause(1_500)
    expect(most).toBe(1)
    expect(server.posts('initialize').length).toBeLessThan(25)
  })

  test.each([400, 200])(
    'a server that refuses every request by %i and gives push streams: no storm, though the client lists at each list_changed',
    async (status) => {
      const server = await ScriptedServer.start()
      const bridge = await BridgeProcess.listening(server)
      server.before((x) => {
        const isRequest = x.rpc.id !== undefined && !x.rpc.isResponse && x.rpc.method !== 'initialize'
        const error = { code: -32000, message: 'No valid session' }
        if (isRequest) x.json({ jsonrpc: '2.0', id: null, error }, status)
        return isRequest
      })
      bridge.ask('tools/call')
      let listed = 0
      for (const end = performance.now() + 1_500; performance.now() < end; await pause(2)) {
        if (bridge.received('notifications/tools/list_changed').length === listed) continue
        listed++
        bridge.ask('tools/list')
      }
      expect(listed).toBeGreaterThan(0)
      expect(server.posts('initialize').length).toBeLessThan(25)
    },
  )
})

/** What is sent again, and what never is. Everything else fails with an error that says that it may have run. */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'
import { patience, stateful } from '../support/settings.ts'

/** Answers the first `times` requests of a method with `fault`, then as usual. */
function failing(server: ScriptedServer, method: string, times: number, fault: (x: Exchange) => void): void {
  let left = times
  server.before((x) => {
    if (x.rpc.method !== method || left-- <= 0) return false
    return fault(x) ?? true
  })
}

describe('sent again', () => {
  test('a call that found the port closed: it runs once, when the server is back', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    await server.down()
    const id = bridge.ask('tools/call', { name: 'once' })
    await new Promise((resolve) => setTimeout(resolve, 400))
    await server.up()
    expect((await bridge.reply(id, 10_000)).result).toBeDefined()
    expect(server.posts('tools/call')).toHaveLength(1)
  })

  test('a call refused by 404 to its own POST: a new session, the call once in it, the client sees only its answer', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    server.wipe()
    const before = bridge.lines.length
    const line = '{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"n":1.0}}'
    bridge.send(line)
    await bridge.reply(42)
    const calls = server.posts('tools/call')
    expect(calls.map((post) => [post.status, post.body.toString()])).toEqual([
      [404, line],
      [200, line],
    ])
    expect(calls[1]?.session).toBe(server.session.id)
    expect(
      bridge.lines
        .slice(before)
        .filter((each) => each.includes('"id"'))
        .map(String),
    ).toEqual(['{"jsonrpc":"2.0","id":42,"result":{"content":[],"echo":{"n":1.0}}}'])
  })

  test('at most twice: a server that forgets every session at once is not asked for ever', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    server.on('tools/call', (x) => {
      server.wipe()
      x.error(-32001, 'Session not found', 404)
    })
    const reply = await bridge.call('tools/call', {}, 15_000)
    expect(reply.error?.data?.code).toBe('SESSION_LOST')
    expect(server.posts('tools/call')).toHaveLength(3)
  })

  test('the same of a server that knows the session no more and names no request: why it fails is said', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    const error = { code: -32001, message: 'Session not found' }
    server.on('tools/call', (x) => x.json({ jsonrpc: '2.0', id: null, error }, 404))
    const reply = await bridge.call('tools/call', {}, 15_000)
    expect(reply.error?.data?.code).toBe('SESSION_LOST')
    expect(reply.error?.message).toMatch(/forgetting the session \(.*Session not found.*\); .* not run/)
    expect(server.posts('tools/call')).toHaveLength(3)
  })

  test('a server that refuses all there is in the same words: they are said', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    for (const method of ['tools/call', 'ping']) server.on(method, (x) => x.reply(400, 'Bad version'))
    const reply = await bridge.call('tools/call', {}, 15_000)
    expect(reply.error?.message).toMatch(/forgetting the session \(HTTP 400: Bad version\)/)
  })

  test.each([429, 503])(
    '%d with a Retry-After that fits the patience: waits as told, then answers',
    async (status) => {
      const server = await ScriptedServer.start()
      failing(server, 'tools/call', 1, (x) => x.reply(status, 'later', { 'retry-after': '1' }))
      const bridge = await BridgeProcess.connected(server.url)
      expect((await bridge.call('tools/call')).error).toBeUndefined()
      const [first, second] = server.posts('tools/call')
      expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(990)
    },
  )

  test.each([502, 503, 504, 520, 524])(
    'reads after a %d: lists, reads, ping, completion are asked again',
    async (status) => {
      const server = await ScriptedServer.start()
      const methods = [
        'tools/list',
        'resources/read',
        'prompts/get',
        'ping',
        'completion/complete',
        'resources/templates/list',
      ]
      for (const method of methods) {
        failing(server, method, 1, (x) =>
          x.reply(status, '<html>Bad gateway</html>', { 'content-type': 'text/html' }),
        )
        server.on(method, (x) => x.result({ ok: true }))
      }
      const bridge = await BridgeProcess.connected(server.url)
      const replies = await Promise.all(methods.map((method) => bridge.call(method, {}, 10_000)))
      expect(replies.map((reply) => reply.result)).toEqual(methods.map(() => ({ ok: true })))
    },
  )

  test('a message that the new session does not know either, but answers a ping, has its own error', async () => {
    const server = await ScriptedServer.start()
    const error = { code: -32002, message: 'Resource not found' }
    server.on('prompts/list', (x) =>
      x.json(`{"jsonrpc":"2.0","id":${x.rpc.id},"error":${JSON.stringify(error)}}`, 404),
    )
    const bridge = await BridgeProcess.connected(server.url)
    const reply = await bridge.call('prompts/list')
    expect(reply.error).toEqual(error)
    expect(server.posts('prompts/list')).toHaveLength(2)
    expect(server.posts('initialize')).toHaveLength(2)
    expect((await bridge.call('tools/list')).result).toBeDefined()
    // Once that is known of the server, a ping decides at once.
    expect((await bridge.call('prompts/list')).error).toEqual(error)
    expect(server.posts('initialize')).toHaveLength(2)
  })

  test('initialize after a 502', async () => {
    const server = await ScriptedServer.start()
    failing(server, 'initialize', 2, (x) => x.reply(502))
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/list')).error).toBeUndefined()
    expect(server.sessions.size).toBe(1)
  })

  test('a reply to the server while the port is closed for a moment arrives when it is back', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    server.push({ jsonrpc: '2.0', id: 'q', method: 'roots/list' })
    await bridge.waitFor('the question', () => bridge.received('roots/list').length === 1)
    await server.down()
    bridge.send({ jsonrpc: '2.0', id: 'q', result: { roots: [] } })
    await pause(300)
    await server.up()
    const reply = await eventually('the reply', () => server.replies()[0], 8000)
    expect(reply.rpc?.id).toBe('"q"')
    expect(server.sessions.size).toBe(1)
  })

  test('a notification while the port is closed arrives when it is back', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    await server.down()
    bridge.notify('notifications/x')
    await pause(300)
    await server.up()
    await eventually('it', () => server.posts('notifications/x').length === 1, 8000)
  })
})

describe('never sent again', () => {
  test.each([502, 503, 504, 522])(
    'a call that got %d: an error that says it may have run, at once',
    async (status) => {
      const server = await ScriptedServer.start()
      failing(server, 'tools/call', 1, (x) => x.reply(status))
      const bridge = await BridgeProcess.connected(server.url)
      const reply = await bridge.call('tools/call', {}, 1_500)
      expect(reply.error?.message).toMatch(/may have run/)
      expect(server.posts('tools/call')).toHaveLength(1)
    },
  )

  test('a call whose session cannot be made anew: its error names no time that one attempt took', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url, { args: patience(1_200) })
    server.wipe()
    server.on('initialize', (x) => x.reply(502))
    const { error } = await bridge.call('tools/call', {}, 5_000)
    expect(error?.message).toContain('/mcp could not be reached: HTTP 502')
  })

  test('a call whose connection was reset: an error within a second', async () => {
    const server = await ScriptedServer.start()
    failing(server, 'tools/call', 1, (x) => x.reset())
    const bridge = await BridgeProcess.connected(server.url)
    const at = performance.now()
    const reply = await bridge.call('tools/call')
    expect(performance.now() - at).toBeLessThan(1_000)
    expect(reply.error?.data?.code).toBe('RESPONSE_LOST')
    expect(reply.error?.message).toMatch(/may have run/)
    expect(server.posts('tools/call')).toHaveLength(1)
  })

  test('a call whose JSON answer broke off in the middle', async () => {
    const server = await ScriptedServer.start()
    failing(server, 'tools/call', 1, (x) => {
      x.response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' })
      x.response.write('{"jsonrpc":"2.0",', () => x.reset())
    })
    const bridge = await BridgeProcess.connected(server.url)
    const reply = await bridge.call('tools/call', {}, 1_500)
    expect(reply.error?.message).toMatch(/may have run/)
    expect(server.posts('tools/call')).toHaveLength(1)
  })

  test('a call that ran and failed, though the session was renewed meanwhile: its error stands', async () => {
    const server = await ScriptedServer.start()
    let fail = (): void => {}
    server.on('tools/call', (x) => {
      if (x.params.name !== 'slow') return x.result()
      fail = () => x.error(-32000, 'the tool failed')
      return undefined
    })
    const bridge = await BridgeProcess.connected(server.url)
    const slow = bridge.ask('tools/call', { name: 'slow' })
    const runs = () => server.posts('tools/call').filter((post) => post.body.includes('slow')).length
    await eventually('the call', () => runs() === 1)
    server.wipe()
    expect((await bridge.call('tools/call', { name: 'other' })).error).toBeUndefined()
    fail()
    expect((await bridge.reply(slow)).error?.message).toBe('the tool failed')
    expect(runs()).toBe(1)
  })

  test('calls in flight when the server is restarted: one error each, within a second, and the bridge works on', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => {
      if (x.params.name === 'hang') return undefined
      return x.result({ ok: true })
    })
    const bridge = await BridgeProcess.connected(server.url, stateful)
    const ids = [...Array(10).keys()].map(() => bridge.ask('tools/call', { name: 'hang' }))
    await eventually('ten calls', () => server.posts('tools/call').length === 10)
    const at = performance.now()
    await server.restart(100)
    for (const id of ids) expect((await bridge.reply(id)).error?.data?.code).toBe('RESPONSE_LOST')
    expect(performance.now() - at).toBeLessThan(1_100)
    expect((await bridge.call('tools/call', { name: 'ok' }, 10_000)).result).toEqual({ ok: true })
    for (const id of ids) expect(bridge.answersTo(id)).toHaveLength(1)
    expect(server.posts('tools/call').filter((post) => post.body.includes('hang'))).toHaveLength(10)
  })

  test('a Retry-After beyond the patience fails at once, naming the time', async () => {
    const server = await ScriptedServer.start()
    failing(server, 'tools/call', 9, (x) => x.reply(429, '', { 'retry-after': '3600' }))
    const bridge = await BridgeProcess.connected(server.url)
    const reply = await bridge.call('tools/call', {}, 1_500)
    expect(reply.error?.data?.code).toBe('SERVER_BUSY')
    expect(reply.error?.message).toMatch(/60 min|3600|1 h/)
    expect(server.posts('tools/call')).toHaveLength(1)
  })

  test.each([-3_600_000, 3_600_000])(
    'the date of a Retry-After counts by the clock of the server, %d ms beside ours',
    async (apartMs) => {
      const server = await ScriptedServer.start()
      const date = (inMs: number) => new Date(Date.now() + apartMs + inMs).toUTCString()
      failing(server, 'tools/call', 1, (x) => x.reply(503, '', { date: date(0), 'retry-after': date(2_000) }))
      const bridge = await BridgeProcess.connected(server.url)
      const at = performance.now()
      expect((await bridge.call('tools/call', {}, 10_000)).result).toBeDefined()
      expect(performance.now() - at).toBeGreaterThan(1_900)
    },
  )

  test('and one without end names a time that can be read', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.reply(429, '', { 'retry-after': '9'.repeat(22) }))
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).error?.message).toMatch(/asks to wait 365 days, longer/)
  })

  test('a server that says "later, at once" until the patience ends is not quoted as asking for more', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.reply(503, 'full', { 'retry-after': '0' }))
    const bridge = await BridgeProcess.connected(server.url, { args: patience(600) })
    const at = performance.now()
    expect((await bridge.call('tools/call')).error?.message).toMatch(/for 600 ms: HTTP 503: full/)
    expect(performance.now() - at).toBeGreaterThan(590)
  })

  test.each(['-1', '1.5', '5, 10', '10s', 'soon', ''])(
    'a Retry-After of "%s" says nothing',
    async (value) => {
      const server = await ScriptedServer.start()
      server.on('tools/call', (x) => x.reply(503, '', { 'retry-after': value }))
      const bridge = await BridgeProcess.connected(server.url)
      expect((await bridge.call('tools/call')).error?.data?.code).toBe('RESPONSE_LOST')
      expect(server.posts('tools/call')).toHaveLength(1)
    },
  )

  test('429 without one is said at once, whatever the method', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/list', (x) => x.reply(429))
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/list')).error?.message).toMatch(/HTTP 429: too many requests/)
    expect(server.posts('tools/list')).toHaveLength(1)
  })

  test('429 to initialized is another matter: without it nothing is served', async () => {
    const server = await ScriptedServer.start()
    failing(server, 'notifications/initialized', 1, (x) => x.reply(429))
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('tools/list')
    expect(server.posts('notifications/initialized')).toHaveLength(2)
  })

  test('a new session that is to be waited for longer than the patience fails a request at once', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    server.wipe()
    server.on('initialize', (x) => x.reply(503, '', { 'retry-after': '60' }))
    const asked = performance.now()
    expect((await bridge.call('tools/call')).error?.data?.code).toBe('SERVER_BUSY')
    expect((await bridge.call('tools/call')).error?.message).toMatch(/asks to wait (60|59)/)
    expect(performance.now() - asked).toBeLessThan(5_000)
    expect(server.posts('initialize')).toHaveLength(2)
  })

  test('a Retry-After that is a date is understood', async () => {
    const server = await ScriptedServer.start()
    failing(server, 'tools/call', 1, (x) =>
      x.reply(503, '', { 'retry-after': new Date(Date.now() + 2_000).toUTCString() }),
    )
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call', {}, 6_000)).error).toBeUndefined()
    expect(server.posts('tools/call')).toHaveLength(2)
  })

  test.each([
    [400, 'text/html', '<html><head><style>b{}</style></head><body><h1>Bad</h1></body></html>'],
    [418, 'text/plain', 'teapot'],
    [500, 'text/html', `<html><body>${'oops '.repeat(50_000)}</body></html>`],
    [501, 'text/html', ''],
  ])('%d with %s: an error with the status and a short text, for that id', async (status, type, body) => {
    const server = await ScriptedServer.start()
    failing(server, 'tools/call', 1, (x) => x.reply(status, body, { 'content-type': type }))
    const bridge = await BridgeProcess.connected(server.url)
    const reply = await bridge.call('tools/call')
    expect(reply.error?.message).toContain(String(status))
    expect(JSON.stringify(reply).length).toBeLessThan(2_000)
    expect(reply.error?.message).not.toContain('<')
    expect((await bridge.call('tools/call')).error).toBeUndefined()
  })

  test('a 4xx with the server’s own JSON-RPC error: the client gets that error as it is', async () => {
    const server = await ScriptedServer.start({ sessions: false })
    server.on('tools/call', (x) =>
      x.json(
        `{"jsonrpc":"2.0","id":${x.rpc.id},"error":{"code":-32602,"message":"bad","data":{"n":1.0}}}`,
        422,
      ),
    )
    const bridge = await BridgeProcess.connected(server.url)
    const id = bridge.ask('tools/call')
    await bridge.reply(id)
    expect(bridge.lines.at(-1)?.toString()).toContain('{"code":-32602,"message":"bad","data":{"n":1.0}}')
  })
})

test('while the server is down a call fails after the patience with host and cause; the next one tries again', async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.connected(server.url, { args: patience(600) })
  await bridge.call('ping')
  await server.down()
  const at = performance.now()
  const reply = await bridge.call('tools/call', {}, 5_000)
  expect(performance.now() - at).toBeGreaterThan(500)
  expect(reply.error?.data?.code).toBe('SERVER_UNREACHABLE')
  expect(reply.error?.message).toContain(`127.0.0.1:${server.port}`)
  expect(reply.error?.message).toContain('ECONNREFUSED')
  await server.up()
  expect((await bridge.call('tools/call')).error).toBeUndefined()
})

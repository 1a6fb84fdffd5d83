/**
 * Ways to go deaf, or to die slowly, that a push stream in good health never shows: headers that do not come, a
 * client that does not read, an event that is not taken, a goodbye in the middle of a renewal.
 */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { heard, initializeParams, notification, sse } from '../support/messages.ts'
import { type Handler, ScriptedServer } from '../support/scripted-server.ts'
import { drain, hold, maxMessage, patience, stateful } from '../support/settings.ts'

function inJson(status: number): Handler {
  return (x) => x.error(-32000, 'no valid session', status)
}

describe('a push stream', () => {
  test('that is reset while the client does not read is opened again', async () => {
    const server = await ScriptedServer.start()
    let first = true
    server.before((x) => {
      if (x.request.method !== 'GET') return false
      const cursor = Number(x.request.headers['last-event-id'] ?? 0)
      // "close" as from an intermediary: then undici asks its parser, which is paused, whether all has come.
      x.response.writeHead(200, { ...sse, connection: 'close' })
      if (!first) return x.response.write(`id: 1000\ndata: ${notification(1_000)}\n\n`)
      first = false
      let n = cursor
      const more = setInterval(() => {
        x.response.write(`id: ${++n}\ndata: ${notification(n, { text: 'x'.repeat(4_000) })}\n\n`)
        if (n < 100) return
        clearInterval(more)
        setTimeout(() => x.response.socket?.resetAndDestroy(), 500)
      }, 5)
      return true
    })
    const bridge = await BridgeProcess.connected(server.url, stateful)
    bridge.read(false)
    await pause(1_800)
    bridge.read(true)
    await bridge.waitFor('what comes after', () => heard(bridge).includes(1_000), 8_000)
    const before = heard(bridge).slice(0, -1)
    expect(before).toEqual(before.map((_, i) => i + 1))
    expect(server.of('GET')[1]?.headers['last-event-id']).toBe(String(before.length))
  })

  test('whose headers never come is left when the session is renewed', async () => {
    const server = await ScriptedServer.start()
    let first = true
    server.before((x) => {
      if (x.request.method !== 'GET' || !first) return false
      first = false
      return true
    })
    const bridge = await BridgeProcess.connected(server.url, stateful)
    await eventually('the GET', () => server.of('GET').length === 1)
    server.wipe()
    await bridge.call('tools/call')
    await eventually('the push stream of the new session', () => server.listening(), 3_000)
  })

  const lines = Array.from({ length: 300 }, () => `data: "${'x'.repeat(1_000)}",`)
  const tooLong = `id: 2\ndata: [\n${lines.join('\n')}\ndata: 0]\n\n`
  const limited = { args: ['--stateful', '--log-level', 'info', ...maxMessage(200_000)] }

  const nameless = tooLong.replace('id: 2', '')
  const [one, four] = [1, 4].map((id) => `id: ${id}\ndata: ${notification(id)}\n\n`)

  test.each([
    ['brings the events behind it, and is gone on from', `${one}${tooLong}`, `${nameless}${four}`, '2'],
    ['and has no id is gone on from what came before', `${one}${nameless}: alive\n\n`, four, '1'],
    ['and ends with it is not asked for it again', `${one}${tooLong.trimEnd()}`, four, undefined],
  ])('in which an event is too long, in many lines, %s', async (_, first, then, cursor) => {
    const server = await ScriptedServer.start()
    const cursors: unknown[] = []
    server.before((x) => {
      if (x.request.method !== 'GET') return false
      cursors.push(x.request.headers['last-event-id'])
      x.response.writeHead(200, sse)
      if (cursors.length === 1) x.response.end(first)
      else x.response.write(then)
      return true
    })
    const bridge = await BridgeProcess.connected(server.url, limited)
    await bridge.waitFor('what comes after', () => heard(bridge).includes(4))
    expect(cursors).toEqual([undefined, cursor])
    expect(bridge.stderr).toMatch(
      /warn dropped what the server pushed: an event is over the limit of 200000 bytes/,
    )
  })

  test('that is resumed brings an event of the same words under another id', async () => {
    const server = await ScriptedServer.start()
    let gets = 0
    server.before((x) => {
      if (x.request.method !== 'GET') return false
      gets++
      x.response.writeHead(200, sse)
      if (gets === 1) x.response.end(`id: 5\ndata: ${notification(7)}\n\n`)
      // The event that was asked for comes once more (known), then a new one that reads the same.
      else x.response.write(`id: 5\ndata: ${notification(7)}\n\nid: 6\ndata: ${notification(7)}\n\n`)
      return true
    })
    const bridge = await BridgeProcess.connected(server.url, stateful)
    await bridge.waitFor('both', () => heard(bridge).length === 2)
    await pause(100)
    expect(heard(bridge)).toEqual([7, 7])
  })

  const words: readonly (readonly [string, Handler, Handler])[] = [
    ['400 in plain text, and a POST by 400 in JSON', (x) => x.reply(400, 'no such session'), inJson(400)],
    ['410, and a POST by 400', (x) => x.reply(410), inJson(400)],
    ['410, and a POST by -32000 in 200', (x) => x.reply(410), inJson(200)],
    ['405, and a POST by 400', (x) => x.reply(405), inJson(400)],
    ['502, and a POST by 400', (x) => x.reply(502), inJson(400)],
    ['500, and a POST by 500 in JSON', (x) => x.reply(500), inJson(500)],
    [
      'a page, and a POST by -32000 in 200',
      (x) => x.reply(200, '<p>', { 'content-type': 'text/html' }),
      inJson(200),
    ],
  ]
  test.each(words)(
    'whose lost session is refused by %s: it is renewed',
    { timeout: 20_000 },
    async (_, get, post) => {
      const server = await ScriptedServer.start()
      server.refuseLost = (x) => (x.request.method === 'GET' ? get(x) : post(x))
      const bridge = await BridgeProcess.listening(server)
      await server.restart()
      await eventually('the next push stream', () => server.listening(), 15_000)
      server.push(notification(1))
      await bridge.waitFor('an event', () => heard(bridge).length === 1)
    },
  )

  const lost = '{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}'
  test.each([
    ['with nothing', ''],
    ['with an error', `data: ${lost}\n\n`],
  ])(
    'that a server gives before it looks for the session, and ends %s: the session is renewed',
    { timeout: 20_000 },
    async (_, text) => {
      const server = await ScriptedServer.start()
      server.before((x) => {
        const isLive = server.live().some(({ id }) => id === x.request.headers['mcp-session-id'])
        if (x.request.method !== 'GET' || isLive) return false
        x.response.writeHead(200, sse).end(text)
        return true
      })
      const bridge = await BridgeProcess.listening(server)
      // (Else the notice of the gap would ask for them.)
      await bridge.call('tools/list')
      await server.restart()
      await eventually('the next push stream', () => server.listening(), 15_000)
      server.push(notification(1))
      await bridge.waitFor('an event', () => heard(bridge).length === 1)
    },
  )

  test('and its session, away, are waited for by many requests without a warning', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server, { args: ['--stateful', '--silent'] })
    await server.down()
    const ids = [...Array(30)].map(() => bridge.ask('tools/list'))
    await pause(200)
    server.wipe()
    await server.up()
    for (const id of ids) expect((await bridge.reply(id)).error).toBeUndefined()
    expect(bridge.stderr).toBe('')
  })

  test.each([400, 403])(
    'of a server that refuses all pings (%i) is not renewed for a call that it refuses otherwise',
    async (status) => {
      const server = await ScriptedServer.start()
      server.on('ping', (x) => x.reply(status, 'what?'))
      server.on('tools/call', (x) => x.error(-32602, 'no', 422))
      const bridge = await BridgeProcess.listening(server)
      for (let i = 0; i < 5; i++) expect((await bridge.call('tools/call')).error?.code).toBe(-32602)
      expect(server.posts('initialize')).toHaveLength(1)
    },
  )

  const inFront: readonly (readonly [string, number, Handler])[] = [
    ['530', 600, (x) => x.reply(530, 'origin is down')],
    ['a page', 600, (x) => x.reply(200, '<p>back soon', { 'content-type': 'text/html' })],
    ['a redirect', 600, (x) => x.reply(302, '', { location: 'https://status.example.com/' })],
    // To whoever asks, for so long that a session alone would be given up for it.
    ['401', 4_000, (x) => x.reply(401)],
    ['403', 7_000, (x) => x.reply(403)],
  ]
  test.each(inFront)(
    'in front of which somebody says %s for a while keeps session and place',
    async (_, ms, say) => {
      const server = await ScriptedServer.start({ replay: true })
      const bridge = await BridgeProcess.listening(server)
      server.push(notification(1))
      await bridge.waitFor('the first event', () => heard(bridge).length === 1)
      const { session } = server
      const open = server.before((x) => {
        say(x)
        return true
      })
      server.cutAll()
      server.push(notification(2))
      await pause(ms)
      open()
      await bridge.waitFor('what was missed', () => heard(bridge).length === 2, 40_000)
      expect(heard(bridge)).toEqual([1, 2])
      expect(session.endedBy).toBeUndefined()
    },
    45_000,
  )

  test('whose 401 is said to the session alone: the session is renewed', async () => {
    const server = await ScriptedServer.start()
    server.refuseLost = (x) => x.reply(401)
    const bridge = await BridgeProcess.listening(server)
    await server.restart()
    await eventually('the next push stream', () => server.listening(), 12_000)
    expect((await bridge.call('tools/call', { n: 1 })).result.echo).toEqual({ n: 1 })
  })

  test.each([401, 403, 502, 503])('whose %i is said to a call, without a push stream', async (status) => {
    const server = await ScriptedServer.start({ push: false })
    server.refuseLost = (x) => x.reply(status)
    const bridge = await BridgeProcess.connected(server.url, stateful)
    await bridge.call('tools/call')
    server.wipe()
    const listed = await bridge.call('tools/list', {}, 18_000)
    expect(listed.error).toBeUndefined()
    expect(server.posts('initialize').length).toBeGreaterThan(1)
  })
})

test.each([401, 403])(
  'pings and calls that are refused with %i in each session, while all else is served: it is of the key, which is learned once',
  async (status) => {
    const server = await ScriptedServer.start({ push: false })
    server.before((x) => ['ping', 'tools/call'].includes(x.rpc.method ?? '') && (x.reply(status) ?? true))
    const bridge = await BridgeProcess.connected(server.url, {
      ...stateful,
      env: { CHAMADE_API_KEY: 'chmd_0123456789' },
    })
    for (const n of [1, 2, 3]) {
      expect((await bridge.call('tools/call', { n })).error?.data?.code).toBe('KEY_REFUSED')
      expect((await bridge.call('tools/list')).error).toBeUndefined()
    }
    expect(server.posts('tools/call')).toHaveLength(4)
    expect(server.sessions.size).toBeLessThanOrEqual(3)
  },
)

test('a ping that another process refused in words does not make the bridge deaf to the next loss', async () => {
  const server = await ScriptedServer.start({ push: false })
  const refuse: Handler = (x) => x.error(-32000, 'Session not found', 200)
  server.refuseLost = refuse
  const bridge = await BridgeProcess.connected(server.url, stateful)
  await bridge.call('tools/list')
  // Of a rolling deploy: the first ping in the next session comes to the old one.
  let first = ''
  server.before((x) => {
    if (x.rpc.method !== 'ping' || x.session?.endedBy !== undefined || first !== '') return false
    first = x.request.session ?? ''
    void refuse(x)
    return true
  })
  server.wipe()
  expect((await bridge.call('tools/list')).error).toBeUndefined()
  await eventually('the ping that is refused', () => first === server.session.id)
  server.wipe()
  const until = performance.now() + 14_000
  while ((await bridge.call('tools/list')).error !== undefined && performance.now() < until) await pause(250)
  expect((await bridge.call('tools/list')).error).toBeUndefined()
})

test('one that is lost in other words while a call runs: an error without an id does not run the call again', async () => {
  const server = await ScriptedServer.start()
  let fail = (): void => {}
  server.on('tools/call', (x) => {
    fail = () =>
      x.json({ jsonrpc: '2.0', id: null, error: { code: -32000, message: 'Server shutting down' } })
  })
  const bridge = await BridgeProcess.listening(server)
  const id = bridge.ask('tools/call')
  await eventually('it runs', () => server.posts('tools/call').length === 1)
  server.wipe()
  await bridge.call('tools/list')
  fail()
  expect((await bridge.reply(id)).error?.message).toBe('Server shutting down')
  expect(server.posts('tools/call')).toHaveLength(1)
})

test('a server that is down is not asked whether it would begin a session more often than every few seconds', async () => {
  const server = await ScriptedServer.start({ push: false })
  const bridge = await BridgeProcess.connected(server.url, stateful)
  await bridge.call('tools/list')
  server.before((x) => x.reply(503) ?? true)
  const until = performance.now() + 9_000
  while (performance.now() < until) {
    void bridge.call('tools/call', {}, 60_000)
    await pause(200)
  }
  expect(server.posts('tools/call').length).toBeGreaterThan(20)
  expect(server.posts('initialize').length).toBeLessThan(4)
})

describe('a renewal under way', () => {
  /** The session is lost and the next `initialize` gets no answer before `release`. */
  async function renewing(args: readonly string[]) {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server, { args: ['--stateful', ...args] })
    let left = 1
    server.before((x) => x.rpc.method === 'initialize' && left-- > 0)
    server.wipe()
    const id = bridge.ask('tools/call')
    await eventually('the renewal', () => server.posts('initialize').length === 2)
    return { server, bridge, id }
  }

  test('and a request that waits for it do not hold up a signal', async () => {
    const { bridge, id } = await renewing([])
    const at = performance.now()
    bridge.signal('SIGTERM')
    const { code, signal } = await bridge.gone(2_000)
    expect({ code, signal }).toEqual({ code: 143, signal: null })
    expect(performance.now() - at).toBeLessThan(1_500)
    expect(bridge.answersTo(id)).toHaveLength(1)
  })

  test('nor the end of a drain', async () => {
    const { bridge, id } = await renewing(drain(500))
    bridge.eof()
    expect((await bridge.gone(4_000)).code).toBe(1)
    expect(bridge.answersTo(id)).toHaveLength(1)
  })

  test('that a hung backend has swallowed leaves time for another', async () => {
    const { bridge, id } = await renewing(patience(3_000))
    expect((await bridge.reply(id)).result).toBeDefined()
  })
})

describe('at the end of stdin', () => {
  test('events that are held go out first, all of them', async () => {
    const server = await ScriptedServer.start({ capabilities: { experimental: { 'claude/channel': {} } } })
    const bridge = await BridgeProcess.listening(server, { args: ['--stateful', ...hold(5_000)] })
    for (const text of ['one', 'two', 'three']) server.pushChannel(text)
    await pause(200)
    expect(bridge.channel()).toEqual([])
    bridge.eof()
    await bridge.gone()
    expect(bridge.channel()).toEqual(['one', 'two', 'three'])
  })

  test('a notification without an answer is waited for only a moment', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    server.before((x) => x.rpc.method === 'notifications/x')
    bridge.notify('notifications/x')
    await eventually('the notification', () => server.posts('notifications/x').length === 1)
    bridge.eof()
    expect((await bridge.gone(6_000)).code).toBe(0)
  })
})

describe('errors name their cause', () => {
  test('a server that says 503 without a Retry-After is not quoted as asking for patience', async () => {
    const server = await ScriptedServer.start()
    server.before((x) => x.reply(503, 'starting up') ?? true)
    const bridge = BridgeProcess.start(server.url, { args: patience(600) })
    const reply = await bridge.call('initialize', initializeParams)
    expect(reply.error?.message).toMatch(/HTTP 503: starting up/)
  })

  test('a request that waited in vain for a new session says why there is none', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url, { args: patience(1_500) })
    await bridge.call('ping')
    server.before((x) => (x.rpc.method === 'initialize' ? (x.reply(503, 'starting up') ?? true) : false))
    server.wipe()
    expect((await bridge.call('tools/call')).error?.message).toMatch(/503/)
  })

  test('a 403 for one call, in the words of the server', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.error(-32003, 'Insufficient scope', 403))
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).error).toMatchObject({
      code: -32003,
      message: 'Insufficient scope',
    })
  })

  test('a page that never ends, in the place of an answer', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => {
      x.response.writeHead(200, { 'content-type': 'text/html' })
      x.response.write('<html>please wait')
    })
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).error?.message).toMatch(
      /text\/html, not JSON: please; it may have run/,
    )
  })
})

describe('connections', () => {
  test('a hundred calls one after the other use one', async () => {
    const server = await ScriptedServer.start()
    const ports = new Set<number | undefined>()
    server.on('tools/call', (x) => {
      ports.add(x.response.socket?.remotePort)
      x.result()
    })
    const bridge = await BridgeProcess.connected(server.url)
    for (let i = 0; i < 100; i++) await bridge.call('tools/call')
    expect(ports.size).toBe(1)
  })
})

test.skipIf(process.platform === 'win32')(
  'a process that was stopped for a while (Ctrl-Z) takes what came meanwhile for what it is: in time',
  async () => {
    const server = await ScriptedServer.start()
    await server.down()
    server.heartbeatMs = 200
    await server.up()
    server.on('tools/call', async (x) => {
      await pause(1_000)
      x.result({ content: [] })
    })
    const args = [...stateful.args, '--tool-timeout', '3s', '--log-level', 'info']
    const bridge = await BridgeProcess.connected(server.url, { args })
    await eventually('the push stream', () => server.listening())
    await pause(1_500)
    bridge.send({ jsonrpc: '2.0', id: 'slow', method: 'tools/call', params: { name: 'slow' } })
    await eventually('the call', () => server.posts('tools/call').length === 1)
    bridge.signal('SIGSTOP')
    await pause(3_000)
    server.push(notification(1))
    await pause(3_500)
    bridge.signal('SIGCONT')
    expect((await bridge.reply('slow')).result).toEqual({ content: [] })
    await bridge.waitFor('the event', () => heard(bridge).includes(1))
    await pause(500)
    expect(server.of('GET')).toHaveLength(1)
    expect(bridge.stderr).not.toContain('push stream down')
  },
  15_000,
)

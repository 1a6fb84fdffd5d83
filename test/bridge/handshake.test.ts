/** Handshakes that go wrong: what comes around their answers, answers that never come, and sessions nobody wants. */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually } from '../support/eventually.ts'
import { heard, initialize, initialized, initializeParams, notification, sse } from '../support/messages.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'
import { stateful } from '../support/settings.ts'

const welcome = {
  protocolVersion: '2025-11-25',
  capabilities: {},
  serverInfo: { name: 'scripted', version: '1' },
}

describe('initialize', () => {
  test('answered without its response fails after one request, and its session is deleted', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', (x) =>
      x.json({ jsonrpc: '2.0', id: 999, result: welcome }, 200, { 'mcp-session-id': 'stray' }),
    )
    const bridge = BridgeProcess.start(server.url)
    bridge.send(initialize())
    expect((await bridge.reply(0)).error?.data?.code).toBe('SERVER_CONFUSED')
    await eventually('the goodbye', () => server.of('DELETE').some((each) => each.session === 'stray'))
    expect(server.posts('initialize')).toHaveLength(1)
  })

  test.each<[string, (x: Exchange) => void]>([
    ['cut', (x) => x.response.socket?.destroy()],
    ['in a coding that was not asked for', (x) => x.response.end()],
  ])('whose answer is %s: the session that its head named is deleted', async (how, end) => {
    const server = await ScriptedServer.start()
    server.on('initialize', (x) => {
      server.on('initialize', (again) => server.welcome(again))
      const coding = how === 'cut' ? 'identity' : 'gzip'
      x.response.writeHead(200, {
        'content-type': 'application/json',
        'content-encoding': coding,
        'mcp-session-id': 'stray',
      })
      x.response.write('{"jsonrpc":"2.0",', () => end(x))
    })
    const bridge = BridgeProcess.start(server.url)
    bridge.send(initialize())
    await bridge.reply(0)
    await eventually('the goodbye', () => server.of('DELETE').some((each) => each.session === 'stray'))
  })

  test('refused in an answer that names a session: that session is deleted, each time', async () => {
    const server = await ScriptedServer.start()
    const error = { code: -32602, message: 'not these capabilities' }
    const refuse = (session: string) => (x: Exchange) =>
      x.json({ jsonrpc: '2.0', id: JSON.parse(x.rpc.id ?? 'null'), error }, 200, {
        'mcp-session-id': session,
      })
    const bridge = await BridgeProcess.connected(server.url)
    server.on('initialize', refuse('refused again'))
    server.wipe()
    bridge.ask('tools/call')
    await eventually('the goodbye', () => server.of('DELETE').some((x) => x.session === 'refused again'))
    server.on('initialize', refuse('refused'))
    bridge.send(initialize(9))
    expect((await bridge.reply(9)).error?.code).toBe(-32602)
    await eventually('the goodbye', () => server.of('DELETE').some((x) => x.session === 'refused'))
  })

  test('answered by polling is fetched with its cursor, in its session', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', (x) => {
      x.reply(200, 'id: i1\nretry: 10\ndata: \n\n', { ...sse, 'mcp-session-id': 'polled' })
    })
    server.before((x) => {
      if (x.request.headers['last-event-id'] !== 'i1') return false
      return x.stream().send({ jsonrpc: '2.0', id: 0, result: welcome })
    })
    const bridge = BridgeProcess.start(server.url)
    bridge.send(initialize())
    expect((await bridge.reply(0)).result).toEqual(welcome)
    expect(server.of('GET')[0]?.session).toBe('polled')
    expect(server.posts('initialize')).toHaveLength(1)
  })

  test('of a server that asks something before it answers: the server gets a reply', async () => {
    const server = await ScriptedServer.start({ sessions: false })
    server.on('initialize', async (x) => {
      const replied = (id: string) => () => server.replies().some((reply) => reply.rpc?.id === id)
      const stream = x.stream()
      stream.send({ jsonrpc: '2.0', id: 'p1', method: 'ping' })
      await eventually('the reply to the ping', replied('"p1"'))
      stream.send({ jsonrpc: '2.0', id: 'r1', method: 'roots/list' })
      await eventually('the reply to roots/list', replied('"r1"'))
      stream.send(x.answer(welcome))
    })
    const bridge = await BridgeProcess.connected(server.url)
    const bodies = server.replies().map((reply) => JSON.parse(reply.body.toString()))
    expect(bodies[0]).toEqual({ jsonrpc: '2.0', id: 'p1', result: {} })
    expect(bodies[1]).toMatchObject({ id: 'r1', error: { code: -32601 } })
    await bridge.waitFor('a word about it', () => bridge.stderr.includes('dropped roots/list'))
  })

  test('of a server whose capabilities are nested twenty thousand deep: it is let in', async () => {
    const server = await ScriptedServer.start()
    const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`
    server.on('initialize', (x) =>
      x.result(
        JSON.stringify(welcome).replace('"capabilities":{}', `"capabilities":{"experimental":${deep}}`),
      ),
    )
    const bridge = BridgeProcess.start(server.url)
    bridge.send(initialize())
    await bridge.waitFor('the answer', () => bridge.lines.length === 1)
    expect(bridge.lines[0]?.toString()).toContain(deep)
  })

  test('written again while the first is unanswered: the first fails, the second counts', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', (x) => {
      if (server.posts('initialize').length > 1) server.welcome(x)
    })
    const bridge = BridgeProcess.start(server.url)
    bridge.send(initialize())
    await eventually('the first', () => server.posts('initialize').length === 1)
    bridge.send(initialize(7))
    expect((await bridge.reply(0, 1_000)).error?.data?.code).toBe('SUPERSEDED')
    expect((await bridge.reply(7, 1_000)).error).toBeUndefined()
  })
})

describe('what the server says behind an answer, on the stream of', () => {
  /** Answers `x` as usual, but on a stream that goes on: in one piece with the answer, then later. */
  function goOn(x: Exchange, text: string, result: object = {}, headers: Record<string, string> = {}): void {
    x.response.writeHead(200, { ...headers, ...sse })
    const answer = x.rpc.id === undefined ? '' : `data: ${x.answer(result)}\n\n`
    x.response.write(`${answer}data: ${notification(`${text} at once`)}\n\n`)
    setTimeout(() => x.response.end(`data: ${notification(`${text} later`)}\n\n`), 20)
  }

  test('initialize, follows the answer to the client', async () => {
    const server = await ScriptedServer.start({ sessions: false })
    server.on('initialize', (x) => goOn(x, 'behind', welcome))
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.waitFor('both', () => heard(bridge).length === 2)
    expect(heard(bridge)).toEqual(['behind at once', 'behind later'])
    expect(bridge.replies[0]?.id).toBe(0)
  })

  test('a second initialize, its initialized and what is set again, reaches the client', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('logging/setLevel', { level: 'debug' })
    server.wipe()
    server.on('initialize', (x) => {
      // (A session as usual, its answer in other form.)
      const reply = (_status: number, _body: string, headers: Record<string, string>): void =>
        goOn(x, 'initialize', welcome, headers)
      Object.assign(x, { reply })
      server.welcome(x)
    })
    server.on('notifications/initialized', (x) => goOn(x, 'initialized'))
    server.on('logging/setLevel', (x) => goOn(x, 'level'))
    await bridge.call('tools/call')
    await bridge.waitFor('all', () => heard(bridge).length === 6)
    expect(heard(bridge).sort()).toEqual(
      ['initialize', 'initialized', 'level'].flatMap((each) => [`${each} at once`, `${each} later`]).sort(),
    )
  })

  test('a reply of the client, reaches the client', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    server.before((x) => x.rpc.isResponse && x.rpc.id !== undefined && goOn(x, 'reply'))
    server.push({ jsonrpc: '2.0', id: 'q', method: 'roots/list' })
    await bridge.waitFor('the question', () => bridge.received('roots/list').length === 1)
    bridge.send({ jsonrpc: '2.0', id: 'q', result: { roots: [] } })
    await bridge.waitFor('both', () => heard(bridge).length === 2)
  })
})

test('of handshakes written in one go each opens its push stream behind its own initialized', async () => {
  const server = await ScriptedServer.start()
  const bridge = BridgeProcess.start(server.url, stateful)
  const lines = [initialize(0), initialized, initialize(1), initialized, initialize(2)]
  bridge.send(lines.map((line) => JSON.stringify(line)).join('\n'))
  await bridge.reply(2)
  // (A stream of the last would be asked for by now.)
  await bridge.call('tools/call')
  bridge.send(initialized)
  await eventually('the push stream', () => server.listening())
  const early = server.of('GET').filter((get) => {
    const said = server.posts('notifications/initialized').find((post) => post.session === get.session)
    return said === undefined || said.at > get.at
  })
  expect(early).toEqual([])
})

test('a withdrawn initialize leaves no session: it ends in the version that the server chose', async () => {
  const server = await ScriptedServer.start()
  let answer = (): void => {}
  server.on('initialize', (x) => {
    server.protocolVersion = '2025-03-26'
    answer = () => server.welcome(x)
  })
  server.before(
    (x) =>
      x.request.method === 'DELETE' &&
      x.request.headers['mcp-protocol-version'] !== '2025-03-26' &&
      x.error(-32000, 'Unsupported protocol version', 400),
  )
  const bridge = BridgeProcess.start(server.url)
  bridge.send(initialize(0))
  await eventually('it', () => server.posts('initialize').length === 1)
  bridge.notify('notifications/cancelled', { requestId: 0 })
  bridge.send({ jsonrpc: '2.0', id: 1, method: 'server/discover' })
  await bridge.reply(1)
  answer()
  await eventually('the DELETE', () => server.of('DELETE').length === 1)
  expect(server.live()).toEqual([])
  expect(bridge.answersTo(0)).toEqual([])
})

test('an initialize that nobody waits for does not keep the goodbye to the session from being said', async () => {
  const server = await ScriptedServer.start()
  let first = true
  server.before((x) => {
    const isSwallowed = x.rpc.method === 'initialize' && first
    if (isSwallowed) first = false
    return isSwallowed
  })
  const bridge = BridgeProcess.start(server.url)
  bridge.send(initialize(1))
  await eventually('it', () => server.posts('initialize').length === 1)
  bridge.notify('notifications/cancelled', { requestId: 1 })
  await bridge.handshake()
  await bridge.call('tools/list')
  const at = performance.now()
  bridge.eof()
  expect((await bridge.gone()).code).toBe(0)
  expect((server.of('DELETE')[0]?.at ?? Number.POSITIVE_INFINITY) - at).toBeLessThan(500)
})

test('a web page in the place of an MCP endpoint is told of, with what to look at', async () => {
  const server = await ScriptedServer.start()
  server.before((x) => x.reply(200, '<html><h1>Welcome</h1></html>', { 'content-type': 'text/html' }) ?? true)
  const bridge = BridgeProcess.start(server.url)
  const { error } = await bridge.call('initialize', initializeParams)
  expect(error?.message).toMatch(
    /answered HTTP 200: text\/html, not JSON: Welcome\. Try: check the path in the URL/,
  )
})

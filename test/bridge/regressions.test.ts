/** Regressions: promises that were once broken. Each test is the shortest way to the defect it keeps out. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { BridgeProcess, baseEnv, bin } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'
import { maxMessage, patience } from '../support/settings.ts'

const initialize = {
  jsonrpc: '2.0',
  id: 0,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } },
}

const welcome = {
  protocolVersion: '2025-11-25',
  capabilities: {},
  serverInfo: { name: 'scripted', version: '1' },
}

const sse = { 'content-type': 'text/event-stream' }

function notification(n: number): string {
  return `{"jsonrpc":"2.0","method":"notifications/x","params":{"n":${n}}}`
}

/** The numbers of the notifications that arrived. */
function heard(bridge: BridgeProcess): unknown[] {
  return bridge.received('notifications/x').map((each) => each.params?.n)
}

describe('a value of the configuration that is an everyday word', () => {
  const refusal = {
    jsonrpc: '2.0',
    id: null,
    error: { code: -32602, message: 'bad', data: { retry: true } },
  }

  test('the error of the server arrives with its code and its data', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) =>
      x.json(`{"jsonrpc":"2.0","id":${x.rpc.id},"error":${JSON.stringify(refusal.error)}}`, 400),
    )
    const bridge = await BridgeProcess.connected(server.url, { args: ['--header', 'X-Debug: true'] })
    expect((await bridge.call('tools/call')).error).toEqual(refusal.error)
  })

  test('the push stream outlives a refusal that contains it', async () => {
    const server = await ScriptedServer.start()
    let refused = 0
    server.before((x) => x.request.method === 'GET' && refused++ === 0 && x.json(refusal, 400))
    const bridge = await BridgeProcess.connected(`${server.url}?stateful=true`)
    await eventually('a push stream', () => server.listening())
    server.push(notification(1))
    await bridge.waitFor('the push', () => heard(bridge).length === 1)
    expect(bridge.stderr).not.toContain('internal')
  })

  test('every line of the JSON log is JSON', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(`${server.url}?x=true&y=push`, {
      args: ['--log-format', 'json', '--log-level', 'debug'],
    })
    await eventually('a push stream', () => server.listening())
    await bridge.waitFor('its line', () => bridge.stderr.includes('push'))
    bridge.eof()
    await bridge.gone()
    const lines = bridge.stderr.trim().split('\n')
    expect(lines.length).toBeGreaterThan(2)
    for (const line of lines) {
      const { at } = JSON.parse(line) as { readonly at: unknown }
      expect(at).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
    }
  })
})

describe('a call', () => {
  test('that was refused does not wait long for the ping, whose answer counts all the same', async () => {
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

  test('works as soon as the server lets us in again, without a push stream too', async () => {
    const server = await ScriptedServer.start()
    const bridge = BridgeProcess.start(server.url)
    await bridge.call('tools/list')
    server.wipe()
    const open = server.before((x) => x.rpc.method === 'initialize' && x.reply(401))
    expect((await bridge.call('tools/call')).error?.data?.code).toBe('KEY_MISSING')
    open()
    await eventually('a result', async () => (await bridge.call('tools/call')).error === undefined, 3_000)
  })

  test('goes to the address it was told after a redirect that led nowhere', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    const over = server.before((x) => {
      if (x.rpc.method !== 'tools/call') return false
      if (x.request.url === '/maintenance') return x.reply(503, 'soon')
      return x.reply(301, '', { location: '/maintenance' })
    })
    expect((await bridge.call('tools/call')).error).toBeDefined()
    over()
    expect((await bridge.call('tools/call')).error).toBeUndefined()
    expect(server.posts('tools/call').at(-1)?.url).toBe(server.path)
  })

  test('that was refused with the old key is sent with the new one that another has read', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'chamade-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const path = join(folder, 'key')
    let key = 'old_key_0123456789'
    writeFileSync(path, key)
    const server = await ScriptedServer.start()
    const refusals: (() => void)[] = []
    server.before((x) => {
      if (x.request.headers.authorization === `Bearer ${key}`) return false
      if (x.rpc.method !== 'tools/call') return x.reply(401)
      refusals.push(() => x.reply(401))
      return true
    })
    const bridge = await BridgeProcess.connected(server.url, { args: ['--api-key-file', path] })
    await bridge.call('ping')
    key = 'new_key_0123456789'
    writeFileSync(path, key)
    const ids = [bridge.ask('tools/call'), bridge.ask('tools/call')]
    await eventually('both calls', () => refusals.length === 2)
    refusals[0]?.()
    await bridge.waitFor('the first answer', () => ids.some((id) => bridge.answersTo(id).length > 0))
    refusals[1]?.()
    for (const id of ids) expect((await bridge.reply(id)).error).toBeUndefined()
  })
})

describe('initialize', () => {
  test('answered without its response fails after one request, and its session is deleted', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', (x) =>
      x.json({ jsonrpc: '2.0', id: 999, result: welcome }, 200, { 'mcp-session-id': 'stray' }),
    )
    const bridge = BridgeProcess.start(server.url)
    bridge.send(initialize)
    expect((await bridge.reply(0)).error?.data?.code).toBe('SERVER_CONFUSED')
    await eventually('the goodbye', () => server.of('DELETE').some((each) => each.session === 'stray'))
    expect(server.posts('initialize')).toHaveLength(1)
  })

  test('answered by polling is fetched with its cursor, in its session', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', (x) => {
      x.reply(200, 'id: i1\nretry: 10\ndata: \n\n', {
        'content-type': 'text/event-stream',
        'mcp-session-id': 'polled',
      })
    })
    server.before((x) => {
      if (x.request.headers['last-event-id'] !== 'i1') return false
      return x.stream().send({ jsonrpc: '2.0', id: 0, result: welcome })
    })
    const bridge = BridgeProcess.start(server.url)
    bridge.send(initialize)
    expect((await bridge.reply(0)).result).toEqual(welcome)
    expect(server.of('GET')[0]?.session).toBe('polled')
    expect(server.posts('initialize')).toHaveLength(1)
  })

  test('a server that asks something before it answers gets a reply', async () => {
    const server = await ScriptedServer.start({ sessions: false })
    server.on('initialize', async (x) => {
      const replied = (id: string) => (): boolean =>
        server.posts().some((post) => post.rpc?.isResponse && post.rpc.id === id)
      const stream = x.stream()
      stream.send({ jsonrpc: '2.0', id: 'p1', method: 'ping' })
      await eventually('the reply to the ping', replied('"p1"'))
      stream.send({ jsonrpc: '2.0', id: 'r1', method: 'roots/list' })
      await eventually('the reply to roots/list', replied('"r1"'))
      stream.send(x.answer(welcome))
    })
    const bridge = await BridgeProcess.connected(server.url)
    const bodies = server
      .posts()
      .flatMap((post) => (post.rpc?.isResponse ? [JSON.parse(post.body.toString())] : []))
    expect(bodies[0]).toEqual({ jsonrpc: '2.0', id: 'p1', result: {} })
    expect(bodies[1]).toMatchObject({ id: 'r1', error: { code: -32601 } })
    await bridge.waitFor('a word about it', () => bridge.stderr.includes('dropped roots/list'))
  })

  test('a server whose capabilities are nested twenty thousand deep is let in', async () => {
    const server = await ScriptedServer.start()
    const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`
    server.on('initialize', (x) =>
      x.result(
        JSON.stringify(welcome).replace('"capabilities":{}', `"capabilities":{"experimental":${deep}}`),
      ),
    )
    const bridge = BridgeProcess.start(server.url)
    bridge.send(initialize)
    await bridge.waitFor('the answer', () => bridge.lines.length === 1)
    expect(bridge.lines[0]?.toString()).toContain(deep)
  })

  test('written again while the first is unanswered: the first fails, the second counts', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', (x) => {
      if (server.posts('initialize').length > 1) server.welcome(x)
    })
    const bridge = BridgeProcess.start(server.url)
    bridge.send(initialize)
    await eventually('the first', () => server.posts('initialize').length === 1)
    bridge.send({ ...initialize, id: 7 })
    expect((await bridge.reply(0, 1_000)).error?.data?.code).toBe('SUPERSEDED')
    expect((await bridge.reply(7, 1_000)).error).toBeUndefined()
  })

  test('sent again by ourselves has an id of our own', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    server.wipe()
    await bridge.call('ping')
    const ids = server.posts('initialize').map((post) => post.rpc?.id)
    expect(ids).toHaveLength(2)
    expect(new Set(ids).size).toBe(2)
  })
})

describe('the push stream', () => {
  test.each([
    ['retry: 3000000000', (x: Exchange) => x.reply(200, 'retry: 3000000000\n\n', sse)],
    ['Retry-After: 9999999', (x: Exchange) => x.reply(429, '', { 'retry-after': '9999999' })],
  ])('is not asked for in a loop after %s', async (_, answer) => {
    const server = await ScriptedServer.start()
    server.before((x) => x.request.method === 'GET' && answer(x))
    const bridge = await BridgeProcess.connected(server.url)
    await eventually('the first', () => server.of('GET').length > 0)
    await pause(300)
    expect(server.of('GET').length).toBeLessThanOrEqual(2)
    expect(bridge.stderr).not.toContain('TimeoutOverflowWarning')
  })

  test('comes back without a cursor that cannot stand in a header', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await eventually('a push stream', () => server.listening())
    server.session.push.write(`id: a\u0001b\ndata: ${notification(1)}\n\n`)
    await bridge.waitFor('the push', () => heard(bridge).length === 1)
    server.session.push.hangUp()
    await eventually('the second', () => server.of('GET').length === 2 && server.listening())
    expect(server.of('GET')[1]?.headers['last-event-id']).toBeUndefined()
    server.push(notification(2))
    await bridge.waitFor('the next push', () => heard(bridge).length === 2)
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
})

describe('an answer', () => {
  test('whose lines end in CR arrives while its stream stays open', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.stream().write(`data: ${x.answer({ cr: true })}\r\r`))
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call', {}, 1_000)).result).toEqual({ cr: true })
  })

  test('behind a byte order mark that comes byte by byte arrives', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', async (x) => {
      const stream = x.stream()
      for (const byte of [0xef, 0xbb, 0xbf]) {
        stream.write(Buffer.of(byte))
        await pause(20)
      }
      stream.send(x.answer({ mark: true }))
    })
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).result).toEqual({ mark: true })
  })

  test('of JSON behind a byte order mark arrives', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.json(`\ufeff${x.answer({ mark: true })}`))
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).result).toEqual({ mark: true })
  })

  test('is the only one, though a reply under the same id was too long', async () => {
    const server = await ScriptedServer.start()
    let answer = (): void => {}
    server.on('tools/call', (x) => {
      answer = () => x.result({ real: true })
    })
    const bridge = await BridgeProcess.connected(server.url, { args: maxMessage(2_048) })
    await eventually('a push stream', () => server.listening())
    bridge.send('{"jsonrpc":"2.0","id":5,"method":"tools/call"}')
    await eventually('the call', () => server.posts('tools/call').length === 1)
    server.push('{"jsonrpc":"2.0","id":5,"method":"roots/list"}')
    await bridge.waitFor('the request of the server', () => bridge.received('roots/list').length === 1)
    bridge.send({ jsonrpc: '2.0', id: 5, result: { long: 'y'.repeat(3_000) } })
    await bridge.reply(null)
    answer()
    await bridge.waitFor('the answer', () => bridge.answersTo(5).length > 0)
    expect(bridge.answersTo(5).map((each) => each.result)).toEqual([{ real: true }])
  })
})

test('the session of a renewal that the goodbye interrupts is deleted', async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.connected(server.url)
  await bridge.call('ping')
  server.wipe()
  server.on('notifications/initialized', () => {})
  bridge.ask('tools/call')
  await eventually('the renewal', () => server.posts('notifications/initialized').length === 2)
  bridge.signal('SIGTERM')
  await bridge.gone()
  expect([...server.sessions.values()].map((session) => session.endedBy)).toEqual(['wipe', 'delete'])
})

test('millions of brackets are no message, and cost a byte each', async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.connected(server.url, {
    command: [process.execPath, '--max-old-space-size=64', bin],
  })
  bridge.write(Buffer.alloc(16 * 1024 * 1024, '['))
  bridge.write('\n')
  expect((await bridge.reply(null)).error?.code).toBe(-32700)
  expect((await bridge.call('tools/call')).error).toBeUndefined()
})

test('a client that writes nonsense and reads no answer is not read from any more', async () => {
  const server = await ScriptedServer.start()
  const child = spawn(process.execPath, [bin, server.url], {
    env: baseEnv,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const exited = new Promise((resolve) => child.once('exit', resolve))
  child.stdin.on('error', () => {})
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await exited
  })
  child.stdin.write(`${JSON.stringify(initialize)}\n`)
  await new Promise((resolve) => child.stdout.once('data', resolve))
  child.stdout.pause()
  const nonsense = '{"bad":1}\n'.repeat(5_000)
  let left = 100
  const more = (): void => {
    if (--left > 0) child.stdin.write(nonsense, more)
  }
  more()
  let still = 0
  let before = left
  await eventually('that it stops reading, or has read all', async () => {
    await pause(20)
    still = left === before ? still + 1 : 0
    before = left
    return left === 0 || still === 25
  })
  expect(left).toBeGreaterThan(0)
})

describe('a secret in a mistaken command line', () => {
  test.each([
    [['mcp.example.com/mcp?token=TOPSECRET9']],
    [['ftp://h/x?token=TOPSECRET9']],
    [['user:TOPSECRET9@host/mcp']],
    [['--url', '//h?key=TOPSECRET9']],
    [['--api-key=TOPSECRET9']],
    [['--header', 'Authorization Bearer TOPSECRET9']],
    [['--header', 'Bearer TOPSECRET9: x', 'https://mcp.example.com/mcp']],
  ])('is not repeated: %j', async (args) => {
    const bridge = BridgeProcess.start(undefined, { args: [...args, ...patience(100)] })
    expect((await bridge.gone()).code).toBe(2)
    expect(bridge.stderr).toMatch(/^error: .*\ntry: /)
    expect(bridge.stderr).not.toContain('TOPSECRET9')
  })
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

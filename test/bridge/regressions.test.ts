/** Regressions: promises that were once broken. Each test is the shortest way to the defect it keeps out. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually } from '../support/eventually.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'
import { patience } from '../support/settings.ts'

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

/** HTTP keeps no order between requests: the barriers do, and nothing waits that need not. */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { initialize, initialized } from '../support/messages.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'

/** The requests with these methods in the order they arrived. */
function order(server: ScriptedServer): (string | undefined)[] {
  return server.posts().map((post) => post.rpc?.method)
}

test('initialize and initialized travel alone, however much is written behind them at once', async () => {
  const server = await ScriptedServer.start()
  let early = 0
  const alone = async (x: Exchange): Promise<void> => {
    const before = server.requests.length
    await pause(120)
    early += server.requests.length - before
    if (x.rpc.method === 'initialize') server.welcome(x)
    else x.reply(202)
  }
  server.on('initialize', alone)
  server.on('notifications/initialized', alone)
  const bridge = BridgeProcess.start(server.url)
  bridge.write(
    [
      initialize(),
      initialized,
      { jsonrpc: '2.0', id: 1, method: 'tools/list' },
      { jsonrpc: '2.0', id: 2, method: 'prompts/list' },
    ]
      .map((each) => `${JSON.stringify(each)}\n`)
      .join(''),
  )
  await bridge.reply(1)
  await bridge.reply(2)
  expect(early).toBe(0)
  expect(order(server).slice(0, 2)).toEqual(['initialize', 'notifications/initialized'])
})

test('a hundred notifications arrive in the order they were written, a request behind them after them', async () => {
  const server = await ScriptedServer.start()
  const seen: unknown[] = []
  server.on('notifications/n', async (x) => {
    seen.push(x.params.n)
    await pause(Math.random() * 4)
    x.reply(202)
  })
  const bridge = await BridgeProcess.connected(server.url)
  for (let n = 0; n < 100; n++) bridge.notify('notifications/n', { n })
  await bridge.call('tools/list')
  expect(seen).toEqual([...Array(100).keys()])
})

test('a notification waits for no request, and requests do not wait for each other', async () => {
  const server = await ScriptedServer.start()
  server.on('tools/call', () => {})
  const bridge = await BridgeProcess.connected(server.url)
  for (let i = 0; i < 5; i++) bridge.ask('tools/call')
  bridge.notify('notifications/x')
  await eventually(
    'all six',
    () => server.posts('notifications/x').length === 1 && server.posts('tools/call').length === 5,
  )
})

test.each([500, 404, 400, 302])(
  'a notification answered with %d is a lost notification, said on stderr; what comes behind it goes on',
  async (status) => {
    const server = await ScriptedServer.start({ sessions: false })
    server.on('notifications/x', (x) => x.reply(status, 'no', { location: 'http://elsewhere.invalid/' }))
    const bridge = await BridgeProcess.connected(server.url)
    bridge.notify('notifications/x')
    expect((await bridge.call('tools/list')).result.tools).toHaveLength(1)
    await bridge.waitFor('the line on stderr', () => bridge.stderr.includes('notifications/x'))
    expect(bridge.lines).toHaveLength(2)
  },
)

test('a notification that is never answered holds up a request for about two seconds, not longer', async () => {
  const server = await ScriptedServer.start()
  server.on('notifications/x', () => {})
  const bridge = await BridgeProcess.connected(server.url)
  bridge.notify('notifications/x')
  const at = await eventually('the notification', () => server.posts('notifications/x')[0]?.at)
  await bridge.call('tools/list')
  const waited = (server.posts('tools/list')[0]?.at ?? 0) - at
  expect(waited).toBeGreaterThan(1_700)
  expect(waited).toBeLessThan(3_000)
})

describe('behind a barrier', () => {
  test('replies to server requests and cancellations do not wait', async () => {
    const server = await ScriptedServer.start()
    server.on('notifications/x', () => {})
    let ask = (): void => {}
    server.on('tools/call', (x) => {
      const stream = x.stream()
      ask = () => {
        stream.send({ jsonrpc: '2.0', id: 'q', method: 'roots/list' })
      }
    })
    const bridge = await BridgeProcess.connected(server.url)
    const id = bridge.ask('tools/call')
    await eventually('the call', () => server.posts('tools/call').length === 1)
    ask()
    await bridge.waitFor('the question', () => bridge.received('roots/list').length === 1)
    bridge.notify('notifications/x')
    const at = await eventually('the notification', () => server.posts('notifications/x')[0]?.at)
    bridge.send({ jsonrpc: '2.0', id: 'q', result: { roots: [] } })
    bridge.notify('notifications/cancelled', { requestId: id })
    const last = await eventually('both', () => {
      const reply = server.replies()[0]
      const cancelled = server.posts('notifications/cancelled')[0]
      return reply && cancelled && Math.max(reply.at, cancelled.at)
    })
    expect(last - at).toBeLessThan(1_000)
  })

  test('a second notification waits for the first', async () => {
    const server = await ScriptedServer.start()
    let release = (): void => {}
    server.on('notifications/a', (x) => {
      release = () => x.reply(202)
    })
    const bridge = await BridgeProcess.connected(server.url)
    bridge.notify('notifications/a')
    bridge.notify('notifications/b')
    await eventually('the first', () => server.posts('notifications/a').length === 1)
    await pause(150)
    expect(server.posts('notifications/b')).toEqual([])
    release()
    await eventually('the second', () => server.posts('notifications/b').length === 1)
  })

  test('a call written behind a second initialize belongs to the new session', async () => {
    const server = await ScriptedServer.start()
    let release = (): void => {}
    server.on('notifications/slow', (x) => {
      release = () => x.reply(202)
    })
    const bridge = await BridgeProcess.connected(server.url)
    const lines = [
      { jsonrpc: '2.0', method: 'notifications/slow' },
      initialize(10),
      initialized,
      { jsonrpc: '2.0', id: 11, method: 'tools/call' },
    ]
    bridge.send(lines.map((line) => JSON.stringify(line)).join('\n'))
    await eventually('the barrier', () => server.posts('notifications/slow').length === 1)
    release()
    expect((await bridge.reply(11)).error).toBeUndefined()
    expect(server.posts('tools/call')[0]?.session).toBe(server.session.id)
  })
})

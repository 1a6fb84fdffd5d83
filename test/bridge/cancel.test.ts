/** Cancellation: at most one answer, no waiting, and nothing sent for what was never sent. */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually } from '../support/eventually.ts'
import { initialize } from '../support/messages.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'

/** Calls of the tool of that name that reached the server. */
function runs(server: ScriptedServer, name: string): number {
  return server.posts('tools/call').filter((post) => post.rpc?.params?.includes(`"${name}"`)).length
}

test('a request that is with the server: the cancellation is forwarded byte for byte, a racing answer is delivered', async () => {
  const server = await ScriptedServer.start()
  let answer = (): void => {}
  server.on('tools/call', (x) => {
    answer = () => x.result({ late: true })
  })
  const bridge = await BridgeProcess.connected(server.url)
  bridge.send('{"jsonrpc":"2.0","id":1.0,"method":"tools/call"}')
  await eventually('the call', () => server.posts('tools/call').length === 1)
  const line = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1.0,"reason":"x"}}'
  bridge.send(line)
  const post = await eventually('the cancellation', () => server.posts('notifications/cancelled')[0])
  expect(post.body.toString()).toBe(line)
  answer()
  await bridge.waitFor('the late answer', () => bridge.lines.length === 2)
  expect(bridge.lines[1]?.toString()).toBe('{"jsonrpc":"2.0","id":1.0,"result":{"late":true}}')
})

test('a request that still waits behind a barrier is withdrawn: the server sees neither it nor its cancellation', async () => {
  const server = await ScriptedServer.start()
  let release = (): void => {}
  server.on('notifications/slow', (x) => {
    release = () => x.reply(202)
  })
  const bridge = await BridgeProcess.connected(server.url)
  bridge.notify('notifications/slow')
  await eventually('the barrier', () => server.posts('notifications/slow').length === 1)
  const id = bridge.ask('tools/call')
  const other = bridge.ask('tools/list')
  bridge.notify('notifications/cancelled', { requestId: id })
  bridge.notify('notifications/marker')
  release()
  await bridge.reply(other)
  await eventually('what was written last', () => server.posts('notifications/marker').length === 1)
  expect(server.posts('tools/call')).toEqual([])
  expect(server.posts('notifications/cancelled')).toEqual([])
  expect(bridge.answersTo(id)).toEqual([])
})

test('a request made while the server is down is withdrawn: nothing of it is sent when the server is back', async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.connected(server.url)
  await bridge.call('ping')
  await server.down()
  const id = bridge.ask('tools/call')
  const kept = bridge.ask('tools/list')
  bridge.notify('notifications/cancelled', { requestId: id })
  await server.up()
  await bridge.reply(kept, 10_000)
  expect(server.posts('tools/call')).toEqual([])
  expect(bridge.answersTo(id)).toEqual([])
})

describe('a call that is cancelled', () => {
  test('while it waits for Retry-After never runs', async () => {
    const server = await ScriptedServer.start()
    const refused = new Set<string>()
    server.before((x) => {
      if (x.rpc.method !== 'tools/call' || refused.has(x.rpc.id ?? '')) return false
      refused.add(x.rpc.id ?? '')
      return x.reply(429, '', { 'retry-after': '1' })
    })
    const bridge = await BridgeProcess.connected(server.url)
    const id = bridge.ask('tools/call', { name: 'cancelled' })
    const kept = bridge.ask('tools/call', { name: 'kept' })
    await eventually(
      'both refusals',
      () => server.posts('tools/call').every((post) => post.status === 429) && refused.size === 2,
    )
    bridge.notify('notifications/cancelled', { requestId: id })
    expect((await bridge.reply(kept)).error).toBeUndefined()
    expect(runs(server, 'kept')).toBe(2)
    expect(runs(server, 'cancelled')).toBe(1)
    expect(bridge.answersTo(id)).toEqual([])
  })

  const refusals: readonly (readonly [string, (x: Exchange) => unknown])[] = [
    ['404', (x) => x.reply(404)],
    ['503 and Retry-After', (x) => x.reply(503, '', { 'retry-after': '0' })],
    ['429 and Retry-After', (x) => x.reply(429, '', { 'retry-after': '0' })],
  ]
  test.each(refusals)('while the server is about to refuse it (%s) is not sent again', async (_, refuse) => {
    const server = await ScriptedServer.start()
    const held: Exchange[] = []
    server.before((x) => {
      if (x.rpc.method !== 'tools/call' || held.length === 2) return false
      held.push(x)
      return true
    })
    const bridge = await BridgeProcess.connected(server.url)
    const id = bridge.ask('tools/call', { name: 'cancelled' })
    const kept = bridge.ask('tools/call', { name: 'kept' })
    await eventually('both are with the server', () => held.length === 2)
    bridge.notify('notifications/cancelled', { requestId: id })
    await eventually('the cancellation', () => server.posts('notifications/cancelled').length === 1)
    for (const x of held) refuse(x)
    expect((await bridge.reply(kept)).error).toBeUndefined()
    expect(runs(server, 'kept')).toBe(2)
    expect(runs(server, 'cancelled')).toBe(1)
    expect(bridge.answersTo(id)).toEqual([])
  })

  test('while the session is renewed for it never runs', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    server.wipe()
    let release = (): void => {}
    server.on('initialize', (x) => {
      release = () => server.welcome(x)
    })
    const id = bridge.ask('tools/call', { name: 'cancelled' })
    const kept = bridge.ask('tools/call', { name: 'kept' })
    await eventually('the renewal', () => server.posts('initialize').length === 2)
    await eventually('the refusal', () => runs(server, 'cancelled') === 1)
    bridge.notify('notifications/cancelled', { requestId: id })
    await bridge.call('server/discover')
    release()
    expect((await bridge.reply(kept)).error).toBeUndefined()
    expect(runs(server, 'cancelled')).toBe(1)
    expect(bridge.answersTo(id)).toEqual([])
  })

  test('while a ping decides about the session ends, and its id is free', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.error(-32602, 'bad arguments', 400))
    server.on('ping', () => {})
    const bridge = await BridgeProcess.connected(server.url)
    bridge.send('{"jsonrpc":"2.0","id":5,"method":"tools/call"}')
    await eventually('the ping', () => server.posts('ping').length === 1)
    bridge.notify('notifications/cancelled', { requestId: 5 })
    await bridge.call('server/discover')
    bridge.send('{"jsonrpc":"2.0","id":5,"method":"tools/list"}')
    expect((await bridge.reply(5, 1_000)).result.tools).toHaveLength(1)
    expect(bridge.answersTo(5)).toHaveLength(1)
  })
})

test('a cancelled request gets five more seconds, then its response is destroyed; its id may be used again', async () => {
  const server = await ScriptedServer.start()
  let hang = true
  server.on('tools/call', (x) => {
    if (!hang) return x.result({ second: true })
    return x.stream().comment('working')
  })
  const bridge = await BridgeProcess.connected(server.url)
  bridge.send('{"jsonrpc":"2.0","id":5,"method":"tools/call"}')
  const call = await eventually('the call', () => server.posts('tools/call')[0])
  bridge.notify('notifications/cancelled', { requestId: 5 })
  const cancelledAt = (await eventually('the cancellation', () => server.posts('notifications/cancelled')[0]))
    .at
  await eventually('the end of the response', () => call.aborted, 9_000)
  expect(performance.now() - cancelledAt).toBeGreaterThan(4_500)
  hang = false
  bridge.send('{"jsonrpc":"2.0","id":5,"method":"tools/call"}')
  expect((await bridge.reply(5)).result).toEqual({ second: true })
  expect(bridge.answersTo(5)).toHaveLength(1)
})

test('a cancelled request does not hold up the end: EOF, goodbye, exit 0', async () => {
  const server = await ScriptedServer.start()
  server.on('tools/call', () => {})
  const bridge = await BridgeProcess.connected(server.url)
  const id = bridge.ask('tools/call')
  await eventually('the call', () => server.posts('tools/call').length === 1)
  bridge.notify('notifications/cancelled', { requestId: id })
  await eventually('the cancellation', () => server.posts('notifications/cancelled').length === 1)
  const at = performance.now()
  bridge.eof()
  const exit = await bridge.gone()
  expect(exit.code).toBe(0)
  expect(exit.at - at).toBeLessThan(2_000)
  expect(server.of('DELETE')).toHaveLength(1)
})

test('initialize cannot be cancelled upstream: the server hears nothing of it, and the bridge lives on', async () => {
  const server = await ScriptedServer.start()
  let hang = true
  server.on('initialize', (x) => {
    if (!hang) server.welcome(x)
  })
  const bridge = BridgeProcess.start(server.url)
  bridge.send(initialize())
  await eventually('the first initialize', () => server.posts('initialize').length === 1)
  bridge.notify('notifications/cancelled', { requestId: 0 })
  hang = false
  bridge.send(initialize('again'))
  expect((await bridge.reply('again', 9_000)).result.serverInfo.name).toBe('scripted')
  expect(server.posts('notifications/cancelled')).toEqual([])
  expect(bridge.answersTo(0)).toEqual([])
})

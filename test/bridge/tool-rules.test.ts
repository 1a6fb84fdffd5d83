/** Rules about tools: what is hidden cannot be called, and what was given up meddles with nothing that comes later. */
import { expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'

test('a call given up by --tool-timeout answers no later request that has its id', async () => {
  const server = await ScriptedServer.start()
  const late: Exchange[] = []
  server.on('tools/call', (x) => late.push(x))
  const bridge = await BridgeProcess.connected(server.url, { args: ['--tool-timeout', '0.2'] })
  bridge.send('{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"first"}}')
  expect((await bridge.reply(5)).error?.data?.code).toBe('RESPONSE_LOST')
  server.on('resources/list', (x) => x.result({ of: 'second' }))
  bridge.send('{"jsonrpc":"2.0","id":5,"method":"resources/list"}')
  await bridge.call('tools/list')
  late[0]?.result({ of: 'first' })
  await bridge.waitFor('its answer', () => bridge.answersTo(5).length === 2)
  expect(bridge.answersTo(5)[1]?.result).toEqual({ of: 'second' })
})

test('a call given up by --tool-timeout and never answered swallows no answer to a request that has its id', async () => {
  const server = await ScriptedServer.start()
  server.on('tools/call', () => {})
  const bridge = await BridgeProcess.connected(server.url, { args: ['--tool-timeout', '0.2'] })
  bridge.send('{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"first"}}')
  expect((await bridge.reply(5)).error?.data?.code).toBe('RESPONSE_LOST')
  server.on('resources/list', (x) => x.result({ of: 'second' }))
  bridge.send('{"jsonrpc":"2.0","id":5,"method":"resources/list"}')
  await bridge.waitFor('its answer', () => bridge.answersTo(5).length === 2, 8_000)
  expect(bridge.answersTo(5)[1]?.result).toEqual({ of: 'second' })
})

test.each(['is down', 'asks to wait'])(
  'a call given up by --tool-timeout while the server %s was not run',
  async (state) => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url, { args: ['--tool-timeout', '0.5'] })
    await bridge.call('ping')
    if (state === 'is down') await server.down()
    else server.on('tools/call', (x) => x.reply(429, '', { 'retry-after': '5' }))
    const { error } = await bridge.call('tools/call', { name: 'pay' })
    expect(error?.data?.code).toBe('SERVER_UNREACHABLE')
    expect(error?.message).toMatch(/no answer to pay within 500 ms .*it was not run/)
  },
)

test('a call given up by --tool-timeout that the server failed at may have run', async () => {
  const server = await ScriptedServer.start()
  server.on('tools/call', (x) => x.reply(500))
  server.on('ping', () => {})
  const bridge = await BridgeProcess.connected(server.url, { args: ['--tool-timeout', '0.3'] })
  const { error } = await bridge.call('tools/call', { name: 'pay' })
  expect(error?.message).toMatch(/it may still have run/)
})

test('a call of a hidden tool is refused, whatever line ends its name holds', async () => {
  const server = await ScriptedServer.start({ tools: [{ name: 'admin\ny' }, { name: 'b' }] })
  const bridge = await BridgeProcess.connected(server.url, { args: ['--ignore-tool', 'admin*'] })
  expect((await bridge.call('tools/list')).result).toEqual({ tools: [{ name: 'b' }] })
  expect((await bridge.call('tools/call', { name: 'admin\ny' })).error?.data?.code).toBe('TOOL_HIDDEN')
  bridge.send({ jsonrpc: '2.0', method: 'tools/call', params: { name: 'admin\ny' } })
  await bridge.waitFor('the word that it was dropped', () => bridge.stderr.includes('is hidden by'))
  expect(server.posts('tools/call')).toEqual([])
  expect(server.posts('tools/call')).toEqual([])
})

test('a list that fails leaves the answer to a later request that has its id as it is', async () => {
  const server = await ScriptedServer.start({ tools: [{ name: 'admin' }] })
  let refused = 1
  server.before((x) => x.rpc.method === 'tools/list' && refused-- > 0 && (x.reply(400) ?? true))
  server.on('tools/call', (x) => x.result({ tools: [{ name: 'admin' }] }))
  const bridge = await BridgeProcess.connected(server.url, { args: ['--ignore-tool', 'admin'] })
  bridge.send('{"jsonrpc":"2.0","id":5,"method":"tools/list"}')
  expect((await bridge.reply(5)).error).toBeDefined()
  bridge.send('{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"audit"}}')
  await bridge.waitFor('its answer', () => bridge.answersTo(5).length === 2)
  expect(bridge.answersTo(5)[1]?.result).toEqual({ tools: [{ name: 'admin' }] })
  expect((await bridge.call('tools/list')).result).toEqual({ tools: [] })
})

/** Requests no schema accepts: each gets one answer at once, and one sentence. */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { connected, simulator } from './feed-client.ts'

const list = { name: 'list_subscriptions' }
const wrong: readonly (readonly [string, unknown, string])[] = [
  ...['ping', 'tools/list', 'tools/call', 'initialize'].flatMap((method) =>
    [[], [1], 'x', 5, true].map((params) => [method, params, 'params must be an object'] as const),
  ),
  ['tools/call', {}, 'params.name is missing'],
  ['tools/call', { name: 5 }, 'params.name must be a string'],
  ['tools/call', { ...list, arguments: 'x' }, 'params.arguments must be an object'],
  ['tools/call', { ...list, arguments: null }, 'params.arguments must be an object'],
  ['tools/call', { ...list, arguments: [] }, 'params.arguments must be an object'],
  ['tools/call', { ...list, _meta: null }, 'params._meta must be an object'],
  ['tools/call', { ...list, _meta: 5 }, 'params._meta must be an object'],
  ['ping', { _meta: 5 }, 'params._meta must be an object'],
  ['tools/list', { cursor: 5 }, 'params.cursor must be a string'],
  ['initialize', {}, 'params.protocolVersion is missing'],
  ['initialize', { protocolVersion: '2025-11-25', capabilities: 5 }, 'params.capabilities must be an object'],
]

describe('-32602 and a sentence', () => {
  for (const [method, params, text] of wrong) {
    test(`${method} with ${JSON.stringify(params)}`, async () => {
      const client = await connected(await simulator())
      const message = `Invalid params of ${method}: ${text}`
      expect(await client.request(method, params)).toEqual({ code: -32602, message })
      expect(await client.request('ping')).toEqual({})
    })
  }
})

test.each([[[1]], ['x'], [null], [{ _meta: 5 }]])('an unknown method with %j is -32601', async (params) => {
  const client = await connected(await simulator())
  expect(await client.request('no/such', params)).toEqual({ code: -32601, message: 'Method not found' })
})

test.each([
  ['2024-11-05', '2024-11-05'],
  ['2025-06-18', '2025-06-18'],
  ['2099-01-01', '2025-11-25'],
])('a client of %s is answered in %s', async (protocolVersion, answered) => {
  const client = await connected(await simulator())
  const params = { protocolVersion, capabilities: {}, clientInfo: { name: 'test', version: '1' } }
  expect(await client.request('initialize', params)).toMatchObject({ protocolVersion: answered })
})

test('params that are null are none', async () => {
  const client = await connected(await simulator())
  expect(await client.request('ping', null)).toEqual({})
})

test('at the process: a reply each, and the end of stdin waits for none of them', async () => {
  const moot = await simulator()
  const env = { CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key }
  const bridge = BridgeProcess.start(undefined, { args: ['moot'], env })
  await bridge.handshake()
  for (const [i, [method, params]] of wrong.entries()) {
    bridge.send({ jsonrpc: '2.0', id: `wrong ${i}`, method, params })
  }
  bridge.send({ jsonrpc: '2.0', method: 'notifications/no-such', params: [1] })
  for (const i of wrong.keys()) expect((await bridge.reply(`wrong ${i}`)).error?.code).toBe(-32602)
  const began = performance.now()
  bridge.eof()
  expect((await bridge.exited).code).toBe(0)
  expect(performance.now() - began).toBeLessThan(5_000)
})

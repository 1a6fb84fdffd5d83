/** The channel on the real process, in front of a real server. */
import { describe, expect, test } from 'vitest'
import { type BridgeOptions, BridgeProcess } from '../support/bridge-process.ts'
import { eventually } from '../support/eventually.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { DECLARED } from './support.ts'

const CHANNEL = 'notifications/claude/channel'
const TOOLS = [{ name: 'chamade_inbox', inputSchema: { type: 'object' } }]

interface Pair {
  readonly server: ScriptedServer
  readonly bridge: BridgeProcess
}

async function connected(options: BridgeOptions = {}): Promise<Pair> {
  const server = await ScriptedServer.start({ capabilities: DECLARED, tools: TOOLS })
  const bridge = await BridgeProcess.listening(server, options)
  return { server, bridge }
}

describe('on the real process', () => {
  test('an early event is held for the time of --hold, behind it all of its stream', async () => {
    const { server, bridge } = await connected({ args: ['--hold', '1200ms'] })
    const at = performance.now()
    server.pushChannel('early', { 'space-id': 12 })
    server.push({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })
    await bridge.call('tools/list')
    expect(bridge.channel()).toEqual([])
    await bridge.waitFor('the event', () => bridge.channel().length === 1)
    expect(performance.now() - at).toBeGreaterThan(300)
    await bridge.waitFor('what stood behind it', () => bridge.received('notifications/tools/list_changed')[0])
    expect(bridge.received(CHANNEL)[0]?.params?.meta).toEqual({ space_id: '12' })
    const methods = bridge.replies.map((reply) => reply?.method)
    expect(methods.indexOf(CHANNEL)).toBeLessThan(methods.indexOf('notifications/tools/list_changed'))
  })

  test("an early event goes out with the client's first call", async () => {
    const { server, bridge } = await connected({ args: ['--hold', '60s'] })
    server.pushChannel('early')
    await bridge.call('tools/list')
    expect(bridge.channel()).toEqual([])
    bridge.ask('tools/call', { name: 'echo' })
    await bridge.waitFor('the event', () => bridge.channel().length === 1)
  })

  test('after a redeploy the client is told before the first event, and no event is held again', async () => {
    const { server, bridge } = await connected({ args: ['--hold', '10ms'] })
    server.pushChannel('before')
    await bridge.waitFor('the first event', () => bridge.channel().length === 1)
    await server.restart(50)
    await eventually('the next stream', () => server.listening())
    server.pushChannel('after', { event_type: 'dm_chat' })
    await bridge.waitFor('all events', () => bridge.channel().length === 3)
    const [, gap, after] = bridge.received(CHANNEL)
    expect(after?.params?.content).toBe('after')
    expect(gap?.params?.meta).toMatchObject({ event_type: 'channel_gap', breaks: '1' })
    expect(gap?.params?.content).toContain('call chamade_inbox now')
    expect(bridge.replies.filter((reply) => reply?.result?.tools !== undefined)).toEqual([])
  })

  test('--no-gap-notice says nothing, --drop takes what it names', async () => {
    const { server, bridge } = await connected({
      args: ['--hold', '10ms', '--no-gap-notice', '--drop', 'event_type=call_*'],
    })
    await server.restart(20)
    await eventually('the next stream', () => server.listening())
    server.pushChannel('dropped', { event_type: 'call_transcript' })
    server.pushChannel('kept', { event_type: 'dm_chat' })
    await bridge.waitFor('the event', () => bridge.channel().includes('kept'))
    expect(bridge.channel()).toEqual(['kept'])
  })

  test('the permission relay crosses byte for byte, both ways', async () => {
    const { server, bridge } = await connected()
    const ask =
      '{ "jsonrpc":"2.0","method":"notifications/claude/channel/permission_request", "params":{"request_id":"abcde","tool_name":"Bash","description":"d","input_preview":"{\\"n\\": 1.0}"} }'
    bridge.send(ask)
    await eventually('the request', () => server.posts(`${CHANNEL}/permission_request`)[0])
    expect(server.posts(`${CHANNEL}/permission_request`)[0]?.body.toString()).toBe(ask)
    const verdict =
      '{"jsonrpc":"2.0", "method":"notifications/claude/channel/permission","params":{"request_id":"abcde","behavior":"allow","meta":{"a-b":1}}}'
    server.push(verdict)
    await bridge.waitFor('the verdict', () => bridge.received(`${CHANNEL}/permission`)[0])
    expect(bridge.lines.map(String)).toContain(verdict)
  })

  test('a held event still reaches the client when stdin ends', async () => {
    const { server, bridge } = await connected({ args: ['--hold', '60s'] })
    server.pushChannel('early')
    await bridge.call('tools/list')
    bridge.eof()
    const exit = await bridge.gone()
    expect(exit.code).toBe(0)
    expect(bridge.channel()).toEqual(['early'])
  })
})

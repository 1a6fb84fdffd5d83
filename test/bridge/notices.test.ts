/** What an agent is told on the channel: the gap it must catch up on, and nothing when nothing was missed. */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { ScriptedServer, type ServerOptions } from '../support/scripted-server.ts'
import { gapInterval, hold, maxMessage } from '../support/settings.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'

const channel: ServerOptions = {
  capabilities: { tools: {}, experimental: { 'claude/channel': {} } },
  tools: [
    { name: 'chamade_inbox', inputSchema: { type: 'object' } },
    { name: 'chamade_dm_chat', inputSchema: { type: 'object' } },
  ],
}

async function listening(
  args: readonly string[] = [],
  options: ServerOptions = {},
): Promise<{ server: ScriptedServer; bridge: BridgeProcess }> {
  const server = await ScriptedServer.start({ ...channel, ...options })
  const bridge = await BridgeProcess.listening(server, { args: ['--stateful', ...hold(0), ...args] })
  return { server, bridge }
}

function gaps(bridge: BridgeProcess): Record<string, string>[] {
  return bridge
    .received('notifications/claude/channel')
    .map((each) => each.params?.meta as Record<string, string>)
    .filter((meta) => meta?.event_type === 'channel_gap')
}

describe('a gap', () => {
  test('of an event over the limit, on a stream that goes on', async () => {
    const { server, bridge } = await listening(maxMessage(200_000))
    server.pushChannel('x'.repeat(300_000))
    server.pushChannel('behind it')
    await bridge.waitFor('the notice', () => gaps(bridge).length === 1)
    await bridge.waitFor('the event', () => bridge.channel().includes('behind it'))
    expect(gaps(bridge)[0]?.reason).toBe('an event is over the limit of 200000 bytes')
    expect(bridge.channel()).toHaveLength(2)
    expect(server.of('GET')).toHaveLength(1)
  })

  test('of a session whose stream stayed open: from when it was last known to live, not from when that was noticed', async () => {
    const { server, bridge } = await listening()
    server.pushChannel('heard')
    await bridge.waitFor('the event', () => bridge.channel().includes('heard'))
    const askedAt = Date.now()
    await bridge.call('tools/list')
    const forgottenAt = Date.now()
    server.wipe()
    server.pushChannel('said to a session that is gone')
    await pause(400)
    await bridge.call('tools/list')
    await bridge.waitFor('the notice', () => gaps(bridge).length === 1)
    const [meta] = gaps(bridge)
    expect(Date.parse(meta?.from ?? '')).toBeLessThanOrEqual(forgottenAt)
    expect(Date.parse(meta?.from ?? '')).toBeGreaterThanOrEqual(askedAt)
    expect(meta?.reason).toContain('404 to tools/list')
  })

  test.skipIf(process.platform === 'win32')(
    'that happened while the process was stopped: from then, not from when it was noticed',
    async () => {
      const { server, bridge } = await listening()
      bridge.signal('SIGSTOP')
      await pause(100)
      const cutAt = Date.now()
      await server.down()
      await server.up()
      await pause(2_500)
      bridge.signal('SIGCONT')
      await bridge.waitFor('the notice', () => gaps(bridge).length === 1)
      const [meta] = gaps(bridge)
      expect(Date.parse(meta?.from ?? '')).toBeLessThanOrEqual(cutAt)
      expect(Date.parse(meta?.to ?? '')).toBeGreaterThanOrEqual(cutAt + 2_500)
    },
  )

  test.skipIf(process.platform === 'win32')(
    'of a stream that died while the process was stopped: from then, though what had come before was read on waking',
    async () => {
      const server = await ScriptedServer.start(channel)
      await server.down()
      server.heartbeatMs = 200
      server.secondStream = 'replace'
      await server.up()
      const line = await TcpProxy.start(server.port)
      const bridge = await BridgeProcess.connected(`http://127.0.0.1:${line.port}/mcp`, {
        args: ['--stateful', ...hold(0)],
      })
      await eventually('the push stream', () => server.listening())
      await pause(1_500)
      bridge.signal('SIGSTOP')
      await pause(600)
      const diedAt = Date.now()
      line.abandon()
      await pause(2_500)
      bridge.signal('SIGCONT')
      await bridge.waitFor('the notice', () => gaps(bridge).length === 1, 12_000)
      const [meta] = gaps(bridge)
      expect(Date.parse(meta?.from ?? '')).toBeLessThanOrEqual(diedAt)
      expect(meta?.reason).toContain('beyond its usual pace')
    },
  )

  test('after a restart: one notice, before the first event of the new stream, that an agent can act on', async () => {
    const { server, bridge } = await listening()
    await bridge.call('tools/list')
    const from = Date.now()
    await server.restart(200)
    await eventually('the next stream', () => server.listening(), 8_000)
    server.pushChannel('first')
    await bridge.waitFor('the event', () => bridge.channel().includes('first'))
    const [notice, first] = bridge.channel()
    expect(first).toBe('first')
    expect(notice).toContain('chamade_inbox')
    expect(notice).not.toContain('chamade_dm_chat')
    const [meta] = gaps(bridge)
    expect(Object.keys(meta ?? {}).sort()).toEqual([
      'breaks',
      'duration_ms',
      'event_type',
      'from',
      'reason',
      'to',
    ])
    for (const value of Object.values(meta ?? {})) expect(typeof value).toBe('string')
    expect(Math.abs(Date.parse(meta?.from ?? '') - from)).toBeLessThan(1_000)
    expect(Date.parse(meta?.to ?? '')).toBeGreaterThanOrEqual(Date.parse(meta?.from ?? ''))
    expect(meta?.from).toMatch(/^\d{4}-\d{2}-\d{2}T.*Z$/)
    expect(meta?.breaks).toBe('1')
    expect(gaps(bridge)).toHaveLength(1)
  })

  test('the tools that catch up are asked for when no list was seen, and the client sees no answer of it', async () => {
    const { server, bridge } = await listening()
    const before = bridge.lines.length
    await server.restart()
    await bridge.waitFor('the notice', () => gaps(bridge).length === 1, 8_000)
    expect(bridge.channel()[0]).toContain('chamade_inbox')
    expect(bridge.replies.slice(before).filter((each) => each?.method === undefined)).toEqual([])
  })

  test('comes before the first event of the new stream, though the tools have to be asked for first', async () => {
    const { server, bridge } = await listening()
    server.on('tools/list', async (x) => {
      await pause(250)
      x.result({ tools: server.tools })
    })
    await server.restart()
    await eventually('the next stream', () => server.listening(), 8_000)
    for (const content of ['first', 'second']) server.pushChannel(content)
    await bridge.waitFor('both events', () => bridge.channel().includes('second'))
    expect(bridge.channel()).toHaveLength(3)
    expect(bridge.channel()[0]).toContain('chamade_inbox')
    expect(bridge.channel().slice(1)).toEqual(['first', 'second'])
  })

  test('after a stream that dropped without a cursor', async () => {
    const { server, bridge } = await listening()
    server.session.push.cut()
    await bridge.waitFor('the notice', () => gaps(bridge).length === 1, 8_000)
    expect(server.sessions.size).toBe(1)
  })

  test('none after a stream that was resumed by its cursor', async () => {
    const { server, bridge } = await listening([], { replay: true })
    server.pushChannel('one')
    await bridge.waitFor('the event', () => bridge.channel().length === 1)
    server.session.push.cut()
    server.pushChannel('two')
    await bridge.waitFor('the next', () => bridge.channel().length === 2, 8_000)
    expect(bridge.channel()).toEqual(['one', 'two'])
  })

  test('a session lost is a gap even with a cursor', async () => {
    const { server, bridge } = await listening([], { replay: true })
    server.pushChannel('one')
    await bridge.waitFor('the event', () => bridge.channel().length === 1)
    await server.restart()
    await bridge.waitFor('the notice', () => gaps(bridge).length === 1, 8_000)
  })

  test('further breaks within the interval are gathered into one notice at its end', async () => {
    const { server, bridge } = await listening(gapInterval(2_500))
    for (let i = 0; i < 4; i++) {
      server.session.push.cut()
      await eventually('a stream again', () => server.of('GET').length >= i + 2 && server.listening(), 8_000)
      await pause(30)
    }
    await bridge.waitFor('the second notice', () => gaps(bridge).length === 2, 9_000)
    await pause(300)
    expect(gaps(bridge).map((meta) => meta.breaks)).toEqual(['1', '3'])
  })

  test('--no-gap-notice: none', async () => {
    const { server, bridge } = await listening(['--no-gap-notice'])
    await server.restart()
    await eventually('the next stream', () => server.listening(), 8_000)
    server.pushChannel('first')
    await bridge.waitFor('the event', () => bridge.channel().length === 1)
    expect(bridge.channel()).toEqual(['first'])
  })

  test('none when the server declared no channel', async () => {
    const { server, bridge } = await listening([], { capabilities: { tools: {} } })
    await server.restart()
    await eventually('the next stream', () => server.listening(), 8_000)
    server.push({ jsonrpc: '2.0', method: 'notifications/x' })
    await bridge.waitFor('the event', () => bridge.received('notifications/x').length === 1)
    expect(bridge.channel()).toEqual([])
  })
})

describe('early pushes', () => {
  test('are held until the client calls a tool, in order, the notifications behind them too; lists release nothing', async () => {
    const server = await ScriptedServer.start(channel)
    const bridge = await BridgeProcess.listening(server, { args: ['--stateful', ...hold(30_000)] })
    server.pushChannel('one')
    server.push({ jsonrpc: '2.0', method: 'notifications/behind' })
    server.pushChannel('two')
    await bridge.call('tools/list')
    await pause(150)
    expect(bridge.channel()).toEqual([])
    expect(bridge.received('notifications/behind')).toEqual([])
    await bridge.call('tools/call')
    await bridge.waitFor('both', () => bridge.channel().length === 2)
    const order = bridge.replies.flatMap((each) =>
      each?.method === undefined ? [] : [each.params?.content ?? each.method],
    )
    expect(order).toEqual(['one', 'notifications/behind', 'two'])
  })

  test('are released when the time has passed', async () => {
    const server = await ScriptedServer.start(channel)
    const bridge = await BridgeProcess.listening(server, { args: ['--stateful', ...hold(700)] })
    const at = performance.now()
    server.pushChannel('one')
    await bridge.waitFor('the event', () => bridge.channel().length === 1)
    expect(performance.now() - at).toBeGreaterThan(300)
  })

  test('a channel event on the stream of a call is not held', async () => {
    const server = await ScriptedServer.start(channel)
    server.on('tools/list', (x) => {
      const stream = x.stream()
      stream.send({ jsonrpc: '2.0', method: 'notifications/claude/channel', params: { content: 'beside' } })
      stream.send(x.answer({ tools: [] }))
      stream.finish()
    })
    const bridge = await BridgeProcess.listening(server, { args: ['--stateful', ...hold(30_000)] })
    server.pushChannel('held')
    await bridge.call('tools/list')
    expect(bridge.channel()).toEqual(['beside'])
  })

  test('nothing is held after a renewal', async () => {
    const server = await ScriptedServer.start(channel)
    const bridge = await BridgeProcess.listening(server, {
      args: ['--stateful', '--no-gap-notice', ...hold(1_500)],
    })
    await bridge.call('tools/call')
    await server.restart()
    await eventually('the next stream', () => server.listening(), 8_000)
    const at = performance.now()
    server.pushChannel('after')
    await bridge.waitFor('the event', () => bridge.channel().length === 1)
    expect(performance.now() - at).toBeLessThan(500)
  })

  test('answers and their progress are never held', async () => {
    const server = await ScriptedServer.start(channel)
    const bridge = await BridgeProcess.listening(server, { args: ['--stateful', ...hold(30_000)] })
    server.pushChannel('one')
    expect((await bridge.call('tools/list')).result.tools).toHaveLength(2)
  })

  test('a thousand of 10 kB are held back in the server, none is lost', async () => {
    const server = await ScriptedServer.start(channel)
    const bridge = await BridgeProcess.listening(server, { args: ['--stateful', ...hold(30_000)] })
    for (let n = 0; n < 1_000; n++) server.pushChannel(`${n} ${'x'.repeat(10_000)}`)
    await pause(200)
    expect(bridge.channel()).toEqual([])
    await bridge.call('tools/call')
    await bridge.waitFor('all', () => bridge.channel().length === 1_000, 10_000)
    expect(bridge.channel().map((content) => Number.parseInt(content, 10))).toEqual([...Array(1_000).keys()])
  })
})

describe('meta', () => {
  test('keys and values that the client would lose are repaired; everything else stays byte for byte', async () => {
    const { server, bridge } = await listening()
    server.push(
      '{"jsonrpc":"2.0","x":1.0,"method":"notifications/claude/channel","params":{"content":"\\u00e9","meta":{"a-b":"1","n":7},"y":2}}',
    )
    await bridge.waitFor('the event', () => bridge.channel().length === 1)
    const line = bridge.lines.at(-1)?.toString() ?? ''
    expect(line).toMatch(
      /^\{"jsonrpc":"2.0","x":1.0,"method":"notifications\/claude\/channel","params":\{"content":"\\u00e9","meta":\{.*\},"y":2\}\}$/,
    )
    const meta = bridge.received('notifications/claude/channel')[0]?.params?.meta as Record<string, unknown>
    expect(meta.n).toBe('7')
    for (const name of Object.keys(meta)) expect(name).toMatch(/^[A-Za-z_][A-Za-z0-9_]*$/)
    expect(Object.values(meta).sort()).toEqual(['1', '7'])
  })

  test('a server that declared no channel is relayed untouched', async () => {
    const { server, bridge } = await listening([], { capabilities: {} })
    const raw =
      '{"jsonrpc":"2.0","method":"notifications/claude/channel","params":{"content":"c","meta":{"a-b":1.0}}}'
    server.push(raw)
    await bridge.waitFor('the event', () => bridge.channel().length === 1)
    expect(bridge.lines.at(-1)?.toString()).toBe(raw)
  })

  test('--drop keeps matching events from the client, --only lets only matching ones pass', async () => {
    const { server, bridge } = await listening(['--drop', 'event_type=call_*', '--only', 'platform=discord'])
    server.pushChannel('a', { event_type: 'call_transcript', platform: 'discord' })
    server.pushChannel('b', { event_type: 'dm_chat', platform: 'discord' })
    server.pushChannel('c', { event_type: 'dm_chat', platform: 'slack' })
    server.pushChannel('d', { event_type: 'dm_chat', platform: 'discord' })
    await bridge.waitFor('the last', () => bridge.channel().includes('d'))
    expect(bridge.channel()).toEqual(['b', 'd'])
  })

  test('permission relay crosses untouched, both ways', async () => {
    const { server, bridge } = await listening()
    const up =
      '{"jsonrpc":"2.0","method":"notifications/claude/channel/permission_request","params":{"request_id":"abcde","tool_name":"Bash","description":"d","input_preview":"{\\"n\\":1.0}"}}'
    bridge.send(up)
    const post = await eventually(
      'the request',
      () => server.posts('notifications/claude/channel/permission_request')[0],
    )
    expect(post.body.toString()).toBe(up)
    const down =
      '{"jsonrpc":"2.0","method":"notifications/claude/channel/permission","params":{"request_id":"abcde","behavior":"allow","n":1.0}}'
    server.push(down)
    await bridge.waitFor('the verdict', () => bridge.lines.some((line) => line.toString() === down))
  })
})

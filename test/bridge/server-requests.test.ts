/** What the server asks the client, and how each reply finds its way back. */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { hold } from '../support/settings.ts'

describe('requests of the server', () => {
  test('on the stream of a call: the client’s reply is a POST of its own, byte for byte', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', async (x) => {
      const stream = x.stream()
      stream.send('{"jsonrpc":"2.0","id":"srv \\u0031","method":"sampling/createMessage","params":{"n":1.0}}')
      await eventually('the reply', () => server.replies().length > 0)
      stream.send(x.answer({ done: true }))
      stream.finish()
    })
    const bridge = await BridgeProcess.connected(server.url)
    const id = bridge.ask('tools/call')
    await bridge.waitFor('the question', () => bridge.received('sampling/createMessage').length === 1)
    expect(bridge.lines.at(-1)?.toString()).toBe(
      '{"jsonrpc":"2.0","id":"srv \\u0031","method":"sampling/createMessage","params":{"n":1.0}}',
    )
    const reply = '{"jsonrpc":"2.0","id":"srv \\u0031","result":{"model":1.0}}'
    bridge.send(reply)
    expect((await bridge.reply(id)).result).toEqual({ done: true })
    const post = server.replies()[0]
    expect(post?.body.toString()).toBe(reply)
    expect(post?.session).toBe(server.session.id)
  })

  test('on the push stream, with an id that a request of the client has too', async () => {
    const server = await ScriptedServer.start()
    let answer = (): void => {}
    server.on('tools/call', (x) => {
      answer = () => x.result({ mine: true })
    })
    const bridge = await BridgeProcess.listening(server)
    bridge.send('{"jsonrpc":"2.0","id":5,"method":"tools/call"}')
    await eventually('the call', () => server.posts('tools/call').length === 1)
    server.push({ jsonrpc: '2.0', id: 5, method: 'roots/list' })
    await bridge.waitFor('the question', () => bridge.received('roots/list').length === 1)
    bridge.send('{"jsonrpc":"2.0","id":5,"result":{"roots":[]}}')
    await eventually('the reply', () =>
      server
        .posts()
        .some((post) => post.body.toString() === '{"jsonrpc":"2.0","id":5,"result":{"roots":[]}}'),
    )
    answer()
    expect((await bridge.reply(5)).result).toEqual({ mine: true })
  })

  test.each<[string, string[]]>([
    ['alone', []],
    ['with rules for its tools', ['--ignore-tool', 'hidden']],
  ])(
    'one that waits behind a notice while its session is lost does not come to the client after its end: the channel %s',
    async (_how, args) => {
      const capabilities = { tools: {}, experimental: { 'claude/channel': {} } }
      const server = await ScriptedServer.start({ capabilities })
      const bridge = await BridgeProcess.listening(server, { args: ['--stateful', ...hold(0), ...args] })
      server.on('tools/list', () => {})
      server.session.push.cut()
      await eventually('the notice waits for the tools', () => server.posts('tools/list').length === 1)
      server.push({ jsonrpc: '2.0', id: 'q', method: 'elicitation/create' })
      await pause(100)
      server.wipe()
      await bridge.call('tools/call')
      await eventually('the next stream', () => server.listening())
      server.pushChannel('after')
      await bridge.waitFor('what is said then', () => bridge.channel().includes('after'))
      expect(bridge.received('elicitation/create')).toEqual([])
    },
  )

  test('a reply that nobody waits for is said to be one, and why', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    server.push({ jsonrpc: '2.0', id: 'q', method: 'roots/list' })
    await bridge.waitFor('the question', () => bridge.received('roots/list').length === 1)
    server.push({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'q' } })
    await bridge.waitFor('its end', () => bridge.received('notifications/cancelled').length === 1)
    bridge.send({ jsonrpc: '2.0', id: 'q', result: {} })
    await bridge.waitFor('why', () => /reply to request "q".*took the request back/.test(bridge.stderr))
    server.push({ jsonrpc: '2.0', id: 'open', method: 'roots/list' })
    await bridge.waitFor('another question', () => bridge.received('roots/list').length === 2)
    bridge.send({ jsonrpc: '2.0', id: 'nobody asked', result: {} })
    await bridge.waitFor('why', () =>
      /reply to request "nobody asked".*: no request of the server with that id is open/.test(bridge.stderr),
    )
    expect(server.replies()).toEqual([])
  })

  test('a reply that never left, as the server is away, is not said to have run', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    server.push({ jsonrpc: '2.0', id: 'q', method: 'roots/list' })
    await bridge.waitFor('the question', () => bridge.received('roots/list').length === 1)
    await server.down()
    bridge.send({ jsonrpc: '2.0', id: 'q', result: {} })
    await pause(300)
    bridge.eof()
    await bridge.gone()
    expect(bridge.stderr).not.toContain('may have run')
  })

  test.each([429, 502, 503])(
    'a reply that got %d and nothing about when to come back is said again: the server waits for it',
    async (status) => {
      const server = await ScriptedServer.start()
      const bridge = await BridgeProcess.listening(server)
      const fair = server.before((x) => {
        if (!x.request.rpc?.isResponse) return false
        fair()
        return x.reply(status)
      })
      server.push({ jsonrpc: '2.0', id: 'q', method: 'roots/list' })
      await bridge.waitFor('the question', () => bridge.received('roots/list').length === 1)
      bridge.send({ jsonrpc: '2.0', id: 'q', result: { roots: [] } })
      await eventually('the reply is taken', () => server.replies().length === 2, 8_000)
      await pause(300)
      expect(server.replies()).toHaveLength(2)
    },
  )

  test('an error reply of the client arrives as it was written', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    server.push({ jsonrpc: '2.0', id: 1, method: 'sampling/createMessage', params: {} })
    await bridge.waitFor('the question', () => bridge.received('sampling/createMessage').length === 1)
    const reply = '{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found","x":1.0}}'
    bridge.send(reply)
    await eventually('the reply', () => server.posts().some((post) => post.body.toString() === reply))
  })
})

describe('ids of server requests', () => {
  test('two open requests with one id: the client sees two ids, each reply goes back under the server’s', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    for (const n of [1, 2])
      server.push(`{"jsonrpc":"2.0","id":5,"method":"sampling/createMessage","params":{"n":${n}}}`)
    await bridge.waitFor('both', () => bridge.received('sampling/createMessage').length === 2)
    const asked = bridge.received('sampling/createMessage')
    expect(new Set(asked.map((each) => each.id)).size).toBe(2)
    for (const each of asked) bridge.send({ jsonrpc: '2.0', id: each.id, result: { n: each.params?.n } })
    await eventually('both replies', () => server.replies().length === 2)
    const replies = server.replies().map((post) => post.body.toString())
    expect(replies.sort()).toEqual([1, 2].map((n) => `{"jsonrpc":"2.0","id":5,"result":{"n":${n}}}`))
  })

  test('the id of ours is one that nobody else has open: a bridge behind the server gives the same', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    const ids = ['"chamade-mcp-ask-1"', '5', '5']
    for (const [n, id] of ids.entries())
      server.push(`{"jsonrpc":"2.0","id":${id},"method":"sampling/createMessage","params":{"n":${n}}}`)
    await bridge.waitFor('all', () => bridge.received('sampling/createMessage').length === ids.length)
    const asked = bridge.received('sampling/createMessage')
    expect(new Set(asked.map((each) => each.id)).size).toBe(ids.length)
    for (const each of asked) bridge.send({ jsonrpc: '2.0', id: each.id, result: { n: each.params?.n } })
    await eventually('all replies', () => server.replies().length === ids.length)
    const replies = server.replies().map((post) => post.body.toString())
    expect(replies.sort()).toEqual(
      ids.map((id, n) => `{"jsonrpc":"2.0","id":${id},"result":{"n":${n}}}`).sort(),
    )
  })

  test('the server takes one of them back: the client hears of the id it knows', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    server.push({ jsonrpc: '2.0', id: 'q', method: 'sampling/createMessage' })
    server.push({
      jsonrpc: '2.0',
      method: 'notifications/cancelled',
      params: { requestId: 'q', reason: 'x' },
    })
    await bridge.waitFor('the cancellation', () => bridge.received('notifications/cancelled').length === 1)
    expect(bridge.received('notifications/cancelled')[0]?.params).toEqual({ requestId: 'q', reason: 'x' })
  })

  test('the server takes back one that the client knows under an id of ours: it hears of that', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    for (const _ of [1, 2]) server.push({ jsonrpc: '2.0', id: 'q', method: 'sampling/createMessage' })
    await bridge.waitFor('both', () => bridge.received('sampling/createMessage').length === 2)
    bridge.send({ jsonrpc: '2.0', id: 'q', result: {} })
    await eventually('the reply to the first', () => server.replies().length === 1)
    const params = { requestId: 'q', reason: 'x' }
    server.push({ jsonrpc: '2.0', method: 'notifications/cancelled', params })
    await bridge.waitFor('the cancellation', () => bridge.received('notifications/cancelled').length === 1)
    const second = bridge.received('sampling/createMessage')[1]
    expect(second?.id).not.toBe('q')
    expect(bridge.received('notifications/cancelled')[0]?.params).toEqual({
      ...params,
      requestId: second?.id,
    })
  })

  test('a late reply to a request of the old session does not answer one of the new session with the same id', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    server.push({ jsonrpc: '2.0', id: 0, method: 'elicitation/create', params: { n: 'old' } })
    await bridge.waitFor('the old question', () => bridge.received('elicitation/create').length === 1)
    await server.restart()
    await eventually('the next session', () => server.listening(), 8_000)
    server.push({ jsonrpc: '2.0', id: 0, method: 'elicitation/create', params: { n: 'new' } })
    await bridge.waitFor('the new question', () => bridge.received('elicitation/create').length === 2)
    bridge.send({ jsonrpc: '2.0', id: 0, result: { to: 'old' } })
    const asked = bridge.received('elicitation/create')[1]
    bridge.send({ jsonrpc: '2.0', id: asked?.id, result: { to: 'new' } })
    await eventually('a reply', () => server.replies().length > 0)
    await bridge.call('ping')
    const replies = server.replies().map((post) => post.body.toString())
    expect(replies).toEqual(['{"jsonrpc":"2.0","id":0,"result":{"to":"new"}}'])
  })
})

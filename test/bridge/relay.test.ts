/** The raw text travels, both ways: nothing is invented, nothing is altered, nothing is lost in silence. */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually } from '../support/eventually.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { stateful } from '../support/settings.ts'

const odd =
  '{"name":"echo","n":1.0,"big":12345678901234567890,"tiny":-0,"e":1E+2,"esc":"\\u00e9\\/\\ud83d\\ude00","é":"é😀","":{"deep":[[],{}]},"dup":1,"dup":2}'

describe('raw pass-through', () => {
  test('a request reaches the server byte for byte: unknown members, big numbers, escapes, spaces', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    const line = `{ "x-unknown" : [1.0, null],\t"jsonrpc":"2.0","id":7 , "method":"tools\\/call", "params" : ${odd} }`
    bridge.send(line)
    await bridge.reply(7)
    expect(server.posts('tools/call').map((post) => post.body.toString())).toEqual([line])
  })

  test('an answer reaches the client byte for byte, line breaks between tokens become spaces', async () => {
    const server = await ScriptedServer.start()
    const answer = `{\r\n  "jsonrpc": "2.0",\n "x": 1.0,\n  "result": ${odd},\n  "id": 7\n}`
    server.on('tools/call', (x) => x.json(answer))
    const bridge = await BridgeProcess.connected(server.url)
    bridge.send('{"jsonrpc":"2.0","id":7,"method":"tools/call"}')
    await bridge.reply(7)
    expect(bridge.lines.at(-1)?.toString()).toBe(answer.replaceAll(/[\r\n]/g, ' '))
  })

  test('an answer on an event stream reaches the client byte for byte', async () => {
    const server = await ScriptedServer.start()
    const answer = `{"jsonrpc":"2.0", "x":1.0,"result":${odd},"id":7}`
    server.on('tools/call', (x) => {
      const stream = x.stream()
      stream.send(answer)
      stream.finish()
    })
    const bridge = await BridgeProcess.connected(server.url)
    bridge.send('{"jsonrpc":"2.0","id":7,"method":"tools/call"}')
    await bridge.reply(7)
    expect(bridge.lines.at(-1)?.toString()).toBe(answer)
  })

  test('an event of several data lines is one message on one line', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => {
      const stream = x.stream()
      stream.send('{"jsonrpc":"2.0",\n"id":7,\n"result":{}}')
      stream.finish()
    })
    const bridge = await BridgeProcess.connected(server.url)
    bridge.send('{"jsonrpc":"2.0","id":7,"method":"tools/call"}')
    await bridge.reply(7)
    expect(bridge.lines.at(-1)?.toString()).toBe('{"jsonrpc":"2.0", "id":7, "result":{}}')
  })

  test('any id comes back as the token it was: 0, "", -1, "1", 1, 1.0, 12345678901234567890, escapes', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    const ids = ['0', '""', '-1', '"1"', '1', '1.0', '12345678901234567890', '"\\u00e9"', '"é"', '1e2', '" "']
    for (const id of ids) bridge.send(`{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{}}`)
    await bridge.waitFor('all answers', () => bridge.lines.length === ids.length + 1)
    for (const id of ids) {
      const line = `{"jsonrpc":"2.0","id":${id},"result":{"content":[],"echo":{}}}`
      expect(bridge.lines.filter((each) => each.toString() === line)).toHaveLength(1)
    }
    expect(
      server
        .posts('tools/call')
        .map((post) => post.rpc?.id)
        .sort(),
    ).toEqual(ids.slice().sort())
  })

  test('a server that re-serializes ids is understood: the request gets its one answer', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) =>
      x.json({ jsonrpc: '2.0', id: JSON.parse(x.rpc.id ?? ''), result: { ok: true } }),
    )
    const bridge = await BridgeProcess.connected(server.url)
    bridge.send('{"jsonrpc":"2.0","id":1.0,"method":"tools/call"}')
    bridge.send('{"jsonrpc":"2.0","id":"\\u00e9","method":"tools/call"}')
    await bridge.waitFor('both answers', () => bridge.replies.filter((each) => each?.result?.ok).length === 2)
  })

  test('notifications of the client arrive byte for byte, with the session and the negotiated version', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    const line = `{"jsonrpc":"2.0","method":"notifications/x","params":${odd}}`
    bridge.send(line)
    const post = await eventually('the notification', () => server.posts('notifications/x')[0])
    expect(post.body.toString()).toBe(line)
    expect(post.session).toBe(server.session.id)
    expect(post.headers['mcp-protocol-version']).toBe('2025-11-25')
  })

  test('five megabytes go up and come down whole', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    const text = 'ü"\\'.repeat(1_200_000)
    const reply = await bridge.call('tools/call', { text }, 15_000)
    expect(reply.result.echo.text === text).toBe(true)
  })

  test('a server error answer is the client’s answer, unknown members and all', async () => {
    const server = await ScriptedServer.start()
    const answer = '{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"no","data":{"x":1.0},"y":2}}'
    server.on('tools/call', (x) => x.json(answer))
    const bridge = await BridgeProcess.connected(server.url)
    bridge.send('{"jsonrpc":"2.0","id":7,"method":"tools/call"}')
    await bridge.reply(7)
    expect(bridge.lines.at(-1)?.toString()).toBe(answer)
  })
})

test('headers: JSON up, JSON or events down, the session on everything but initialize', async () => {
  const server = await ScriptedServer.start()
  server.protocolVersion = '2025-06-18'
  const bridge = await BridgeProcess.connected(server.url, stateful)
  await bridge.call('tools/list')
  await eventually('the push stream', () => server.listening())
  const [initialize, ...rest] = server.requests
  expect(initialize?.session).toBeUndefined()
  expect(initialize?.headers['content-type']).toBe('application/json')
  expect(initialize?.headers.accept).toBe('application/json, text/event-stream')
  for (const request of rest) {
    expect(request.session, request.method).toBe(server.session.id)
    expect(request.headers['mcp-protocol-version'], request.method).toBe('2025-06-18')
  }
  expect(server.of('GET')[0]?.headers.accept).toBe('text/event-stream')
})

test('a server without sessions gets no session header and no goodbye', async () => {
  const server = await ScriptedServer.start({ sessions: false })
  const bridge = await BridgeProcess.connected(server.url)
  expect((await bridge.call('tools/list')).result.tools).toHaveLength(1)
  bridge.eof()
  expect((await bridge.gone()).code).toBe(0)
  expect(server.requests.filter((each) => each.session !== undefined)).toEqual([])
  expect(server.of('DELETE')).toEqual([])
})

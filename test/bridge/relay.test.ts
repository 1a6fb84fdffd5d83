/** The raw text travels, both ways: nothing is invented, nothing is altered, nothing is lost in silence. */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { maxMessage } from '../support/settings.ts'

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

describe('answers', () => {
  test('progress on the stream comes before the answer, all of it in order', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => {
      const stream = x.stream()
      for (let progress = 0; progress < 200; progress++) {
        stream.send({
          jsonrpc: '2.0',
          method: 'notifications/progress',
          params: { progressToken: 1, progress },
        })
      }
      stream.send(x.answer())
      stream.finish()
    })
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('tools/call', { _meta: { progressToken: 1 } })
    expect(bridge.received('notifications/progress').map((each) => each.params?.progress)).toEqual([
      ...Array(200).keys(),
    ])
    expect(bridge.replies.at(-1)?.result).toEqual({})
  })

  test('each progress is written when it comes, not when the answer does', async () => {
    const server = await ScriptedServer.start()
    let finish = (): void => {}
    server.on('tools/call', (x) => {
      const stream = x.stream()
      stream.send({
        jsonrpc: '2.0',
        method: 'notifications/progress',
        params: { progressToken: 1, progress: 1 },
      })
      finish = () => {
        stream.send(x.answer())
        stream.finish()
      }
    })
    const bridge = await BridgeProcess.connected(server.url)
    const id = bridge.ask('tools/call')
    await bridge.waitFor('the progress', () => bridge.received('notifications/progress').length === 1)
    expect(bridge.answersTo(id)).toEqual([])
    finish()
    await bridge.reply(id)
  })

  test('an answer trickled byte by byte is whole', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', async (x) => {
      const bytes = Buffer.from(x.answer('{"text":"é😀"}'))
      x.response.writeHead(200, { 'content-type': 'application/json' })
      for (const byte of bytes) {
        x.response.write(Buffer.of(byte))
        await pause(0)
      }
      x.response.end()
    })
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).result).toEqual({ text: 'é😀' })
  })

  test('a request that never gets an answer does not hold up the others', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => {
      if (x.params.name !== 'hang') x.result({ ok: true })
    })
    const bridge = await BridgeProcess.connected(server.url)
    for (let i = 0; i < 30; i++) bridge.ask('tools/call', { name: 'hang' })
    await eventually('thirty open requests', () => server.posts('tools/call').length === 30)
    expect((await bridge.call('tools/call', { name: 'quick' })).result).toEqual({ ok: true })
  })

  test('initialize may be answered by a stream, with notifications before the answer', async () => {
    const server = await ScriptedServer.start({ sessions: false })
    server.on('initialize', (x) => {
      const stream = x.stream()
      stream.comment('hello')
      stream.send({ jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info', data: 'hi' } })
      stream.send(
        x.answer({
          protocolVersion: '2025-03-26',
          capabilities: {},
          serverInfo: { name: 's', version: '1' },
        }),
      )
      stream.finish()
    })
    const bridge = await BridgeProcess.connected(server.url)
    expect(bridge.replies.map((each) => each?.method ?? each?.id)).toEqual(['notifications/message', 0])
    await bridge.call('tools/list')
    expect(server.posts('tools/list')[0]?.headers['mcp-protocol-version']).toBe('2025-03-26')
  })

  test('202 to a request is no answer: an error, no hang', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.reply(202))
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).error?.message).toBeTruthy()
  })

  test('a batch from the server is split into its raw elements, in JSON and in an event', async () => {
    const server = await ScriptedServer.start()
    const progress = '{"jsonrpc":"2.0","method":"notifications/progress","params":{"n":1.0}}'
    server.on('tools/call', (x) => {
      const batch = `[ ${progress} ,\n${x.answer('{"n":2.0}')}]`
      if (x.params.name === 'json') return x.json(batch)
      const stream = x.stream()
      stream.send(batch)
      return stream.finish()
    })
    const bridge = await BridgeProcess.connected(server.url)
    for (const name of ['json', 'events']) {
      const from = bridge.lines.length
      const id = bridge.ask('tools/call', { name })
      await bridge.reply(id)
      expect(bridge.lines.slice(from).map(String)).toEqual([
        progress,
        `{"jsonrpc":"2.0","id":${id},"result":{"n":2.0}}`,
      ])
    }
  })
})

describe('answers that are none', () => {
  test.each([
    ['invalid JSON', 'application/json', Buffer.from('{"jsonrpc":"2.0","id":')],
    ['invalid UTF-8', 'application/json', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
    ['HTML with status 200', 'text/html', Buffer.from('<html><body>Welcome</body></html>')],
    ['an empty body', 'application/json', Buffer.alloc(0)],
    ['JSON that is no message', 'application/json', Buffer.from('{"ok":true}')],
    [
      'a response to somebody else',
      'application/json',
      Buffer.from('{"jsonrpc":"2.0","id":"other","result":{}}'),
    ],
    ['an event stream that ends at once', 'text/event-stream', Buffer.alloc(0)],
    ['an event that is no JSON', 'text/event-stream', Buffer.from('data: {"jsonrpc"\n\n')],
    ['an event that is no UTF-8', 'text/event-stream', Buffer.from('data: {"a":"\xff"}\n\n', 'latin1')],
  ])(
    '%s: an error under the id of the request, nothing of it printed, the next request works',
    async (_, type, body) => {
      const server = await ScriptedServer.start()
      server.on('tools/call', (x) => x.reply(200, body, { 'content-type': type }))
      const bridge = await BridgeProcess.connected(server.url)
      const reply = await bridge.call('tools/call')
      expect(reply.error?.message).toBeTruthy()
      expect((await bridge.call('ping')).result).toEqual({})
      expect(bridge.lines).toHaveLength(3)
      expect(bridge.replies).not.toContain(undefined)
    },
  )

  test('a response on the push stream answers nothing; the request still gets its own answer', async () => {
    const server = await ScriptedServer.start()
    let answer = (): void => {}
    server.on('tools/call', (x) => {
      answer = () => x.result({ from: 'its own exchange' })
    })
    const bridge = await BridgeProcess.connected(server.url, { args: ['--stateful'] })
    await eventually('the push stream', () => server.listening())
    const id = bridge.ask('tools/call')
    await eventually('the request', () => server.posts('tools/call').length === 1)
    server.push({ jsonrpc: '2.0', id, result: { from: 'the push stream' } })
    server.push({ jsonrpc: '2.0', method: 'notifications/after' })
    await bridge.waitFor(
      'what was pushed after it',
      () => bridge.received('notifications/after').length === 1,
    )
    answer()
    expect((await bridge.reply(id)).result).toEqual({ from: 'its own exchange' })
    expect(bridge.answersTo(id)).toHaveLength(1)
  })

  test('a second answer to the same request is not written', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => {
      const stream = x.stream()
      stream.write(`data: ${x.answer('{"n":1}')}\n\ndata: ${x.answer('{"n":2}')}\n\n`)
      stream.finish()
    })
    const bridge = await BridgeProcess.connected(server.url)
    const id = bridge.ask('tools/call')
    await bridge.reply(id)
    await bridge.call('ping')
    expect(bridge.answersTo(id).map((each) => each.result)).toEqual([{ n: 1 }])
  })
})

describe('requests of the server', () => {
  test('on the stream of a call: the client’s reply is a POST of its own, byte for byte', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', async (x) => {
      const stream = x.stream()
      stream.send('{"jsonrpc":"2.0","id":"srv \\u0031","method":"sampling/createMessage","params":{"n":1.0}}')
      await eventually('the reply', () => server.posts().some((post) => post.rpc?.isResponse))
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
    const post = server.posts().find((each) => each.rpc?.isResponse)
    expect(post?.body.toString()).toBe(reply)
    expect(post?.session).toBe(server.session.id)
  })

  test('on the push stream, with an id that a request of the client has too', async () => {
    const server = await ScriptedServer.start()
    let answer = (): void => {}
    server.on('tools/call', (x) => {
      answer = () => x.result({ mine: true })
    })
    const bridge = await BridgeProcess.connected(server.url, { args: ['--stateful'] })
    await eventually('the push stream', () => server.listening())
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

  test('an error reply of the client arrives as it was written', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url, { args: ['--stateful'] })
    await eventually('the push stream', () => server.listening())
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
    const bridge = await BridgeProcess.connected(server.url, { args: ['--stateful'] })
    await eventually('the push stream', () => server.listening())
    for (const n of [1, 2])
      server.push(`{"jsonrpc":"2.0","id":5,"method":"sampling/createMessage","params":{"n":${n}}}`)
    await bridge.waitFor('both', () => bridge.received('sampling/createMessage').length === 2)
    const asked = bridge.received('sampling/createMessage')
    expect(new Set(asked.map((each) => each.id)).size).toBe(2)
    for (const each of asked) bridge.send({ jsonrpc: '2.0', id: each.id, result: { n: each.params?.n } })
    await eventually('both replies', () => server.posts().filter((post) => post.rpc?.isResponse).length === 2)
    const replies = server.posts().flatMap((post) => (post.rpc?.isResponse ? [post.body.toString()] : []))
    expect(replies.sort()).toEqual([1, 2].map((n) => `{"jsonrpc":"2.0","id":5,"result":{"n":${n}}}`))
  })

  test('the server takes one of them back: the client hears of the id it knows', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url, { args: ['--stateful'] })
    await eventually('the push stream', () => server.listening())
    server.push({ jsonrpc: '2.0', id: 'q', method: 'sampling/createMessage' })
    server.push({
      jsonrpc: '2.0',
      method: 'notifications/cancelled',
      params: { requestId: 'q', reason: 'x' },
    })
    await bridge.waitFor('the cancellation', () => bridge.received('notifications/cancelled').length === 1)
    expect(bridge.received('notifications/cancelled')[0]?.params).toEqual({ requestId: 'q', reason: 'x' })
  })

  test('a late reply to a request of the old session does not answer one of the new session with the same id', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url, { args: ['--stateful'] })
    await eventually('the push stream', () => server.listening())
    server.push({ jsonrpc: '2.0', id: 0, method: 'elicitation/create', params: { n: 'old' } })
    await bridge.waitFor('the old question', () => bridge.received('elicitation/create').length === 1)
    await server.restart()
    await eventually('the next session', () => server.listening(), 8_000)
    server.push({ jsonrpc: '2.0', id: 0, method: 'elicitation/create', params: { n: 'new' } })
    await bridge.waitFor('the new question', () => bridge.received('elicitation/create').length === 2)
    bridge.send({ jsonrpc: '2.0', id: 0, result: { to: 'old' } })
    const asked = bridge.received('elicitation/create')[1]
    bridge.send({ jsonrpc: '2.0', id: asked?.id, result: { to: 'new' } })
    await eventually('a reply', () => server.posts().some((post) => post.rpc?.isResponse))
    await bridge.call('ping')
    const replies = server.posts().flatMap((post) => (post.rpc?.isResponse ? [post.body.toString()] : []))
    expect(replies).toEqual(['{"jsonrpc":"2.0","id":0,"result":{"to":"new"}}'])
  })
})

describe('a message of the server over the limit', () => {
  const big = 'x'.repeat(300_000)

  test.each(['json', 'events'])(
    'an answer as %s: an error for that request that names the limit, the next one works',
    async (how) => {
      const server = await ScriptedServer.start()
      server.on('tools/call', (x) => {
        if (x.params.small === true) return x.result({ ok: true })
        if (how === 'json') return x.result({ big })
        const stream = x.stream(true)
        stream.send(x.answer({ big }))
        return stream.finish()
      })
      const bridge = await BridgeProcess.connected(server.url, { args: maxMessage(200_000) })
      const reply = await bridge.call('tools/call')
      expect(reply.error?.message).toMatch(/limit/)
      expect((await bridge.call('tools/call', { small: true })).result).toEqual({ ok: true })
    },
  )

  test('a push: skipped, said on stderr, and the stream goes on', async () => {
    const server = await ScriptedServer.start({ replay: true })
    const bridge = await BridgeProcess.connected(server.url, {
      args: ['--stateful', '--log-level', 'info', ...maxMessage(200_000)],
    })
    await eventually('the push stream', () => server.listening())
    server.push({ jsonrpc: '2.0', method: 'notifications/a' })
    await bridge.waitFor('the first', () => bridge.received('notifications/a').length === 1)
    server.push({ jsonrpc: '2.0', method: 'notifications/big', params: { big } })
    await bridge.waitFor('a line on stderr', () => /limit/.test(bridge.stderr))
    await eventually('the stream', () => server.of('GET').length >= 2 && server.listening(), 8_000)
    server.push({ jsonrpc: '2.0', method: 'notifications/b' })
    await bridge.waitFor('the next', () => bridge.received('notifications/b').length === 1)
    expect(bridge.received('notifications/big')).toEqual([])
  })
})

test('headers: JSON up, JSON or events down, the session on everything but initialize', async () => {
  const server = await ScriptedServer.start()
  server.protocolVersion = '2025-06-18'
  const bridge = await BridgeProcess.connected(server.url, { args: ['--stateful'] })
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

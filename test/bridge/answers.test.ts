/** Answers of every shape, and what a request gets when there is none. */
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { heard, notification } from '../support/messages.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'
import { maxMessage } from '../support/settings.ts'

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

  test('a stream is one though its type says json too', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => {
      x.response.writeHead(200, { 'content-type': 'text/event-stream; profile="json-rpc"' })
      x.response.write(`data: ${x.answer({ open: true })}\n\n`)
    })
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).result).toEqual({ open: true })
  })

  test('an answer whose lines end in CR arrives while its stream stays open', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.stream().write(`data: ${x.answer({ cr: true })}\r\r`))
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call', {}, 1_000)).result).toEqual({ cr: true })
  })

  test('an answer behind a byte order mark that comes byte by byte arrives', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', async (x) => {
      const stream = x.stream()
      for (const byte of [0xef, 0xbb, 0xbf]) {
        stream.write(Buffer.of(byte))
        await pause(20)
      }
      stream.send(x.answer({ mark: true }))
    })
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).result).toEqual({ mark: true })
  })

  test('an answer of JSON behind a byte order mark arrives', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.json(`\ufeff${x.answer({ mark: true })}`))
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).result).toEqual({ mark: true })
  })

  test('what the server says behind an answer, or to a notification, reaches the client', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', async (x) => {
      const stream = x.stream()
      stream.send(x.answer())
      stream.send(notification(1))
      await pause(50)
      stream.send(notification(2))
      stream.finish()
    })
    server.on('notifications/told', (x) => {
      const stream = x.stream()
      stream.send({ jsonrpc: '2.0', id: 'r', method: 'roots/list' })
      stream.finish()
    })
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('tools/call')
    await bridge.waitFor('both', () => heard(bridge).length === 2)
    bridge.send({ jsonrpc: '2.0', method: 'notifications/told' })
    await bridge.waitFor('the request', () => bridge.received('roots/list').length === 1)
  })

  test('a 100 Continue that nobody asked for is passed over', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => {
      x.response.writeContinue()
      x.result('{"n":1}')
    })
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).result).toEqual({ n: 1 })
  })

  test.each([200, 400, 403, 422, 500])(
    '%d with an error that has no id is the error of the request',
    async (status) => {
      const server = await ScriptedServer.start()
      const error = { code: -32602, message: 'no', data: { why: 1 } }
      server.on('tools/call', (x) =>
        x.reply(status, JSON.stringify({ jsonrpc: '2.0', error }), { 'content-type': 'application/json' }),
      )
      const bridge = await BridgeProcess.connected(server.url)
      expect((await bridge.call('tools/call')).error).toEqual(error)
    },
  )

  test('404 by a page, after a success, does not blame the address', async () => {
    const server = await ScriptedServer.start({ sessions: false })
    const bridge = await BridgeProcess.connected(server.url)
    server.on('tools/call', (x) => x.reply(404, '404 page not found'))
    const { error } = await bridge.call('tools/call')
    expect(error?.data?.code).toBe('SERVER_REFUSED')
    expect(error?.message).toMatch(/answered HTTP 404: 404 page not found$/)
  })

  test('one whose id is written as a string is the answer', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.json(`{"jsonrpc":"2.0","id":"${x.rpc.id}","result":{"n":1}}`))
    const bridge = await BridgeProcess.connected(server.url)
    const id = bridge.ask('tools/call')
    await bridge.reply(id)
    expect(String(bridge.lines.at(-1))).toBe(`{"jsonrpc":"2.0","id":${id},"result":{"n":1}}`)
  })

  test('one under 40 kB of headers', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.result({ n: 1 }, { 'x-policy': 'p'.repeat(40_000) }))
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).result).toEqual({ n: 1 })
  })

  test('an error of 200 kB with status 400, behind a byte order mark, arrives whole', async () => {
    const server = await ScriptedServer.start()
    const error = { code: -32602, message: 'no', data: 'x'.repeat(200_000) }
    server.on('tools/call', (x) =>
      x.json(`\ufeff{"jsonrpc":"2.0","id":${x.rpc.id},"error":${JSON.stringify(error)}}`, 400),
    )
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).error).toEqual(error)
  })

  test('one that is cut off, in one word, is shown but for its end', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => {
      x.response.writeHead(400, { 'content-type': 'application/json' })
      x.response.write('{"error":"no-such-tool","key":"half-a-ke')
    })
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).error?.message).toMatch(
      /HTTP 400: \{"error":"no-such-tool","key":"$/,
    )
  })

  test.each([
    ['is long', (x: Exchange) => x.reply(500, `ValueError at /mcp ${'y'.repeat(3_000_000)}`)],
    [
      'never ends',
      (x: Exchange) => {
        x.response.writeHead(500)
        x.response.write('ValueError at /mcp half-a-ke')
      },
    ],
  ])('a page that %s begins with why', async (_, answer) => {
    const server = await ScriptedServer.start()
    server.on('tools/call', answer)
    const bridge = await BridgeProcess.connected(server.url)
    const { error } = await bridge.call('tools/call')
    expect(error?.message).toContain('HTTP 500: ValueError at /mcp')
    expect(error?.message).not.toContain('half')
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
    const bridge = await BridgeProcess.listening(server)
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

describe('compression', () => {
  test('is not wanted, and every call says so; a header of the user does not change it', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server, {
      args: ['--stateful', '--header', 'Accept-Encoding: gzip'],
    })
    await bridge.call('tools/call')
    bridge.eof()
    await bridge.gone()
    expect(server.of('DELETE')).toHaveLength(1)
    expect(new Set(server.requests.map((each) => each.headers['accept-encoding']))).toEqual(
      new Set(['identity']),
    )
  })

  test('all the same: an error names it', async () => {
    const server = await ScriptedServer.start()
    const reply = (x: Exchange, type: string, status = 200): void =>
      x.reply(status, gzipSync(x.answer()), { 'content-type': type, 'content-encoding': 'GZIP' })
    server.on('tools/call', (x) => reply(x, 'text/event-stream'))
    server.on('tools/list', (x) => reply(x, 'application/json'))
    server.on('prompts/get', (x) => reply(x, 'text/html', 500))
    const bridge = await BridgeProcess.connected(server.url)
    const said = async (method: string): Promise<string> => (await bridge.call(method)).error?.message ?? ''
    expect(await said('tools/call')).toMatch(/HTTP 200: its body is compressed \(gzip\).*it may have run$/)
    expect(await said('tools/list')).toMatch(/HTTP 200: its body is compressed \(gzip\)/)
    expect(await said('prompts/get')).toMatch(/HTTP 500: its body is compressed \(gzip\)/)
  })

  test('of the push stream: it does not count as up, and one that can be read is found', async () => {
    const server = await ScriptedServer.start()
    let first = true
    server.before((x) => {
      if (x.request.method !== 'GET' || !first) return false
      first = false
      x.response.writeHead(200, { 'content-type': 'text/event-stream', 'content-encoding': 'br' })
      x.response.flushHeaders()
      return true
    })
    const bridge = await BridgeProcess.connected(server.url, { args: ['--stateful', '--log-level', 'info'] })
    await bridge.waitFor('the stream', () => / push stream up/.test(bridge.stderr))
    expect(bridge.stderr.match(/ push stream .*/g)).toEqual([
      expect.stringContaining('still down: HTTP 200: its body is compressed (br)'),
      expect.stringContaining('up again'),
    ])
  })
})

describe('a long answer in JSON', () => {
  const text = 'ü\n'.repeat(200_000)
  /** Answers with a Content-Length that is `off` bytes from the truth, in pieces. */
  const connected = async (off: number): Promise<BridgeProcess> => {
    const server = await ScriptedServer.start()
    server.on('tools/call', async (x) => {
      const body = Buffer.from(x.answer({ text }))
      x.response.strictContentLength = false
      x.response.writeHead(200, {
        'content-type': 'application/json',
        'content-length': String(body.length + off),
      })
      for (let at = 0; at < body.length; at += 100_000) {
        x.response.write(body.subarray(at, at + 100_000))
        await pause(1)
      }
      x.response.destroy()
    })
    return BridgeProcess.connected(server.url)
  }

  test('is whole when its length was told', async () => {
    const bridge = await connected(0)
    expect((await bridge.call('tools/call')).result).toEqual({ text })
  })

  test('that ends before the length it told: one error, and the next request is answered', async () => {
    const bridge = await connected(1)
    expect((await bridge.call('tools/call')).error?.message).toMatch(/may have run/)
    expect((await bridge.call('ping')).result).toEqual({})
  })

  test('that goes on beyond it: one error, and the next request is answered', async () => {
    const bridge = await connected(-1)
    expect((await bridge.call('tools/call')).error?.message).toMatch(/not JSON/)
    expect((await bridge.call('ping')).result).toEqual({})
  })
})

describe('a message of the server over the limit', () => {
  const big = 'x'.repeat(300_000)

  test.each(['json of known length', 'json', 'events'])(
    'an answer as %s: an error for that request that names the limit, the next one works',
    async (how) => {
      const server = await ScriptedServer.start()
      server.on('tools/call', (x) => {
        if (x.params.small === true) return x.result({ ok: true })
        if (how === 'json of known length') {
          const body = x.answer({ big })
          return x.json(body, 200, { 'content-length': String(body.length) })
        }
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

  test('one behind an answer: said on stderr', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => {
      const stream = x.stream()
      stream.send(x.answer({ n: 1 }))
      stream.send({ jsonrpc: '2.0', method: 'notifications/big', params: { big } })
      stream.finish()
    })
    const bridge = await BridgeProcess.connected(server.url, { args: maxMessage(200_000) })
    expect((await bridge.call('tools/call')).result).toEqual({ n: 1 })
    await bridge.waitFor('a line on stderr', () => /behind an answer: .* over the limit/.test(bridge.stderr))
  })

  test('a push: skipped, said on stderr, and the stream goes on', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server, {
      args: ['--stateful', '--log-level', 'info', ...maxMessage(200_000)],
    })
    server.push({ jsonrpc: '2.0', method: 'notifications/a' })
    await bridge.waitFor('the first', () => bridge.received('notifications/a').length === 1)
    server.push({ jsonrpc: '2.0', method: 'notifications/big', params: { big } })
    server.push({ jsonrpc: '2.0', method: 'notifications/b' })
    await bridge.waitFor('the next', () => bridge.received('notifications/b').length === 1)
    expect(bridge.received('notifications/big')).toEqual([])
    await bridge.waitFor('a line on stderr', () =>
      /warn dropped what the server pushed: an event is over the limit/.test(bridge.stderr),
    )
    expect(server.of('GET')).toHaveLength(1)
  })
})

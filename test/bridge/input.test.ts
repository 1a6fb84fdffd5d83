/** Whatever comes in on stdin: it is answered or refused, and the next line works. */
import { spawn } from 'node:child_process'
import { describe, expect, onTestFinished, test } from 'vitest'
import { BridgeProcess, baseEnv, bin } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { initialize } from '../support/messages.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { maxMessage } from '../support/settings.ts'

const list = (id: string | number): string => `{"jsonrpc":"2.0","id":${id},"method":"tools/list"}`

describe('bad input', () => {
  test.each([
    ['a line that is no JSON', '{"jsonrpc":', -32700],
    ['a line that is no UTF-8', Buffer.from([0x22, 0xff, 0x22]), -32700],
    ['plain text', 'hello', -32700],
    ['JSON that is no message', '{"a":1}', -32600],
    ['a number', '7', -32600],
    ['another version', '{"jsonrpc":"1.0","id":1,"method":"m"}', -32600],
    ['an id that is an object', '{"jsonrpc":"2.0","id":{},"method":"m"}', -32600],
    ['an empty batch', '[]', -32600],
  ])('%s gets an error with id null; the next line works', async (_, line, code) => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    bridge.write(Buffer.concat([Buffer.from(line), Buffer.from('\n')]))
    const reply = await bridge.reply(null)
    expect(reply.error?.code).toBe(code)
    expect((await bridge.call('tools/list')).result.tools).toHaveLength(1)
    expect(server.posts()).toHaveLength(3)
  })

  test('bad input before the handshake does not spoil it', async () => {
    const server = await ScriptedServer.start()
    const bridge = BridgeProcess.start(server.url)
    bridge.send('what?')
    expect((await bridge.reply(null)).error?.code).toBe(-32700)
    await bridge.handshake()
  })

  test('a batch is split, each element like a line of its own', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    bridge.send(`[${list(1)}, 7 ,{"jsonrpc":"2.0","method":"notifications/x"}, ${list('"b"')} ]`)
    await bridge.reply(1)
    await bridge.reply('b')
    expect((await bridge.reply(null)).error?.code).toBe(-32600)
    expect(
      server
        .posts('tools/list')
        .map((post) => post.body.toString())
        .sort(),
    ).toEqual([list('"b"'), list(1)].sort())
    expect(server.posts('notifications/x')).toHaveLength(1)
  })

  test('blank lines, CRLF and spaces around a message are accepted', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    bridge.write(`\n\r\n  \t\r\n ${list(1)} \r\n\n${list(2)}\r\n`)
    await bridge.reply(1)
    await bridge.reply(2)
    expect(bridge.answersTo(null)).toEqual([])
    expect(
      server
        .posts('tools/list')
        .map((post) => post.body.toString())
        .sort(),
    ).toEqual([list(1), list(2)])
  })

  test('a byte order mark before the first line is accepted', async () => {
    const server = await ScriptedServer.start()
    const bridge = BridgeProcess.start(server.url)
    bridge.write(Buffer.from([0xef, 0xbb, 0xbf]))
    await bridge.handshake()
    expect(server.posts('initialize')).toHaveLength(1)
  })

  test('the last line needs no newline', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    bridge.write(list(1))
    bridge.eof()
    await bridge.reply(1)
    expect((await bridge.gone()).code).toBe(0)
  })
})

describe('a line over the limit', () => {
  const limit = 200_000
  const filler = 'x'.repeat(limit)

  test.each([
    ['its id at the start', `{"jsonrpc":"2.0","id":"big","method":"m","params":"${filler}"}`, 'big'],
    ['its id at the end', `{"method":"m","params":{"id":1,"t":"${filler}"},"jsonrpc":"2.0","id":-5}`, -5],
    ['its id in the middle', `{"a":"${filler}","id":1,"params":"${filler}","z":{"id":3}}`, null],
    ['no id', `{"jsonrpc":"2.0","method":"m","params":"${filler}"}`, null],
  ])('with %s: an error that names the limit, under the id where it can be found', async (_, line, id) => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url, { args: maxMessage(limit) })
    bridge.send(line)
    bridge.send(list(77))
    const reply = await bridge.reply(id)
    expect(reply.error?.message).toMatch(/200[,. _]?000|limit/)
    expect((await bridge.reply(77)).result.tools).toHaveLength(1)
    expect(server.posts('m')).toEqual([])
  })

  test('that replies under the id of an open request: the request gets its own answer, and only that', async () => {
    const server = await ScriptedServer.start()
    let answer = (): void => {}
    server.on('tools/call', (x) => {
      answer = () => x.result({ real: true })
    })
    const bridge = await BridgeProcess.listening(server, { args: maxMessage(limit) })
    bridge.send('{"jsonrpc":"2.0","id":5,"method":"tools/call"}')
    await eventually('the call', () => server.posts('tools/call').length === 1)
    server.push('{"jsonrpc":"2.0","id":5,"method":"roots/list"}')
    await bridge.waitFor('the request of the server', () => bridge.received('roots/list').length === 1)
    bridge.send({ jsonrpc: '2.0', id: 5, result: { long: filler } })
    await bridge.reply(null)
    answer()
    await bridge.waitFor('the answer', () => bridge.answersTo(5).length > 0)
    expect(bridge.answersTo(5).map((each) => each.result)).toEqual([{ real: true }])
  })

  test('a line just under the limit passes', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url, { args: maxMessage(limit) })
    const line = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"t":"`
    bridge.send(`${line}${'x'.repeat(limit - line.length - 3)}"}}`)
    expect((await bridge.reply(1)).error).toBeUndefined()
  })
})

test('every cut of every byte: a line in two writes is the same line, wherever it is cut', async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.connected(server.url)
  const text = (id: number) =>
    Buffer.from(`{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{"t":"é😀\\u00e9","n":1.0}}\r\n`)
  const length = text(1_000).length
  for (let cut = 1; cut < length; cut++) {
    const bytes = text(1_000 + cut)
    bridge.write(bytes.subarray(0, cut))
    await pause(1)
    bridge.write(bytes.subarray(cut))
  }
  await bridge.waitFor('all answers', () => bridge.lines.length === length, 10_000)
  const bodies = new Set(server.posts('tools/call').map((post) => post.body.toString()))
  for (let cut = 1; cut < length; cut++)
    expect(bodies).toContain(
      text(1_000 + cut)
        .toString()
        .trim(),
    )
  expect(server.posts('tools/call')).toHaveLength(length - 1)
})

test('a line written one byte at a time is one message', async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.connected(server.url)
  for (const byte of Buffer.from(`${list(1)}\n`)) {
    bridge.write(Buffer.of(byte))
    await pause(1)
  }
  await bridge.reply(1)
})

test('millions of brackets are no message, and cost a byte each', async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.connected(server.url, {
    command: [process.execPath, '--max-old-space-size=64', bin],
  })
  bridge.write(Buffer.alloc(16 * 1024 * 1024, '['))
  bridge.write('\n')
  expect((await bridge.reply(null)).error?.code).toBe(-32700)
  expect((await bridge.call('tools/call')).error).toBeUndefined()
})

test('a client that writes nonsense and reads no answer is not read from any more', async () => {
  const server = await ScriptedServer.start()
  const child = spawn(process.execPath, [bin, server.url], {
    env: baseEnv,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const exited = new Promise((resolve) => child.once('exit', resolve))
  child.stdin.on('error', () => {})
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await exited
  })
  child.stdin.write(`${JSON.stringify(initialize())}\n`)
  await new Promise((resolve) => child.stdout.once('data', resolve))
  child.stdout.pause()
  const nonsense = '{"bad":1}\n'.repeat(5_000)
  let left = 100
  const more = (): void => {
    if (--left > 0) child.stdin.write(nonsense, more)
  }
  more()
  let still = 0
  let before = left
  await eventually('that it stops reading, or has read all', async () => {
    await pause(20)
    still = left === before ? still + 1 : 0
    before = left
    return left === 0 || still === 25
  })
  expect(left).toBeGreaterThan(0)
})

describe('ids', () => {
  test('an id that is still open is refused with id null, naming it; the first request is not disturbed', async () => {
    const server = await ScriptedServer.start()
    let answer = (): void => {}
    server.on('tools/call', (x) => {
      answer = () => x.result({ first: true })
    })
    const bridge = await BridgeProcess.connected(server.url)
    bridge.send('{"jsonrpc":"2.0","id":"dup","method":"tools/call"}')
    await eventually('the first', () => server.posts('tools/call').length === 1)
    bridge.send('{"jsonrpc":"2.0","id":"dup","method":"tools/call"}')
    const refusal = await bridge.reply(null)
    expect(refusal.error?.code).toBe(-32600)
    expect(refusal.error?.message).toContain('dup')
    answer()
    expect((await bridge.reply('dup')).result).toEqual({ first: true })
    expect(server.posts('tools/call')).toHaveLength(1)
  })

  test('1 and "1" and 1.0 are three ids', async () => {
    const server = await ScriptedServer.start()
    const answers: (() => void)[] = []
    server.on('tools/call', (x) => answers.push(() => x.result(`{"to":${x.rpc.id ?? ''}}`)))
    const bridge = await BridgeProcess.connected(server.url)
    for (const id of ['1', '"1"', '1.0']) bridge.send(`{"jsonrpc":"2.0","id":${id},"method":"tools/call"}`)
    await eventually('three open requests', () => answers.length === 3)
    for (const answer of answers.reverse()) answer()
    await bridge.waitFor('three answers', () => bridge.lines.length === 4)
    expect(bridge.lines.slice(1).map(String).sort()).toEqual(
      ['1', '"1"', '1.0'].map((id) => `{"jsonrpc":"2.0","id":${id},"result":{"to":${id}}}`).sort(),
    )
  })

  test('an answered id may be used again', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    for (let n = 1; n <= 3; n++) {
      bridge.send(list(9))
      await bridge.waitFor(`answer ${n}`, () => bridge.answersTo(9).length === n)
    }
    expect(bridge.answersTo(null)).toEqual([])
  })
})

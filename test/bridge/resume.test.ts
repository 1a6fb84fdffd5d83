/** A broken stream with a cursor is resumed; one without is lost, and said to be. */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import type { EventStream } from '../support/event-stream.ts'
import { eventually } from '../support/eventually.ts'
import { sse } from '../support/messages.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'

const progress = (n: number) => ({ jsonrpc: '2.0', method: 'notifications/progress', params: { n } })

function numbers(bridge: BridgeProcess): unknown[] {
  return bridge.received('notifications/progress').map((each) => each.params?.n)
}

/** Hands the stream of each tools/call to `script`. */
function onCall(
  server: ScriptedServer,
  script: (stream: EventStream, x: Exchange) => unknown,
  ids = true,
): void {
  server.on('tools/call', (x) => script(x.stream(ids), x))
}

describe('the stream of a call', () => {
  test.each(['ended cleanly', 'reset'])(
    '%s after an event: resumed from its id, nothing twice, nothing missing',
    async (how) => {
      const server = await ScriptedServer.start()
      let cursor = ''
      onCall(server, async (stream, x) => {
        stream.send(progress(1))
        cursor = stream.send(progress(2))
        await eventually('what was sent', () => numbers(bridge).length === 2)
        if (how === 'reset') stream.cut()
        else stream.hangUp()
        stream.send(progress(3))
        stream.send(x.answer({ done: true }))
        stream.finish()
      })
      const bridge = await BridgeProcess.connected(server.url)
      const reply = await bridge.call('tools/call')
      expect(reply.result).toEqual({ done: true })
      expect(numbers(bridge)).toEqual([1, 2, 3])
      const [resume] = server.of('GET').filter((get) => get.headers['last-event-id'] !== undefined)
      expect(resume?.headers['last-event-id']).toBe(cursor)
      expect(resume?.session).toBe(server.session.id)
      expect(resume?.headers['mcp-protocol-version']).toBe('2025-11-25')
      expect(server.posts('tools/call')).toHaveLength(1)
    },
  )

  test('ended after a priming event: polled after the server’s retry, as often as it takes', async () => {
    const server = await ScriptedServer.start()
    onCall(server, (stream) => {
      stream.prime(60)
      stream.hangUp()
    })
    let polls = 0
    let call: Exchange | undefined
    server.before((x) => {
      if (x.rpc.method === 'tools/call') call = x
      if (x.request.headers['last-event-id'] === undefined) return false
      polls++
      x.response.writeHead(200, sse)
      x.response.end(polls < 5 ? '' : `id: last\ndata: ${call?.answer({ polls })}\n\n`)
      return true
    })
    const bridge = await BridgeProcess.connected(server.url)
    const reply = await bridge.call('tools/call')
    expect(reply.result).toEqual({ polls: 5 })
    const gets = server.of('GET').filter((get) => get.headers['last-event-id'] !== undefined)
    const gaps = gets.slice(1).map((get, i) => get.at - (gets[i]?.at ?? 0))
    for (const gap of gaps) expect(gap).toBeGreaterThanOrEqual(55)
    // Polling never turns into a loop: 100 ms from the second empty resume on.
    for (const gap of gaps.slice(2)) expect(gap).toBeGreaterThanOrEqual(95)
  })

  test('broken without a cursor: RESPONSE_LOST within a second, no second POST', async () => {
    const server = await ScriptedServer.start()
    onCall(
      server,
      async (stream) => {
        stream.send(progress(1))
        await eventually('the progress', () => numbers(bridge).length === 1)
        stream.cut()
      },
      false,
    )
    const bridge = await BridgeProcess.connected(server.url)
    const at = performance.now()
    const reply = await bridge.call('tools/call')
    expect(performance.now() - at).toBeLessThan(1_000)
    expect(reply.error?.data?.code).toBe('RESPONSE_LOST')
    expect(server.posts('tools/call')).toHaveLength(1)
    expect(server.of('GET').filter((get) => get.headers['last-event-id'] !== undefined)).toEqual([])
  })

  test('resumed across a closed port: the answer comes when the server is back', async () => {
    const server = await ScriptedServer.start()
    let stream: EventStream | undefined
    let answer = ''
    onCall(server, (opened, x) => {
      stream = opened
      answer = x.answer({ done: true })
      opened.send(progress(1))
    })
    const bridge = await BridgeProcess.connected(server.url)
    const id = bridge.ask('tools/call')
    await bridge.waitFor('the progress', () => numbers(bridge).length === 1)
    await server.down()
    stream?.send(answer)
    stream?.finish()
    await new Promise((resolve) => setTimeout(resolve, 300))
    await server.up()
    expect((await bridge.reply(id, 8_000)).result).toEqual({ done: true })
    expect(numbers(bridge)).toEqual([1])
  })

  test.each([404, 400])(
    '%d on its resume: RESPONSE_LOST for it, and a new session for what comes next',
    async (status) => {
      const server = await ScriptedServer.start()
      server.refuseLost = (x) => x.error(-32000, 'No valid session ID provided', status)
      onCall(server, async (stream) => {
        stream.send(progress(1))
        await eventually('the progress', () => numbers(bridge).length === 1)
        server.wipe()
        stream.cut()
      })
      const bridge = await BridgeProcess.connected(server.url)
      const reply = await bridge.call('tools/call')
      expect(reply.error?.data?.code).toBe('RESPONSE_LOST')
      await eventually(
        'a new session, without any request of the client',
        () => server.live().length === 1,
        8_000,
      )
      expect(server.posts('tools/call')).toHaveLength(1)
    },
  )

  test.each([401, 408, 409, 502, 503])(
    '%d to its resume (the server still holds the old one, or somebody in front of it speaks): asked again, not lost',
    async (status) => {
      const server = await ScriptedServer.start()
      let left = 2
      server.before((x) =>
        x.request.headers['last-event-id'] !== undefined && left-- > 0
          ? x.error(-32000, 'Conflict', status)
          : false,
      )
      onCall(server, async (stream, x) => {
        stream.send(progress(1))
        await eventually('the progress', () => numbers(bridge).length === 1)
        stream.cut()
        stream.send(x.answer({ done: true }))
        stream.finish()
      })
      const bridge = await BridgeProcess.connected(server.url)
      expect((await bridge.call('tools/call')).result).toEqual({ done: true })
      expect(server.posts('tools/call')).toHaveLength(1)
    },
  )

  test('405 to its resume: RESPONSE_LOST', async () => {
    const server = await ScriptedServer.start({ push: false })
    onCall(server, async (stream) => {
      stream.send(progress(1))
      await eventually('the progress', () => numbers(bridge).length === 1)
      stream.cut()
    })
    server.before((x) => (x.request.method === 'GET' ? x.reply(405) : false))
    const bridge = await BridgeProcess.connected(server.url)
    expect((await bridge.call('tools/call')).error?.data?.code).toBe('RESPONSE_LOST')
  })

  test('after its answer no further event of it is waited for', async () => {
    const server = await ScriptedServer.start()
    let stream: EventStream | undefined
    onCall(server, (opened, x) => {
      stream = opened
      opened.send(x.answer())
    })
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('tools/call')
    await eventually('the end of the exchange', () => stream?.open === false)
    expect(server.of('GET').filter((get) => get.headers['last-event-id'] !== undefined)).toEqual([])
  })
})

/** Two events with ids, multi-byte text, CRLF and a comment: the second is the answer. */
function script(id: string): Buffer {
  return Buffer.from(
    `\ufeff: hello\r\nid: a-${id}\r\nevent: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress",\r\ndata: "params":{"n":"é😀 ${id}"}}\r\n\r\n` +
      `id: b-${id}\ndata: {"jsonrpc":"2.0","id":${id},"result":{"of":${id},"t":"ü"}}\n\n`,
  )
}

describe('every cut of every byte', () => {
  test('of an event stream in two writes: the same events', async () => {
    const server = await ScriptedServer.start({ sessions: false })
    server.on('tools/call', async (x) => {
      const bytes = script(x.rpc.id ?? '')
      const cut = Number(x.params.cut)
      x.response.writeHead(200, sse)
      await new Promise((resolve) => x.response.write(bytes.subarray(0, cut), resolve))
      await new Promise((resolve) => setTimeout(resolve, 2))
      x.response.end(bytes.subarray(cut))
    })
    const bridge = await BridgeProcess.connected(server.url)
    const length = script('1000').length
    const ids = new Map<number, number>()
    for (let cut = 1; cut < length; cut++) {
      const id = 1_000 + cut
      ids.set(id, cut)
      bridge.send({ jsonrpc: '2.0', id, method: 'tools/call', params: { cut } })
      if (cut % 16 === 0) await bridge.reply(id)
    }
    for (const id of ids.keys()) expect((await bridge.reply(id, 10_000)).result).toEqual({ of: id, t: 'ü' })
    expect(numbers(bridge).sort()).toEqual([...ids.keys()].map((id) => `é😀 ${id}`).sort())
  })

  test('of an event stream that is reset there: resumed from the last id that came whole, or lost', async () => {
    const server = await ScriptedServer.start({ sessions: false })
    const reset = async (x: Exchange, bytes: Buffer): Promise<void> => {
      x.response.writeHead(200, sse)
      await new Promise((resolve) => x.response.write(bytes, resolve))
      await new Promise((resolve) => setTimeout(resolve, 3))
      x.reset()
    }
    server.on('tools/call', (x) => reset(x, script(x.rpc.id ?? '').subarray(0, Number(x.params.cut))))
    server.before((x) => {
      const [, id] = /^a-(\d+)$/.exec(String(x.request.headers['last-event-id'])) ?? []
      if (x.request.method !== 'GET' || id === undefined) return false
      const bytes = script(id)
      x.reply(200, bytes.subarray(bytes.indexOf('id: b-')), sse)
      return true
    })
    const bridge = await BridgeProcess.connected(server.url)
    const length = script('1000').length
    const firstEventEnd = script('1000').indexOf('id: b-')
    for (let cut = 1; cut < length; cut++) {
      const id = 1_000 + cut
      bridge.send({ jsonrpc: '2.0', id, method: 'tools/call', params: { cut } })
      if (cut % 16 === 0) await bridge.reply(id)
    }
    for (let cut = 1; cut < length; cut++) {
      const id = 1_000 + cut
      const reply = await bridge.reply(id, 10_000)
      // A reset may overtake the last bytes: an event may be lost with its id, but never an answer be doubled.
      if (reply.error !== undefined) expect(reply.error.data?.code).toBe('RESPONSE_LOST')
      else expect(reply.result).toEqual({ of: id, t: 'ü' })
      if (cut < firstEventEnd - 2) expect(reply.error, `cut ${cut}`).toBeDefined()
      expect(bridge.answersTo(id)).toHaveLength(1)
    }
    const seen = numbers(bridge)
    expect(new Set(seen).size).toBe(seen.length)
    expect(seen.length).toBeGreaterThan(60)
  })
})

import { afterEach, describe, expect, it } from 'vitest'
import { parseFilter } from '../../src/channel/filter.ts'
import { channelNotification } from '../../src/channel/notification.ts'
import { compose, METHOD, parse } from '../../src/protocol.ts'
import { eventually } from '../support/eventually.ts'
import { type Around, around, channel, pending } from './support.ts'

const LONG = { holdMs: 60_000 }
const opened: Around[] = []

function open(...args: Parameters<typeof around>): Around {
  const one = around(...args)
  opened.push(one)
  return one
}

afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ upstream }) => upstream.close(0)))
})

describe('an early push', () => {
  it('waits until the time has passed, and stops its stream meanwhile', async () => {
    const { server, connect, contents } = open({ holdMs: 40 })
    await connect()
    const started = performance.now()
    const held = server.say(channel('early'))
    expect(await pending(held)).toBe(true)
    expect(contents()).toEqual([])
    await held
    expect(performance.now() - started).toBeGreaterThanOrEqual(35)
    expect(contents()).toEqual(['early'])
  })

  it('waits for notifications/initialized before the time begins to count', async () => {
    const { server, send, contents } = open({ holdMs: 1 })
    await send({ id: 0, method: METHOD.initialize, params: {} })
    const held = server.say(channel('early'))
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(await pending(held)).toBe(true)
    await send({ method: METHOD.initialized })
    await held
    expect(contents()).toEqual(['early'])
  })

  it('stays away if nobody wants it any more by then', async () => {
    const { server, connect, send, contents } = open(LONG)
    await connect()
    let wanted = true
    const early = server.outlet.deliver(compose(channel('early')), 'push', () => wanted)
    const next = server.say(channel('next'))
    wanted = false
    void send({ id: 'c', method: 'tools/call', params: { name: 'x' } }).catch(() => undefined)
    await Promise.all([early, next])
    expect(contents()).toEqual(['next'])
  })

  it("goes out with the client's first real request", async () => {
    const { server, connect, send, contents } = open(LONG)
    await connect()
    const held = server.say(channel('early'))
    for (const method of ['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list']) {
      void send({ id: method, method }).catch(() => undefined)
    }
    void send({ id: 'p', method: 'ping' }).catch(() => undefined)
    await send({ method: 'notifications/roots/list_changed' })
    expect(await pending(held)).toBe(true)
    void send({ id: 'c', method: 'tools/call', params: { name: 'x' } }).catch(() => undefined)
    await held
    expect(contents()).toEqual(['early'])
  })

  it('keeps its place: what came behind it on the push lane stays behind it', async () => {
    const { server, connect, send, client } = open(LONG)
    await connect()
    const before = client.delivered.length
    await server.say({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })
    expect(client.delivered.length).toBe(before + 1)
    const all = [
      server.say(channel('1')),
      server.say({ jsonrpc: '2.0', method: 'notifications/message', params: { data: '2' } }),
      server.say({ jsonrpc: '2.0', id: 3, method: 'roots/list' }),
      server.say(channel('4')),
    ]
    await server.say(channel('on an answer'), 'answer')
    expect(client.texts.slice(before + 1).join()).toContain('on an answer')
    expect(client.delivered.length).toBe(before + 2)
    void send({ id: 1, method: 'tools/call' }).catch(() => undefined)
    await Promise.all(all)
    await server.say(channel('5'))
    const methods = client.texts.slice(before + 2).map((text) => JSON.parse(text))
    expect(methods.map(({ method, params }) => params?.content ?? method)).toEqual([
      '1',
      'notifications/message',
      'roots/list',
      '4',
      '5',
    ])
  })

  it("is not held again when the session was renewed behind the client's back", async () => {
    const { server, connect, contents } = open({ holdMs: 5 })
    await connect()
    await server.say(channel('first'))
    server.report({ kind: 'session', state: 'reopening', generation: 1, reason: 'HTTP 404' })
    server.report({ kind: 'session', state: 'live', generation: 2 })
    const second = server.say(channel('second'))
    expect(await pending(second)).toBe(false)
    expect(contents()).toEqual(['first', 'second'])
  })

  it('passes at once when the server did not declare the channel', async () => {
    const { server, connect, contents } = open(LONG, { tools: {} })
    await connect()
    await server.say(channel('x', { 'a-b': 1 }))
    expect(contents()).toEqual(['x'])
  })

  it('goes out at once on close, in order', async () => {
    const { server, connect, upstream, contents } = open(LONG)
    await connect()
    const held = [server.say(channel('1')), server.say(channel('2'))]
    await upstream.close(0)
    await Promise.all(held)
    expect(contents()).toEqual(['1', '2'])
    expect(server.closed).toBe(true)
  })

  it('whose delivery fails says so to its stream and lets the next one pass', async () => {
    const { server, connect, send, client, contents } = open(LONG)
    await connect()
    const deliver = client.deliver
    let failed = false
    Object.assign(client, {
      deliver: async (...args: Parameters<typeof deliver>) => {
        if (!failed && args[1] === 'push') {
          failed = true
          throw new Error('EPIPE')
        }
        await deliver(...args)
      },
    })
    const first = server.say(channel('1'))
    const second = server.say(channel('2'))
    void send({ id: 1, method: 'tools/call' }).catch(() => undefined)
    await expect(first).rejects.toThrow('EPIPE')
    await second
    expect(contents()).toEqual(['2'])
  })

  it('stays held for a client that starts anew, and in its place', async () => {
    const { server, connect, send, client, contents } = open(LONG)
    await connect()
    const held = server.say(channel('early'))
    server.hush = true
    void send({ id: 0, method: METHOD.initialize, params: {} }).catch(() => undefined)
    const behind = server.say({ jsonrpc: '2.0', method: 'notifications/message' })
    server.hush = false
    await connect()
    expect(await pending(held)).toBe(true)
    expect(await pending(behind)).toBe(true)
    expect(client.texts.join()).not.toContain('notifications/message')
    void send({ id: 9, method: 'tools/call' }).catch(() => undefined)
    await held
    expect(contents()).toEqual(['early'])
  })
})

describe('what is no channel event', () => {
  it('passes as the same message, the permission relay both ways among it', async () => {
    const { server, connect, upstream, client } = open(LONG)
    await connect()
    const texts = [
      '{"jsonrpc":"2.0","method":"notifications/claude/channel/permission","params":{"request_id":"abcde","behavior":"allow","meta":{"a-b":12345678901234567890}}}',
      '{ "jsonrpc":"2.0", "id":1.0, "method":"sampling/createMessage" }',
      '{"jsonrpc":"2.0","method":"notifications/progress","params":{"meta":{"a-b":1}}}',
    ]
    for (const text of texts) {
      const [message] = parse(Buffer.from(text))
      if (message === undefined || message.kind === 'malformed') throw new Error(text)
      await server.say(message)
      expect(client.delivered.at(-1)?.message).toBe(message)
    }
    const [request] = parse(
      Buffer.from(
        '{"jsonrpc":"2.0","method":"notifications/claude/channel/permission_request","params":{"request_id":"abcde","meta":{"a-b":1}}}',
      ),
    )
    if (request === undefined || request.kind === 'malformed') throw new Error('no message')
    await upstream.send(request)
    expect(server.sent.at(-1)).toBe(request)
  })
})

describe('a channel event', () => {
  it('that is fine passes as the same message, one that is not is repaired', async () => {
    const { server, connect, client, events } = open()
    await connect()
    const fine = channelNotification({ content: 'fine', meta: { source: 'convo' } })
    await server.say(fine)
    expect(client.delivered.at(-1)?.message).toBe(fine)
    await server.say(channel('mended', { 'space-id': 7 }))
    await server.say(channel('on an answer', { n: null }), 'answer')
    expect(events().map(({ meta }) => meta)).toEqual([{ source: 'convo' }, { space_id: '7' }, { n: 'null' }])
  })

  it('that a rule takes out is counted in a note, not reported as lost', async () => {
    const { server, connect, client, upstream, contents } = open({
      drop: parseFilter(['event_type=call_*,space_id=7'], '--drop'),
    })
    await connect()
    for (let i = 0; i < 12; i++) await server.say(channel('t', { event_type: 'call_transcript' }))
    await server.say(channel('mended first', { 'space-id': 7 }))
    await server.say(channel('d', { event_type: 'dm_chat' }))
    await upstream.close(0)
    expect(contents()).toEqual(['d'])
    const notes = client.statuses.map((status) => (status.kind === 'note' ? status : undefined))
    expect(notes.map((note) => note?.text)).toEqual([
      '1 channel event kept from the client by --only or --drop',
      '10 channel events kept from the client by --only or --drop',
      '13 channel events kept from the client by --only or --drop',
    ])
    expect(notes.every((note) => note?.level === 'debug')).toBe(true)
  })

  it('without a text passes as it is, with a warning', async () => {
    const { server, connect, client } = open()
    await connect()
    await server.say({ jsonrpc: '2.0', method: METHOD.channel, params: { content: { text: 'x' } } })
    expect(client.texts.at(-1)).toContain('{"text":"x"}')
    await eventually('the warning', () =>
      client.statuses.some((status) => status.kind === 'note' && status.level === 'warn'),
    )
  })

  it('of which nothing would be lost is passed on as it is, and not written anew', async () => {
    const { server, connect, client } = open()
    await connect()
    const message = channelNotification({ content: 'New message', meta: { event_type: 'dm_chat' } })
    await server.outlet.deliver(message, 'push')
    expect(client.delivered.at(-1)?.message).toBe(message)
  })
})

import { afterEach, describe, expect, it } from 'vitest'
import { parseFilter } from '../../src/channel/filter.ts'
import type { ChannelEvent } from '../../src/channel/notification.ts'
import { METHOD } from '../../src/protocol.ts'
import { eventually, pause } from '../support/eventually.ts'
import { type Around, around, channel, DECLARED, pending, push } from './support.ts'

const opened: Around[] = []

function open(...args: Parameters<typeof around>): Around {
  const one = around(...args)
  opened.push(one)
  return one
}

afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ upstream }) => upstream.close(0)))
})

/** One break of the push stream, long over. */
function breakOnce(around: Around, from: number, to: number, reason = 'the server ended it'): void {
  around.server.report(push('down', { at: from, reason }))
  around.server.report(push('up', { at: to, continuous: false, generation: 2 }))
}

async function oneNotice(around: Around): Promise<ChannelEvent> {
  return await eventually('a notice', () => around.notices()[0])
}

/** Comes after the notices of before: they hold the lane. */
async function settled(around: Around): Promise<void> {
  await around.server.say({ jsonrpc: '2.0', method: 'notifications/after' })
}

describe('a gap notice', () => {
  it('tells from when to when, why, and which tools catch up', async () => {
    const it = open()
    await it.connect()
    await it.send({ id: 1, method: METHOD.toolsList })
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, Date.UTC(2026, 10, 21, 5, 0, 0), Date.UTC(2026, 10, 21, 5, 0, 12, 300))
    const { content, meta } = await oneNotice(it)
    expect(meta).toEqual({
      event_type: 'channel_gap',
      from: '2026-11-21T05:00:00.000Z',
      to: '2026-11-21T05:00:12.300Z',
      duration_ms: '12300',
      reason: 'the server ended it',
      breaks: '1',
    })
    expect(content).toContain('between 2026-11-21T05:00:00.000Z and 2026-11-21T05:00:12.300Z (12.3 s)')
    expect(content).toContain('call chamade_inbox or chamade_call_status now')
    await settled(it)
    expect(it.client.statuses.at(-1)).toEqual({
      kind: 'gap',
      from: Date.UTC(2026, 10, 21, 5, 0, 0),
      to: Date.UTC(2026, 10, 21, 5, 0, 12, 300),
      reason: 'the server ended it',
      breaks: 1,
    })
  })

  it('comes after the new stream is up and before its first event', async () => {
    const it = open()
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    await it.server.say(channel('first of the new stream'))
    expect(it.events().map(({ meta, content }) => meta.event_type ?? content)).toEqual([
      'channel_gap',
      'first of the new stream',
    ])
    const upAt = it.client.order.findLastIndex((one) => one.kind === 'push' && one.state === 'up')
    const toldAt = it.client.order.findIndex((one) => 'method' in one && one.method === METHOD.channel)
    expect(upAt).toBeLessThan(toldAt)
  })

  it('names the loss of the session, and what is different in the new one', async () => {
    const it = open()
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    it.server.report({ kind: 'session', state: 'reopening', generation: 1, reason: '404 to a ping' })
    it.server.report(push('down', { at: 1_000, reason: 'cut' }))
    it.server.report({
      kind: 'session',
      state: 'live',
      generation: 2,
      changed: 'protocol version 2025-06-18',
    })
    it.server.report(push('up', { at: 2_000, continuous: false, generation: 2 }))
    const { content, meta } = await oneNotice(it)
    expect(meta.reason).toBe('the session was lost: 404 to a ping')
    expect(content).toContain('protocol version 2025-06-18')
  })

  it('is not sent when the stream goes on where it stopped', async () => {
    const it = open()
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    it.server.report(push('down', { at: 1_000 }))
    it.server.report(push('up', { at: 2_000, continuous: true }))
    await settled(it)
    expect(it.notices()).toEqual([])
  })

  it.each([
    ['the server did not declare the channel', {}, { tools: {} }],
    ['it is switched off', { gapNotice: false, downAfterMs: 5 }, DECLARED],
  ])('is not sent when %s', async (_, options, capabilities) => {
    const it = open(options, capabilities)
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    it.server.report(push('down', { at: 1_000 }))
    await pause(15)
    await settled(it)
    expect(it.notices()).toEqual([])
    expect(it.server.sent.length).toBe(2)
  })

  it('says so when no tool catches up', async () => {
    const it = open({}, DECLARED, ['update_status', 'post_response'])
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    expect((await oneNotice(it)).content).toContain(
      'No tool of this server is known that shows what came in that time',
    )
  })

  it('never carries a secret in its reason', async () => {
    const it = open({ redact: (text) => text.replaceAll('chmd_1', '[redacted]') })
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000, 'GET https://x/?token=chmd_1\nfailed')
    const { content, meta } = await oneNotice(it)
    expect(meta.reason).toBe('GET https://x/?token=[redacted] failed')
    expect(content).not.toContain('chmd_1')
  })

  it('passes whatever --only says, and is held like any early event', async () => {
    const it = open({ holdMs: 60_000, only: parseFilter(['event_type=dm_chat'], '--only') })
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    const behind = it.server.say(channel('x', { event_type: 'dm_chat' }))
    await pause(5)
    expect(await pending(behind)).toBe(true)
    expect(it.events()).toEqual([])
    void it.send({ id: 5, method: METHOD.toolsCall }).catch(() => undefined)
    await behind
    expect(it.events().map(({ meta }) => meta.event_type)).toEqual(['channel_gap', 'dm_chat'])
  })
})

describe('the tools in a notice', () => {
  it('are asked for when the client never did, under an id of ours, and the answer goes no further', async () => {
    const it = open()
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    expect((await oneNotice(it)).content).toContain('chamade_inbox')
    const asked = it.server.sent.filter((m) => m.kind === 'request' && m.method === METHOD.toolsList)
    expect(asked.length).toBe(1)
    expect(it.client.delivered.filter(({ message }) => message.kind === 'response').length).toBe(1)
  })

  it('are asked for page by page', async () => {
    const pages: Record<string, string> = {
      undefined: '{"tools":[{"name":"say"}],"nextCursor":"2"}',
      2: '{"tools":[{"name":"get_recent_context"}]}',
    }
    const it = open({}, DECLARED, 'late')
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    for (const page of ['undefined', '2']) {
      const request = await eventually(`the request for page ${page}`, () =>
        it.server.sent.find(
          (m) =>
            m.kind === 'request' &&
            m.method === METHOD.toolsList &&
            String(JSON.parse(m.raw.toString()).params?.cursor) === page,
        ),
      )
      if (request.kind !== 'request') throw new Error('no request')
      await it.server.answer(request.id, pages[page] ?? '')
    }
    expect((await oneNotice(it)).content).toContain('call get_recent_context now')
  })

  it('are none that list what was set: a list counts only of calls', async () => {
    const it = open({}, DECLARED, ['list_subscriptions', 'subscribe', 'list_spaces', 'chamade_call_list'])
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    expect((await oneNotice(it)).content).toContain('call chamade_call_list now')
  })

  it('may be those of another server, if this one names it and has none', async () => {
    const hint = { 'io.chamade/catch-up': 'get_mentions of the other server' }
    const it = open({ downAfterMs: 15 }, DECLARED, 'late')
    await it.connect()
    const list = async (id: number, tools: readonly object[]): Promise<void> => {
      const asked = it.send({ id, method: METHOD.toolsList })
      await it.server.answer(String(id), JSON.stringify({ tools }))
      await asked
    }
    await list(1, [{ name: 'list_subscriptions', _meta: hint }])
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    expect((await oneNotice(it)).content).toMatch(
      /The tools of this server show no events\. .*call get_mentions of the other server now\.$/,
    )
    await list(2, [{ name: 'inbox', _meta: hint }])
    it.server.report(push('down'))
    const down = await eventually('the down notice', () => it.notices()[1])
    expect(down.content).toMatch(/call inbox from time to time\.$/)
  })

  it('are said to be none in a down notice too', async () => {
    const it = open({ downAfterMs: 15 }, DECLARED, ['list_subscriptions'])
    await it.connect()
    await it.send({ id: 1, method: METHOD.toolsList })
    it.server.report(push('up', { continuous: true }))
    it.server.report(push('down'))
    const { content } = await oneNotice(it)
    expect(content).toContain('no tool of this server is known that shows new events')
    expect(content).not.toContain('list_subscriptions')
  })

  it('are not waited for longer than allowed; a late answer is still swallowed and serves the next notice', async () => {
    const it = open({ toolsPatienceMs: 15, gapIntervalMs: 0 }, DECLARED, 'late')
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    const event = it.server.say(channel('waits behind'))
    await event
    expect(it.notices()[0]?.content).toContain('No tool of this server is known')
    expect(it.events().map(({ meta }) => meta.event_type)).toEqual(['channel_gap', undefined])
    const request = it.server.sent.at(-1)
    if (request?.kind !== 'request') throw new Error('tools were not asked for')
    await it.server.answer(request.id, '{"tools":[{"name":"chamade_inbox"}]}')
    expect(it.client.delivered.filter(({ message }) => message.kind === 'response').length).toBe(1)
    breakOnce(it, 3_000, 4_000)
    await settled(it)
    expect(it.notices()[1]?.content).toContain('chamade_inbox')
    expect(it.server.sent.at(-1)).toBe(request)
  })

  it('are not asked for when the server has none', async () => {
    const it = open({}, { experimental: { 'claude/channel': {} } })
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    await oneNotice(it)
    expect(it.server.sent.length).toBe(2)
  })

  it('come from the list the client saw last, all its pages', async () => {
    const it = open({}, DECLARED, 'late')
    await it.connect()
    const list = async (id: number, cursor: string | undefined, result: string): Promise<void> => {
      const asked = it.send({ id, method: METHOD.toolsList, params: cursor === undefined ? {} : { cursor } })
      await it.server.answer(String(id), result)
      await asked
    }
    await list(1, undefined, '{"tools":[{"name":"old_inbox"}]}')
    await list(2, undefined, '{"tools":[{"name":"call_status"}],"nextCursor":"n"}')
    await list(3, 'n', '{"tools":[{"name":"inbox"}]}')
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    expect((await oneNotice(it)).content).toContain('call inbox or call_status now')
    expect(it.client.delivered.filter(({ message }) => message.kind === 'response').length).toBe(4)
  })
})

describe('several breaks', () => {
  it('within the interval are told together at its end, the first at once', async () => {
    const it = open({ gapIntervalMs: 60 })
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000, 'one')
    breakOnce(it, 11_000, 12_000, 'two')
    breakOnce(it, 21_000, 24_000, 'three')
    breakOnce(it, 31_000, 32_000, 'two')
    await settled(it)
    expect(it.notices().map(({ meta }) => meta.breaks)).toEqual(['1'])
    const second = await eventually('the second notice', () => it.notices()[1])
    expect(second.meta).toMatchObject({
      from: '1970-01-01T00:00:11.000Z',
      to: '1970-01-01T00:00:32.000Z',
      duration_ms: '5000',
      breaks: '3',
      reason: 'two; three',
    })
    expect(second.content).toContain('3 breaks, 5 s in all')
  })

  it('after the interval start over', async () => {
    const it = open({ gapIntervalMs: 5 })
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    await pause(15)
    breakOnce(it, 3_000, 4_000)
    await settled(it)
    expect(it.notices().map(({ meta }) => meta.breaks)).toEqual(['1', '1'])
  })

  it('wait for a stream that is down when the interval ends', async () => {
    const it = open({ gapIntervalMs: 20 })
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    breakOnce(it, 3_000, 4_000)
    it.server.report(push('down', { at: 5_000 }))
    await pause(40)
    expect(it.notices().length).toBe(1)
    it.server.report(push('up', { at: 6_000, continuous: true }))
    await settled(it)
    expect(it.notices().map(({ meta }) => meta.breaks)).toEqual(['1', '1'])
  })

  it('are gathered stream by stream', async () => {
    const it = open({ gapIntervalMs: 60_000 })
    await it.connect()
    for (const stream of ['spc_1', 'spc_2']) {
      it.server.report(push('up', { stream, continuous: true }))
      it.server.report(push('down', { stream, at: 1_000 }))
      it.server.report(push('up', { stream, at: 2_000, continuous: false }))
    }
    await settled(it)
    expect(it.notices().map(({ meta }) => meta.stream)).toEqual(['spc_1', 'spc_2'])
    expect(it.notices()[0]?.content).toContain("this channel's stream spc_1")
    expect(it.client.statuses.at(-1)).toMatchObject({ kind: 'gap', stream: 'spc_2' })
  })
})

describe('the first stream', () => {
  it('that opens soon is no break, whatever is said of its continuity', async () => {
    const it = open()
    await it.connect()
    it.server.report(push('retrying', { reason: 'HTTP 503' }))
    it.server.report(push('up', { continuous: false, generation: 2 }))
    await settled(it)
    expect(it.notices()).toEqual([])
  })

  it('that opens late is one, from notifications/initialized on', async () => {
    const it = open({ lateFirstMs: 5_000 })
    const before = Date.now()
    await it.connect()
    it.server.report(push('retrying', { reason: 'HTTP 503' }))
    it.server.report(push('up', { at: before + 6_000, continuous: true }))
    const { meta } = await oneNotice(it)
    expect(Date.parse(meta.from ?? '')).toBeGreaterThanOrEqual(before)
    expect(Date.parse(meta.from ?? '')).toBeLessThan(before + 1_000)
    expect(meta.reason).toBe('the stream opened late: HTTP 503')
  })

  it('with a name, asked for later, is none; nor is one that was wanted no more in between', async () => {
    const it = open()
    await it.connect()
    const stream = 'spc_1'
    it.server.report(push('up', { stream, at: Date.now() + 60_000, continuous: true }))
    it.server.report(push('not-offered', { stream, reason: 'unsubscribed' }))
    it.server.report(push('up', { stream, at: Date.now() + 120_000, continuous: false }))
    await settled(it)
    expect(it.notices()).toEqual([])
  })

  it('with a name is late from when it was asked for, though its first failure came long after that', async () => {
    const it = open({ lateFirstMs: 5_000 })
    await it.connect()
    const at = Date.now() + 40_000
    it.server.report(push('retrying', { stream: 'spc_1', at: at - 1_000, reason: 'no answer' }))
    it.server.report(push('up', { stream: 'spc_1', at, continuous: true, awaitedMs: 31_000 }))
    expect((await oneNotice(it)).meta).toMatchObject({
      duration_ms: '31000',
      reason: 'the stream opened late: no answer',
    })
  })

  it('that the server does not offer is not missed, unless it was there', async () => {
    const it = open({ downAfterMs: 10 })
    await it.connect()
    it.server.report(push('not-offered', { reason: 'HTTP 405' }))
    await pause(25)
    await settled(it)
    expect(it.notices()).toEqual([])
    it.server.report(push('up', { continuous: true }))
    it.server.report(push('down', { at: 1_000, reason: 'cut' }))
    it.server.report(push('not-offered', { at: 1_500, reason: 'it answered without a stream' }))
    expect((await oneNotice(it)).meta.event_type).toBe('channel_down')
    it.server.report(push('up', { at: 2_000, continuous: false }))
    await settled(it)
    expect(it.notices()[1]?.meta).toMatchObject({ event_type: 'channel_gap', duration_ms: '1000' })
  })
})

describe('a stream from before the client started anew', () => {
  it('is told of like any other when it breaks', async () => {
    const it = open()
    await it.connect()
    it.server.report(push('up', { stream: 'spc_1', continuous: true }))
    await it.connect()
    it.server.report(push('down', { stream: 'spc_1', at: 1_000 }))
    it.server.report(push('up', { stream: 'spc_1', at: 2_000, continuous: false }))
    expect((await oneNotice(it)).meta).toMatchObject({ stream: 'spc_1', duration_ms: '1000' })
  })
})

describe('a down notice', () => {
  it('is sent once a break, when the stream has stayed away', async () => {
    const it = open({ downAfterMs: 15 })
    await it.connect()
    await it.send({ id: 1, method: METHOD.toolsList })
    it.server.report(push('up', { continuous: true }))
    it.server.report(push('down', { reason: 'the server ended it' }))
    for (let i = 0; i < 3; i++) it.server.report(push('retrying', { reason: 'connect ECONNREFUSED' }))
    const { content, meta } = await oneNotice(it)
    expect(meta).toMatchObject({ event_type: 'channel_down', reason: 'connect ECONNREFUSED' })
    expect(Number(meta.duration_ms)).toBeGreaterThanOrEqual(10)
    expect(content).toContain('call chamade_inbox or chamade_call_status from time to time')
    await pause(30)
    expect(it.notices().length).toBe(1)
  })

  it('never carries a secret in its reason, nor does the word that it is over', async () => {
    const it = open({ downAfterMs: 15, redact: (text) => text.replaceAll('chmd_1', '[redacted]') })
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    it.server.report(push('down', { reason: 'GET https://x/?token=chmd_1 failed' }))
    expect((await oneNotice(it)).meta.reason).toBe('GET https://x/?token=[redacted] failed')
    it.server.report(push('up', { continuous: true }))
    await eventually('the second', () => it.notices().length === 2)
    expect(JSON.stringify(it.notices())).not.toContain('chmd_1')
  })

  it('is followed by a gap notice at once, even within the interval', async () => {
    const it = open({ downAfterMs: 15, gapIntervalMs: 60_000 })
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    breakOnce(it, 3_000, 4_000)
    it.server.report(push('down', { at: 5_000 }))
    await eventually('the down notice', () => it.notices()[1])
    it.server.report(push('up', { at: 6_000, continuous: false }))
    await settled(it)
    expect(it.notices().map(({ meta }) => [meta.event_type, meta.breaks])).toEqual([
      ['channel_gap', '1'],
      ['channel_down', undefined],
      ['channel_gap', '2'],
    ])
  })

  it('is not sent for a break that ends before', async () => {
    const it = open({ downAfterMs: 25 })
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    it.server.report(push('down'))
    it.server.report(push('up', { continuous: true }))
    await pause(50)
    expect(it.notices()).toEqual([])
  })

  it('is sent for a first stream that never came', async () => {
    const it = open({ downAfterMs: 10 })
    await it.connect()
    it.server.report(push('retrying', { reason: 'HTTP 503' }))
    expect((await oneNotice(it)).meta).toMatchObject({ event_type: 'channel_down', reason: 'HTTP 503' })
  })

  it('counts from when a first stream is awaited, not from when the first attempt at it is given up', async () => {
    let uptime = 1_000
    const clock = { now: () => Date.now(), uptime: () => uptime }
    const late = open({ downAfterMs: 60_000, clock })
    const anew = open({ downAfterMs: 60_000, clock })
    await late.connect()
    await anew.connect()
    // There was said to be none: it is awaited only from when there is.
    anew.server.report(push('not-offered'))
    uptime += 59_990
    for (const one of [late, anew]) one.server.report(push('retrying', { reason: 'no answer' }))
    expect((await oneNotice(late)).meta.event_type).toBe('channel_down')
    await settled(anew)
    expect(anew.notices()).toEqual([])
  })
})

describe('the end of what was told to be down', () => {
  it('is told at once when nothing was missed, and claims no gap', async () => {
    const it = open({ downAfterMs: 15, gapIntervalMs: 60_000 })
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    it.server.report(push('down', { at: 1_000, reason: 'cut' }))
    it.server.report(push('retrying', { reason: 'connect ECONNREFUSED' }))
    await oneNotice(it)
    it.server.report(push('up', { at: 91_000, continuous: true }))
    await it.server.say(channel('first of the new stream'))
    const [, up, event] = it.events()
    expect(up?.meta).toEqual({
      event_type: 'channel_down',
      from: '1970-01-01T00:00:01.000Z',
      to: '1970-01-01T00:01:31.000Z',
      duration_ms: '90000',
      reason: 'connect ECONNREFUSED',
    })
    expect(up?.content).toMatch(/^It is up again: this channel was down .*Nothing was missed/)
    expect(event?.content).toBe('first of the new stream')
    expect(it.client.statuses.some(({ kind }) => kind === 'gap')).toBe(false)
    it.server.report(push('up', { at: 92_000, continuous: true }))
    await settled(it)
    expect(it.notices().length).toBe(2)
  })

  it('is told by the gap notice when something was', async () => {
    const it = open({ downAfterMs: 15 })
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    it.server.report(push('down', { at: 1_000, reason: 'cut' }))
    await oneNotice(it)
    it.server.report(push('up', { at: 2_000, continuous: false, reason: 'the place is forgotten' }))
    await settled(it)
    expect(it.notices().map(({ meta }) => meta.event_type)).toEqual(['channel_down', 'channel_gap'])
    expect(it.notices()[1]?.meta.reason).toBe('cut, and the place is forgotten')
  })
})

describe('an end', () => {
  it('tells nothing any more and leaves no timer', async () => {
    const it = open({ downAfterMs: 20, gapIntervalMs: 20, holdMs: 20 })
    await it.connect()
    // (The test runner has timers of its own.)
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
    const before = timers()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    breakOnce(it, 3_000, 4_000)
    it.server.report(push('down'))
    expect(timers()).toBeGreaterThan(before)
    await it.upstream.close(0)
    const told = it.notices().length
    expect(timers()).toBeLessThanOrEqual(before)
    await pause(40)
    expect(it.notices().length).toBe(told)
  })

  it('of one client leaves nothing to the next: it starts anew', async () => {
    const it = open({ downAfterMs: 15, gapIntervalMs: 15 })
    await it.connect()
    it.server.report(push('up', { continuous: true }))
    breakOnce(it, 1_000, 2_000)
    await settled(it)
    breakOnce(it, 3_000, 4_000)
    it.server.report(push('down'))
    await it.connect()
    it.server.report(push('up', { continuous: true, generation: 2 }))
    await pause(40)
    expect(it.notices().length).toBe(1)
  })
})

/** What the documentation leaves open about the tools, and what the seam promises about messages. */
import { describe, expect, test, vi } from 'vitest'
import { Interval } from '../../src/feed/interval.ts'
import { openFeed } from '../../src/feed/upstream.ts'
import { compose, parse } from '../../src/protocol.ts'
import { eventually, pause } from '../support/eventually.ts'
import { configFrom, connected, FeedClient, QUICK_BACKOFF, simulator } from './feed-client.ts'
import { front } from './front.ts'

const SPACE = 'sprint-planning'

describe('subscribing', () => {
  test('--auto-subscribe follows all active spaces at start, as the package does', async () => {
    const moot = await simulator()
    moot.space('second')
    await connected(moot, {}, { autoSubscribe: true })
    await eventually('both are followed', () => moot.sockets.count() === 2)
  })

  test('to all while the backend is away: it is kept, and done as soon as the backend is back', async () => {
    const moot = await simulator()
    await moot.stop()
    const client = await connected(moot, {}, { limits: { discoverMs: 60_000 } })
    const answer = await client.tool('subscribe')
    expect(answer.isError).toBe(true)
    expect(answer.text).toMatch(/Your spaces are not known yet.*ECONNREFUSED/)
    await moot.listen()
    await eventually('the space is followed', () => moot.sockets.count(SPACE) === 1)
  })

  test('what is said in a new space before it is discovered is told', async () => {
    const moot = await simulator()
    const client = await connected(moot, {}, { limits: { discoverMs: 300 } })
    await client.tool('subscribe')
    moot.publish('invited', { text: '@MyAgent welcome, please look at this' })
    await client.hears(1)
    expect(client.told[0]?.meta).toMatchObject({ space_id: 'invited', event_type: 'mention' })
    // What was there before it was looked for stays untold.
    const older = new Date(Date.now() - 60_000).toISOString()
    const space = moot.space('old-one')
    space.events.push({ ...moot.publish('old-one', { text: '@MyAgent long ago' }), timestamp: older })
    space.events.splice(0, 1)
    moot.publish('old-one', { text: '@MyAgent just now' })
    await client.hears(2)
    expect(client.contents[1]).toContain('just now')
  })

  test.each([
    ['for all while the backend is away', {}],
    ['for it, which is refused', { space_id: SPACE }],
  ])(
    'what was said in a space that was left is not told when it comes back, asked %s',
    async (_how, args) => {
      const moot = await simulator()
      const client = await connected(moot, {}, { limits: { discoverMs: 100 } })
      await client.tool('subscribe')
      moot.publish(SPACE, { text: '@MyAgent before' })
      await client.hears(1)
      await client.tool('unsubscribe', { space_id: SPACE })
      moot.publish(SPACE, { text: '@MyAgent meanwhile' })
      const refused = 'space_id' in args
      if (refused) moot.weather.failures.push({ path: '/join', status: 403, times: 1 })
      else await moot.stop()
      expect(await client.tool('subscribe', args)).toMatchObject({ isError: true })
      if (!refused) await moot.listen()
      await eventually('it is followed again', () => client.pushStatuses(SPACE).at(-1)?.state === 'up')
      moot.publish(SPACE, { text: '@MyAgent after' })
      await client.hears(2)
      expect(client.contents.map((content) => content.split('@MyAgent ').at(-1))).toEqual(['before', 'after'])
    },
  )

  test.each([
    ['for all again', {}],
    ['for that space', { space_id: 'invited' }],
  ])('what is said in a new space before the agent itself asks %s is told', async (_how, args) => {
    const moot = await simulator()
    const client = await connected(moot)
    await client.tool('subscribe')
    moot.publish('invited', { text: '@MyAgent welcome, please look at this' })
    await client.tool('subscribe', args)
    await client.hears(1)
    expect(client.told[0]?.meta).toMatchObject({ space_id: 'invited', event_type: 'mention' })
  })

  test('what is said in a space that the agent has left stays untold when it comes back', async () => {
    const moot = await simulator()
    const client = await connected(moot)
    await client.tool('subscribe')
    await client.tool('unsubscribe', { space_id: SPACE })
    moot.publish(SPACE, { text: '@MyAgent while you were out' })
    await client.tool('subscribe')
    moot.publish(SPACE, { text: '@MyAgent now' })
    await client.hears(1)
    expect(client.contents[0]).toContain('now')
  })

  test('a space the agent left is not brought back by discovery, but by its own word', async () => {
    const moot = await simulator()
    const client = await connected(moot, {}, { limits: { discoverMs: 20 } })
    await client.tool('unsubscribe', { space_id: SPACE })
    moot.space('other')
    await client.tool('subscribe', { space_id: 'other' })
    await client.tool('unsubscribe', { space_id: 'other' })
    await client.tool('subscribe')
    expect((await client.tool('list_subscriptions')).text).toBe(`- ${SPACE}\n- other`)
  })

  test('a space of many is not connected yet: the answer says which and why', async () => {
    const moot = await simulator()
    moot.space('broken')
    moot.weather.failures.push({ path: '/broken/events', status: 500, times: 1_000_000 })
    const client = await connected(moot, {}, { limits: { toolMs: 200 } })
    const answer = await client.tool('subscribe')
    expect(answer.text).toMatch(
      /^Subscribed to 2 new space\(s\)\. Total: 2 active subscriptions\.\n- broken is not connected yet: .*HTTP 500/,
    )
    expect((await client.tool('list_subscriptions')).text).toMatch(/- broken \(not connected: .*HTTP 500/)
    await client.tool('unsubscribe', { space_id: 'broken' })
  })

  test('twice at once opens one socket', async () => {
    const moot = await simulator()
    const client = await connected(moot)
    const answers = await Promise.all([1, 2, 3].map(() => client.tool('subscribe', { space_id: SPACE })))
    expect(answers.map(({ isError }) => isError)).toEqual([false, false, false])
    expect(moot.sockets.count(SPACE)).toBe(1)
    expect(moot.calls.filter(({ path }) => path.endsWith('/join'))).toHaveLength(1)
  })

  test('what waits for a slow client behind another space is not told once its own is unsubscribed', async () => {
    const moot = await simulator()
    moot.space('other')
    const client = await connected(moot)
    await client.tool('subscribe')
    let open = (): void => undefined
    client.gate = new Promise((resolve) => {
      open = resolve
    })
    moot.publish('other', { text: '@MyAgent first' })
    await eventually('it waits for the client', () => client.offered === 1)
    moot.publish(SPACE, { text: '@MyAgent too late' })
    await pause(50)
    await client.tool('unsubscribe', { space_id: SPACE })
    client.gate = undefined
    open()
    moot.publish('other', { text: '@MyAgent last' })
    await client.hears(2)
    expect(client.contents.map((content) => content.split(' ').at(-1))).toEqual(['first', 'last'])
  })

  test('a subscribe that waits ends when the space is unsubscribed', async () => {
    const moot = await simulator()
    moot.weather.hangHttp = true
    const client = await connected(moot)
    const waiting = client.tool('subscribe', { space_id: SPACE })
    await eventually('it is listed', async () =>
      (await client.tool('list_subscriptions')).text.includes(SPACE),
    )
    expect((await client.tool('unsubscribe', { space_id: SPACE })).text).toBe(`Unsubscribed from ${SPACE}`)
    expect(await waiting).toEqual({
      text: `Not subscribed to ${SPACE}: space ${SPACE} was unsubscribed meanwhile.`,
      isError: true,
    })
  })

  test('two calls for a space that is refused both say so', async () => {
    const moot = await simulator()
    const client = await connected(moot)
    const answers = await Promise.all([1, 2].map(() => client.tool('subscribe', { space_id: 'nowhere' })))
    for (const { text, isError } of answers) {
      expect(isError).toBe(true)
      expect(text).toMatch(/^Not subscribed to nowhere: .*HTTP 404/)
    }
  })

  test('ids that need escaping reach the backend whole', async () => {
    const moot = await simulator()
    const odd = 'räum%2F+&#1'.replace('#', '')
    moot.space(odd)
    const client = await connected(moot)
    expect((await client.tool('subscribe', { space_id: odd })).isError).toBe(false)
    moot.publish(odd, { text: '@MyAgent hi' })
    expect((await client.hears(1))[0]?.meta.space_id).toBe(odd)
  })
})

describe('an argument that means nothing is an error and changes nothing', () => {
  const meaningless: readonly (readonly [string, object, RegExp])[] = [
    ['unsubscribe', { spaceId: SPACE }, /unsubscribe has no argument "spaceId"; it takes space_id\./],
    ['unsubscribe', { space_id: '' }, /space_id must be the id of a space/],
    ['subscribe', { space: SPACE }, /subscribe has no argument "space"; it takes space_id\./],
    ['subscribe', { space_id: '' }, /space_id must be the id of a space.*Leave it out for all spaces/],
    ['list_subscriptions', { space_id: SPACE }, /has no argument "space_id"; it takes none/],
    ['clear_interval', { all: true }, /has no argument "all"; it takes none/],
    ['set_interval', { seconds: 60, prompt: 'x', times: 2 }, /"times"; it takes seconds and prompt/],
  ]
  for (const [tool, args, text] of meaningless) {
    test(`${tool} ${JSON.stringify(args)}`, async () => {
      const moot = await simulator()
      moot.space('other')
      const client = await connected(moot)
      await client.tool('subscribe', { space_id: SPACE })
      const answer = await client.tool(tool, args)
      expect(answer).toEqual({ isError: true, text: expect.stringMatching(text) })
      expect((await client.tool('list_subscriptions')).text).toBe(`- ${SPACE}`)
      expect((await client.tool('clear_interval')).text).toBe('No agent interval was set.')
    })
  }
})

describe('subscribe to all', () => {
  test('null is how some clients write that no space is named', async () => {
    const moot = await simulator()
    moot.space(SPACE)
    const client = await connected(moot)
    expect((await client.tool('subscribe', { space_id: null })).text).toMatch(/^Subscribed to 1 new space/)
    expect((await client.tool('unsubscribe', { space_id: null })).text).toBe('Unsubscribed from 1 space(s).')
  })

  test('again says which of them get nothing, and tries them now', async () => {
    const moot = await simulator()
    const closed = moot.space('closed')
    closed.participants.delete(moot.agent.actor_id)
    const url = await front(moot, (_method, { pathname }) => {
      const body = [SPACE, 'closed'].map((space_id) => ({ space_id, status: 'active' }))
      return pathname === '/api/actors/me/spaces' ? { body } : undefined
    })
    const backoff = { ...QUICK_BACKOFF, slowCapMs: 3_600_000 }
    const client = await connected(moot, { CONVO_API_URL: url }, { backoff })
    await client.tool('subscribe')
    const again = await client.tool('subscribe')
    expect(again.text).toMatch(
      /^No new spaces\. Of your 2 subscriptions 1 gets nothing at the moment:\n- closed is not connected yet: .*HTTP 403/,
    )
    expect(again.isError).toBe(false)
    moot.store.join(closed, moot.agent, null)
    expect(await client.tool('subscribe')).toEqual({
      text: 'Already subscribed to all 2 spaces.',
      isError: false,
    })
  })

  test('is a tool error when none of them gets anything', async () => {
    const moot = await simulator()
    moot.weather.handshakeStatus = 403
    const client = await connected(moot)
    for (let i = 0; i < 2; i++) expect((await client.tool('subscribe')).isError).toBe(true)
  })

  test('answers in time though the backend never does', async () => {
    const moot = await simulator()
    moot.weather.hangHttp = true
    const client = await connected(moot, {}, { limits: { toolMs: 150, httpMs: 60_000 } })
    const began = performance.now()
    const answer = await client.tool('subscribe')
    expect(performance.now() - began).toBeLessThan(1_500)
    expect(answer).toEqual({
      text: 'Your spaces are not known yet: moot did not list the spaces of this agent within 150 ms. They keep being looked for, and are subscribed as soon as they are found.',
      isError: true,
    })
  })

  test('and nothing again, while the list is waited for, leaves nothing', async () => {
    const moot = await simulator()
    moot.weather.hangPath = '/me/spaces'
    const client = await connected(moot, {}, { limits: { toolMs: 300, discoverMs: 20 } })
    const asked = client.tool('subscribe')
    await eventually('it is asked', () => moot.calls.some(({ path }) => path.includes('/me/spaces')))
    await client.tool('unsubscribe')
    moot.weather.hangPath = undefined
    await asked
    await pause(60)
    expect((await client.tool('list_subscriptions')).text).toBe('No active subscriptions')
  })
})

describe('a subscribe that is cancelled', () => {
  function call(client: FeedClient, id: number, args: object): Promise<void> {
    const params = { name: 'subscribe', arguments: args }
    return client.upstream.send(compose({ jsonrpc: '2.0', id, method: 'tools/call', params }))
  }

  function cancel(client: FeedClient, requestId: number): Promise<void> {
    const params = { requestId }
    return client.upstream.send(compose({ jsonrpc: '2.0', method: 'notifications/cancelled', params }))
  }

  async function listed(client: FeedClient): Promise<string> {
    return (await client.tool('list_subscriptions')).text
  }

  for (const args of [{ space_id: SPACE }, {}]) {
    test(`is undone: ${JSON.stringify(args)}`, async () => {
      const moot = await simulator()
      moot.weather.hangPath = '/events'
      const client = await connected(moot, {}, { limits: { discoverMs: 20 } })
      const sent = call(client, 77, args)
      await eventually('it is underway', async () => (await listed(client)).includes(SPACE))
      await cancel(client, 77)
      await sent
      await eventually('it is undone', async () => (await listed(client)) === 'No active subscriptions')
      moot.weather.hangPath = undefined
      await pause(60)
      expect(moot.sockets.count()).toBe(0)
      expect(await listed(client)).toBe('No active subscriptions')
    })
  }

  test('stays when another call waits for it, and goes with the last', async () => {
    const moot = await simulator()
    moot.weather.hangPath = '/events'
    const client = await connected(moot)
    const sent = [
      call(client, 77, { space_id: SPACE }),
      call(client, 78, {}),
      call(client, 79, { space_id: SPACE }),
    ]
    await eventually('the list is there', () => moot.calls.some(({ path }) => path.includes('/me/spaces')))
    for (const id of [77, 78]) {
      await cancel(client, id)
      await pause(10)
      expect(await listed(client)).toContain(SPACE)
    }
    await cancel(client, 79)
    await Promise.all(sent)
    await eventually('it is undone', async () => (await listed(client)) === 'No active subscriptions')
  })

  test('of a space that was left leaves it so, whatever discovery looks at meanwhile', async () => {
    const moot = await simulator()
    const client = await connected(moot, {}, { limits: { discoverMs: 20 } })
    await client.tool('subscribe')
    await client.tool('unsubscribe', { space_id: SPACE })
    moot.weather.hangPath = '/join'
    const lists = (): number => moot.calls.filter(({ path }) => path.includes('/me/spaces')).length
    const before = lists()
    const sent = [77, 78].map((id) => call(client, id, { space_id: SPACE }))
    await eventually('it was looked for', () => lists() > before + 2)
    for (const id of [77, 78]) await cancel(client, id)
    await Promise.all(sent)
    moot.weather.hangPath = undefined
    const after = lists()
    await eventually('it was looked for again', () => lists() > after + 2)
    expect(await listed(client)).toBe('No active subscriptions')
  })

  test('stays when another call found it live meanwhile', async () => {
    const moot = await simulator()
    moot.space('slow')
    moot.weather.hangPath = '/slow/events'
    const client = await connected(moot)
    const sent = call(client, 77, {})
    await eventually('one is live', async () => (await listed(client)).startsWith(`- ${SPACE}\n- slow (`))
    expect((await client.tool('subscribe', { space_id: SPACE })).text).toBe(`Already subscribed to ${SPACE}`)
    await cancel(client, 77)
    await sent
    await eventually('the other is undone', async () => (await listed(client)) === `- ${SPACE}`)
  })

  test('stays when it was asked for before, by a call or at the start', async () => {
    const moot = await simulator()
    moot.space('other')
    moot.weather.hangPath = '/events'
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE }, { limits: { toolMs: 30 } })
    expect((await client.tool('subscribe', { space_id: 'other' })).isError).toBe(true)
    const sent = [SPACE, 'other'].map((space_id, i) => call(client, 77 + i, { space_id }))
    for (const id of [77, 78]) await cancel(client, id)
    await Promise.all(sent)
    await pause(10)
    expect(await listed(client)).toMatch(new RegExp(`^- ${SPACE} .*\\n- other `))
  })
})

test('a subscribe that waits when all ends is told so', async () => {
  for (const args of [{ space_id: SPACE }, {}]) {
    const moot = await simulator()
    moot.weather.hangPath = '/events'
    const client = await connected(moot)
    const waiting = client.tool('subscribe', args)
    await eventually('it is underway', () => moot.calls.some(({ path }) => path.includes('/events')))
    await client.upstream.close(1_000)
    const answer = await waiting
    expect(answer.text).toMatch(/^Not subscribed.*: the bridge is shutting down\.$/)
    expect(answer.isError).toBe(true)
  }
})

describe('set_interval', () => {
  const wrong: readonly (readonly [string, object, RegExp])[] = [
    ['too short', { seconds: 59, prompt: 'x' }, /at least 60/],
    ['no number', { seconds: '60', prompt: 'x' }, /finite number/],
    ['no prompt', { seconds: 60 }, /prompt must be/],
    ['an empty prompt', { seconds: 60, prompt: '' }, /prompt must be/],
    ['a prompt too long', { seconds: 60, prompt: 'x'.repeat(4_097) }, /1 to 4096/],
    ['a prompt of too many pairs', { seconds: 60, prompt: '🚀'.repeat(4_097) }, /1 to 4096/],
  ]
  for (const [what, args, text] of wrong) {
    test(`refuses ${what}`, async () => {
      const client = await connected(await simulator())
      expect(await client.tool('set_interval', args)).toMatchObject({
        isError: true,
        text: expect.stringMatching(text),
      })
      expect((await client.tool('clear_interval')).text).toBe('No agent interval was set.')
    })
  }

  test('counts characters, not halves of them', async () => {
    const client = await connected(await simulator())
    const answer = await client.tool('set_interval', { seconds: 60, prompt: '🚀'.repeat(4_096) })
    expect(answer.isError).toBe(false)
  })

  test('answers in the words of the package, and is cleared', async () => {
    const client = await connected(await simulator())
    expect((await client.tool('set_interval', { seconds: 90.5, prompt: 'x' })).text).toBe(
      'Agent interval set for every 90.5 seconds.',
    )
    expect((await client.tool('clear_interval')).text).toBe('Agent interval cleared.')
    expect((await client.tool('clear_interval')).text).toBe('No agent interval was set.')
  })

  test('the prompt comes every so many seconds; a new one replaces it; it waits for the client', async () => {
    const prompts: string[] = []
    let open = (): void => undefined
    let gate: Promise<void> | undefined
    vi.useFakeTimers()
    // (A timer speaks a turn after it is due.)
    const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms + 10)
    try {
      const interval = new Interval(async (prompt) => {
        await gate
        prompts.push(prompt)
      })
      interval.set(60, 'first')
      await pass(120_000)
      expect(prompts).toEqual(['first', 'first'])
      interval.set(100, 'second')
      await pass(100_000)
      expect(prompts).toEqual(['first', 'first', 'second'])
      gate = new Promise((resolve) => {
        open = resolve
      })
      await pass(1_000_000)
      expect(prompts).toHaveLength(3)
      gate = undefined
      open()
      await pass(100_000)
      expect(prompts).toHaveLength(5)
      interval.clear()
      await pass(1_000_000)
      expect(prompts).toHaveLength(5)
      interval.set(4_000_000, 'long')
      await pass(3_999_999_000)
      expect(prompts).toHaveLength(5)
      await pass(1_000)
      expect(prompts).toHaveLength(6)
      interval.clear()
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('the seam', () => {
  test('ids come back byte for byte', async () => {
    const moot = await simulator()
    const got: string[] = []
    const config = configFrom({ CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key })
    const upstream = openFeed(config)({
      deliver: async (message) => {
        if (message.kind === 'response') got.push(message.id ?? 'null')
      },
      report: () => undefined,
    })
    const ids = ['0', '"0"', '12345678901234567890', '1.0', '"\\u00e9"', '-1']
    for (const id of ids) {
      const [message] = parse(Buffer.from(`{"jsonrpc":"2.0","id":${id},"method":"ping"}`))
      if (message === undefined || message.kind === 'malformed') throw new Error('no message')
      await upstream.send(message)
    }
    expect(got).toEqual(ids)
    await upstream.close(100)
  })

  test('a tool call without a handshake works: a client that was here before does that', async () => {
    const moot = await simulator()
    const client = new FeedClient(
      configFrom({ CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key, CONVO_SPACE_ID: SPACE }),
    )
    expect((await client.tool('list_subscriptions')).isError).toBe(false)
    await eventually('the space is followed', () => moot.sockets.count(SPACE) === 1)
  })

  test('a second initialize leaves the subscriptions as they are', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await eventually('the space is followed', () => moot.sockets.count(SPACE) === 1)
    await client.initialize()
    moot.publish(SPACE, { text: '@MyAgent still there?' })
    await client.hears(1)
    expect(moot.sockets.count()).toBe(1)
  })

  test('a cancelled call settles without an answer, and the next one works', async () => {
    const moot = await simulator()
    moot.weather.hangHttp = true
    const client = await connected(moot)
    const sent = client.upstream.send(
      compose({ jsonrpc: '2.0', id: 77, method: 'tools/call', params: { name: 'subscribe', arguments: {} } }),
    )
    let settled = false
    const watched = sent.then(() => {
      settled = true
    })
    await pause(30)
    expect(settled).toBe(false)
    await client.upstream.send(
      compose({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 77 } }),
    )
    await watched
    expect((await client.tool('clear_interval')).text).toBe('No agent interval was set.')
  })

  test('an unknown method is -32601, an unknown notification nothing', async () => {
    const client = await connected(await simulator())
    expect(await client.request('resources/list')).toMatchObject({ code: -32601 })
    await client.upstream.send(
      compose({ jsonrpc: '2.0', method: 'notifications/claude/channel/permission_request' }),
    )
    expect(await client.request('ping')).toEqual({})
  })

  test('two events of two spaces are delivered one after the other', async () => {
    const moot = await simulator()
    moot.space('b')
    const client = await connected(moot)
    await client.tool('subscribe')
    let most = 0
    let now = 0
    const told = client.told.push.bind(client.told)
    client.told.push = (event) => {
      now--
      return told(event)
    }
    Object.defineProperty(client, 'gate', {
      get: () => {
        most = Math.max(most, ++now)
        return pause(2)
      },
    })
    for (let i = 0; i < 10; i++) {
      moot.publish(SPACE, { text: `@MyAgent ${i}` })
      moot.publish('b', { text: `@MyAgent ${i}` })
    }
    await client.hears(20)
    expect(most).toBe(1)
  })
})

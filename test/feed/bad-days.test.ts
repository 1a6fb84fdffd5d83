/**
 * Everything a backend can do to its adapter. After each the process lives, somebody was told why, and what was
 * told holds no key.
 */
import { randomBytes } from 'node:crypto'
import net, { createServer } from 'node:net'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { eventually, pause } from '../support/eventually.ts'
import {
  configFrom,
  connected,
  FeedClient,
  QUICK_BACKOFF,
  type Simulator,
  simulator,
  takesNothing,
} from './feed-client.ts'
import { front } from './front.ts'

const SPACE = 'sprint-planning'

/** A mention arrives: the feed is alive and well. */
async function isWell(moot: Simulator, client: FeedClient, text = 'are you well?'): Promise<void> {
  await eventually('the space is followed', () => moot.sockets.count(SPACE) === 1)
  await eventually('the stream is up', () => client.pushStatuses(SPACE).at(-1)?.state === 'up')
  moot.publish(SPACE, { text: `@MyAgent ${text}` })
  await eventually('it is told', () => client.contents.some((content) => content.endsWith(text)))
  expect(`${client.log}${JSON.stringify(client.statuses)}`).not.toContain(moot.key)
}

/** After how long each attempt that failed is followed by another, ms. */
function retries(client: FeedClient): number[] {
  return client.pushStatuses(SPACE).flatMap(({ delayMs }) => delayMs ?? [])
}

describe('a tool call is refused with a clear sentence when', () => {
  const refusals: readonly (readonly [string, (moot: Simulator) => void, RegExp])[] = [
    [
      'the key is wrong (401)',
      (moot) => {
        moot.weather.badKeys = true
      },
      /Not subscribed to sprint-planning: .*HTTP 401: Authentication required.*CONVO_API_KEY/,
    ],
    [
      'the tenant is suspended (403)',
      (moot) => {
        moot.weather.suspended = true
      },
      /HTTP 403: Tenant is suspended.*suspended/,
    ],
    [
      'there is no such space (404)',
      (moot) => {
        moot.store.spaces.delete(SPACE)
      },
      /refused to join space sprint-planning \(HTTP 404: Space not found\).*check the space id/,
    ],
    [
      'the handshake is refused (403)',
      (moot) => {
        moot.weather.handshakeStatus = 403
      },
      /refused to follow space sprint-planning \(HTTP 403\)/,
    ],
    [
      'the API redirects (302)',
      (moot) => moot.weather.failures.push({ path: '/join', status: 302, times: 99 }),
      /HTTP 302.*CONVO_API_URL/,
    ],
    [
      'what answers is no moot',
      (moot) => moot.weather.failures.push({ path: '/actors/me', status: 200, times: 99 }),
      /can't be read.*may not be a moot backend/,
    ],
  ]
  for (const [what, spoil, text] of refusals) {
    test(what, async () => {
      const moot = await simulator()
      spoil(moot)
      const client = await connected(moot)
      const answer = await client.tool('subscribe', { space_id: SPACE })
      expect(answer.isError).toBe(true)
      expect(answer.text).toMatch(text)
      expect(answer.text).not.toContain(moot.key)
      // Refused is not kept, and the next attempt stands on its own.
      expect((await client.tool('list_subscriptions')).text).toBe('No active subscriptions')
      Object.assign(moot.weather, {
        badKeys: false,
        suspended: false,
        handshakeStatus: undefined,
        failures: [],
      })
      moot.store.setStatus(moot.space(SPACE), 'active')
      expect((await client.tool('subscribe', { space_id: SPACE })).isError).toBe(false)
      await isWell(moot, client)
    })
  }

  test('space_id leads elsewhere', async () => {
    const moot = await simulator()
    const client = await connected(moot)
    for (const space_id of ['..', '.', 'a/b', 'a?b', 'a b', 'x'.repeat(201), {}]) {
      const answer = await client.tool('subscribe', { space_id })
      expect(answer).toMatchObject({ isError: true, text: expect.stringContaining('space_id must be') })
    }
    expect(moot.calls.filter(({ path }) => path !== '/api/actors/me')).toEqual([])
  })

  test('the tool is unknown', async () => {
    const client = await connected(await simulator())
    expect(await client.tool('join_space')).toEqual({ text: 'Unknown tool: join_space', isError: true })
  })
})

describe('a subscription is kept, and heals by itself, when', () => {
  test('nothing listens at the address', async () => {
    const moot = await simulator()
    await moot.stop()
    const client = await connected(moot)
    const answer = await client.tool('subscribe', { space_id: SPACE })
    expect(answer.isError).toBe(true)
    expect(answer.text).toMatch(/ECONNREFUSED.*The subscription is kept/s)
    await moot.listen()
    await isWell(moot, client)
  })

  test('the backend never answers, and the tool call says so in time', async () => {
    const moot = await simulator()
    moot.weather.hangHttp = true
    const client = await connected(moot, {}, { limits: { toolMs: 100, httpMs: 300 } })
    const answer = await client.tool('subscribe', { space_id: SPACE })
    expect(answer).toMatchObject({ isError: true, text: expect.stringContaining('after 100 ms') })
    moot.weather.hangHttp = false
    await isWell(moot, client)
  })

  test('the handshake is never answered', async () => {
    const moot = await simulator()
    moot.weather.hangHandshakes = true
    const client = await connected(moot, {}, { limits: { handshakeMs: 100 } })
    const answer = await client.tool('subscribe', { space_id: SPACE })
    expect(answer.text).toMatch(/no answer to the handshake within 100 ms.*kept/s)
    moot.weather.hangHandshakes = false
    await isWell(moot, client)
  })

  for (const path of ['/actors/me', '/join', '/events']) {
    test(`${path} answers 503 for a while`, async () => {
      const moot = await simulator()
      moot.weather.failures.push({ path, status: 503, times: 3 })
      const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
      await isWell(moot, client)
    })
  }

  for (const status of [408, 425]) {
    for (const path of ['/actors/me', '/join', 'the handshake']) {
      test(`${path} answers ${status} once, which is about the moment alone`, async () => {
        const moot = await simulator()
        if (path === 'the handshake')
          Object.assign(moot.weather, { handshakeStatus: status, handshakeTimes: 1 })
        else moot.weather.failures.push({ path, status, times: path === '/join' ? 1 : 2 })
        const client = await connected(moot)
        expect((await client.tool('subscribe', { space_id: SPACE })).text).toMatch(/is tried again.*is kept/)
        await isWell(moot, client)
      })
    }
  }

  test('it is asked to wait by Retry-After, and waits', async () => {
    const moot = await simulator()
    moot.weather.failures.push({ path: '/join', status: 429, times: 1, retryAfterS: 0.2 })
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await isWell(moot, client)
    const joins = moot.calls.filter(({ path }) => path.endsWith('/join'))
    expect(joins).toHaveLength(2)
    expect((joins[1]?.at ?? 0) - (joins[0]?.at ?? 0)).toBeGreaterThanOrEqual(190)
  })

  test('it is asked to wait by the Retry-After of a handshake, and waits', async () => {
    const moot = await simulator()
    Object.assign(moot.weather, { handshakeStatus: 503, handshakeTimes: 1, handshakeRetryAfterS: 0.2 })
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await isWell(moot, client)
    const waits = client.pushStatuses(SPACE).filter(({ state }) => state === 'retrying')
    expect(waits.map(({ delayMs }) => delayMs)).toEqual([200])
  })

  test('the space set at start does not exist yet', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: 'later' })
    await eventually('it is said', () => /feed of space later failed.*404/.test(client.log))
    moot.space('later')
    await eventually('it is followed', () => moot.sockets.count('later') === 1)
  })

  test('a proxy says 404 in the middle of a redeploy: it is not taken at its word at once', async () => {
    const moot = await simulator()
    const backoff = { ...QUICK_BACKOFF, slowCapMs: 3_600_000 }
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE }, { backoff })
    await isWell(moot, client)
    Object.assign(moot.weather, { handshakeStatus: 404, handshakeTimes: 3 })
    moot.sockets.drop('cut')
    await eventually(
      'three were refused',
      () => client.pushStatuses(SPACE).filter(({ severe }) => severe).length === 3,
    )
    await isWell(moot, client, 'again?')
  })

  test('it was fine for long: it is looked for as often as ever', async () => {
    const moot = await simulator()
    const backoff = { ...QUICK_BACKOFF, baseMs: 40, slowAfterMs: 600, slowCapMs: 60_000, stableAfterMs: 50 }
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE }, { backoff, random: () => 1 })
    await isWell(moot, client)
    await pause(650)
    await moot.stop()
    await eventually('some attempts', () => retries(client).length >= 3)
    expect(Math.max(...retries(client))).toBeLessThanOrEqual(QUICK_BACKOFF.capMs)
    await moot.listen()
    await isWell(moot, client, 'and now?')
  })

  test('the key is refused for a while after it was fine', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await isWell(moot, client)
    moot.weather.badKeys = true
    moot.sockets.drop('cut')
    await eventually('it is said', () => /still down.*401/.test(client.log))
    moot.publish(SPACE, { text: '@MyAgent meanwhile' })
    moot.weather.badKeys = false
    await isWell(moot, client, 'again?')
    expect(client.contents.filter((content) => content.endsWith('meanwhile'))).toHaveLength(1)
  })

  for (const [code, what] of [
    [4401, 'a bad token'],
    [4403, 'no participant'],
    [4404, 'no space'],
    [1008, 'a policy'],
    [1000, 'nothing at all'],
    [1012, 'a restart'],
  ] as const) {
    test(`the server closes with ${code}, ${what}`, async () => {
      const moot = await simulator()
      const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
      await isWell(moot, client)
      moot.sockets.drop({ code, reason: 'because' })
      await eventually('it is said', () => client.log.includes(`code ${code}: because`))
      await isWell(moot, client, 'again?')
      expect(client.statuses.some((status) => status.kind === 'failed')).toBe(code > 4000 || code === 1008)
    })
  }

  for (const compress of [false, true]) {
    test(`the server closes, and nobody hangs up${compress ? '; the last message is compressed' : ''}`, async () => {
      const moot = await simulator({ compress })
      const url = await front(moot, () => undefined, true)
      const client = await connected(moot, { CONVO_API_URL: url, CONVO_SPACE_ID: SPACE })
      await isWell(moot, client)
      moot.publish(SPACE, { text: '@MyAgent the last' })
      moot.sockets.drop({ code: 1012, reason: 'because' })
      await eventually('it is said', () => client.log.includes('code 1012: because'))
      await isWell(moot, client, 'again?')
    })
  }

  test('the server accepts every socket and closes it with 4401', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await isWell(moot, client)
    moot.weather.refuseBy = 'close'
    moot.space(SPACE).participants.delete(moot.agent.actor_id)
    moot.sockets.drop('cut')
    await eventually('it is said', () => /code 4403/.test(client.log))
    moot.store.join(moot.space(SPACE), moot.agent, null)
    await isWell(moot, client, 'again?')
  })

  test('the other side speaks no HTTP at all', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined)
      socket.end('SSH-2.0-OpenSSH_9.9\r\n')
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const client = new FeedClient(
      configFrom({ CONVO_API_URL: `http://127.0.0.1:${port}`, CONVO_API_KEY: 'convo_k' }),
    )
    await client.initialize()
    const answer = await client.tool('subscribe', { space_id: SPACE })
    expect(answer.isError).toBe(true)
    expect(answer.text).toContain('could not say whose key this is')
    expect((await client.tool('list_subscriptions')).isError).toBe(false)
  })
})

describe('what a backend declines costs no subscription:', () => {
  for (const status of [400, 404, 405, 406, 409, 410, 422, 451]) {
    test(`the history, with ${status}`, async () => {
      const moot = await simulator()
      moot.weather.failures.push({ path: '/events', status, times: Number.POSITIVE_INFINITY })
      const client = await connected(moot)
      expect((await client.tool('subscribe', { space_id: SPACE })).isError).toBe(false)
      await isWell(moot, client)
      expect(client.log).toContain("breaks can't be filled")
      moot.sockets.drop('cut')
      await eventually('it is down', () => client.pushStatuses(SPACE).some(({ state }) => state === 'down'))
      await isWell(moot, client, 'again?')
    })
  }

  for (const status of [400, 405, 409, 422]) {
    test(`the join, with ${status}`, async () => {
      const moot = await simulator()
      moot.weather.failures.push({ path: '/join', status, times: Number.POSITIVE_INFINITY })
      const client = await connected(moot)
      expect((await client.tool('subscribe', { space_id: SPACE })).isError).toBe(false)
      await isWell(moot, client)
      moot.sockets.drop('cut')
      await eventually('it is down', () => client.pushStatuses(SPACE).some(({ state }) => state === 'down'))
      await isWell(moot, client, 'again?')
      const notes = client.log.match(/followed all the same: .*/g)
      expect(notes).toEqual([expect.stringContaining(`refused to join space ${SPACE} (HTTP ${status}`)])
    })
  }

  test.each(['500', 'hanging'])(
    'the join that fails each time (%s): followed, and joined when it is possible',
    async (how) => {
      const moot = await simulator()
      if (how === 'hanging') moot.weather.hangPath = '/join'
      else moot.weather.failures.push({ path: '/join', status: 500, times: 20 })
      const client = await connected(moot, {}, { limits: { toolMs: 500 } })
      await client.tool('subscribe', { space_id: SPACE })
      await isWell(moot, client)
      expect(client.log).toMatch(/followed all the same: moot could not join space/)
      const joins = (): number => moot.calls.filter(({ path }) => path.endsWith('/join')).length
      const tried = joins()
      moot.weather.hangPath = undefined
      moot.weather.failures = []
      await eventually('it is joined', () => joins() > tried)
      await pause(150)
      expect(joins()).toBe(tried + 1)
    },
  )

  test('the join of an archived space: the agent is told that it is', async () => {
    const moot = await simulator()
    moot.store.setStatus(moot.space(SPACE), 'archived')
    const client = await connected(moot)
    expect((await client.tool('subscribe', { space_id: SPACE })).isError).toBe(false)
    const [told] = await client.hears(1)
    expect(told?.meta).toMatchObject({ event_type: 'status_change', status: 'archived' })
  })
})

describe('what a server says of a refusal is one line without control characters', () => {
  const said = 'go\n- away\u001b[2J\u0007'

  test('as the reason of a close', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await isWell(moot, client)
    moot.weather.hangHandshakes = true
    moot.sockets.drop({ code: 4000, reason: said })
    await eventually('it is down', () => client.pushStatuses(SPACE).at(-1)?.state === 'down')
    const { text } = await client.tool('list_subscriptions')
    expect(text).toBe(`- ${SPACE} (not connected: the server closed it (code 4000: go - away [2J))`)
  })

  test.each([
    ['its detail', JSON.stringify({ detail: said }), 403, 'HTTP 403: go - away [2J)'],
    ['an answer that is no JSON', said, 200, "can't be read"],
  ])('as %s', async (_, body, status, text) => {
    const url = await front(await simulator(), (_method, { pathname }) =>
      pathname.endsWith('/me') ? { status, body } : undefined,
    )
    const client = await connected(await simulator(), { CONVO_API_URL: url })
    const answer = await client.tool('subscribe', { space_id: SPACE })
    expect(answer.text).toContain(text)
    expect(answer.text).not.toMatch(/\p{Cc}/u)
  })
})

test('the status of another space is not told as that of this one', async () => {
  for (const env of [{}, { shared: true }]) {
    const moot = await simulator()
    const channel = 'shared' in env ? { CONVO_CHANNEL_URL: moot.channelUrl } : {}
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE, ...channel })
    await isWell(moot, client)
    const data = { space_id: 'zeta', status: 'archived' }
    moot.sockets.raw(SPACE, JSON.stringify({ type: 'space_update', data }))
    moot.sockets.raw(SPACE, JSON.stringify({ type: 'space_update', space_id: SPACE, data }))
    await isWell(moot, client, 'and now?')
    expect(client.contents.filter((content) => content.includes('archived'))).toEqual([])
    expect(client.log).toContain(`dropped a status of space "zeta": it came on the stream of space ${SPACE}`)
  }
})

describe('frames that are none', () => {
  const odd: readonly (readonly [string, string | Buffer, boolean])[] = [
    ['no JSON', '{"type":"context_event","data":', true],
    ['a JSON list', '[]', true],
    ['null', 'null', true],
    ['no type', '{"data":{}}', true],
    ['an event that is no object', '{"type":"context_event","data":"x"}', true],
    ['an event without data', '{"type":"context_event"}', true],
    ['an empty text', '', true],
    ['an unknown type', '{"type":"fireworks","data":{}}', false],
    ['a participant update', '{"type":"participant_update","data":{"space_id":"sprint-planning"}}', false],
    ['a status that is none', '{"type":"space_update","data":{"status":7}}', false],
    ['bytes instead of text', Buffer.from('{"type":"fireworks"}'), false],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x00]), true],
  ]
  for (const [what, frame, dropped] of odd) {
    test(`${what}: ${dropped ? 'said in the log' : 'ignored'}, and the socket stays`, async () => {
      const moot = await simulator()
      const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
      await isWell(moot, client)
      moot.sockets.raw(SPACE, frame)
      await isWell(moot, client, 'and now?')
      expect(client.statuses.filter(({ kind }) => kind === 'dropped')).toHaveLength(dropped ? 1 : 0)
      expect(client.pushStatuses(SPACE).map(({ state }) => state)).toEqual(['up'])
    })
  }

  test('an event with fields of wrong types is told as well as it can be', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await isWell(moot, client)
    const data = { event_id: 17, speaker_id: null, text: '@MyAgent odd', metadata: [1], thread_id: {} }
    moot.sockets.raw(SPACE, JSON.stringify({ type: 'context_event', data }))
    await client.hears(2)
    expect(client.told[1]).toEqual({
      content: '@MyAgent mentioned by ?:\n@MyAgent odd',
      meta: { source: 'convo-channel', space_id: SPACE, event_type: 'mention', event_id: '17' },
    })
  })
})

describe('too much', () => {
  test('a frame of 10 MB is told, cut to the length of a notification', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await isWell(moot, client)
    moot.publish(SPACE, { text: `@MyAgent ${'x'.repeat(10 * 1024 * 1024)}` })
    const told = (await client.hears(2))[1]
    expect(told?.content).toHaveLength('@MyAgent mentioned by Alice:\n'.length + 2_000 + 48)
    expect(told?.content.endsWith('... [truncated, use get_recent_context for full]')).toBe(true)
    expect(client.pushStatuses(SPACE)).toHaveLength(1)
  })

  test('compressed frames arrive whole and in order, small and large', async () => {
    const moot = await simulator({ compress: true })
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await isWell(moot, client)
    for (let i = 0; i < 1_000; i++) moot.publish(SPACE, { text: `@MyAgent ${i} ${'z'.repeat(i * 50)}` })
    await client.hears(1_001, 20_000)
    const numbers = client.contents
      .slice(1)
      .map((content) => Number(/@MyAgent (\d+) /.exec(content.split('\n')[1] ?? '')?.[1]))
    expect(numbers).toEqual(numbers.map((_, i) => i))
    expect(client.pushStatuses(SPACE)).toHaveLength(1)
  })

  test('a frame beyond the limit costs the connection, not the event: it is fetched', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE }, { limits: { maxFrameBytes: 64 * 1024 } })
    await isWell(moot, client)
    moot.publish(SPACE, { text: `@MyAgent ${'x'.repeat(100_000)}` })
    await client.hears(2)
    expect(client.log).toMatch(/down: lost, or a frame was refused/)
    await isWell(moot, client, 'and now?')
    expect(client.told).toHaveLength(3)
  })

  test('a flood of 20,000 events arrives whole and in order', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await isWell(moot, client)
    for (let i = 0; i < 20_000; i++) moot.publish(SPACE, { text: `@MyAgent ${i}` })
    await client.hears(20_001, 20_000)
    const numbers = client.contents.slice(1).map((content) => Number(content.split('@MyAgent ').at(-1)))
    expect(numbers).toEqual(numbers.map((_, i) => i))
  }, 30_000)

  test.each([false, true])(
    'while the client takes nothing, the socket is not read; then all comes, in order (compressed: %s)',
    async (compress) => {
      const moot = await simulator({ compress })
      const limits = { maxQueued: 10_000, pingMs: 150 }
      const client = await connected(moot, { CONVO_SPACE_ID: SPACE }, { limits })
      await isWell(moot, client)
      let open = (): void => undefined
      client.gate = new Promise((resolve) => {
        open = resolve
      })
      const text = randomBytes(950).toString('hex')
      for (let i = 0; i < 15_000; i++)
        moot.publish(SPACE, { text: `@MyAgent ${i} ${compress ? randomBytes(950).toString('hex') : text}` })
      await eventually('the server has to wait', () => moot.sockets.backlog(SPACE) > 1_000_000)
      const settled = () => takesNothing(moot, SPACE)
      await eventually('nothing is taken any more', settled, 10_000)
      // Several of our pings: not being read ourselves is no reason to give the connection up.
      await pause(900)
      expect(await settled()).toBe(true)
      expect(moot.sockets.backlog(SPACE)).toBeGreaterThan(1_000_000)
      client.gate = undefined
      open()
      await client.hears(15_001, 20_000)
      const numbers = client.contents.slice(1).map((content) => Number(/@MyAgent (\d+) /.exec(content)?.[1]))
      expect(numbers).toEqual(numbers.map((_, i) => i))
      expect(client.pushStatuses(SPACE)).toHaveLength(1)
    },
    30_000,
  )
})

describe('the end', () => {
  test('close says goodbye to every socket, and later calls are refused', async () => {
    const moot = await simulator()
    moot.space('other')
    const client = await connected(moot)
    await client.tool('subscribe')
    expect(moot.sockets.count()).toBe(2)
    await client.upstream.close(1_000)
    expect(moot.sockets.closedWith).toEqual([1000, 1000])
    await expect(client.request('tools/list')).rejects.toMatchObject({ code: 'CLOSING' })
  })

  test('close is quick though the client takes nothing', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await isWell(moot, client)
    client.gate = new Promise(() => undefined)
    moot.publish(SPACE, { text: '@MyAgent never read' })
    await eventually('it is offered', () => client.offered === 2)
    const began = performance.now()
    await client.upstream.close(300)
    expect(performance.now() - began).toBeLessThan(700)
    await eventually('the socket is gone', () => moot.sockets.count() === 0)
  })

  test('close during a handshake that hangs leaves nothing behind', async () => {
    const moot = await simulator()
    moot.weather.hangHandshakes = true
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await eventually('it is dialing', () => moot.sockets.waiting > 0)
    await client.upstream.close(1_000)
    await eventually('the connection is gone', () => moot.sockets.waiting === 0)
  })
})

test('no address of a name is given up as early as Node does', async () => {
  const dial = vi.spyOn(net, 'connect')
  onTestFinished(() => dial.mockRestore())
  const moot = await simulator()
  const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
  await isWell(moot, client)
  const dialled = dial.mock.calls.map(([options]) => options)
  expect(dialled.length).toBeGreaterThan(1)
  for (const each of dialled) expect(each).toMatchObject({ autoSelectFamilyAttemptTimeout: 1_000 })
})

test.each(['its own', 'shared'])(
  'a fault of our own in a space does not end it: what it was about is told on the next connection (%s socket)',
  async (socket) => {
    const moot = await simulator()
    const env = {
      CONVO_API_URL: moot.url,
      CONVO_API_KEY: moot.key,
      CONVO_SPACE_ID: SPACE,
      ...(socket === 'shared' ? { CONVO_CHANNEL_URL: moot.channelUrl } : {}),
    }
    let faults = 1
    const client = new FeedClient(configFrom(env), (open) => (outlet) => {
      const deliver: typeof outlet.deliver = async (message, way) => {
        if (message.kind === 'notification' && faults-- > 0) throw new TypeError('x is not a function')
        return outlet.deliver(message, way)
      }
      return open({ ...outlet, deliver })
    })
    await client.initialize()
    await eventually('the stream is up', () => client.pushStatuses(SPACE).at(-1)?.state === 'up')
    moot.publish(SPACE, { text: '@MyAgent is it told?' })
    await client.hears(1)
    expect(client.contents[0]).toMatch(/is it told\?$/)
    expect(client.log).toContain('by a fault of this program: x is not a function')
    await isWell(moot, client)
    expect(client.told).toHaveLength(2)
  },
)

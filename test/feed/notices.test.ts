/** What the agent is told of the stream of a space: that something may be missing, that it is down, that it is up. */
import { expect, test } from 'vitest'
import { type ChannelOptions, DEFAULT_CHANNEL, withChannel } from '../../src/channel/channel.ts'
import type { FeedLimits } from '../../src/feed/config.ts'
import { systemClock } from '../../src/retry.ts'
import { eventually, pause } from '../support/eventually.ts'
import { configFrom, type Env, FeedClient, type Simulator, simulator, type Told } from './feed-client.ts'
import { front } from './front.ts'

const SPACE = 'sprint-planning'
const ELSEWHERE = 'The tools of this server show no events.'

/** A client that follows the space and was told of one event, as `chamade-mcp moot` serves it. */
async function following(options: Partial<ChannelOptions> = {}, past = 0): Promise<[Simulator, FeedClient]> {
  const moot = await simulator()
  for (let i = 0; i < past; i++) moot.publish(SPACE, { text: 'long ago' })
  const config = configFrom({ CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key, CONVO_SPACE_ID: SPACE })
  const channel = { ...DEFAULT_CHANNEL, holdMs: 0, ...options }
  const client = new FeedClient(config, (open) => withChannel(open, channel))
  await client.initialize()
  await client.request('tools/list')
  await caughtUp(moot)
  moot.publish(SPACE, { text: '@MyAgent first' })
  await client.hears(1)
  return [moot, client]
}

/** The status is asked for at the start, and once nothing is missing. */
async function caughtUp(moot: Simulator): Promise<void> {
  const asked = (): number => moot.calls.filter(({ path }) => path.endsWith('/status')).length
  await eventually('it has caught up', () => asked() === 2)
}

function notices(client: FeedClient): readonly Told[] {
  return client.told.filter(({ meta }) => meta.event_type?.startsWith('channel_'))
}

const forgotten = '^the server hung up, and moot does not know the last event we had any more'

test.each([
  ['the place is unknown to it', 30, `${forgotten}: .*HTTP 404`],
  ['the space is told from its beginning', 0, `${forgotten}$`],
])(
  'a gap says that the backend forgot where we were, and which tools of moot catch up: %s',
  async (_, past, cause) => {
    const [moot, client] = await following({}, past)
    await moot.stop()
    moot.space(SPACE).events = []
    await moot.listen()
    const gap = await eventually('the notice', () => notices(client)[0])
    expect(gap.meta.event_type).toBe('channel_gap')
    expect(gap.meta.reason).toMatch(new RegExp(cause))
    expect(gap.content).toContain(
      `${ELSEWHERE} To catch up on what came in that time, call get_mentions or get_recent_context of the moot MCP server now.`,
    )
  },
)

test('once it was told that it is down, it is told that it is up: nothing missed, what came follows', async () => {
  const [moot, client] = await following({ downAfterMs: 400 })
  await moot.stop()
  const down = await eventually('the down notice', () => notices(client)[0])
  expect(down.meta).toMatchObject({ event_type: 'channel_down', stream: SPACE })
  expect(down.content).toContain(
    `${ELSEWHERE} Until then you are not told of anything: to look for new events yourself, call get_mentions or get_recent_context of the moot MCP server from time to time.`,
  )
  moot.publish(SPACE, { text: '@MyAgent meanwhile' })
  await moot.listen()
  await client.hears(4)
  const [, , up, meanwhile] = client.told
  expect(up?.meta).toMatchObject({ event_type: 'channel_down', stream: SPACE, from: down.meta.from })
  expect(Date.parse(up?.meta.to ?? '') - Date.parse(up?.meta.from ?? '')).toBe(Number(up?.meta.duration_ms))
  expect(up?.content).toMatch(
    /^It is up again: this channel's stream sprint-planning was down from .*Nothing was missed/,
  )
  expect(meanwhile?.content).toContain('meanwhile')
  expect(client.statuses.some(({ kind }) => kind === 'gap')).toBe(false)
})

test('the same without an event meanwhile, and not again at the next break', async () => {
  const [moot, client] = await following({ downAfterMs: 400 })
  await moot.stop()
  await client.hears(2)
  await moot.listen()
  await client.hears(3)
  moot.sockets.drop('cut')
  await eventually(
    'it is up again',
    () => client.pushStatuses(SPACE).filter(({ state }) => state === 'up').length === 3,
  )
  moot.publish(SPACE, { text: '@MyAgent last' })
  await client.hears(4)
  expect(notices(client).map(({ meta }) => [meta.event_type, meta.to !== undefined])).toEqual([
    ['channel_down', false],
    ['channel_down', true],
  ])
})

/** A client whose clock, and its channel's, can be moved on. */
async function timed(
  env: Env,
  limits: Partial<FeedLimits> = {},
  options: Partial<ChannelOptions> = {},
): Promise<[FeedClient, (ms: number) => void]> {
  let passedMs = 0
  const clock = { now: () => Date.now() + passedMs, uptime: () => systemClock.uptime() + passedMs }
  const config = configFrom(env, { clock, limits })
  const channel = { ...DEFAULT_CHANNEL, holdMs: 0, clock, ...options }
  const client = new FeedClient(config, (open) => withChannel(open, channel))
  await client.initialize()
  return [client, (ms) => (passedMs += ms)]
}

test('a connection that was lost while this process was stopped is noticed soon after, not at the next ping', async () => {
  const moot = await simulator()
  const env = { CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key, CONVO_SPACE_ID: SPACE }
  const [client, pass] = await timed(env, { pingMs: 60_000 })
  await eventually('it is up', () => client.pushStatuses(SPACE).length === 1)
  moot.sockets.freeze()
  pass(15_000)
  await eventually('it is lost', () => client.log.includes('no sign of life'), 12_000)
}, 20_000)

test('what broke while this process was stopped may have broken when that began', async () => {
  const moot = await simulator()
  const env = { CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key, CONVO_SPACE_ID: SPACE }
  moot.weather.failures.push({ path: '/events', status: 404, times: Number.POSITIVE_INFINITY })
  const [client, pass] = await timed(env)
  await eventually('it is up', () => client.pushStatuses(SPACE).length === 1)
  pass(15_000)
  moot.sockets.drop('cut')
  const { meta } = await eventually('the notice', () => notices(client)[0])
  expect(Number(meta.duration_ms)).toBeGreaterThanOrEqual(15_000)
})

test.each(['its own', 'shared'])('a backend that hangs at the start is a gap (%s socket)', async (socket) => {
  const moot = await simulator()
  const { actor_id, display_name } = moot.agent
  let answer = (): void => undefined
  const answered = new Promise<void>((resolve) => (answer = resolve))
  let asked = false
  const url = await front(moot, (_method, { pathname }) => {
    if (!pathname.endsWith('/actors/me')) return undefined
    asked = true
    return answered.then(() => ({ body: { actor_id, display_name } }))
  })
  const [client, pass] = await timed({
    CONVO_API_URL: url,
    CONVO_API_KEY: moot.key,
    CONVO_SPACE_ID: SPACE,
    ...(socket === 'shared' ? { CONVO_CHANNEL_URL: moot.channelUrl } : {}),
  })
  await eventually('it is asked whose key this is', () => asked)
  pass(12_000)
  answer()
  const { meta } = await eventually('the notice', () => notices(client)[0])
  expect(meta).toMatchObject({
    event_type: 'channel_gap',
    stream: SPACE,
    reason: 'the stream opened late',
    breaks: '1',
  })
  expect(Number(meta.duration_ms)).toBeGreaterThanOrEqual(12_000)
})

test('a socket that opens late is no gap where the past was had in time: what was said since is told', async () => {
  const moot = await simulator()
  moot.weather.handshakeStatus = 503
  const env = { CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key, CONVO_SPACE_ID: SPACE }
  const [client, pass] = await timed(env)
  await eventually('it is refused', () => client.pushStatuses(SPACE).length > 0)
  moot.publish(SPACE, { text: '@MyAgent meanwhile' })
  pass(12_000)
  moot.weather.handshakeStatus = undefined
  await client.hears(1)
  moot.publish(SPACE, { text: '@MyAgent then' })
  const told = await client.hears(2)
  expect(told.map(({ content }) => content.replace(/^.*@MyAgent /s, ''))).toEqual(['meanwhile', 'then'])
  expect(client.statuses.filter(({ kind }) => kind === 'gap')).toEqual([])
})

test.each(['its own', 'shared'])(
  'spaces that are wanted at the start and listed late are a gap, those that appear later are none (%s socket)',
  async (socket) => {
    const moot = await simulator()
    let list = (): void => undefined
    const listed = new Promise<undefined>((resolve) => (list = () => resolve(undefined)))
    let asked = false
    const url = await front(moot, (_method, { pathname }) => {
      if (!pathname.endsWith('/me/spaces') || asked) return undefined
      asked = true
      return listed.then(() => ({ status: 500, body: { detail: 'not yet' } }))
    })
    const [client, pass] = await timed(
      {
        CONVO_API_URL: url,
        CONVO_API_KEY: moot.key,
        CONVO_AUTO_SUBSCRIBE: 'true',
        ...(socket === 'shared' ? { CONVO_CHANNEL_URL: moot.channelUrl } : {}),
      },
      { discoverMs: 20 },
    )
    await eventually('the list is asked for', () => asked)
    pass(12_000)
    list()
    const { meta } = await eventually('the notice', () => notices(client)[0])
    expect(meta).toMatchObject({ stream: 'all spaces', breaks: '1' })
    expect(meta.reason).toMatch(/^the stream opened late: moot could not list the spaces .*HTTP 500: not yet/)
    expect(Number(meta.duration_ms)).toBeGreaterThanOrEqual(12_000)
    moot.space('b')
    await eventually('it is found', () => client.pushStatuses('b').length > 0)
    moot.publish('b', { text: '@MyAgent first' })
    await client.hears(2)
    expect(notices(client)).toHaveLength(1)
  },
)

/** All spaces are wanted from the start, and the list of them is refused. */
async function unlisted(): Promise<[Simulator, FeedClient, (ms: number) => void]> {
  const moot = await simulator()
  moot.space('b')
  moot.weather.badKeys = true
  const env = { CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key, CONVO_AUTO_SUBSCRIBE: 'true' }
  return [moot, ...(await timed(env, {}, { downAfterMs: 400 }))]
}

test('spaces that are wanted at the start and can not be listed are told to be down, and then of late, once', async () => {
  const [moot, client, pass] = await unlisted()
  const { meta } = await eventually('the notice', () => notices(client)[0])
  expect(meta).toMatchObject({ event_type: 'channel_down', stream: 'all spaces' })
  expect(meta.reason).toMatch(/refused to list the spaces of this agent \(HTTP 401/)
  pass(12_000)
  moot.weather.badKeys = false
  await eventually('both are followed', () => moot.sockets.count() === 2)
  for (const space of [SPACE, 'b']) moot.publish(space, { text: '@MyAgent at last' })
  await client.hears(4)
  expect(notices(client).map((notice) => [notice.meta.event_type, notice.meta.stream])).toEqual([
    ['channel_down', 'all spaces'],
    ['channel_gap', 'all spaces'],
  ])
})

test('a list of spaces that is wanted no more is not down any more', async () => {
  const [, client] = await unlisted()
  await eventually('it was refused', () => client.pushStatuses('all spaces').length > 0)
  await client.tool('unsubscribe')
  await eventually('that is said', () => client.pushStatuses('all spaces').at(-1)?.state === 'not-offered')
})

test('of spaces that were listed, left, and could not be listed when they were wanted again it is not said that nothing was missed', async () => {
  const moot = await simulator()
  const env = { CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key, CONVO_AUTO_SUBSCRIBE: 'true' }
  const [client, pass] = await timed(env, {}, { downAfterMs: 400 })
  await eventually('it is followed', () => moot.sockets.count() === 1)
  await client.tool('unsubscribe')
  moot.weather.badKeys = true
  await client.tool('subscribe')
  await eventually('the notice', () => notices(client)[0])
  pass(12_000)
  moot.weather.badKeys = false
  const { meta } = await eventually('the next one', () => notices(client)[1])
  expect(meta).toMatchObject({ event_type: 'channel_gap', stream: 'all spaces' })
})

test('a space that is subscribed late, and opens at once, is none', async () => {
  const moot = await simulator()
  const [client, pass] = await timed({ CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key })
  pass(60_000)
  await client.tool('subscribe', { space_id: SPACE })
  moot.publish(SPACE, { text: '@MyAgent first' })
  await client.hears(1)
  expect(notices(client)).toEqual([])
})

test.each([
  [401, 'its own'],
  [404, 'shared'],
  [501, 'its own'],
])(
  'at the start nothing was missed, though there is no asking for more: %i (%s socket)',
  async (status, socket) => {
    const moot = await simulator()
    let pages = 0
    const url = await front(moot, (_method, { searchParams }) => {
      if (!searchParams.has('since') || ++pages !== 2) return undefined
      return { status, body: { detail: 'hiccup' } }
    })
    for (const text of ['long ago', 'behind the place']) moot.publish(SPACE, { text })
    const [client] = await timed({
      CONVO_API_URL: url,
      CONVO_API_KEY: moot.key,
      CONVO_SPACE_ID: SPACE,
      ...(socket === 'shared' ? { CONVO_CHANNEL_URL: moot.channelUrl } : {}),
    })
    await eventually('more was asked for', () => pages >= 2)
    moot.publish(SPACE, { text: '@MyAgent first' })
    await client.hears(1)
    moot.publish(SPACE, { text: '@MyAgent second' })
    await client.hears(2)
    expect(notices(client)).toEqual([])
  },
)

test.each([
  [501, 'moot could not give the events of space sprint-planning (HTTP 501: no more pages)'],
  [400, 'moot refused to give the events of space sprint-planning (HTTP 400: no more pages)'],
  [404, 'moot does not know the last event we had any more'],
])('a gap says why there is no asking for more after a break: %i', async (status, reason) => {
  const moot = await simulator()
  let pages = Number.NaN
  const url = await front(moot, (_method, { searchParams }) => {
    if (!searchParams.has('since') || ++pages !== 2) return undefined
    return { status, body: { detail: 'no more pages' } }
  })
  for (const text of ['long ago', 'behind the place']) moot.publish(SPACE, { text })
  const [client] = await timed({ CONVO_API_URL: url, CONVO_API_KEY: moot.key, CONVO_SPACE_ID: SPACE })
  await caughtUp(moot)
  pages = 0
  moot.sockets.drop('cut')
  const { meta } = await eventually('the notice', () => notices(client)[0])
  expect(meta).toMatchObject({ event_type: 'channel_gap', reason })
})

test.each(['its own', 'shared'])(
  'a gap reaches back to the break of which the rest is not to be had (%s socket)',
  async (socket) => {
    const moot = await simulator()
    let failing = false
    const url = await front(moot, (_method, { searchParams }) => {
      const [place] = moot.space(SPACE).events
      const isMore = searchParams.has('since') && searchParams.get('since') !== place?.event_id
      return failing && isMore ? { status: 500, body: { detail: 'no more pages' } } : undefined
    })
    for (const text of ['long ago', 'behind the place']) moot.publish(SPACE, { text })
    const [client, pass] = await timed({
      CONVO_API_URL: url,
      CONVO_API_KEY: moot.key,
      CONVO_SPACE_ID: SPACE,
      ...(socket === 'shared' ? { CONVO_CHANNEL_URL: moot.channelUrl } : {}),
    })
    await caughtUp(moot)
    failing = true
    await moot.stop()
    await eventually('it is down', () => client.pushStatuses(SPACE).some(({ state }) => state === 'down'))
    moot.publish(SPACE, { text: '@MyAgent on the first page' })
    pass(30_000)
    await moot.listen()
    const { meta } = await eventually('the notice', () => notices(client)[0])
    expect(client.contents[0]).toContain('on the first page')
    expect(meta).toMatchObject({ event_type: 'channel_gap', breaks: '1' })
    expect(Number(meta.duration_ms)).toBeGreaterThanOrEqual(30_000)
  },
)

test('left while its connection was let in: asked for again, there was no break', async () => {
  const moot = await simulator()
  moot.weather.failures.push({ path: '/events', status: 404, times: Number.POSITIVE_INFINITY })
  const [client] = await timed({ CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key })
  const asked = client.tool('subscribe', { space_id: SPACE })
  await eventually('its connection is let in', () => moot.sockets.count(SPACE) === 1)
  // (Within the moment in which a server may think better of it. Later it is no other.)
  await pause(15)
  await client.tool('unsubscribe', { space_id: SPACE })
  await asked
  await client.tool('subscribe', { space_id: SPACE })
  moot.publish(SPACE, { text: '@MyAgent first' })
  await eventually('it is told', () => client.contents.at(-1)?.endsWith('first'))
  expect(notices(client)).toEqual([])
})

test('an event that waits behind a notice is not told once its space was unsubscribed', async () => {
  const [moot, client] = await following()
  let read = (): void => undefined
  client.gate = new Promise((resolve) => (read = resolve))
  await moot.stop()
  moot.space(SPACE).events = []
  moot.publish(SPACE, { text: '@MyAgent too late' })
  await moot.listen()
  await eventually('the notice waits for the client', () => client.offered === 2)
  await client.tool('unsubscribe', { space_id: SPACE })
  read()
  await client.tool('subscribe', { space_id: SPACE })
  moot.publish(SPACE, { text: '@MyAgent again' })
  await eventually('the next is told', () => client.contents.at(-1)?.includes('again'))
  expect(client.contents.filter((content) => content.includes('too late'))).toEqual([])
})

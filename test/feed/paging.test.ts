/**
 * What the documentation leaves open about pages of events: how many there are in one, which, and whether
 * `since` counts in. Whatever a backend does, what was missed is told once and in order, or a gap is.
 */
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { timeOf } from '../../src/feed/backend.ts'
import { eventually, pause } from '../support/eventually.ts'
import { connected, type FeedClient, type Simulator, simulator } from './feed-client.ts'
import { front } from './front.ts'

const SPACE = 'sprint-planning'

interface Paging {
  /** Most events in a page, whatever is asked for. */
  readonly most: number
  /** The event of `since` is in the page. */
  readonly inclusive?: boolean
  /** A page behind `since` holds the newest. */
  readonly newest?: boolean
  /** Parameters that mean nothing to it. */
  readonly ignores?: 'since' | 'before' | 'both'
  /** Is done before each page is given. */
  readonly meanwhile?: () => void
}

/** One client of a backend that gives pages so; `known` events lie in the past, one is told. */
async function following(paging: Paging, known: number): Promise<[Simulator, FeedClient, string[]]> {
  const moot = await simulator()
  const { events } = moot.space(SPACE)
  const ignored = (name: string): boolean => paging.ignores === name || paging.ignores === 'both'
  const calls: string[] = []
  const url = await front(moot, (_method, { pathname, search, searchParams }) => {
    if (!pathname.endsWith('/events')) return undefined
    calls.push(search)
    paging.meanwhile?.()
    const since = ignored('since') ? null : searchParams.get('since')
    const before = ignored('before') ? null : searchParams.get('before')
    const at = (id: string): number => events.findIndex(({ event_id }) => event_id === id)
    const start = since === null ? 0 : at(since) + (paging.inclusive === true ? 0 : 1)
    const wanted = events.slice(start, before === null ? events.length : at(before))
    const oldest = since !== null && before === null && paging.newest !== true
    return { body: oldest ? wanted.slice(0, paging.most) : wanted.slice(-paging.most) }
  })
  say(moot, -known, known)
  const client = await connected(moot, { CONVO_API_URL: url, CONVO_SPACE_ID: SPACE })
  await eventually('it is up', () => client.pushStatuses(SPACE).at(-1)?.state === 'up')
  await caughtUp(moot, 1)
  moot.publish(SPACE, { text: '@MyAgent 0' })
  await client.hears(1)
  return [moot, client, calls]
}

/** The status is asked for at the start, and each time nothing is missing any more. */
async function caughtUp(moot: Simulator, times: number): Promise<void> {
  const asked = (): number => moot.calls.filter(({ path }) => path.endsWith('/status')).length
  await eventually('it has caught up', () => asked() === times + 1, 10_000)
}

function say(moot: Simulator, first: number, count: number): void {
  for (let i = first; i < first + count; i++) {
    moot.store.say(moot.space(SPACE), { speaker: moot.alice.actor_id, text: `@MyAgent ${i}` }, true)
  }
}

function numbers(client: FeedClient): number[] {
  return client.contents.map((content) => Number(content.split('@MyAgent ').at(-1)))
}

/** Cut off, `count` are missed, and it comes back; those told, and what was said of continuity. */
async function missing(moot: Simulator, client: FeedClient, count: number): Promise<(boolean | undefined)[]> {
  say(moot, 1, count)
  moot.sockets.drop('cut')
  await caughtUp(moot, 2)
  moot.publish(SPACE, { text: `@MyAgent ${count + 1}` })
  await eventually('the live one is told', () => numbers(client).includes(count + 1), 10_000)
  // A second copy would come now.
  await pause(20)
  return ups(client)
}

function ups(client: FeedClient, space = SPACE): (boolean | undefined)[] {
  const up = client.pushStatuses(space).filter(({ state }) => state === 'up')
  return up.map(({ continuous }) => continuous)
}

const habits: readonly (readonly [string, Paging])[] = [
  ['no more than 100', { most: 100 }],
  ['no more than 7', { most: 7 }],
  ['the event of since as well', { most: 200, inclusive: true }],
  ['the event of since as well, and no more than 100', { most: 100, inclusive: true }],
  ['the newest, no more than 100', { most: 100, newest: true }],
  ['the newest and the event of since, no more than 7', { most: 7, newest: true, inclusive: true }],
  ['the newest whatever since is', { most: 50, ignores: 'since' }],
]

describe('nothing is lost or told twice by a backend whose pages hold', () => {
  for (const [what, paging] of habits) {
    test.each([
      [0, 150],
      [30, 150],
      [30, 300],
      [30, 5],
      [300, 1],
    ])(`${what}: %i in the past, %i missed`, async (known, missed) => {
      const [moot, client] = await following(paging, known)
      expect(await missing(moot, client, missed)).toEqual([true, true])
      expect(numbers(client)).toEqual(Array.from({ length: missed + 2 }, (_, i) => i))
    })
  }
})

test('a backend that knows neither since nor before: what it gives is told, and so is the gap', async () => {
  const [moot, client] = await following({ most: 100, ignores: 'both' }, 30)
  expect(await missing(moot, client, 300)).toEqual([true, false])
  expect(numbers(client)).toEqual([0, ...Array.from({ length: 101 }, (_, i) => i + 201)])
})

test('more was missed than small pages can bring: that is what the gap says, not that the place is forgotten', async () => {
  const [moot, client] = await following({ most: 7, newest: true }, 30)
  expect(await missing(moot, client, 400)).toEqual([true, false])
  expect(client.pushStatuses(SPACE).at(-1)?.reason).toBe('more was missed than can be fetched')
})

describe('what is missed of a backend that knows no before is all there is', () => {
  test.each([
    ['before', 0, 5],
    ['before', 0, 60],
    ['before', 30, 60],
    ['both', 0, 60],
  ] as const)('ignored: %s, %i in the past, %i missed', async (ignores, known, missed) => {
    const [moot, client] = await following({ most: 200, ignores }, known)
    expect(await missing(moot, client, missed)).toEqual([true, true])
    expect(numbers(client)).toEqual(Array.from({ length: missed + 2 }, (_, i) => i))
  })
})

test('a break in which nothing was said costs two calls', async () => {
  const [moot, client, calls] = await following({ most: 200 }, 30)
  const before = calls.length
  expect(await missing(moot, client, 0)).toEqual([true, true])
  expect(calls.length - before).toBe(2)
})

test('what is said while a backend that knows no before is asked for the middle is told behind it', async () => {
  let left = 0
  let said = 4
  const meanwhile = (): void => {
    if (left-- > 0) say(moot, said++, 1)
  }
  const [moot, client] = await following({ most: 200, ignores: 'before', meanwhile }, 30)
  left = 8
  say(moot, 1, 3)
  moot.sockets.drop('cut')
  await client.hears(12)
  expect(numbers(client)).toEqual(Array.from({ length: 12 }, (_, i) => i))
  expect(ups(client)).toEqual([true, true])
})

test('of a backend whose pages hold the newest: one that held all says nothing of where the next begins', async () => {
  const [moot, client] = await following({ most: 40, newest: true }, 3)
  await moot.stop()
  say(moot, 1, 1)
  let read = (): void => undefined
  client.gate = new Promise((resolve) => (read = resolve))
  await moot.listen()
  await eventually('the missed one is offered', () => client.offered === 2)
  await moot.stop()
  say(moot, 2, 60)
  read()
  await eventually('it is down', () => client.pushStatuses(SPACE).at(-1)?.state !== 'up')
  await moot.listen()
  await client.hears(62)
  expect(ups(client)).not.toContain(false)
  expect(numbers(client)).toEqual(Array.from({ length: 62 }, (_, i) => i))
})

test('a backend that makes up ever new events is given up, and the gap is told', async () => {
  const moot = await simulator()
  let made = 0
  let endless = false
  const url = await front(moot, (_method, { pathname, searchParams }) => {
    if (!endless || !pathname.endsWith('/events')) return undefined
    return { body: searchParams.has('before') ? [] : [{ event_id: `made-up-${made++}`, text: 'noise' }] }
  })
  const client = await connected(moot, { CONVO_API_URL: url, CONVO_SPACE_ID: SPACE })
  await eventually('it is up', () => ups(client).length === 1)
  endless = true
  moot.sockets.drop('cut')
  await eventually('it is given up', () => ups(client).includes(false), 20_000)
  expect(made).toBe(1_000)
  const [gap] = client.pushStatuses(SPACE).filter(({ continuous }) => continuous === false)
  expect(gap?.reason).toBe('more was missed than can be fetched')
  expect(gap?.downMs).toBeGreaterThan(0)
}, 30_000)

test('of a space that appeared, what is older is no news, however short its pages are', async () => {
  const moot = await simulator()
  const url = await front(moot, (_method, { pathname, searchParams }) => {
    if (!pathname.endsWith('/invited/events')) return undefined
    const { events } = moot.space('invited')
    const at = (name: string): number =>
      events.findIndex(({ event_id }) => event_id === searchParams.get(name))
    return { body: events.slice(at('since') + 1, at('before') === -1 ? undefined : at('before')).slice(-20) }
  })
  const client = await connected(moot, { CONVO_API_URL: url }, { limits: { discoverMs: 300 } })
  await client.tool('subscribe')
  const space = moot.space('invited')
  for (let i = 0; i < 70; i++)
    moot.store.say(space, { speaker: moot.alice.actor_id, text: `@MyAgent ${i}` }, true)
  const older = new Date(Date.now() - 60_000).toISOString()
  space.events = space.events.map((event, i) => (i < 40 ? { ...event, timestamp: older } : event))
  await client.hears(30)
  expect(numbers(client)).toEqual(Array.from({ length: 30 }, (_, i) => i + 40))
})

test('of a space that appeared, what is missed later is news, also when the clock of the backend was set back', async () => {
  const moot = await simulator()
  const client = await connected(moot, {}, { limits: { discoverMs: 100 } })
  await client.tool('subscribe')
  moot.space('invited')
  const asked = (): number => moot.calls.filter(({ path }) => path.endsWith('/invited/status')).length
  await eventually('it is found', () => asked() >= 2)
  moot.publish('invited', { text: '@MyAgent 0' })
  await client.hears(1)
  const last = (): string => moot.calls.findLast(({ path }) => path.includes('/invited/'))?.path ?? ''
  await eventually('it has caught up', () => last().endsWith('/status'))
  await moot.stop()
  moot.publish('invited', { text: '@MyAgent 1' })
  const timestamp = new Date(Date.now() - 3_600_000).toISOString()
  const space = moot.space('invited')
  space.events = space.events.map((event, i) => (i === 0 ? event : { ...event, timestamp }))
  await moot.listen()
  await eventually('it is up again', () => ups(client, 'invited').length === 2)
  moot.publish('invited', { text: '@MyAgent 2' })
  await eventually('the last one is told', () => numbers(client).includes(2))
  expect(numbers(client)).toEqual([0, 1, 2])
})

test('of a space that appeared, cut while its late history and live events are told in turn: nothing is lost', async () => {
  const moot = await simulator()
  let failures = 5
  const url = await front(moot, (_method, { pathname }) => {
    if (!pathname.endsWith('/invited/events') || failures-- <= 0) return undefined
    return { status: 500, body: { detail: 'not yet' } }
  })
  const client = await connected(moot, { CONVO_API_URL: url }, { limits: { discoverMs: 100 } })
  let [begin, goOn] = [(): void => undefined, (): void => undefined]
  const gates = new Map([
    [1, new Promise<void>((resolve) => (begin = resolve))],
    [40, new Promise<void>((resolve) => (goOn = resolve))],
  ])
  Object.defineProperty(client, 'gate', { get: () => gates.get(client.offered) })
  await client.tool('subscribe')
  const space = moot.space('invited')
  for (let i = 0; i < 60; i++)
    moot.store.say(space, { speaker: moot.alice.actor_id, text: `@MyAgent ${i}` }, true)
  await eventually('the first is offered', () => client.offered === 1)
  for (let i = 60; i < 85; i++) moot.publish('invited', { text: `@MyAgent ${i}` })
  await pause(50)
  begin()
  await eventually('some are told', () => client.offered === 40)
  moot.sockets.drop('cut')
  await pause(50)
  goOn()
  await eventually('all are told', () => new Set(numbers(client)).size === 85)
  expect(numbers(client)).toHaveLength(85)
  expect(client.pushStatuses('invited').some(({ continuous }) => continuous === false)).toBe(false)
})

test('a clock of the backend that was set back in a break turns no page around', async () => {
  const [moot, client] = await following({ most: 200 }, 0)
  const now = Date.now()
  await moot.stop()
  say(moot, 1, 10)
  for (const [i, event] of moot.space(SPACE).events.entries())
    Object.assign(event, { timestamp: new Date(now + i * 1_000 - (i > 5 ? 3_600_000 : 0)).toISOString() })
  await moot.listen()
  await client.hears(11)
  expect(numbers(client)).toEqual(Array.from({ length: 11 }, (_, i) => i))
})

test.each([
  ['say nothing', () => undefined],
  ['are all one', () => '2026-11-21T10:00:00Z'],
  // Of each two writers the second was stored first.
  ['go up and down', (i: number) => new Date(i * 10_000 + (i % 2) * 15_000).toISOString()],
])(
  'a backend that gives the newest first, and whose times %s: told in order, once',
  async (_, timeOfEvent) => {
    const moot = await simulator()
    const url = await front(moot, (_method, { pathname, searchParams }) => {
      if (!pathname.endsWith('/events')) return undefined
      const events = moot.space(SPACE).events.map((event, i) => ({ ...event, timestamp: timeOfEvent(i) }))
      const at = (name: string): number =>
        events.findIndex(({ event_id }) => event_id === searchParams.get(name))
      const page = events.slice(at('since') + 1, at('before') === -1 ? undefined : at('before'))
      return { body: page.toReversed() }
    })
    say(moot, -5, 5)
    const client = await connected(moot, { CONVO_API_URL: url, CONVO_SPACE_ID: SPACE })
    await caughtUp(moot, 1)
    moot.publish(SPACE, { text: '@MyAgent 0' })
    await client.hears(1)
    await missing(moot, client, 5)
    expect(numbers(client)).toEqual([0, 1, 2, 3, 4, 5, 6])
  },
)

describe('the time of an event', () => {
  test.each([
    '2026-11-21T10:00:00.123456',
    '2026-11-21T10:00:00.123',
    '2026-11-21 10:00:00.123',
    '2026-11-21T10:00:00.123Z',
    '2026-11-21T11:00:00.123+01:00',
  ])('%s is UTC if it names no zone, wherever we are', (timestamp) => {
    vi.stubEnv('TZ', 'Asia/Tokyo')
    onTestFinished(() => void vi.unstubAllEnvs())
    expect(timeOf({ timestamp })).toBe(Date.UTC(2026, 10, 21, 10, 0, 0, 123))
  })
})

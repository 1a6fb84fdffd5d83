/**
 * Backends that answer otherwise than the documentation shows: what they leave out or add costs no event, brings
 * none twice, and makes nothing up.
 */
import { type AddressInfo, connect, createServer } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { FORGOTTEN } from '../../src/feed/history.ts'
import { eventually, pause } from '../support/eventually.ts'
import {
  type Changes,
  connected,
  type FeedClient,
  QUICK_BACKOFF,
  type Simulator,
  simulator,
} from './feed-client.ts'
import { CUT, DRIP, front, type Habit } from './front.ts'

const SPACE = 'sprint-planning'
const SLOW_WHEN_REFUSED = { ...QUICK_BACKOFF, slowCapMs: 3_600_000 }

/** A client of a moot with that habit; it follows the space, in whose past lie so many events. */
async function behind(
  habit: (moot: Simulator) => Habit,
  changes: Changes = {},
  past = 0,
): Promise<[Simulator, FeedClient]> {
  const moot = await simulator()
  for (let i = 0; i < past; i++) moot.publish(SPACE, { text: 'long ago' })
  const url = await front(moot, habit(moot))
  return [moot, await connected(moot, { CONVO_API_URL: url, CONVO_SPACE_ID: SPACE }, changes)]
}

/** The status is asked for at the start, and once nothing is missing. */
async function caughtUp(moot: Simulator): Promise<void> {
  const asked = (): number => moot.calls.filter(({ path }) => path.endsWith('/status')).length
  await eventually('it has caught up', () => asked() === 2)
}

function nested(depth: number): string {
  return `${'['.repeat(depth)}${']'.repeat(depth)}`
}

function states(client: FeedClient): readonly string[] {
  return client.pushStatuses(SPACE).map(({ state }) => state)
}

test('what is listed and is no id of a space is left out, and that is said once', async () => {
  let lists = 0
  const ids = ['bad\\ud800', '..', 'a/b', '../../me', SPACE].map((id) => `{"space_id":"${id}"}`)
  const habit: Habit = (_method, url) => {
    if (url.pathname !== '/api/actors/me/spaces') return undefined
    lists++
    return { body: `[${ids.join()}]` }
  }
  const moot = await simulator()
  const env = { CONVO_API_URL: await front(moot, habit) }
  const client = await connected(moot, env, { limits: { discoverMs: 20 } })
  expect((await client.tool('subscribe')).text).toMatch(/^Subscribed to 1 new space/)
  await eventually('it is listed again', () => lists > 3)
  expect((await client.tool('list_subscriptions')).text).toBe(`- ${SPACE}`)
  expect(client.log.match(/dropped space .* of the list/g)).toEqual([
    'dropped space "bad\\ud800" of the list',
    'dropped space ".." of the list',
    'dropped space "a/b" of the list',
    'dropped space "../../me" of the list',
  ])
})

test('a refusal that names another request each time is told once', async () => {
  let asked = 0
  const habit: Habit = (_method, { pathname }) => {
    if (pathname !== '/api/actors/me') return undefined
    return { status: 403, body: { detail: `no access (request 7f-${++asked})` } }
  }
  const moot = await simulator()
  const client = await connected(moot, { CONVO_API_URL: await front(moot, habit), CONVO_SPACE_ID: SPACE })
  await eventually('it is asked again and again', () => asked > 8)
  expect(client.log.match(/reaching moot failed/g)).toHaveLength(1)
  expect(client.log.match(/the feed of space \S+ failed/g)).toHaveLength(1)
})

describe('the status of a space', () => {
  const statuses = (client: FeedClient): readonly (string | undefined)[] =>
    client.told.filter(({ meta }) => meta.event_type === 'status_change').map(({ meta }) => meta.status)
  const listing = (url: URL): boolean => url.pathname === '/api/actors/me/spaces'
  const all = (moot: Simulator): unknown =>
    [...moot.store.spaces.values()].map(({ space_id, status }) => ({ space_id, status }))

  test('that comes when the space has been unsubscribed is told nobody', async () => {
    let asked = 0
    let tell: (answer: { body: unknown }) => void = () => undefined
    const habit = (): Habit => (_method, url) => {
      // (Twice when it is subscribed.)
      if (!url.pathname.endsWith('/status') || ++asked !== 3) return undefined
      return new Promise((resolve) => {
        tell = resolve
      })
    }
    const [moot, client] = await behind(habit, { limits: { discoverMs: 300 } })
    await eventually('it is asked for', () => asked === 3)
    await client.tool('unsubscribe')
    tell({ body: { status: 'paused' } })
    await client.tool('subscribe', { space_id: SPACE })
    moot.publish(SPACE, { text: '@MyAgent here again' })
    await client.hears(1)
    expect(client.contents[0]).toContain('here again')
  })

  test.each([true, false])('is that of a list that holds paused ones too (/status: %s)', async (asked) => {
    let lists = 0
    const habit = (moot: Simulator): Habit => {
      return (_method, url) => {
        if (listing(url)) {
          lists++
          return { body: all(moot) }
        }
        return asked || !url.pathname.endsWith('/status') ? undefined : { status: 404, body: {} }
      }
    }
    const [moot, client] = await behind(habit, { limits: { discoverMs: 20 } })
    await client.tool('subscribe')
    moot.store.setStatus(moot.space(SPACE), 'paused')
    await client.hears(1)
    const before = lists
    await eventually('it was listed again', () => lists > before + 3)
    expect(statuses(client)).toEqual(['paused'])
  })

  test('is told of a list that says it changed, though nothing else does', async () => {
    let status = 'active'
    const habit: Habit = (_method, url) => {
      if (listing(url)) return { body: [{ space_id: SPACE, status }] }
      return url.pathname.endsWith('/status') ? { status: 404, body: {} } : undefined
    }
    const [, client] = await behind(() => habit, { limits: { discoverMs: 20 } })
    await client.tool('subscribe')
    status = 'archived'
    await client.hears(1)
    expect(statuses(client)).toEqual(['archived'])
  })

  test('is not that of a list made before it changed', async () => {
    let answer = (): void => undefined
    let asked = 0
    const habit = (moot: Simulator): Habit => {
      return (_method, url) => {
        if (!listing(url)) return undefined
        const body = all(moot)
        if (asked++ === 0) return { body }
        return new Promise((resolve) => {
          answer = () => resolve({ body })
        })
      }
    }
    const [moot, client] = await behind(habit, { limits: { discoverMs: 20 } })
    await client.tool('subscribe')
    await eventually('the list is made', () => asked === 2)
    moot.store.setStatus(moot.space(SPACE), 'paused')
    await client.hears(1)
    answer()
    await eventually('the next is asked for', () => asked === 3)
    expect(statuses(client)).toEqual(['paused'])
  })

  test('is what the space itself says, whatever the list does', async () => {
    let asked = 0
    const habit: Habit = (_method, url) => {
      if (listing(url)) return { body: [{ space_id: SPACE, status: 'active' }] }
      return url.pathname.endsWith('/status') && asked++ > 0 ? { body: { status: 'archived' } } : undefined
    }
    const [moot, client] = await behind(() => habit, { limits: { discoverMs: 20 } })
    moot.weather.handshakeStatus = 403
    await client.tool('subscribe')
    await eventually('it was asked for several times', () => asked > 10)
    expect(statuses(client)).toEqual(['archived'])
  })

  // [channel-adapter] says nothing of how a space that is not active refuses; a 403 is what a framework makes of it.
  test.each([400, 403, 404, 409, 410])(
    'is asked for when its socket is refused with a %i',
    async (refusal) => {
      const [moot, client] = await behind(() => () => undefined)
      await caughtUp(moot)
      moot.weather.handshakeStatus = refusal
      moot.sockets.drop('cut')
      await eventually('its socket is gone', () => moot.sockets.count(SPACE) === 0)
      moot.store.setStatus(moot.space(SPACE), 'archived')
      await client.hears(1)
      expect(statuses(client)).toEqual(['archived'])
      moot.store.setStatus(moot.space(SPACE), 'active')
      moot.weather.handshakeStatus = undefined
      await client.hears(2)
      expect(statuses(client)).toEqual(['archived', 'active'])
    },
  )

  test('is asked for when the shared socket refuses it so', async () => {
    const moot = await simulator()
    const env = { CONVO_CHANNEL_URL: moot.channelUrl, CONVO_SPACE_ID: SPACE }
    const client = await connected(moot, env, { backoff: SLOW_WHEN_REFUSED })
    await caughtUp(moot)
    moot.space(SPACE).status = 'paused'
    moot.sockets.raw(SPACE, JSON.stringify({ type: 'error', space_id: SPACE, code: 4409 }))
    await client.hears(1)
    expect(statuses(client)).toEqual(['paused'])
  })

  test('is active where the list names none', async () => {
    const habit = (moot: Simulator): Habit => {
      moot.space('other')
      return (_method, url) => (listing(url) ? { body: [{ space_id: 'other' }] } : undefined)
    }
    const [, client] = await behind(habit)
    expect((await client.tool('subscribe')).text).toMatch(/^Subscribed to 1 new/)
  })
})

test('the greeting in a space made while the list was on its way is news', async () => {
  const moot = await simulator()
  let lists = 0
  const habit: Habit = (_method, url) => {
    if (url.pathname !== '/api/actors/me/spaces') return undefined
    const body = [...moot.store.spaces.values()].map(({ space_id, status }) => ({ space_id, status }))
    if (++lists !== 2) return { body }
    moot.space('new')
    moot.publish('new', { text: '@MyAgent welcome' })
    // (Its Date is that of its end, in whole seconds.)
    return pause(1_200).then(() => ({ body }))
  }
  const client = await connected(
    moot,
    { CONVO_API_URL: await front(moot, habit) },
    { limits: { discoverMs: 20 } },
  )
  await client.tool('subscribe')
  await client.hears(1)
  expect(client.contents[0]).toContain('welcome')
})

test.each(['its own socket', 'the shared socket'])(
  'whoever was put out of a space joins it when it is subscribed again, over %s',
  async (socket) => {
    const moot = await simulator()
    const shared = socket === 'the shared socket'
    const joins = (): number => moot.calls.filter(({ path }) => path.endsWith('/join')).length
    const habit: Habit = (_method, url) => {
      // Whoever joins is let in.
      if (url.pathname.endsWith('/join')) moot.weather.handshakeStatus = undefined
      return undefined
    }
    const env = {
      CONVO_API_URL: await front(moot, habit),
      ...(shared ? { CONVO_CHANNEL_URL: moot.channelUrl } : {}),
    }
    const client = await connected(moot, env, { backoff: SLOW_WHEN_REFUSED })
    expect((await client.tool('subscribe')).text).toMatch(/^Subscribed to 1 new/)
    await caughtUp(moot)
    expect(joins()).toBe(0)
    if (shared) {
      moot.sockets.raw(SPACE, JSON.stringify({ type: 'error', space_id: SPACE, code: 4403 }))
    } else {
      moot.weather.handshakeStatus = 403
      moot.sockets.drop('cut')
    }
    // (Another attempt may be under way by then.)
    await eventually('it is put out', () => client.log.includes('HTTP 403'))
    expect((await client.tool('subscribe', { space_id: SPACE })).isError).toBe(false)
    expect(joins()).toBe(1)
    moot.publish(SPACE, { text: '@MyAgent welcome back' })
    await client.hears(1)
    moot.sockets.drop('cut')
    await eventually('it is up again', () => states(client).slice(-2).join() === 'down,up')
    expect(joins()).toBe(1)
  },
)

test('a backend that shows nothing behind a place it has forgotten: what it has is told, and a gap is', async () => {
  const habit =
    (moot: Simulator): Habit =>
    (_method, url) => {
      const since = url.searchParams.get('since')
      const isKnown = moot.space(SPACE).events.some(({ event_id }) => event_id === since)
      return since === null || isKnown ? undefined : { body: [] }
    }
  const [moot, client] = await behind(habit, {}, 3)
  await caughtUp(moot)
  // A backup is put back: what was said long ago is no news, known or not.
  const timestamp = new Date(Date.now() - 86_400_000).toISOString()
  const [old] = moot.space(SPACE).events
  const restored = { ...old, event_id: 'evt_old', text: '@MyAgent yesterday', timestamp } as typeof old
  moot.space(SPACE).events = restored === undefined ? [] : [restored]
  moot.sockets.drop('cut')
  for (let i = 0; i < 3; i++) moot.publish(SPACE, { text: `@MyAgent ${i}` })
  await client.hears(3)
  expect(client.contents.map((content) => content.at(-1))).toEqual(['0', '1', '2'])
  const ups = client.pushStatuses(SPACE).filter(({ state }) => state === 'up')
  expect(ups.map(({ continuous, reason }) => [continuous, reason])).toEqual([
    [true, undefined],
    [false, FORGOTTEN],
  ])
})

test.each([
  ['an event is ahead of its time', 1, false],
  ['much is said while the history is away', 25, true],
])('what was missed is told behind a place that is forgotten, when %s', async (_what, count, isAway) => {
  let history: 'there' | 'away' | 'forgotten' = 'there'
  const habit: Habit = (_method, url) => {
    if (history === 'there' || !url.pathname.endsWith('/events')) return undefined
    if (history === 'away') return { status: 503, body: {} }
    return url.searchParams.has('since') ? { status: 404, body: {} } : undefined
  }
  const [moot, client] = await behind(() => habit, {}, 3)
  await caughtUp(moot)
  const { events } = moot.space(SPACE)
  const saying = { speaker: moot.alice.actor_id, text: '@MyAgent' }
  const say = (text: string, aheadMs: number): string => {
    const timestamp = new Date(Date.now() + aheadMs).toISOString()
    const data = { ...moot.store.say(moot.space(SPACE), { ...saying, text }, true), timestamp }
    events.splice(-1, 1, data)
    return JSON.stringify({ type: 'context_event', data })
  }
  const miss = (): void => {
    say('@MyAgent missed', 0)
    moot.sockets.drop('cut')
  }
  if (isAway) {
    history = 'away'
    miss()
    await eventually(
      'it is up without it',
      () => states(client).filter((state) => state === 'up').length === 2,
    )
  }
  for (let i = 0; i < count; i++) moot.sockets.raw(SPACE, say(`@MyAgent ${i}`, 60_000))
  await client.hears(count)
  history = 'forgotten'
  if (!isAway) miss()
  await client.hears(count + 1)
  expect(client.contents.at(-1)).toContain('@MyAgent missed')
})

test('a second look that is refused is not one of many', async () => {
  let refused = 0
  let shut = false
  const habit: Habit = (_method, url) => {
    if (!shut || !url.pathname.endsWith('/events')) return undefined
    refused++
    return { status: 429, body: {} }
  }
  const changes = { limits: { lookAgainMs: 200 }, backoff: SLOW_WHEN_REFUSED }
  const [moot] = await behind(() => habit, changes)
  await caughtUp(moot)
  shut = true
  await eventually('it is looked at again', () => refused > 0)
  await pause(700)
  expect(refused).toBe(1)
})

test('what is said between a connection and its place among those that are sent to is fetched, once', async () => {
  const limits = { lookAgainMs: 300 }
  const [moot, client] = await behind(() => () => undefined, { limits })
  await eventually('it is up', () => states(client).at(-1) === 'up')
  moot.publish(SPACE, { text: '@MyAgent sent' })
  const unsent = { speaker: moot.alice.actor_id, text: '@MyAgent not sent' }
  moot.store.say(moot.space(SPACE), unsent, true)
  for (let i = 0; i < 30; i++) moot.publish(SPACE, { text: `@MyAgent ${i}` })
  await client.hears(32)
  expect(client.contents.filter((content) => content.endsWith('@MyAgent not sent'))).toHaveLength(1)
  expect(client.contents.filter((content) => content.endsWith('@MyAgent sent'))).toHaveLength(1)
  expect(states(client)).toEqual(['up'])
})

test('behind very many events there is no second look, which would tell them again', {
  timeout: 20_000,
}, async () => {
  const [moot, client] = await behind(() => () => undefined, { limits: { lookAgainMs: 2_000 } })
  await caughtUp(moot)
  for (let i = 0; i < 11_000; i++) {
    moot.publish(SPACE, { text: i % 100 === 0 ? `@MyAgent ${i}` : 'of no concern' })
    if (i % 500 === 0) await pause(1)
  }
  await client.hears(110)
  await pause(2_500)
  expect(client.contents).toHaveLength(110)
})

test('what is said between a connection and its place, which is lost before the second look, is fetched', async () => {
  const [moot, client] = await behind(() => () => undefined, {}, 3)
  await caughtUp(moot)
  const unsent = { speaker: moot.alice.actor_id, text: '@MyAgent not sent' }
  moot.store.say(moot.space(SPACE), unsent, true)
  for (let i = 0; i < 30; i++) moot.publish(SPACE, { text: `@MyAgent ${i}` })
  await client.hears(30)
  moot.sockets.drop('cut')
  await client.hears(31)
  expect(client.contents.at(-1)).toContain('@MyAgent not sent')
  moot.publish(SPACE, { text: '@MyAgent again' })
  await client.hears(32)
  expect(client.contents.at(-1)).toContain('@MyAgent again')
})

describe('an event', () => {
  const mentions = (client: FeedClient, word: string): number =>
    client.contents.filter((content) => content.endsWith(`@MyAgent ${word}`)).length

  test('without an id is told once, however often the connection breaks', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await eventually('it is up', () => states(client).at(-1) === 'up')
    const event = moot.publish(SPACE, { text: '@MyAgent first' })
    const { events } = moot.space(SPACE)
    const nameless = { ...event, event_id: undefined as unknown as string, text: '@MyAgent nameless' }
    events.push(nameless)
    moot.sockets.raw(SPACE, JSON.stringify({ type: 'context_event', data: nameless }))
    await client.hears(2)
    for (const word of ['second', 'third']) {
      moot.sockets.drop('cut')
      moot.publish(SPACE, { text: `@MyAgent ${word}` })
      await eventually('the next is told', () => mentions(client, word) === 1)
    }
    expect(mentions(client, 'nameless')).toBe(1)
    expect(client.told).toHaveLength(4)
  })

  test('with neither id nor time is told as often as it comes', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await eventually('it is up', () => states(client).at(-1) === 'up')
    const frame = JSON.stringify({ type: 'context_event', data: { text: '@MyAgent ping' } })
    for (let i = 0; i < 2; i++) moot.sockets.raw(SPACE, frame)
    await client.hears(2)
  })

  test('without an id, but with a time, is told once though it comes twice', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await eventually('it is up', () => states(client).at(-1) === 'up')
    const data = { timestamp: new Date().toISOString(), text: '@MyAgent nameless' }
    const frame = JSON.stringify({ type: 'context_event', data })
    for (let i = 0; i < 2; i++) moot.sockets.raw(SPACE, frame)
    moot.publish(SPACE, { text: '@MyAgent after' })
    await eventually('what follows', () => mentions(client, 'after') === 1)
    expect(mentions(client, 'nameless')).toBe(1)
  })

  test('nested too deep to be written down is told as any other, and so is what follows', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await eventually('it is up', () => states(client).at(-1) === 'up')
    const data = `{"text":"@MyAgent deep","references":${nested(100_000)}}`
    moot.sockets.raw(SPACE, `{"type":"context_event","data":${data}}`)
    moot.publish(SPACE, { text: '@MyAgent after' })
    await client.hears(2)
    expect([mentions(client, 'deep'), mentions(client, 'after')]).toEqual([1, 1])
  })

  test('under an id that is none of the known spaces is told: it may be another name of this one', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await eventually('it is up', () => states(client).at(-1) === 'up')
    const data = { event_id: 'evt_1', space_id: '6f9619ff', text: '@MyAgent hi' }
    moot.sockets.raw(SPACE, JSON.stringify({ type: 'context_event', data }))
    await client.hears(1)
  })

  test('of another space is not told on the stream of this one, and the log says so', async () => {
    const moot = await simulator()
    moot.space('zeta')
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE })
    await client.tool('subscribe', { space_id: 'zeta' })
    await client.tool('unsubscribe', { space_id: 'zeta' })
    await eventually('it is up', () => states(client).at(-1) === 'up')
    const data = { event_id: 'evt_elsewhere', space_id: 'zeta', text: '@MyAgent elsewhere' }
    moot.sockets.raw(SPACE, JSON.stringify({ type: 'context_event', data }))
    moot.publish(SPACE, { text: '@MyAgent here' })
    await client.hears(1)
    expect(mentions(client, 'here')).toBe(1)
    expect(client.log).toContain(`dropped an event of space "zeta": it came on the stream of space ${SPACE}`)
  })
})

const wiped = (moot: Simulator): Habit => {
  return (_method, { pathname, searchParams }) => {
    if (!pathname.endsWith('/events')) return undefined
    const { events } = moot.space(SPACE)
    const at = (name: string): number =>
      events.findIndex(({ event_id }) => event_id === searchParams.get(name))
    return { body: events.slice(at('since') + 1, at('before') === -1 ? undefined : at('before')) }
  }
}

test('a backend that forgot our place and says nothing of it: what it has is told, and the gap', async () => {
  const [moot, client] = await behind(wiped, {}, 30)
  await caughtUp(moot)
  moot.space(SPACE).events = []
  moot.store.say(moot.space(SPACE), { speaker: moot.alice.actor_id, text: '@MyAgent new' }, true)
  moot.sockets.drop('cut')
  await client.hears(1)
  const up = client.pushStatuses(SPACE).at(-1)
  expect(up).toMatchObject({ state: 'up', continuous: false, reason: FORGOTTEN })
})

test('a backend that shows no history: each break is a gap', async () => {
  const [moot, client] = await behind(() => (_method, url) => {
    return url.pathname.endsWith('/events') ? { body: [] } : undefined
  })
  await caughtUp(moot)
  for (let i = 0; i < 25; i++) moot.publish(SPACE, { text: `@MyAgent ${i}` })
  await client.hears(25)
  moot.sockets.drop('cut')
  await eventually('it is up again', () => client.pushStatuses(SPACE).at(-1)?.continuous === false)
})

test.each(['keep-alive, Upgrade', 'upgrade,close'])(
  'a handshake answered with "Connection: %s"',
  async (said) => {
    const moot = await simulator()
    const { port, hostname } = new URL(moot.url)
    const between = createServer((near) => {
      const far = connect(Number(port), hostname)
      near.on('error', () => far.destroy()).on('close', () => far.destroy())
      far.on('error', () => near.destroy()).on('close', () => near.destroy())
      near.pipe(far)
      far.on('data', (chunk: Buffer) => {
        const isHandshake = chunk.toString('latin1', 0, 12) === 'HTTP/1.1 101'
        const text = chunk.toString('latin1').replace('Connection: Upgrade', `Connection: ${said}`)
        near.write(isHandshake ? Buffer.from(text, 'latin1') : chunk)
      })
    })
    await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void between.close())
    const url = `http://127.0.0.1:${(between.address() as AddressInfo).port}`
    const client = await connected(moot, { CONVO_API_URL: url, CONVO_SPACE_ID: SPACE })
    await caughtUp(moot)
    moot.publish(SPACE, { text: '@MyAgent through it' })
    await client.hears(1)
  },
)

describe('a server that lets everybody in and then closes', () => {
  const letIn = async (status: number, changes: Changes = {}): Promise<[Simulator, FeedClient]> => {
    const moot = await simulator()
    Object.assign(moot.weather, { refuseBy: 'close', handshakeStatus: status, handshakeTimes: 1_000 })
    return [moot, await connected(moot, {}, changes)]
  }

  test.each([401, 403, 404])('has refused, with 4%i', async (status) => {
    const [, client] = await letIn(status)
    const answer = await client.tool('subscribe', { space_id: SPACE })
    expect(answer).toMatchObject({ isError: true, text: expect.stringContaining(`close code 4${status}`) })
    expect((await client.tool('list_subscriptions')).text).toBe('No active subscriptions')
    expect(states(client)).not.toContain('up')
  })

  test('is not asked again and again', async () => {
    const [, client] = await letIn(401, { spaceId: SPACE, backoff: SLOW_WHEN_REFUSED })
    await eventually('it was refused', () => states(client).length === 4)
    await pause(300)
    expect(states(client)).toEqual(['retrying', 'retrying', 'retrying', 'retrying'])
  })

  test('after a moment: not again and again either', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE }, { backoff: SLOW_WHEN_REFUSED })
    for (let i = 1; i <= 4; i++) {
      await eventually('it is up', () => states(client).filter((state) => state === 'up').length === i)
      moot.sockets.drop({ code: 4401, reason: 'no' })
      await eventually('it is down', () => states(client).at(-1) === 'retrying')
    }
    await pause(300)
    expect(states(client).filter((state) => state === 'up')).toHaveLength(4)
  })

  test('a subscribe that is let in for good is hardly slower', async () => {
    const moot = await simulator()
    const client = await connected(moot)
    const tookMs: number[] = []
    for (const space of [SPACE, 'second', 'third', 'fourth', 'fifth']) {
      moot.space(space)
      const began = performance.now()
      await client.tool('subscribe', { space_id: space })
      tookMs.push(performance.now() - began)
    }
    // (The quickest: the first loads modules, and another process may have the machine meanwhile.)
    expect(Math.min(...tookMs)).toBeLessThan(150)
  })
})

describe('a history that is not to be had', () => {
  /** A gate before it. */
  const gated = (answer: () => Promise<{ status?: number; body: unknown }>): [Habit, { shut: boolean }] => {
    const gate = { shut: true }
    return [(_method, url) => (gate.shut && url.pathname.endsWith('/events') ? answer() : undefined), gate]
  }
  const never = new Promise<never>(() => undefined)
  const failing: readonly (readonly [string, () => Promise<{ status?: number; body: unknown }>])[] = [
    ['500', async () => ({ status: 500, body: {} })],
    ['503', async () => ({ status: 503, body: {} })],
    ['403', async () => ({ status: 403, body: {} })],
    ['no answer', () => never],
  ]
  const ups = (client: FeedClient): readonly (boolean | undefined)[] =>
    client
      .pushStatuses(SPACE)
      .filter(({ state }) => state === 'up')
      .map(({ continuous }) => continuous)
  const words = (client: FeedClient): readonly (string | undefined)[] =>
    client.contents.map((content) => content.split('@MyAgent ').at(-1))

  for (const [what, answer] of failing) {
    for (const shared of [false, true]) {
      const start = async (shut: boolean): Promise<[Simulator, FeedClient, { shut: boolean }]> => {
        const [habit, gate] = gated(answer)
        gate.shut = shut
        const moot = await simulator()
        for (let i = 0; i < 30; i++) moot.publish(SPACE, { text: '@MyAgent long ago' })
        const url = await front(moot, habit)
        const env = { CONVO_API_URL: url, ...(shared ? { CONVO_CHANNEL_URL: moot.channelUrl } : {}) }
        return [moot, await connected(moot, env, { limits: { historyMs: 100 } }), gate]
      }
      const on = shared ? 'the shared socket' : 'a socket of its own'

      test(`(${what}) at the start: what is said is told, and later breaks are filled, on ${on}`, async () => {
        const [moot, client, gate] = await start(true)
        await client.tool('subscribe', { space_id: SPACE })
        await eventually('it is up', () => ups(client).length === 1)
        moot.publish(SPACE, { text: '@MyAgent live' })
        await client.hears(1)
        gate.shut = false
        await eventually('it is there again', () => client.log.includes('is there again'))
        moot.sockets.drop('cut')
        moot.publish(SPACE, { text: '@MyAgent missed' })
        await client.hears(2)
        await eventually('it is up again', () => ups(client).length === 2)
        expect(ups(client)).toEqual([true, true])
        moot.publish(SPACE, { text: '@MyAgent last' })
        await client.hears(3)
        expect(words(client)).toEqual(['live', 'missed', 'last'])
      })

      test(`(${what}) after a break: live ones are told, a gap too, and what was missed once, on ${on}`, async () => {
        const [moot, client, gate] = await start(false)
        await client.tool('subscribe', { space_id: SPACE })
        await caughtUp(moot)
        moot.publish(SPACE, { text: '@MyAgent first' })
        await client.hears(1)
        gate.shut = true
        moot.sockets.drop('cut')
        for (let i = 0; i < 3; i++) moot.publish(SPACE, { text: `@MyAgent missed ${i}` })
        await eventually('it is up again', () => ups(client).length === 2)
        expect(ups(client)).toEqual([true, false])
        moot.publish(SPACE, { text: '@MyAgent live' })
        await client.hears(2)
        expect(words(client)).toEqual(['first', 'live'])
        gate.shut = false
        await client.hears(5)
        await eventually('it is there again', () => client.log.includes('is there again'))
        moot.sockets.drop('cut')
        moot.publish(SPACE, { text: '@MyAgent last' })
        await client.hears(6)
        expect(words(client)).toEqual(['first', 'live', 'missed 0', 'missed 1', 'missed 2', 'last'])
        await eventually('it is up for the third time', () => ups(client).length === 3)
        expect(ups(client)).toEqual([true, false, true])
      })
    }
  }

  test('a word in a thread that came meanwhile is told once it is known whose thread that is', async () => {
    const [habit, gate] = gated(async () => ({ status: 503, body: {} }))
    const moot = await simulator()
    moot.publish(SPACE, { speaker: moot.agent.actor_id, text: 'mine', thread_id: 'thr_1' })
    const url = await front(moot, habit)
    const env = { CONVO_API_URL: url, CONVO_SPACE_ID: SPACE }
    const client = await connected(moot, env, { limits: { historyMs: 100 } })
    await eventually('it is up', () => ups(client).length === 1)
    moot.publish(SPACE, { text: 'an answer', thread_id: 'thr_1' })
    moot.publish(SPACE, { text: 'elsewhere', thread_id: 'thr_2' })
    gate.shut = false
    await client.hears(1)
    await eventually('it is there again', () => client.log.includes('is there again'))
    expect(client.told.map(({ meta }) => meta.event_type)).toEqual(['thread_reply'])
  })

  test('a word in a thread waits on, though the connection breaks while the history is told', async () => {
    const [habit, gate] = gated(async () => ({ status: 503, body: {} }))
    gate.shut = false
    const moot = await simulator()
    const url = await front(moot, habit)
    const env = { CONVO_API_URL: url, CONVO_CHANNEL_URL: moot.channelUrl, CONVO_SPACE_ID: SPACE }
    const client = await connected(moot, env, { backoff: { ...QUICK_BACKOFF, slowCapMs: 3_600_000 } })
    await caughtUp(moot)
    gate.shut = true
    moot.sockets.drop('cut')
    moot.publish(SPACE, { text: '@MyAgent missed' })
    moot.publish(SPACE, { speaker: moot.agent.actor_id, text: 'mine', thread_id: 'thr_1' })
    await eventually('it is up again', () => ups(client).length === 2)
    moot.publish(SPACE, { text: 'an answer', thread_id: 'thr_1' })
    moot.publish(SPACE, { text: '@MyAgent live' })
    await client.hears(1)
    gate.shut = false
    let take: () => void = () => undefined
    client.gate = new Promise((resolve) => {
      take = resolve
    })
    moot.sockets.drop('cut')
    await eventually('the first of what was missed is given', () => client.offered === 2)
    moot.sockets.drop('cut')
    await eventually('it is down', () => states(client).at(-1) === 'down')
    take()
    await client.hears(3)
    expect(client.told.map(({ meta }) => meta.event_type)).toEqual(['mention', 'mention', 'thread_reply'])
  })

  test('a connection that breaks on it each time keeps nobody from what is said now', async () => {
    let broken = false
    const habit: Habit = (_method, url) => {
      return url.pathname.endsWith('/events') && broken ? Promise.resolve(CUT) : undefined
    }
    const [moot, client] = await behind(() => habit)
    await caughtUp(moot)
    broken = true
    moot.sockets.drop('cut')
    await eventually('it is up again', () => ups(client).length === 2)
    moot.publish(SPACE, { text: '@MyAgent live' })
    await client.hears(1)
    expect(ups(client)).toEqual([true, false])
  })

  test('at the start, and there before anything is said: the past is not told', async () => {
    const [habit, gate] = gated(async () => ({ status: 503, body: {} }))
    const moot = await simulator()
    for (let i = 0; i < 3; i++) moot.publish(SPACE, { text: '@MyAgent long ago' })
    const env = { CONVO_API_URL: await front(moot, habit), CONVO_SPACE_ID: SPACE }
    const client = await connected(moot, env, { limits: { historyMs: 100 } })
    await eventually('it is up', () => ups(client).length === 1)
    gate.shut = false
    await eventually('it is there again', () => client.log.includes('is there again'))
    moot.publish(SPACE, { text: '@MyAgent live' })
    await client.hears(1)
    expect(words(client)).toEqual(['live'])
  })

  test('after a break, without an answer: what is said meanwhile waits for it, no longer', async () => {
    const [habit, gate] = gated(() => never)
    gate.shut = false
    const [moot, client] = await behind(() => habit, { limits: { historyMs: 200 } })
    await caughtUp(moot)
    gate.shut = true
    moot.sockets.drop('cut')
    await eventually('it is down', () => states(client).at(-1) === 'down')
    await eventually('it is connected', () => moot.sockets.count(SPACE) === 1)
    moot.publish(SPACE, { text: '@MyAgent meanwhile' })
    await client.hears(1)
    expect(ups(client)).toEqual([true, false])
  })

  test('at the start, and nothing is said until the connection breaks: that is a gap', async () => {
    const [habit] = gated(async () => ({ status: 503, body: {} }))
    const [moot, client] = await behind(() => habit)
    await eventually('it is up', () => ups(client).length === 1)
    moot.sockets.drop('cut')
    await eventually('it is up again', () => ups(client).length === 2)
    expect(ups(client)).toEqual([true, false])
  })
})

describe('what no backend should answer costs no subscription:', () => {
  for (const body of ['', '{}', 'null', '<html>', '{"error":"x"}', `[{"x":${nested(50_000)}}]`]) {
    for (const path of ['/events', '/join']) {
      test(`${JSON.stringify(body).slice(0, 40)} at ${path}`, async () => {
        const [moot, client] = await behind(
          () => (_method, url) => (url.pathname.endsWith(path) ? { body } : undefined),
        )
        expect((await client.tool('subscribe', { space_id: SPACE })).isError).toBe(false)
        moot.publish(SPACE, { text: '@MyAgent live' })
        await client.hears(1)
      })
    }
  }

  test('a space that is listed twice, and it is followed once', async () => {
    const twice = { body: [{ space_id: SPACE }, { space_id: SPACE }] }
    const moot = await simulator()
    const url = await front(moot, (_method, { pathname }) =>
      pathname.endsWith('/actors/me/spaces') ? twice : undefined,
    )
    const client = await connected(moot, { CONVO_API_URL: url })
    expect((await client.tool('subscribe')).text).toContain('Subscribed to 1 new space(s). Total: 1')
    expect(moot.sockets.count()).toBe(1)
  })

  test('compressed answers to whoever does not say that it can read none', async () => {
    const habit: Habit = (_method, _url, headers) =>
      headers['accept-encoding'] === 'identity' ? undefined : { body: '\x1f\x8b' }
    const [, client] = await behind(() => habit)
    expect((await client.tool('subscribe', { space_id: SPACE })).isError).toBe(false)
  })

  for (const path of ['/actors/me', '/join', '/actors/me/spaces', '/status']) {
    test(`${path} dripping without an end`, async () => {
      let dripping = true
      const habit: Habit = (_method, url) =>
        url.pathname.endsWith(path) && dripping ? Promise.resolve(DRIP) : undefined
      const [moot, client] = await behind(() => habit, { limits: { httpMs: 100 } })
      const all = client.tool('subscribe')
      await eventually('it is given up', () => /within 100 ms|push stream .* up/.test(client.log))
      dripping = false
      await all
      await eventually('it is up', () => states(client).at(-1) === 'up')
      moot.publish(SPACE, { text: '@MyAgent live' })
      await client.hears(1)
    })
  }

  test('an error whose detail is nested too deep to be written down', async () => {
    const detail = { status: 409, body: `{"detail":${nested(50_000)}}` }
    const [moot, client] = await behind(
      () => (_method, url) => (url.pathname.endsWith('/join') ? detail : undefined),
    )
    expect((await client.tool('subscribe', { space_id: SPACE })).isError).toBe(false)
    moot.publish(SPACE, { text: '@MyAgent live' })
    await client.hears(1)
  })

  for (const member of ['events', 'items', 'data']) {
    test(`a list in "${member}" is one`, async () => {
      const [moot, client] = await behind((moot) => (_method, url) => {
        return url.pathname.endsWith('/events') ? { body: { [member]: moot.space(SPACE).events } } : undefined
      })
      await caughtUp(moot)
      moot.sockets.drop('cut')
      moot.publish(SPACE, { text: '@MyAgent missed' })
      await client.hears(1)
      expect(client.pushStatuses(SPACE).filter(({ continuous }) => continuous === false)).toEqual([])
    })
  }

  for (const status of [404, 405, 501]) {
    test(`no join (${status}), said once`, async () => {
      const habit: Habit = (_method, url) =>
        url.pathname.endsWith('/join') ? { status, body: {} } : undefined
      const [moot, client] = await behind(() => habit)
      expect((await client.tool('subscribe', { space_id: SPACE })).isError).toBe(false)
      moot.publish(SPACE, { text: '@MyAgent live' })
      await client.hears(1)
      expect(client.log.match(/followed all the same: .*/g)).toHaveLength(1)
    })
  }
})

test('a history that comes back under other ids is not told again', async () => {
  const DAY_MS = 86_400_000
  let isForgotten = false
  const [moot, client] = await behind((simulated) => {
    for (let days = 30; days > 0; days--) {
      simulated.publish(SPACE, { text: `@MyAgent ${days} days ago` })
      const { events } = simulated.space(SPACE)
      const timestamp = new Date(Date.now() - days * DAY_MS).toISOString()
      events.splice(-1, 1, ...events.slice(-1).map((event) => ({ ...event, timestamp })))
    }
    return (_method, url) =>
      isForgotten && url.searchParams.has('since') ? { status: 404, body: {} } : undefined
  })
  await caughtUp(moot)
  moot.publish(SPACE, { text: '@MyAgent now' })
  await client.hears(1)
  const { events } = moot.space(SPACE)
  events.splice(0, events.length, ...events.map((event) => ({ ...event, event_id: `new_${event.event_id}` })))
  isForgotten = true
  moot.sockets.drop('cut')
  await eventually('it is up again', () => states(client).slice(-2).join() === 'down,up')
  moot.publish(SPACE, { text: '@MyAgent later' })
  await eventually('the next', () => client.contents.at(-1)?.includes('later'))
  expect(client.contents.filter((text) => text.includes('days ago'))).toEqual([])
})

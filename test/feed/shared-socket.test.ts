/** The documented single socket: what its own frames can do, and that one space never holds up another. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { emptyFolder } from '../support/empty-folder.ts'
import { eventually } from '../support/eventually.ts'
import {
  configFrom,
  connected,
  FeedClient,
  type Simulator,
  simulator,
  type ToolAnswer,
} from './feed-client.ts'
import { front, type Habit } from './front.ts'

const SPACE = 'sprint-planning'

async function start(spaces: readonly string[] = []): Promise<[Simulator, FeedClient]> {
  const moot = await simulator()
  for (const space of spaces) moot.space(space)
  return [moot, await connected(moot, { CONVO_CHANNEL_URL: moot.channelUrl })]
}

function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open = (): void => undefined
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open }
}

test('one socket carries all spaces, subscribed and unsubscribed by frames', async () => {
  const [moot, client] = await start(['b', 'c'])
  await client.tool('subscribe')
  expect(moot.sockets.count()).toBe(1)
  for (const space of [SPACE, 'b', 'c']) moot.publish(space, { text: `@MyAgent in ${space}` })
  await client.hears(3)
  await client.tool('unsubscribe', { space_id: 'b' })
  await eventually('b is not heard any more', () => moot.sockets.count('b') === 0)
  moot.publish('b', { text: '@MyAgent unheard' })
  moot.publish('c', { text: '@MyAgent heard' })
  await client.hears(4)
  expect(client.told[3]?.meta.space_id).toBe('c')
  const types = moot.sockets.received.map(({ type }) => type)
  expect(types).toEqual(['subscribe', 'subscribe', 'subscribe', 'unsubscribe'])
})

test('a space that is refused says why, and the others go on', async () => {
  const [moot, client] = await start(['b'])
  await client.tool('subscribe')
  const answer = await client.tool('subscribe', { space_id: 'nowhere' })
  expect(answer).toMatchObject({ isError: true, text: expect.stringMatching(/HTTP 404: Space not found/) })
  moot.publish('b', { text: '@MyAgent on' })
  await client.hears(1)
  expect((await client.tool('list_subscriptions')).text).toBe(`- ${SPACE}\n- b`)
})

test('an error frame is a refusal with its words', async () => {
  const [moot, client] = await start()
  await client.tool('subscribe')
  const space = moot.space('closed-shop')
  const joined = moot.store.join.bind(moot.store)
  // A backend that lets us join and then does not let us listen.
  moot.store.join = (where, actor, adapter) => {
    const participant = joined(where, actor, adapter)
    if (where === space) space.participants.delete(actor.actor_id)
    return participant
  }
  const answer = await client.tool('subscribe', { space_id: 'closed-shop' })
  expect(answer).toMatchObject({ isError: true, text: expect.stringContaining('Not a participant') })
})

test('an answer that names no space is for the one that waits for it', async () => {
  const [moot, client] = await start(['b'])
  moot.weather.quietChannel = true
  const answers = async (space: string, frame: object): Promise<string> => {
    const asked = moot.sockets.received.length
    const answer = client.tool('subscribe', { space_id: space })
    await eventually('it is asked for', () => moot.sockets.received.length > asked)
    moot.sockets.raw(space, JSON.stringify(frame))
    return (await answer).text
  }
  expect(await answers(SPACE, { type: 'error', detail: 'not a member' })).toMatch(
    /^Not subscribed.*\(an error frame: not a member\)/,
  )
  expect(await answers('b', { type: 'subscribed' })).toMatch(/^Subscribed to b/)
  moot.sockets.raw('b', JSON.stringify({ type: 'error', detail: 'about whom?' }))
  await eventually('it is said', () => client.log.includes('dropped an error frame from the channel'))
})

test('a server that never says "subscribed" is taken to have meant it', async () => {
  const [moot, client] = await start()
  moot.weather.quietChannel = true
  const answer = await client.tool('subscribe', { space_id: SPACE })
  expect(answer.isError).toBe(false)
  moot.publish(SPACE, { text: '@MyAgent quiet' })
  await client.hears(1)
})

test('a server that follows a space late: what was said until then is fetched, also after a redeploy', async () => {
  const [moot, client] = await start()
  const ups = (): number => client.pushStatuses(SPACE).filter(({ state }) => state === 'up').length
  for (const life of [1, 2]) {
    const { open, opened } = gate()
    moot.weather.slowChannel = opened
    if (life === 1) void client.tool('subscribe', { space_id: SPACE })
    else await moot.listen()
    await eventually('it is taken to be followed', () => ups() === life, 15_000)
    moot.publish(SPACE, { text: `@MyAgent between ${life}` })
    open()
    await eventually('it is followed', () => moot.sockets.count(SPACE) === 1)
    moot.publish(SPACE, { text: `@MyAgent after ${life}` })
    await client.hears(2 * life)
    await moot.stop()
  }
  expect(client.contents.map((content) => content.split('@MyAgent ').at(-1))).toEqual([
    'between 1',
    'after 1',
    'between 2',
    'after 2',
  ])
})

test('the same of a server whose late answer names no space', async () => {
  const [moot, client] = await start()
  const { open, opened } = gate()
  moot.weather.slowChannel = opened
  moot.weather.quietChannel = true
  expect((await client.tool('subscribe', { space_id: SPACE })).isError).toBe(false)
  moot.publish(SPACE, { text: '@MyAgent between' })
  open()
  await eventually('it is followed', () => moot.sockets.count(SPACE) === 1)
  moot.sockets.raw(SPACE, JSON.stringify({ type: 'subscribed' }))
  await client.hears(1)
})

test('"subscribed" said twice is no break: without a history none is told', async () => {
  const [moot, client] = await start()
  moot.weather.failures.push({ path: '/events', status: 404, times: Number.POSITIVE_INFINITY })
  await client.tool('subscribe', { space_id: SPACE })
  moot.sockets.raw(SPACE, JSON.stringify({ type: 'subscribed', space_id: SPACE }))
  moot.publish(SPACE, { text: '@MyAgent here' })
  await client.hears(1)
  expect(client.pushStatuses(SPACE).map(({ state }) => state)).toEqual(['up'])
})

/** Asks for the space, leaves it and asks again; each of the three is dealt with once it is let `pass`. */
async function changesItsMind(
  moot: Simulator,
  client: FeedClient,
): Promise<{ readonly pass: readonly (() => void)[]; readonly answer: Promise<ToolAnswer> }> {
  const answers: Promise<ToolAnswer>[] = []
  const pass: (() => void)[] = []
  for (const tool of ['subscribe', 'unsubscribe', 'subscribe']) {
    const { open, opened } = gate()
    moot.weather.slowChannel = opened
    pass.push(open)
    answers.push(client.tool(tool, { space_id: SPACE }))
    await eventually('it is sent', () => moot.sockets.received.length === pass.length)
  }
  moot.weather.slowChannel = undefined
  return { pass, answer: answers[2] ?? Promise.reject(new Error('not asked')) }
}

test('left and asked for again before the answer: what is said until it is followed again is fetched', async () => {
  const [moot, client] = await start()
  const { pass, answer } = await changesItsMind(moot, client)
  const [first, left, again] = pass
  first?.()
  expect((await answer).text).toMatch(/^Subscribed to sprint-planning/)
  left?.()
  await eventually('it is left', () => moot.sockets.count(SPACE) === 0)
  moot.publish(SPACE, { text: '@MyAgent unheard' })
  again?.()
  await client.hears(1)
})

test('left and asked for again before the answer: a refusal of the first is not one of the second', async () => {
  const [moot, client] = await start()
  const { pass, answer } = await changesItsMind(moot, client)
  moot.weather.handshakeStatus = 403
  moot.weather.handshakeTimes = 1
  for (const open of pass) open()
  expect((await answer).text).toMatch(/^Subscribed to sprint-planning/)
  moot.publish(SPACE, { text: '@MyAgent here' })
  await client.hears(1)
})

test('what comes while a space catches up waits beside it, beyond a limit it is fetched: whole, in order', async () => {
  const [moot, client] = await start(['b'])
  await client.tool('subscribe')
  let open = (): void => undefined
  moot.publish(SPACE, { text: '@MyAgent 0' })
  await client.hears(1)
  await moot.stop()
  moot.publish(SPACE, { text: '@MyAgent 1' })
  client.gate = new Promise((resolve) => {
    open = resolve
  })
  await moot.listen()
  // The first missed event waits for the client: what follows arrives before the catch-up is over.
  await eventually('the missed one is offered', () => client.offered === 2)
  for (let i = 2; i < 1_500; i++) moot.publish(SPACE, { text: `@MyAgent ${i}` })
  // Frames are taken in order: when this one has been, all before it have.
  moot.sockets.raw(SPACE, 'the last one')
  await eventually('all were taken', () => client.statuses.some(({ kind }) => kind === 'dropped'))
  client.gate = undefined
  open()
  await client.hears(1_500, 15_000)
  const numbers = client.contents.map((content) => Number(content.split('@MyAgent ').at(-1)))
  expect(numbers).toEqual(numbers.map((_, i) => i))
})

test('cut while the client takes its time: on the next connection what was missed comes first', async () => {
  const moot = await simulator()
  moot.space('b')
  let asked = 0
  let shown = Number.POSITIVE_INFINITY
  let history = gate()
  history.open()
  const url = await front(moot, (_method, { pathname, searchParams }) => {
    const since = searchParams.get('since')
    if (since === null || !pathname.includes(SPACE)) return undefined
    asked++
    return history.opened.then(() => {
      const events = moot.space(SPACE).events.slice(0, shown)
      return { body: events.slice(events.findIndex(({ event_id }) => event_id === since) + 1) }
    })
  })
  const client = await connected(moot, { CONVO_API_URL: url, CONVO_CHANNEL_URL: moot.channelUrl })
  const say = (n: number): unknown => moot.publish(SPACE, { text: `@MyAgent ${n}` })
  /** Frames are taken in order: when this one has been, all before it have. */
  const allTaken = async (times: number): Promise<void> => {
    moot.sockets.raw(SPACE, 'the last one')
    const dropped = (): number => client.statuses.filter(({ kind }) => kind === 'dropped').length
    await eventually('all were taken', () => dropped() === times)
  }
  say(-1)
  await client.tool('subscribe')
  say(0)
  await client.hears(1)
  await moot.stop()
  history = gate()
  shown = 2
  asked = 0
  await moot.listen()
  await eventually('what was missed is asked for', () => asked > 0)
  say(1)
  await allTaken(1)
  const read = gate()
  client.gate = read.opened
  history.open()
  await eventually('what waited is offered', () => client.offered === 2)
  await moot.stop()
  history = gate()
  shown = Number.POSITIVE_INFINITY
  asked = 0
  say(2)
  await moot.listen()
  const ups = (): number => client.pushStatuses('b').filter(({ state }) => state === 'up').length
  await eventually('the other space is up on the next connection', () => ups() === 3)
  read.open()
  await eventually('what was missed is asked for again', () => asked > 0)
  say(3)
  await allTaken(2)
  history.open()
  await client.hears(4)
  expect(client.contents.map((content) => Number(content.split('@MyAgent ').at(-1)))).toEqual([0, 1, 2, 3])
})

test('the handshake of the channel is refused: every space says so, and comes back', async () => {
  const [moot, client] = await start(['b'])
  moot.weather.handshakeStatus = 403
  const answer = await client.tool('subscribe')
  expect(answer.text).toMatch(/is not connected yet: moot refused to open the channel socket \(HTTP 403\)/)
  moot.weather.handshakeStatus = undefined
  await eventually('both are followed', () => moot.sockets.count(SPACE) + moot.sockets.count('b') === 2)
  expect(client.log).not.toContain(moot.key)
})

test('an address that no socket takes: every space says so, and is tried on', async () => {
  const moot = await simulator()
  const client = await connected(moot, {}, { channelUrl: `${moot.channelUrl}#x` })
  const answer = await client.tool('subscribe', { space_id: SPACE })
  expect(answer.text).toMatch(/could not open the channel socket .*its address is refused.*is kept/)
  const tries = (): number => client.pushStatuses(SPACE).length
  await eventually('it is tried again', () => tries() > 2)
  expect((await client.tool('list_subscriptions')).text).toContain('its address is refused')
  expect(client.log).not.toContain(moot.key)
})

test('a port that no socket is opened to is said to be the reason', async () => {
  const client = await connected(await simulator(), { CONVO_CHANNEL_URL: 'ws://127.0.0.1:6667/channel' })
  const answer = await client.tool('subscribe', { space_id: SPACE })
  expect(answer.text).toMatch(/could not open the channel socket at 127.0.0.1:6667: its port is one that no/)
  expect(answer.text).toContain('Try: check CONVO_CHANNEL_URL and your network')
})

test('a channel address without a channel is the one that is to be checked', async () => {
  const moot = await simulator()
  const client = await connected(moot, { CONVO_CHANNEL_URL: `${moot.channelUrl}s` })
  const answer = await client.tool('subscribe', { space_id: SPACE })
  expect(answer.text).toMatch(
    /refused to open the channel socket \(HTTP 404\).*Try: check CONVO_CHANNEL_URL\.$/,
  )
})

test('an event that names no space is that of the only one; else it is reported', async () => {
  const [moot, client] = await start(['b'])
  const frame = (id: string): string => {
    const data = {
      event_id: id,
      text: '@MyAgent nameless',
      speaker_id: 'somebody',
      timestamp: '2026-01-01T00:00:00Z',
    }
    return JSON.stringify({ type: 'context_event', data })
  }
  await client.tool('subscribe', { space_id: SPACE })
  moot.sockets.raw(SPACE, frame('evt_1'))
  await client.hears(1)
  expect(client.told[0]?.meta).toMatchObject({ event_id: 'evt_1', space_id: SPACE })
  await client.tool('subscribe', { space_id: 'b' })
  moot.sockets.raw(SPACE, frame('evt_2'))
  const reports = (): number => client.log.split('dropped a context_event from the channel').length - 1
  await eventually('it is reported', () => reports() === 1)
  // Some of the one that was left may still be on its way.
  await client.tool('unsubscribe', { space_id: 'b' })
  moot.sockets.raw(SPACE, frame('evt_3'))
  await eventually('that is reported too', () => reports() === 2)
  expect(client.told).toHaveLength(1)
})

test.each(['nowhere', 'closed-shop'])(
  'that another space (%s) is refused keeps no event without a name from the only one',
  async (other) => {
    const moot = await simulator()
    moot.space('closed-shop').participants.clear()
    // A backend that lets us join and then does not let us listen.
    const habit: Habit = (_method, url) =>
      url.pathname.endsWith('closed-shop/join') ? { body: {} } : undefined
    const env = { CONVO_API_URL: await front(moot, habit), CONVO_CHANNEL_URL: moot.channelUrl }
    const client = await connected(moot, env)
    await client.tool('subscribe', { space_id: SPACE })
    expect((await client.tool('subscribe', { space_id: other })).text).toMatch(/^Not subscribed/)
    const data = { event_id: 'evt_1', text: '@MyAgent nameless', speaker_id: 'somebody' }
    moot.sockets.raw(SPACE, JSON.stringify({ type: 'context_event', data }))
    await client.hears(1)
    expect(client.told[0]?.meta.space_id).toBe(SPACE)
  },
)

test('a space the server takes back is down and said to be, and asked for again; nothing is lost', async () => {
  const [moot, client] = await start(['b'])
  await client.tool('subscribe')
  const states = (): readonly string[] => client.pushStatuses(SPACE).map(({ state }) => state)
  await eventually(
    'the status was asked',
    () => moot.calls.filter(({ path }) => /status$/.test(path)).length === 4,
  )
  const frame = { type: 'error', space_id: SPACE, code: 4403, detail: 'removed' }
  moot.sockets.raw(SPACE, JSON.stringify(frame))
  moot.publish(SPACE, { text: '@MyAgent meanwhile' })
  await eventually('it is back', () => states().join() === 'up,down,retrying,up')
  expect(client.log).toMatch(/refused to follow space sprint-planning \(HTTP 403: removed\)/)
  moot.publish(SPACE, { text: '@MyAgent again' })
  moot.publish('b', { text: '@MyAgent elsewhere' })
  await client.hears(3)
  expect(client.contents.map((content) => content.split(' ').at(-1)).sort()).toEqual([
    'again',
    'elsewhere',
    'meanwhile',
  ])
  expect(client.pushStatuses('b').map(({ state }) => state)).toEqual(['up'])
})

test('a space that is refused on a connection of an old key: it is opened again with that in the file', async () => {
  const moot = await simulator()
  for (const space of ['b', 'c']) moot.space(space)
  const file = join(emptyFolder(), 'key')
  writeFileSync(file, moot.key)
  const env = {
    CONVO_API_URL: moot.url,
    CONVO_CHANNEL_URL: moot.channelUrl,
    CONVO_API_KEY_FILE: file,
    CONVO_SPACE_ID: SPACE,
  }
  const client = new FeedClient(configFrom(env))
  await client.initialize()
  await eventually('it is followed', () => moot.sockets.count(SPACE) === 1)
  moot.store.actors.set(moot.agent.actor_id, { ...moot.agent, api_key: 'convo_new' })
  writeFileSync(file, 'convo_new')
  moot.weather.handshakeStatus = 401
  moot.weather.handshakeTimes = 1
  expect((await client.tool('subscribe', { space_id: 'b' })).text).toMatch(/^Subscribed to b/)
  moot.publish(SPACE, { text: '@MyAgent here' })
  moot.publish('b', { text: '@MyAgent there' })
  await client.hears(2)
  expect(client.log).toContain('down: it is opened again with another key')
  // And one that was let in before.
  moot.store.actors.set(moot.agent.actor_id, { ...moot.agent, api_key: 'convo_newer' })
  writeFileSync(file, 'convo_newer')
  moot.sockets.raw(SPACE, JSON.stringify({ type: 'error', space_id: SPACE, code: 401, detail: 'revoked' }))
  await eventually(
    'it is opened again',
    () => client.pushStatuses(SPACE).filter(({ state }) => state === 'up').length === 3,
  )
})

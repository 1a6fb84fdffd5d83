/** Many spaces, and a backend that is slow to give their histories, or gives none: it costs no other space anything. */
import { createServer } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { Backend } from '../../src/feed/backend.ts'
import { SpaceStatus } from '../../src/feed/space-status.ts'
import { Turns } from '../../src/feed/turns.ts'
import { eventually, pause } from '../support/eventually.ts'
import { configFrom, connected, FeedClient, type Simulator, simulator } from './feed-client.ts'
import { front, type Habit } from './front.ts'

const HEALTHY = 'sprint-planning'

async function crowd(count: number): Promise<[Simulator, readonly string[]]> {
  const moot = await simulator()
  const spaces = Array.from({ length: count }, (_, i) => `crowd-${i}`)
  for (const space of spaces) moot.space(space)
  return [moot, spaces]
}

function ups(client: FeedClient, space: string): readonly (boolean | undefined)[] {
  return client
    .pushStatuses(space)
    .filter(({ state }) => state === 'up')
    .map(({ continuous }) => continuous)
}

const never = new Promise<never>(() => undefined)

test('whose histories hang: another is subscribed, found, and continued after a break as if they were not', async () => {
  const [moot, spaces] = await crowd(20)
  let hanging = 0
  let lists = 0
  const habit: Habit = (_method, url) => {
    if (url.pathname === '/api/actors/me/spaces') lists++
    if (!/\/crowd-\d+\/events$/.test(url.pathname)) return undefined
    hanging++
    return never
  }
  const env = { CONVO_API_URL: await front(moot, habit) }
  const limits = { historyMs: 500, discoverMs: 100, httpMs: 60_000, toolMs: 10_000 }
  const client = await connected(moot, env, { limits })
  expect((await client.tool('subscribe')).isError).toBe(false)
  await eventually('they are all asked for beside', () => hanging === 2 * spaces.length)
  const asked = hanging
  const listed = lists
  await eventually('it is looked for new ones', () => lists > listed + 3)
  const added = moot.store.addSpace('added')
  expect((await client.tool('subscribe', { space_id: added.space_id })).isError).toBe(false)
  moot.publish(HEALTHY, { text: '@MyAgent one' })
  await client.hears(1)
  expect(hanging).toBe(asked)
  moot.sockets.drop('cut')
  moot.publish(HEALTHY, { text: '@MyAgent two' })
  await client.hears(2)
  expect(ups(client, HEALTHY)).toEqual([true, true])
})

test('whose histories are slow: how long one waits for its turn is not how long it takes', async () => {
  const [moot, spaces] = await crowd(48)
  const habit: Habit = (_method, url) =>
    url.pathname.endsWith('/events') ? pause(800).then(() => ({ body: [] })) : undefined
  moot.store.spaces.delete(HEALTHY)
  const env = { CONVO_API_URL: await front(moot, habit) }
  const client = await connected(moot, env, { limits: { historyMs: 1_500, histories: 16, toolMs: 10_000 } })
  expect((await client.tool('subscribe')).text).toMatch(/^Subscribed to 48 new space/)
  expect(spaces.map((space) => ups(client, space))).toEqual(spaces.map(() => [true]))
  expect(client.log).not.toContain('not to be had')
})

test('a tool call ends in time, though no connection comes about', async () => {
  const mute = createServer(() => undefined)
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void mute.close())
  const address = mute.address()
  const port = typeof address === 'object' ? address?.port : undefined
  const env = { CONVO_API_URL: `https://127.0.0.1:${port}`, CONVO_API_KEY: 'convo_x' }
  const client = new FeedClient(configFrom(env, { limits: { toolMs: 200, httpMs: 60_000 } }))
  await client.initialize()
  const answer = await client.tool('subscribe')
  expect(answer.text).toMatch(/^Your spaces are not known yet: .* within 200 ms/)
})

test('a turn is over after a while, whether or not its task is', async () => {
  const turns = new Turns(1)
  const { signal } = new AbortController()
  void turns.take(() => never, 5_000, signal)
  expect(await turns.take(async () => 'second', 5_000, signal)).toBe('second')
})

test('turns are taken one after the other; who has no time left, or is called off, goes without', async () => {
  const turns = new Turns(1)
  const over = new AbortController()
  const order: string[] = []
  let end: () => void = () => undefined
  const first = turns.take(() => new Promise<void>((resolve) => (end = resolve)), 5_000, over.signal)
  const turn = (name: string) => async () => {
    order.push(name)
    return name
  }
  const second = turns.take(turn('second'), 5_000, over.signal)
  expect(await turns.take(turn('late'), 10, over.signal)).toBeUndefined()
  const calledOff = new AbortController()
  const off = turns.take(turn('off'), 5_000, calledOff.signal)
  calledOff.abort()
  expect(await off).toBeUndefined()
  const third = turns.take(turn('third'), 5_000, over.signal)
  end()
  expect(await Promise.all([first, second, third])).toEqual([undefined, 'second', 'third'])
  expect(order).toEqual(['second', 'third'])
  expect(await turns.take(turn('fourth'), 0, over.signal)).toBe('fourth')
})

test.each([
  [['archived', 'active'], false, ['archived', 'active']],
  [['archived', 'active'], true, ['active']],
] as const)(
  'statuses asked for at once: %j, the second answered first: %s',
  async (answers, swapped, told) => {
    const config = configFrom({ CONVO_API_URL: 'http://127.0.0.1:9', CONVO_API_KEY: 'convo_x' })
    const heard: unknown[] = []
    const backend = new Backend(config, () => undefined)
    onTestFinished(() => backend.close())
    const status = new SpaceStatus({
      spaceId: HEALTHY,
      backend,
      push: async ({ meta }) => void heard.push(meta?.status),
      config,
    })
    await status.asked()('paused')
    const asked = answers.map((said) => ({ said, answered: status.asked() }))
    for (const { said, answered } of swapped ? asked.toReversed() : asked) await answered(said)
    expect(heard).toEqual(['paused', ...told])
  },
)

/**
 * Backends that answer otherwise than the documentation shows: what they leave out or add costs no event, brings
 * none twice, and makes nothing up.
 */
import { describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { type Changes, connected, type FeedClient, type Simulator, simulator } from './feed-client.ts'
import { front, type Habit } from './front.ts'

const SPACE = 'sprint-planning'

/** A client that wants to follow the space, of a moot with that habit. */
async function behind(
  habit: (moot: Simulator) => Habit,
  changes: Changes = {},
): Promise<[Simulator, FeedClient]> {
  const moot = await simulator()
  const url = await front(moot, habit(moot))
  return [moot, await connected(moot, { CONVO_API_URL: url }, changes)]
}

describe('the status of a space', () => {
  const statuses = (client: FeedClient): readonly (string | undefined)[] =>
    client.told.filter(({ meta }) => meta.event_type === 'status_change').map(({ meta }) => meta.status)
  const listing = (url: URL): boolean => url.pathname === '/api/actors/me/spaces'
  const all = (moot: Simulator): unknown =>
    [...moot.store.spaces.values()].map(({ space_id, status }) => ({ space_id, status }))

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

  test('is active where the list names none', async () => {
    const habit: Habit = (_method, url) => (listing(url) ? { body: [{ space_id: SPACE }] } : undefined)
    const [, client] = await behind(() => habit)
    expect((await client.tool('subscribe')).text).toMatch(/^Subscribed to 1 new/)
  })
})

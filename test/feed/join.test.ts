/**
 * When a space is joined: from when that is asked for until it has succeeded, or a connection has come up without.
 * What fails meanwhile is tried again; nothing is joined that nobody asked for.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { emptyFolder } from '../support/empty-folder.ts'
import { eventually } from '../support/eventually.ts'
import { configFrom, FeedClient, type Simulator, simulator, type ToolAnswer } from './feed-client.ts'
import { CUT, front, type Habit } from './front.ts'

const SPACE = 'sprint-planning'
const NOT_NOW = { status: 503, body: { detail: 'not now' } }
const NOT_INVITED = { status: 403, body: { detail: 'not invited' } }

function joins(moot: Simulator): number {
  return moot.calls.filter(({ path }) => path.endsWith('/join')).length
}

/** Refuses the agent from now on, but for a join. */
function putOut(moot: Simulator, shared: boolean): void {
  moot.space(SPACE).participants.delete(moot.agent.actor_id)
  if (!shared) moot.sockets.drop({ code: 4403 })
  else moot.sockets.raw(SPACE, JSON.stringify({ type: 'error', space_id: SPACE, code: 4403 }))
}

function times(client: FeedClient, state: string): number {
  return client.pushStatuses(SPACE).filter((status) => status.state === state).length
}

describe.each(['its own socket', 'the shared socket'])('over %s', (socket) => {
  const shared = socket === 'the shared socket'

  async function connected(moot: Simulator, habit: Habit, file?: string): Promise<FeedClient> {
    const env = {
      CONVO_API_URL: await front(moot, habit),
      ...(shared ? { CONVO_CHANNEL_URL: moot.channelUrl } : {}),
      ...(file === undefined ? { CONVO_API_KEY: moot.key } : { CONVO_API_KEY_FILE: file }),
    }
    const client = new FeedClient(configFrom(env))
    await client.initialize()
    return client
  }

  /** Joined, connected and caught up; `held`: from then on a history comes once `release` is called. */
  async function heldBack(): Promise<{
    moot: Simulator
    client: FeedClient
    subscribing: Promise<ToolAnswer>
    release: () => void
  }> {
    const moot = await simulator()
    let release = (): void => undefined
    let asked = 0
    let held: Promise<undefined> | undefined
    const client = await connected(moot, (_method, url) => {
      if (held === undefined || !url.pathname.endsWith('/events')) return undefined
      asked++
      // (What a front answers late it must answer itself.)
      return held.then(() => ({ body: moot.space(SPACE).events }))
    })
    await client.tool('subscribe')
    held = new Promise((resolve) => {
      release = () => {
        held = undefined
        resolve(undefined)
      }
    })
    moot.sockets.drop('cut')
    await eventually('it catches up', () => asked > 0)
    const subscribing = client.tool('subscribe', { space_id: SPACE })
    // Calls are taken one after the other.
    await client.tool('list_subscriptions')
    expect(joins(moot)).toBe(0)
    return { moot, client, subscribing, release }
  }

  test.each([
    ['fails', NOT_NOW],
    ['is cut', CUT],
    ['is refused', NOT_INVITED],
  ])('another agent joins although its first join %s', async (_how, answer) => {
    const moot = await simulator({ key: 'convo_first' })
    const file = join(emptyFolder(), 'key')
    writeFileSync(file, 'convo_first')
    let failing = 0
    const habit: Habit = (_method, url) =>
      url.pathname.endsWith('/join') && failing-- > 0 ? answer : undefined
    const client = await connected(moot, habit, file)
    await client.tool('subscribe', { space_id: SPACE })
    const other = moot.store.addActor({ display_name: 'NewAgent', api_key: 'convo_second' })
    moot.store.actors.delete(moot.agent.actor_id)
    writeFileSync(file, 'convo_second')
    failing = 1
    moot.sockets.drop('cut')
    moot.publish(SPACE, { text: 'welcome', mentions: [other.actor_id] })
    await client.hears(1)
    expect(client.contents[0]).toContain('@NewAgent mentioned')
    expect(failing).toBeLessThan(1)
  })

  test('what is subscribed again in an outage is joined after it', async () => {
    const moot = await simulator()
    const client = await connected(moot, () => undefined)
    await client.tool('subscribe', { space_id: SPACE })
    await moot.stop()
    moot.space(SPACE).participants.delete(moot.agent.actor_id)
    await eventually('it is down', () => times(client, 'retrying') > 0)
    expect((await client.tool('subscribe', { space_id: SPACE })).text).toMatch(/The subscription is kept/)
    await moot.listen()
    await eventually('it is followed', () => times(client, 'up') === 2)
    expect(joins(moot)).toBe(2)
  })

  test.each([
    ['fails', NOT_NOW],
    ['is refused', NOT_INVITED],
  ])('what is subscribed again is joined although the first join %s', async (_how, answer) => {
    const moot = await simulator()
    let failing = 0
    const client = await connected(moot, (_method, url) =>
      url.pathname.endsWith('/join') && failing-- > 0 ? answer : undefined,
    )
    await client.tool('subscribe', { space_id: SPACE })
    putOut(moot, shared)
    await eventually('it is put out', () => times(client, 'retrying') > 0)
    failing = 1
    await client.tool('subscribe', { space_id: SPACE })
    await eventually('it is followed', () => times(client, 'up') === 2)
    expect(joins(moot)).toBe(2)
  })

  test('what was subscribed again while it caught up is not joined by itself later', async () => {
    const { moot, client, subscribing, release } = await heldBack()
    release()
    expect((await subscribing).text).toMatch(/^Already subscribed/)
    expect(joins(moot)).toBe(0)
    putOut(moot, shared)
    const again = (): boolean => times(client, 'retrying') > 2 || joins(moot) > 0
    await eventually('it was tried again', again)
    expect(joins(moot)).toBe(0)
  })

  test('what is subscribed again while it catches up, and put out meanwhile, is joined', async () => {
    const { moot, client, subscribing, release } = await heldBack()
    putOut(moot, shared)
    moot.sockets.raw(SPACE, 'no frame')
    if (shared) await eventually('it is refused', () => client.log.includes('from the channel'))
    else await eventually('it is closed', () => moot.sockets.count(SPACE) === 0)
    release()
    expect((await subscribing).text).toMatch(/^Already subscribed/)
    expect(joins(moot)).toBe(1)
  })

  test('what is subscribed again and unsubscribed meanwhile is answered with that', async () => {
    const moot = await simulator()
    const client = await connected(moot, () => undefined)
    await client.tool('subscribe', { space_id: SPACE })
    moot.weather.hangHandshakes = true
    moot.sockets.drop('cut')
    await eventually('a handshake hangs', () => moot.sockets.count() === 0 && moot.sockets.waiting > 0)
    const subscribing = client.tool('subscribe', { space_id: SPACE })
    await client.tool('unsubscribe', { space_id: SPACE })
    expect((await subscribing).text).toMatch(/unsubscribed meanwhile/)
  })
})

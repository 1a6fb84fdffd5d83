/**
 * A restart of the backend in every state loses no event that the backend still has, tells none twice, and keeps
 * the order. What can't be filled is said.
 */

import { getEventListeners } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { eventually, pause } from '../support/eventually.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'
import { certs } from '../support/tls.ts'
import { connected, type FeedClient, type Simulator, simulator } from './feed-client.ts'

const tls = {
  key: readFileSync(join(certs, 'server.key'), 'utf8'),
  cert: readFileSync(join(certs, 'server.pem'), 'utf8'),
}
const SPACE = 'sprint-planning'

async function followed(moot: Simulator, client: FeedClient): Promise<void> {
  await eventually('the stream is up', () => client.pushStatuses(SPACE).at(-1)?.state === 'up')
  await eventually('the space is followed', () => moot.sockets.count(SPACE) > 0)
}

/** Says `count` things from `first` on. */
function say(moot: Simulator, first: number, count: number, quietly = false): void {
  for (let i = first; i < first + count; i++) {
    moot.store.say(moot.space(SPACE), { speaker: moot.alice.actor_id, text: `@MyAgent ${i}` }, quietly)
  }
}

function numbers(client: FeedClient): number[] {
  return client.contents.map((content) => Number(content.split('@MyAgent ').at(-1)))
}

/** 0 … count-1, each once, in order. */
async function hasAll(client: FeedClient, count: number): Promise<void> {
  await eventually(
    `all ${count} (there are ${client.told.length})`,
    () => client.told.length >= count,
    10_000,
  )
  // A second copy would come now.
  await pause(30)
  expect(numbers(client)).toEqual(Array.from({ length: count }, (_, i) => i))
}

function continuity(client: FeedClient): (boolean | undefined)[] {
  return client
    .pushStatuses(SPACE)
    .filter(({ state }) => state === 'up')
    .map(({ continuous }) => continuous)
}

const variants: readonly (readonly [string, (moot: Simulator) => Record<string, string>])[] = [
  ['one socket a space', () => ({})],
  ['the shared socket', (moot) => ({ CONVO_CHANNEL_URL: moot.channelUrl })],
]

for (const [variant, env] of variants) {
  describe(`over ${variant}, no event is lost, doubled or out of order when the backend restarts`, () => {
    async function start(): Promise<[Simulator, FeedClient]> {
      const moot = await simulator()
      const client = await connected(moot, { CONVO_SPACE_ID: SPACE, ...env(moot) })
      return [moot, client]
    }

    test('while the feed is idle', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      say(moot, 0, 3)
      await client.hears(3)
      await moot.stop()
      say(moot, 3, 3)
      await moot.listen()
      await hasAll(client, 6)
      say(moot, 6, 1)
      await hasAll(client, 7)
      expect(continuity(client)).toEqual([true, true])
    })

    test('while events are pouring in', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      say(moot, 0, 500)
      await moot.restart()
      say(moot, 500, 500)
      await followed(moot, client)
      say(moot, 1_000, 100)
      await hasAll(client, 1_100)
    })

    test('while the client takes nothing', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      let open = (): void => undefined
      client.gate = new Promise((resolve) => {
        open = resolve
      })
      say(moot, 0, 50)
      await pause(20)
      await moot.restart()
      say(moot, 50, 50)
      client.gate = undefined
      open()
      await hasAll(client, 100)
    })

    test('again and again, at once', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      for (let round = 0; round < 8; round++) {
        say(moot, round * 10, 5)
        await moot.restart()
        say(moot, round * 10 + 5, 5)
        await pause(round * 3)
      }
      await hasAll(client, 80)
      expect(continuity(client).every((each) => each === true)).toBe(true)
    })

    test('with more missed than a page holds', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      say(moot, 0, 1)
      await client.hears(1)
      await moot.stop()
      say(moot, 1, 950)
      await moot.listen()
      await hasAll(client, 951)
    })

    test('with more missed than a page holds, by a backend whose full pages hold the newest', async () => {
      const [moot, client] = await start()
      moot.weather.newestPages = true
      moot.weather.newestFirst = true
      await followed(moot, client)
      say(moot, 0, 1)
      await client.hears(1)
      await moot.stop()
      say(moot, 1, 950)
      await moot.listen()
      await hasAll(client, 951)
    })

    test('in a space that was empty when it was subscribed', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      await moot.stop()
      say(moot, 0, 450)
      await moot.listen()
      await hasAll(client, 450)
    })

    test('and the past is not told again in a space that was not', async () => {
      const moot = await simulator()
      say(moot, 1_000, 300)
      const client = await connected(moot, { CONVO_SPACE_ID: SPACE, ...env(moot) })
      await followed(moot, client)
      await moot.stop()
      say(moot, 0, 10)
      await moot.listen()
      await hasAll(client, 10)
    })

    for (const path of ['/actors/me', '/join', '/events?limit', '/status']) {
      test(`before it has answered ${path}`, async () => {
        const moot = await simulator()
        moot.weather.hangHttp = true
        const limits = { httpMs: 60_000 }
        const client = await connected(moot, { CONVO_SPACE_ID: SPACE, ...env(moot) }, { limits })
        // Answer all up to `path`, then go down while that one waits.
        await eventually('the first call waits', () => moot.calls.length > 0)
        moot.weather.hangHttp = false
        moot.weather.hangPath = path
        await moot.restart()
        await eventually(`${path} waits`, () => moot.calls.some((call) => call.path.includes(path)))
        moot.weather.hangPath = undefined
        await moot.restart()
        await followed(moot, client)
        say(moot, 0, 5)
        await hasAll(client, 5)
      })
    }

    test('during the handshake', async () => {
      const moot = await simulator()
      moot.weather.hangHandshakes = true
      const client = await connected(moot, { CONVO_SPACE_ID: SPACE, ...env(moot) })
      await eventually('it is dialing', () => moot.sockets.waiting > 0)
      // From here on it counts as subscribed: the past has been read (per space) or will be (shared).
      moot.weather.hangHandshakes = false
      await moot.restart()
      await followed(moot, client)
      say(moot, 0, 5)
      await hasAll(client, 5)
    })

    test('while it fetches what it missed', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      say(moot, 0, 1)
      await client.hears(1)
      await moot.stop()
      say(moot, 1, 700)
      moot.weather.hangPath = 'since='
      await moot.listen()
      await eventually('it asks', () => moot.calls.some(({ path }) => path.includes('since=')))
      say(moot, 701, 50)
      moot.weather.hangPath = undefined
      await moot.restart()
      await hasAll(client, 751)
    })

    test('between two pages of what it missed', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      say(moot, 0, 1)
      await client.hears(1)
      await moot.stop()
      say(moot, 1, 700)
      moot.weather.hangPath = 'before='
      await moot.listen()
      await eventually('it asks', () => moot.calls.some(({ path }) => path.includes('before=')))
      moot.weather.hangPath = undefined
      await moot.restart()
      await hasAll(client, 701)
    })

    test('while it waits for the next attempt', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      await moot.stop()
      say(moot, 0, 5)
      await eventually('it has failed often', () => client.pushStatuses(SPACE).length > 6)
      await moot.listen()
      await hasAll(client, 5)
    })

    test('and a broadcast got lost: the next break brings it', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      say(moot, 0, 1)
      say(moot, 1, 1, true)
      await client.hears(1)
      moot.sockets.drop('cut')
      await hasAll(client, 2)
    })

    test('and the live order was not the stored one', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      say(moot, 0, 1, true)
      // The second of two is broadcast, the first not yet: then the connection breaks.
      say(moot, 1, 1)
      await client.hears(1)
      moot.sockets.drop('cut')
      await client.hears(2)
      expect(numbers(client).toSorted()).toEqual([0, 1])
    })

    test('and a thread the agent took part in meanwhile counts', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      await moot.stop()
      moot.publish(SPACE, { text: 'mine', speaker: moot.agent.actor_id, thread_id: 'thr_x' })
      moot.publish(SPACE, { text: 'reply', thread_id: 'thr_x' })
      await moot.listen()
      await client.hears(1)
      expect(client.contents).toEqual(['Thread reply from Alice:\nreply'])
    })

    test('and a status changed meanwhile', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      await eventually(
        'its status is known',
        () => moot.calls.filter(({ path }) => path.endsWith('/status')).length > 1,
      )
      await moot.stop()
      moot.space(SPACE).status = 'paused'
      await moot.listen()
      await client.hears(1)
      expect(client.contents).toEqual([`Space ${SPACE} is now paused (was active)`])
    })

    test('and it gives no history at all: the space is followed, and each break is told as a gap', async () => {
      const moot = await simulator()
      moot.weather.failures.push({ path: '/events', status: 422, times: Number.POSITIVE_INFINITY })
      const client = await connected(moot, env(moot))
      expect((await client.tool('subscribe')).isError).toBe(false)
      await followed(moot, client)
      say(moot, 0, 2)
      await hasAll(client, 2)
      await moot.restart()
      await eventually('it is up again', () => continuity(client).length === 2)
      await followed(moot, client)
      say(moot, 2, 2)
      await hasAll(client, 4)
      expect(continuity(client)).toEqual([false, false])
      expect(client.log).toContain("breaks can't be filled")
    })

    test('and it has forgotten where we were: what it still has is told, and a gap is', async () => {
      const [moot, client] = await start()
      await followed(moot, client)
      say(moot, 0, 1)
      await client.hears(1)
      await moot.stop()
      moot.space(SPACE).events = []
      say(moot, 1, 5)
      await moot.listen()
      await followed(moot, client)
      say(moot, 6, 3)
      await hasAll(client, 9)
      expect(continuity(client)).toEqual([true, false])
      // From here on nothing is unknown again.
      await moot.restart()
      say(moot, 9, 1)
      await hasAll(client, 10)
      expect(continuity(client)).toEqual([true, false, true])
    })
  })

  test(`over ${variant}, a connection that went dead in silence is replaced`, async () => {
    const moot = await simulator()
    const limits = { pingMs: 60 }
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE, ...env(moot) }, { limits })
    await followed(moot, client)
    moot.sockets.freeze()
    say(moot, 0, 3)
    await hasAll(client, 3)
    expect(client.log).toMatch(/no sign of life for 60 ms/)
  })

  test(`over ${variant}, what is lost with a connection that went dead was lost since it last lived`, async () => {
    const moot = await simulator()
    const limits = { pingMs: 60 }
    moot.weather.failures.push({ path: '/events', status: 404, times: Number.POSITIVE_INFINITY })
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE, ...env(moot) }, { limits })
    await followed(moot, client)
    const frozenAt = Date.now()
    moot.sockets.freeze()
    await eventually('it is up again', () => client.pushStatuses(SPACE).length === 3)
    const [, down, up] = client.pushStatuses(SPACE)
    expect(down?.state).toBe('down')
    expect(down?.at).toBeLessThanOrEqual(frozenAt)
    expect(up?.downMs).toBeGreaterThanOrEqual(60)
  })
}

test('what had come for a client that took nothing is lost with its connection', async () => {
  const moot = await simulator()
  const proxy = await TcpProxy.start(Number(new URL(moot.url).port))
  moot.weather.failures.push({ path: '/events', status: 404, times: Number.POSITIVE_INFINITY })
  const env = { CONVO_API_URL: `http://127.0.0.1:${proxy.port}`, CONVO_SPACE_ID: SPACE }
  const client = await connected(moot, env, { limits: { pingMs: 60, maxQueued: 10_000 } })
  await followed(moot, client)
  let open = (): void => undefined
  client.gate = new Promise((resolve) => {
    open = resolve
  })
  const beganAt = Date.now()
  for (let i = 0; i < 3_000; i++) moot.publish(SPACE, { text: `@MyAgent ${i} ${'x'.repeat(1_000)}` })
  await pause(300)
  proxy.cut()
  client.gate = undefined
  open()
  await eventually('it is up again', () => client.pushStatuses(SPACE).length >= 3)
  const down = client.pushStatuses(SPACE).find(({ state }) => state === 'down')
  expect(client.told.length).toBeLessThan(3_000)
  expect(down?.at).toBeLessThanOrEqual(beganAt + 100)
})

test.each(['http', 'https'])(
  'a quiet connection over %s whose server answers pings is left alone, and beats',
  async (scheme) => {
    const moot = await simulator(scheme === 'https' ? { tls } : {})
    const env = { CONVO_SPACE_ID: SPACE, SSL_CERT_FILE: join(certs, 'ca.pem') }
    const client = await connected(moot, env, { limits: { pingMs: 40, heartbeatMs: 50 } })
    await followed(moot, client)
    const beats = (): number => moot.sockets.received.filter(({ type }) => type === 'heartbeat').length
    await eventually('several heartbeats', () => beats() >= 6)
    expect(client.pushStatuses(SPACE)).toHaveLength(1)
  },
)

test('over TLS a restart loses nothing either, and a dead connection is noticed', async () => {
  const moot = await simulator({ tls })
  const env = { CONVO_SPACE_ID: SPACE, SSL_CERT_FILE: join(certs, 'ca.pem') }
  const client = await connected(moot, env, { limits: { pingMs: 60 } })
  await followed(moot, client)
  say(moot, 0, 2)
  await moot.stop()
  say(moot, 2, 2)
  await moot.listen()
  await hasAll(client, 4)
  await followed(moot, client)
  moot.sockets.freeze()
  say(moot, 4, 2)
  await hasAll(client, 6)
})

test('many spaces come back after a restart, each without loss', async () => {
  const moot = await simulator()
  const spaces = Array.from({ length: 20 }, (_, i) => `space-${i}`)
  for (const space of spaces) moot.space(space)
  const client = await connected(moot)
  await client.tool('subscribe')
  await moot.stop()
  for (const space of spaces) moot.publish(space, { text: '@MyAgent missed' })
  await moot.listen()
  await client.hears(20)
  await pause(50)
  expect(client.told.map(({ meta }) => meta.space_id).toSorted()).toEqual(spaces.toSorted())
})

test.each(variants)(
  'connections one behind the other leave no trace in the signals that live on: %s',
  async (_, env) => {
    const signals = new Set<AbortSignal>()
    const add = EventTarget.prototype.addEventListener
    const spied = vi.spyOn(EventTarget.prototype, 'addEventListener')
    onTestFinished(() => void spied.mockRestore())
    spied.mockImplementation(function (this: EventTarget, ...args) {
      if (this instanceof AbortSignal) signals.add(this)
      add.apply(this, args)
    })
    /** Of the signal that has most. */
    const listeners = (): number => {
      const living = [...signals].filter(({ aborted }) => !aborted)
      return Math.max(...living.map((signal) => getEventListeners(signal, 'abort').length))
    }
    const moot = await simulator()
    const client = await connected(moot, env(moot))
    await client.tool('subscribe', { space_id: SPACE })
    const ups = (): number => client.pushStatuses(SPACE).filter(({ state }) => state === 'up').length
    const connections = async (n: number): Promise<number> => {
      for (let before = ups(); before < n; before++) {
        moot.sockets.drop('cut')
        await eventually('the next connection', () => ups() > before)
      }
      return listeners()
    }
    const few = await connections(2)
    expect(few).toBeGreaterThan(0)
    expect(await connections(6)).toBeLessThanOrEqual(few)
  },
)

/**
 * The channel adapter's documentation, row by row: its table of variables, its tools, its notification types,
 * its troubleshooting. Each against a moot over real sockets.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { DEFAULT_LIMITS } from '../../src/feed/config.ts'
import { eventually, pause } from '../support/eventually.ts'
import { certs } from '../support/tls.ts'
import { configFrom, connected, FeedClient, simulator } from './feed-client.ts'

const SPACE = 'sprint-planning'
const SUBSCRIBED = `Subscribed to ${SPACE}. You'll receive notifications for mentions, thread replies, and decisions.`
const tls = {
  key: readFileSync(join(certs, 'server.key'), 'utf8'),
  cert: readFileSync(join(certs, 'server.pem'), 'utf8'),
}

describe('how it works', () => {
  test('the server declares claude/channel and tools, and says how to begin', async () => {
    const client = await connected(await simulator())
    const result = await client.initialize()
    expect(result.capabilities).toEqual({ tools: {}, experimental: { 'claude/channel': {} } })
    expect(String(result.instructions)).toContain('subscribe')
    expect(String(result.instructions).length).toBeLessThan(2_000)
  })

  test('initialize is answered at once though the backend never answers', async () => {
    const moot = await simulator()
    moot.weather.hangHttp = true
    moot.weather.hangHandshakes = true
    const env = { CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key, CONVO_SPACE_ID: SPACE }
    const client = new FeedClient(configFrom(env))
    const began = performance.now()
    await client.initialize()
    expect(performance.now() - began).toBeLessThan(1_000)
    expect((await client.tool('list_subscriptions')).text).toContain(`- ${SPACE} (not connected`)
  })

  test('nothing is connected before the client has initialized', async () => {
    const moot = await simulator()
    const env = { CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key, CONVO_SPACE_ID: SPACE }
    const client = new FeedClient(configFrom(env))
    await client.request('ping')
    await client.request('tools/list')
    await pause(30)
    expect(moot.calls).toEqual([])
    await client.initialize()
    await eventually('the space is followed', () => moot.sockets.count(SPACE) === 1)
  })
})

describe('environment variables', () => {
  test('CONVO_API_URL: moot API endpoint', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_API_URL: `${moot.url}/` })
    await client.tool('subscribe', { space_id: SPACE })
    expect(moot.calls.map(({ path }) => path)).toContain('/api/actors/me')
  })

  test('CONVO_API_KEY: agent API key, required for identity resolution', async () => {
    const moot = await simulator()
    expect(() => configFrom({ CONVO_API_URL: moot.url })).toThrow(/no API key/)
    const client = await connected(moot)
    await eventually('the identity is known', () =>
      client.log.includes(`connected to moot as MyAgent (${moot.agent.actor_id})`),
    )
  })

  test('CONVO_SPACE_ID: auto-join and subscribe to this space on startup', async () => {
    const moot = await simulator()
    const space = moot.store.addSpace('standup')
    const client = await connected(moot, { CONVO_SPACE_ID: 'standup' })
    await eventually('the space is followed', () => moot.sockets.count('standup') === 1)
    expect(space.participants.get(moot.agent.actor_id)).toMatchObject({
      participant_type: 'agent',
      agent_adapter: 'channel',
    })
    await eventually(
      'it is listed as connected',
      async () => (await client.tool('list_subscriptions')).text === '- standup',
    )
  })

  test('CONVO_CHANNEL_FIREHOSE: set true to receive all events', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_SPACE_ID: SPACE, CONVO_CHANNEL_FIREHOSE: 'true' })
    await eventually('the space is followed', () => client.pushStatuses(SPACE).length > 0)
    moot.publish(SPACE, { text: 'nothing for anybody' })
    const [told] = await client.hears(1)
    expect(told?.content).toBe('Alice (human):\nnothing for anybody')
    expect(told?.meta.event_type).toBe('firehose')
  })

  test('SSL_CERT_FILE: CA certificate path for self-signed TLS, for HTTP and WebSocket', async () => {
    const moot = await simulator({ tls })
    const client = await connected(moot, { SSL_CERT_FILE: join(certs, 'ca.pem') })
    expect(await client.tool('subscribe', { space_id: SPACE })).toEqual({ text: SUBSCRIBED, isError: false })
    moot.publish(SPACE, { text: '@MyAgent over TLS' })
    expect((await client.hears(1))[0]?.content).toBe('@MyAgent mentioned by Alice:\n@MyAgent over TLS')
    expect(moot.url).toMatch(/^https:/)
  })

  test('CONVO_CHANNEL_URL: the documented single socket, only when set', async () => {
    const moot = await simulator()
    moot.space('other')
    const client = await connected(moot, { CONVO_CHANNEL_URL: moot.channelUrl })
    await client.tool('subscribe')
    expect([moot.sockets.count(), moot.sockets.count(SPACE), moot.sockets.count('other')]).toEqual([1, 1, 1])
    moot.publish('other', { text: '@MyAgent hi' })
    expect((await client.hears(1))[0]?.meta.space_id).toBe('other')
  })
})

describe('subscription tools', () => {
  test('it starts with no active subscriptions', async () => {
    const moot = await simulator()
    const client = await connected(moot)
    expect((await client.tool('list_subscriptions')).text).toBe('No active subscriptions')
    moot.publish(SPACE, { text: '@MyAgent anybody there?' })
    await pause(50)
    expect(client.told).toEqual([])
    expect(moot.sockets.count()).toBe(0)
  })

  test('subscribe(space_id): subscribe to one space (also joins it)', async () => {
    const moot = await simulator()
    const space = moot.store.addSpace('new-space')
    const client = await connected(moot)
    expect((await client.tool('subscribe', { space_id: 'new-space' })).text).toMatch(
      /^Subscribed to new-space\. /,
    )
    expect(space.participants.has(moot.agent.actor_id)).toBe(true)
    expect((await client.tool('subscribe', { space_id: 'new-space' })).text).toBe(
      'Already subscribed to new-space',
    )
    expect(moot.sockets.count('new-space')).toBe(1)
  })

  test('subscribe(): subscribe to all spaces the agent participates in', async () => {
    const moot = await simulator()
    moot.space('second')
    moot.store.setStatus(moot.space('asleep'), 'paused')
    moot.store.addSpace('not-mine')
    const client = await connected(moot)
    expect((await client.tool('subscribe')).text).toBe(
      'Subscribed to 2 new space(s). Total: 2 active subscriptions.',
    )
    expect((await client.tool('list_subscriptions')).text).toBe(`- ${SPACE}\n- second`)
    expect((await client.tool('subscribe')).text).toBe('Already subscribed to all 2 spaces.')
  })

  test('a background poll detects new space joins and subscribes automatically', async () => {
    const moot = await simulator()
    const client = await connected(moot, {}, { limits: { discoverMs: 20 } })
    await client.tool('subscribe')
    moot.space('joined-later')
    await eventually('the new space is followed', () => moot.sockets.count('joined-later') === 1)
    moot.publish('joined-later', { text: '@MyAgent welcome' })
    expect((await client.hears(1))[0]?.meta.space_id).toBe('joined-later')
  })

  test('the poll runs every 30 seconds, the heartbeat every 60', () =>
    expect(DEFAULT_LIMITS).toMatchObject({ discoverMs: 30_000, heartbeatMs: 60_000 }))

  test('unsubscribe(space_id): unsubscribe from one space', async () => {
    const moot = await simulator()
    moot.space('other')
    const client = await connected(moot, {}, { limits: { discoverMs: 20 } })
    await client.tool('subscribe')
    expect((await client.tool('unsubscribe', { space_id: SPACE })).text).toBe(`Unsubscribed from ${SPACE}`)
    expect((await client.tool('unsubscribe', { space_id: SPACE })).text).toBe(`Not subscribed to ${SPACE}`)
    await eventually('its socket is gone', () => moot.sockets.count(SPACE) === 0)
    const polls = (): number => moot.calls.filter(({ path }) => path.includes('/me/spaces')).length
    const before = polls()
    await eventually('it was polled three times more', () => polls() > before + 3)
    expect((await client.tool('list_subscriptions')).text).toBe('- other')
  })

  test('unsubscribe(): unsubscribe from all, and look for no new ones', async () => {
    const moot = await simulator()
    moot.space('other')
    const client = await connected(moot, {}, { limits: { discoverMs: 20 } })
    await client.tool('subscribe')
    expect((await client.tool('unsubscribe')).text).toBe('Unsubscribed from 2 space(s).')
    await eventually('all sockets are gone', () => moot.sockets.count() === 0)
    moot.space('joined-later')
    const polls = moot.calls.length
    await pause(100)
    expect(moot.calls.length).toBe(polls)
    expect((await client.tool('list_subscriptions')).text).toBe('No active subscriptions')
  })

  test('list_subscriptions(): a list of space ids', async () => {
    const moot = await simulator()
    moot.space('b')
    const client = await connected(moot)
    await client.tool('subscribe', { space_id: SPACE })
    await client.tool('subscribe', { space_id: 'b' })
    expect(await client.tool('list_subscriptions')).toEqual({ text: `- ${SPACE}\n- b`, isError: false })
  })

  test('every tool has a schema and annotations', async () => {
    const client = await connected(await simulator())
    const { tools } = (await client.request('tools/list')) as { tools: Record<string, unknown>[] }
    expect(tools.map(({ name }) => name)).toEqual([
      'subscribe',
      'unsubscribe',
      'list_subscriptions',
      'set_interval',
      'clear_interval',
    ])
    for (const tool of tools) {
      expect(tool.inputSchema).toMatchObject({ type: 'object', additionalProperties: false })
      expect(tool.annotations).toHaveProperty('readOnlyHint')
      expect(String(tool.description).length).toBeGreaterThan(20)
    }
  })
})

describe('notification types', () => {
  test("Mentions: your agent's actor id appears in the event's mentions", async () => {
    const moot = await simulator()
    const client = await connected(moot)
    await client.tool('subscribe', { space_id: SPACE })
    const said = moot.publish(SPACE, { text: 'Can you review this PR?', mentions: [moot.agent.actor_id] })
    const [told] = await client.hears(1)
    // The documentation's example, word for word but for the id of the event.
    expect(told).toEqual({
      content: '@MyAgent mentioned by Alice:\nCan you review this PR?',
      meta: {
        source: 'convo-channel',
        space_id: 'sprint-planning',
        event_type: 'mention',
        event_id: said.event_id,
        speaker: 'alice-actor-id',
      },
    })
  })

  test('Thread replies: activity in threads your agent has participated in', async () => {
    const moot = await simulator()
    // One thread from before, found by the seeding; one that it joins while it listens.
    moot.publish(SPACE, { text: 'mine', speaker: moot.agent.actor_id, thread_id: 'thr_old' })
    const client = await connected(moot)
    await client.tool('subscribe', { space_id: SPACE })
    moot.publish(SPACE, { text: 'in the old one', thread_id: 'thr_old' })
    moot.publish(SPACE, { text: 'in a strange one', thread_id: 'thr_new' })
    moot.publish(SPACE, { text: 'mine too', speaker: moot.agent.actor_id, thread_id: 'thr_new' })
    moot.publish(SPACE, { text: 'in the new one', thread_id: 'thr_new' })
    await client.hears(2)
    expect(client.contents).toEqual([
      'Thread reply from Alice:\nin the old one',
      'Thread reply from Alice:\nin the new one',
    ])
    expect(client.told[0]?.meta.event_type).toBe('thread_reply')
  })

  test('Decisions: proposed and resolved', async () => {
    const moot = await simulator()
    const client = await connected(moot)
    await client.tool('subscribe', { space_id: SPACE })
    const space = moot.space(SPACE)
    const decision = moot.store.propose(space, moot.alice.actor_id, 'ship on Friday')
    moot.store.decide(space, decision.decision_id, moot.alice.actor_id, 'agreed', 'resolved')
    moot.publish(SPACE, { text: 'decided elsewhere', message_type: 'decision' })
    await client.hears(3)
    expect(client.contents).toEqual([
      'Decision event from Alice:\n[DECISION proposed] ship on Friday',
      'Decision event from Alice:\n[DECISION resolved] ship on Friday: agreed',
      'Decision event from Alice:\ndecided elsewhere',
    ])
    expect(client.told[0]?.meta.event_type).toBe('decision')
  })

  test('Status changes: active, paused, archived', async () => {
    const moot = await simulator()
    const client = await connected(moot)
    await client.tool('subscribe', { space_id: SPACE })
    for (const status of ['paused', 'active', 'archived'] as const) {
      moot.store.setStatus(moot.space(SPACE), status)
    }
    await client.hears(3)
    expect(client.contents).toEqual([
      `Space ${SPACE} is now paused (was active)`,
      `Space ${SPACE} is now active (was paused)`,
      `Space ${SPACE} is now archived (was active)`,
    ])
    expect(client.told[0]?.meta).toMatchObject({
      event_type: 'status_change',
      status: 'paused',
      space_id: SPACE,
    })
  })

  test.each([
    ['all spaces', {}, {}],
    ['one space', {}, { space_id: SPACE }],
    ['the space set at start', { CONVO_SPACE_ID: SPACE }, undefined],
  ])('Status changes are noticed though the backend sends no frame for them: %s', async (_, env, args) => {
    const moot = await simulator()
    const client = await connected(moot, env, { limits: { discoverMs: 20 } })
    if (args !== undefined) await client.tool('subscribe', args)
    await eventually('it is up', () => client.pushStatuses(SPACE).at(-1)?.state === 'up')
    moot.space(SPACE).status = 'paused'
    await client.hears(1)
    moot.space(SPACE).status = 'active'
    await client.hears(2)
    expect(client.contents).toEqual([
      `Space ${SPACE} is now paused (was active)`,
      `Space ${SPACE} is now active (was paused)`,
    ])
  })

  test('everything else is filtered, and the own words are never told', async () => {
    const moot = await simulator()
    const client = await connected(moot)
    await client.tool('subscribe', { space_id: SPACE })
    moot.publish(SPACE, { text: 'chatter' })
    moot.publish(SPACE, { text: '@MyAgent said MyAgent', speaker: moot.agent.actor_id })
    moot.publish(SPACE, { text: '@MyAgent the one' })
    await client.hears(1)
    expect(client.contents).toEqual(['@MyAgent mentioned by Alice:\n@MyAgent the one'])
  })
})

describe('troubleshooting', () => {
  test('notifications not arriving: call subscribe, the adapter starts with no subscriptions', async () => {
    const moot = await simulator()
    const client = await connected(moot)
    moot.publish(SPACE, { text: '@MyAgent before' })
    expect((await client.tool('subscribe')).isError).toBe(false)
    moot.publish(SPACE, { text: '@MyAgent after' })
    await client.hears(1)
    expect(client.contents).toEqual(['@MyAgent mentioned by Alice:\n@MyAgent after'])
  })

  test('notifications not arriving: a wrong CONVO_API_KEY is said at start and by the tool', async () => {
    const moot = await simulator()
    const client = await connected(moot, { CONVO_API_KEY: 'convo_wrong_key' })
    await eventually('the log says so', () =>
      /warn reaching moot failed.*401.*CONVO_API_KEY/.test(client.log),
    )
    const answer = await client.tool('subscribe', { space_id: SPACE })
    expect(answer.isError).toBe(true)
    expect(answer.text).toMatch(/401: Authentication required.*set CONVO_API_KEY/)
    expect(`${answer.text}${client.log}`).not.toContain('convo_wrong_key')
  })

  test('SSL errors (self-hosted): set SSL_CERT_FILE, says the tool and the log', async () => {
    const moot = await simulator({ tls })
    const client = await connected(moot)
    const answer = await client.tool('subscribe', { space_id: SPACE })
    expect(answer.isError).toBe(true)
    expect(answer.text).toMatch(/certificate is not trusted.*set SSL_CERT_FILE/)
    await eventually('the log says so', () => /not trusted.*SSL_CERT_FILE/.test(client.log))
    expect((await client.tool('list_subscriptions')).isError).toBe(false)
  })
})

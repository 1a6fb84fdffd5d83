/** The local moot keeps to what is public of the real one: its paths, its shapes, its refusals. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { MootSimulator } from '../../src/simulator/moot/simulator.ts'
import { eventually } from '../support/eventually.ts'
import { type Simulator, simulator } from './feed-client.ts'

const SPACE = 'sprint-planning'

async function call(
  moot: Simulator,
  method: string,
  path: string,
  body?: object,
  key = moot.key,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await fetch(`${moot.url}${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

describe('REST', () => {
  test('says whose key it is, and never the key', async () => {
    const moot = await simulator({ key: 'convo_0123456789', agentName: 'Spec' })
    const { body } = await call(moot, 'GET', '/api/actors/me')
    expect(body).toMatchObject({ display_name: 'Spec', actor_type: 'agent', api_key_prefix: 'convo_01' })
    expect(JSON.stringify(body)).not.toContain('convo_0123456789')
    expect(body.actor_id).toMatch(/^agt_[0-9a-hjkmnp-tv-z]{13}$/)
  })

  test('pages of events: after a cursor the oldest, before one or without the newest', async () => {
    const moot = await simulator()
    const ids = Array.from({ length: 10 }, (_, i) => moot.publish(SPACE, { text: String(i) }).event_id)
    const page = async (query: string): Promise<unknown> => {
      const response = await call(moot, 'GET', `/api/spaces/${SPACE}/events?${query}`)
      return Array.isArray(response.body)
        ? response.body.map((event: { text: string }) => event.text).join('')
        : response.status
    }
    expect(await page('limit=3')).toBe('789')
    expect(await page(`since=${ids[2]}&limit=3`)).toBe('345')
    expect(await page(`before=${ids[5]}&limit=3`)).toBe('234')
    expect(await page(`since=${ids[1]}&before=${ids[5]}`)).toBe('234')
    expect(await page('since=evt_nobody')).toBe(404)
    expect(await page('limit=201')).toBe(422)
  })

  const refusals: readonly (readonly [
    string,
    string,
    string,
    object | undefined,
    string | undefined,
    number,
  ])[] = [
    ['no such key', 'GET', '/api/actors/me', undefined, 'convo_other', 401],
    ['no such space', 'GET', '/api/spaces/nowhere/status', undefined, undefined, 404],
    [
      'a post without participant_id',
      'POST',
      `/api/spaces/${SPACE}/response`,
      { agent_id: 'x', text: 'y' },
      undefined,
      422,
    ],
    [
      'a post in the name of another',
      'POST',
      `/api/spaces/${SPACE}/response`,
      { participant_id: 'x', text: 'y' },
      undefined,
      400,
    ],
    ['a space that exists', 'POST', '/api/spaces', { space_id: SPACE }, undefined, 409],
    ['no such route', 'DELETE', '/api/spaces', undefined, undefined, 404],
  ]
  for (const [what, method, path, body, key, status] of refusals) {
    test(`refuses ${what} with ${status} and a detail`, async () => {
      const moot = await simulator()
      const answer = await call(moot, method, path, body, key)
      expect(answer.status).toBe(status)
      expect(answer.body).toHaveProperty('detail')
    })
  }

  test('posting to a paused space is 409; joining twice is one participant', async () => {
    const moot = await simulator()
    const mine = { participant_id: moot.agent.actor_id, text: 'hi' }
    expect((await call(moot, 'POST', `/api/spaces/${SPACE}/response`, mine)).status).toBe(200)
    await call(moot, 'PATCH', `/api/spaces/${SPACE}`, { status: 'paused' })
    expect((await call(moot, 'POST', `/api/spaces/${SPACE}/response`, mine)).status).toBe(409)
    await call(moot, 'POST', `/api/spaces/${SPACE}/join`, { participant_id: 'whoever' })
    expect(moot.space(SPACE).participants.size).toBe(2)
  })

  test('a decision goes one way: proposed, then resolved, never again', async () => {
    const moot = await simulator()
    const proposed = await call(moot, 'POST', `/api/spaces/${SPACE}/decisions`, { text: 'ship' })
    const path = `/api/spaces/${SPACE}/decisions/${proposed.body.decision_id}/resolve`
    expect((await call(moot, 'PUT', path, { resolution: 'yes' })).body.status).toBe('resolved')
    expect((await call(moot, 'PUT', path, { resolution: 'no' })).status).toBe(409)
    expect(moot.space(SPACE).events.map(({ text }) => text)).toEqual([
      '[DECISION proposed] ship',
      '[DECISION resolved] ship: yes',
    ])
  })

  test('the stream of events carries the event as data', async () => {
    const moot = await simulator()
    const aborted = new AbortController()
    const url = `${moot.url}/api/spaces/${SPACE}/events/stream?token=${moot.key}`
    const response = await fetch(url, { signal: aborted.signal })
    let text = ''
    const reading = (async () => {
      for await (const chunk of response.body ?? []) text += Buffer.from(chunk).toString()
    })().catch(() => undefined)
    await eventually('it is open', () => text.includes(': connected'))
    moot.publish(SPACE, { text: 'over the stream' })
    await eventually('the event came', () => /event: context_event\ndata: \{.*over the stream/.test(text))
    aborted.abort()
    await reading
  })
})

for (const path of ['//', '/api/spaces/%E0/events', '/api/spaces/%E0/ws']) {
  for (const [kind, upgrade] of [
    ['call', ''],
    ['handshake', 'Connection: Upgrade\r\nUpgrade: websocket\r\n'],
  ] as const) {
    test(`an address that is none, ${path}, is a ${kind} refused`, async () => {
      const moot = await simulator()
      const socket = connect(Number(new URL(moot.url).port), '127.0.0.1')
      onTestFinished(() => void socket.destroy())
      const auth = `Authorization: Bearer ${moot.key}\r\n`
      socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${auth}${upgrade}\r\n`)
      const [first] = (await once(socket, 'data')) as [Buffer]
      expect(first.toString('latin1')).toMatch(/^HTTP\/1\.1 4\d\d /)
    })
  }
}

describe('the levers', () => {
  test('publish, status and faults over HTTP', async () => {
    const moot = await simulator()
    const said = await call(moot, 'POST', '/_simulator/publish', {
      space_id: SPACE,
      text: 'hi',
      mentions: ['a'],
    })
    expect(said.body).toMatchObject({
      text: 'hi',
      speaker_id: 'alice-actor-id',
      metadata: { mentions: ['a'] },
    })
    await call(moot, 'POST', '/_simulator/status', { space_id: SPACE, status: 'paused' })
    expect(moot.space(SPACE).status).toBe('paused')
    expect((await call(moot, 'POST', '/_simulator/fault', { name: 'suspend' })).status).toBe(200)
    expect(await call(moot, 'GET', '/api/actors/me')).toEqual({
      status: 403,
      body: { detail: 'Tenant is suspended' },
    })
    await call(moot, 'POST', '/_simulator/fault', { name: 'clear' })
    expect((await call(moot, 'GET', '/api/actors/me')).status).toBe(200)
    expect((await call(moot, 'POST', '/_simulator/fault', { name: 'nonsense' })).status).toBe(422)
  })

  test('nor can who has no key of the agent', async () => {
    const moot = await simulator()
    for (const headers of [{}, { authorization: 'Bearer convo_other' }] as Record<string, string>[]) {
      const response = await fetch(`${moot.url}/_simulator/publish`, {
        method: 'POST',
        headers,
        body: JSON.stringify({ space_id: SPACE, text: 'hi' }),
      })
      expect(response.status).toBe(401)
    }
    expect(moot.space(SPACE).events).toEqual([])
  })

  test("pages of others can't pull them", async () => {
    const moot = await simulator()
    const response = await fetch(`${moot.url}/_simulator/publish`, {
      method: 'POST',
      headers: { origin: 'https://evil.example' },
      body: '{"text":"x"}',
    })
    expect(response.status).toBe(403)
    expect(moot.space(SPACE).events).toEqual([])
  })
})

test('an address that means everywhere is shown as one to visit', () => {
  expect(new MootSimulator({ host: '0.0.0.0' }).url).toBe('http://127.0.0.1:0')
  expect(new MootSimulator({ host: '::' }).url).toBe('http://[::1]:0')
})

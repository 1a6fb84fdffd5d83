/** The weather, and the control API that makes it. */
import { expect, it } from 'vitest'
import { FAULTS } from '../../src/simulator/faults.ts'
import type { Simulator } from '../../src/simulator/simulator.ts'
import { eventually, open, rawInitialize } from './agent.ts'
import { control, simulators } from './world.ts'

const start = simulators()

function initialize(simulator: Simulator, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${simulator.mcpUrl}?stateful`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${simulator.key}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...headers,
    },
    body: JSON.stringify(rawInitialize()),
  })
}

async function openStream(simulator: Simulator): Promise<{ readonly id: string; readonly stream: Response }> {
  const answer = await initialize(simulator)
  await answer.text()
  const id = answer.headers.get('mcp-session-id') ?? ''
  return { id, stream: await stream(simulator, id) }
}

function stream(simulator: Simulator, id: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${simulator.mcpUrl}?stateful`, {
    headers: {
      authorization: `Bearer ${simulator.key}`,
      accept: 'text/event-stream',
      'mcp-session-id': id,
      ...headers,
    },
  })
}

it.each([
  ['503', 503, 'text/plain'],
  ['429', 429, 'text/plain'],
])('%s answers with Retry-After until it is cleared', async (name, status, type) => {
  const simulator = await start()
  expect((await control(simulator, 'fault', { fault: name, seconds: 60 })).status).toBe(200)
  const refused = await initialize(simulator)
  expect(refused.status).toBe(status)
  expect(refused.headers.get('content-type')).toBe(type)
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(50)
  await refused.text()
  await control(simulator, 'fault', { fault: 'clear' })
  const fine = await initialize(simulator)
  expect(fine.status).toBe(200)
  await fine.text()
})

it('502 is a page of HTML, bad-key a 401 with the right key', async () => {
  const simulator = await start()
  simulator.fault('502')
  const page = await initialize(simulator)
  expect(page.status).toBe(502)
  expect(await page.text()).toContain('<html>')
  simulator.fault('clear')
  simulator.fault('bad-key')
  const denied = await initialize(simulator)
  expect(denied.status).toBe(401)
  await denied.text()
})

it('down cuts agents on arrival and comes back by itself, while the console goes on', async () => {
  const simulator = await start()
  const { stream } = await openStream(simulator)
  simulator.fault('down', { seconds: 0.3 })
  await expect(stream.text()).rejects.toThrow()
  await expect(initialize(simulator)).rejects.toThrow()
  expect((await control(simulator, 'state')).status).toBe(200)
  await eventually(() => !simulator.faults.on('down'))
  const back = await initialize(simulator)
  expect(back.status).toBe(200)
  await back.text()
})

async function answersAgain(simulator: Simulator): Promise<void> {
  let status = 0
  await eventually(() => {
    void initialize(simulator).then(
      (answer) => {
        status = answer.status
        void answer.text()
      },
      () => undefined,
    )
    return status === 200
  })
}

it('refuse closes the port and opens it again', async () => {
  const simulator = await start()
  simulator.fault('refuse', { seconds: 0.3 })
  const refused = await initialize(simulator).catch((error: Error) => error.cause)
  expect((refused as NodeJS.ErrnoException).code).toMatch(/ECONNREFUSED|UND_ERR_SOCKET|ECONNRESET/)
  await answersAgain(simulator)
})

it('clear ends a refuse too', async () => {
  const simulator = await start()
  simulator.fault('refuse', { seconds: 60 })
  expect(simulator.faults.on('refuse')).toBe(true)
  simulator.fault('clear')
  expect(simulator.faults.on('refuse')).toBe(false)
  await answersAgain(simulator)
})

it('drop cuts the stream and leaves the session', async () => {
  const simulator = await start()
  const { id, stream: first } = await openStream(simulator)
  simulator.fault('drop')
  await expect(first.text()).rejects.toThrow()
  await eventually(() => simulator.sessions[0]?.streamOpen === false)
  const again = await stream(simulator, id)
  expect(again.status).toBe(200)
  await again.body?.cancel()
})

it('half-open keeps the socket and says nothing more, not even comments', async () => {
  const simulator = await start({ pingMs: 10 })
  const { stream } = await openStream(simulator)
  const reader = stream.body?.getReader()
  await reader?.read()
  simulator.fault('half-open')
  // What was on its way arrives; then there must be silence.
  let pending = reader?.read()
  let quiet = false
  for (let i = 0; i < 20 && !quiet; i++) {
    quiet = await Promise.race([
      pending?.then(() => false),
      new Promise<boolean>((resolve) => setTimeout(() => resolve(true), 150)),
    ]).then((silent) => silent === true)
    if (!quiet) pending = reader?.read()
  }
  expect(quiet).toBe(true)
  simulator.publish({ type: 'dm', from: 'Alice', text: 'into the void' })
  expect(simulator.sessions[0]?.streamOpen).toBe(true)
  await reader?.cancel()
})

it.each([
  ['forget-404', 404],
  ['forget-400', 400],
] as const)('%s answers a forgotten session with %d', async (name, status) => {
  const simulator = await start()
  const { id, stream: first } = await openStream(simulator)
  simulator.fault(name)
  await first.text()
  const again = await stream(simulator, id)
  expect(again.status).toBe(status)
  await again.text()
})

it('hold-stream refuses new streams with 409 for a while', async () => {
  const simulator = await start()
  const { id } = await openStream(simulator)
  simulator.fault('hold-stream', { seconds: 60 })
  await eventually(() => simulator.sessions[0]?.streamOpen === false)
  const held = await stream(simulator, id)
  expect(held.status).toBe(409)
  await held.text()
  simulator.fault('clear')
  const again = await stream(simulator, id)
  expect(again.status).toBe(200)
  await again.body?.cancel()
})

it('slow delays answers and pushes, in order', async () => {
  const simulator = await start()
  const agent = await open(simulator)
  simulator.fault('slow', { ms: 80, seconds: 60 })
  const began = performance.now()
  simulator.publish({ type: 'raw', content: '1' })
  // What is due a fraction of a millisecond sooner does not overtake.
  simulator.fault('slow', { ms: 79.5, seconds: 60 })
  for (const text of ['2', '3']) simulator.publish({ type: 'raw', content: text })
  await eventually(() => agent.events.length === 3)
  expect(performance.now() - began).toBeGreaterThanOrEqual(75)
  expect(agent.events.map((event) => event.content)).toEqual(['1', '2', '3'])
  await agent.client.ping()
  expect(performance.now() - began).toBeGreaterThanOrEqual(150)
  await agent.close()
})

it('replays what a stream missed, with --replay only', async () => {
  const simulator = await start({ replay: true })
  const { id, stream: first } = await openStream(simulator)
  simulator.publish({ type: 'raw', content: 'one' })
  const reader = first.body?.getReader()
  const text = new TextDecoder().decode((await reader?.read())?.value)
  const cursor = /^id: (.+)$/m.exec(text)?.[1] ?? ''
  await reader?.cancel()
  await eventually(() => simulator.sessions[0]?.streamOpen === false)
  simulator.publish({ type: 'raw', content: 'two' })
  const resumed = await stream(simulator, id, { 'last-event-id': cursor })
  const more = resumed.body?.getReader()
  const replayed = new TextDecoder().decode((await more?.read())?.value)
  expect(replayed).toContain('"two"')
  expect(replayed).not.toContain('"one"')
  await more?.cancel()
})

it('gives a broken long poll its answer on resume, beside an open push stream, with --replay', async () => {
  const simulator = await start({ replay: true })
  const { id, stream: push } = await openStream(simulator)
  const hangUp = new AbortController()
  const headers = {
    authorization: `Bearer ${simulator.key}`,
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-session-id': id,
    'mcp-protocol-version': '2025-11-25',
  }
  const params = { name: 'chamade_inbox', arguments: { wait: 55 } }
  const waiting = await fetch(`${simulator.mcpUrl}?stateful`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ jsonrpc: '2.0', id: 9, method: 'tools/call', params }),
    signal: hangUp.signal,
  })
  const primed = new TextDecoder().decode((await waiting.body?.getReader().read())?.value)
  const cursor = /^id: (.+)$/m.exec(primed)?.[1] ?? ''
  await eventually(() => simulator.agents[0]?.inbox.waiting === 1)
  hangUp.abort()
  simulator.publish({ type: 'raw', content: 'while it was broken' })
  await eventually(() => simulator.journal.entries.some((entry) => entry.kind === 'tool'))
  const resumed = await stream(simulator, id, { 'last-event-id': cursor })
  expect(resumed.status).toBe(200)
  const reader = resumed.body?.getReader()
  const answer = new TextDecoder().decode((await reader?.read())?.value)
  expect(answer).toContain('"id":9')
  expect(answer).toContain('while it was broken')
  expect(simulator.sessions[0]?.streamOpen).toBe(true)
  await reader?.cancel()
  await push.body?.cancel()
})

it('is stateful without the query under legacy push', async () => {
  const simulator = await start({ legacyPush: true })
  const answer = await fetch(simulator.mcpUrl, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${simulator.key}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
    },
    body: JSON.stringify(rawInitialize()),
  })
  expect(answer.headers.get('mcp-session-id')).not.toBeNull()
  expect(await answer.text()).toContain('claude/channel')
})

it('a second stream takes the place of the first when told so', async () => {
  const simulator = await start({ duplicateStream: 'replace' })
  const { id, stream: first } = await openStream(simulator)
  const second = await stream(simulator, id)
  expect(second.status).toBe(200)
  await first.text().catch(() => undefined)
  expect(simulator.publish({ type: 'raw', content: 'once' }).routes).toHaveLength(1)
  await second.body?.cancel()
})

it('lets nobody control it without the token, or from another page', async () => {
  const simulator = await start()
  expect((await control(simulator, 'state', undefined, simulator.key)).status).toBe(401)
  expect((await control(simulator, 'emit', { type: 'raw', content: 'x' }, 'wrong')).status).toBe(401)
  const foreign = await fetch(`${simulator.url}/control/state`, {
    headers: { authorization: `Bearer ${simulator.token}`, origin: 'http://evil.example' },
  })
  expect(foreign.status).toBe(403)
  await foreign.text()
})

it('says what is wrong with what it is told', async () => {
  const simulator = await start()
  const wrong: readonly (readonly [string, unknown, string])[] = [
    ['emit', { type: 'fax' }, 'there is no event "fax"'],
    ['emit', { type: 'dm', from: 'Alice' }, 'needs "text"'],
    ['emit', { type: 'dm', from: 'Alice', text: 'x', platform: 'sip' }, 'no direct messages come from "sip"'],
    ['emit', { type: 'dm', from: 'Alice', text: 'x', colour: 'red' }, 'has no "colour"'],
    ['emit', { type: 'raw', content: 'x', meta: { n: 1 } }, 'wrong kind: it is a map of texts'],
    [
      'emit',
      { type: 'dm', from: 'A', text: 'x', attachments: ['a'] },
      'it is a list of { name, bytes_b64 } or { name, url }',
    ],
    ['emit', { type: 'transcript', speaker: 'A', text: 'x' }, 'there is no active call'],
    ['emit', { type: 'raw', content: 'x', agent: 'nobody' }, 'there is no agent "nobody"'],
    ['fault', { fault: 'earthquake' }, Object.keys(FAULTS).join(', ')],
    ['fault', { fault: '503', seconds: -1 }, '"seconds"'],
    ['fault', { fault: 'restart', seconds: 1 }, 'fault "restart" has no "seconds"'],
  ]
  for (const [path, body, sentence] of wrong) {
    const answer = await control(simulator, path, body)
    expect(answer.status).toBe(422)
    expect((answer.body as { error: string }).error).toContain(sentence)
  }
  await control(simulator, 'emit', { type: 'call', from: 'Alice' })
  const { body } = await control(simulator, 'emit', { type: 'transcript', speaker: 'A', text: 'x' })
  expect((body as { error: string }).error).toMatch(/is still ringing: .*chamade_call_accept/)
})

it('emits over HTTP, reports where it went, and shows it in state and timeline', async () => {
  const simulator = await start()
  const agent = await open(simulator)
  const emitted = await control(simulator, 'emit', { type: 'dm', from: 'Alice', text: 'hello' })
  expect(emitted.body).toMatchObject({ events: [{ event_id: 'evt_000001', pushed_to: ['s1'] }] })
  const state = await control(simulator, 'state')
  expect(state.body).toMatchObject({
    sessions: [{ name: 's1', client: 'test-agent 1.0.0', streamOpen: true }],
  })
  expect(JSON.stringify(state.body)).not.toContain(simulator.key)
  const timeline = await fetch(`${simulator.url}/control/timeline`, {
    headers: { authorization: `Bearer ${simulator.token}` },
  })
  const reader = timeline.body?.getReader()
  const text = new TextDecoder().decode((await reader?.read())?.value)
  expect(text).toContain('"kind":"session"')
  await reader?.cancel()
  await agent.close()
})

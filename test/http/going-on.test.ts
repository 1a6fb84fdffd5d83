/** A stream that was cut is gone on from, whatever the server makes of the cursor; and nobody waits for ever. */

import { expect, onTestFinished, test } from 'vitest'
import { DEFAULT_TIMING, type HttpConfig, type HttpTiming } from '../../src/http/config.ts'
import { openHttp } from '../../src/http/upstream.ts'
import { compose } from '../../src/protocol.ts'
import { systemClock } from '../../src/retry.ts'
import type { PushStatus, Status } from '../../src/status.ts'
import type { EventStream } from '../support/event-stream.ts'
import { eventually, pause } from '../support/eventually.ts'
import { httpConfig } from '../support/http-config.ts'
import { initialize } from '../support/messages.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'

const message = (text: string) => ({ jsonrpc: '2.0', method: 'notifications/message', params: { text } })

interface Far {
  readonly pushes: (state: PushStatus['state']) => PushStatus[]
  readonly texts: () => string[]
  readonly answers: () => string[]
  /** What the server asks. */
  readonly requests: () => object[]
  readonly send: (value: object) => Promise<void>
  /** Never rejects: what it failed with. */
  readonly call: (id: number) => Promise<unknown>
}

/** The far side, its handshake made and its push stream open. */
async function open(
  server: ScriptedServer,
  timing: Partial<HttpConfig> = {},
  reading: () => Promise<void> = () => Promise.resolve(),
  isOpen = () => server.listening(),
): Promise<Far> {
  const delivered: string[] = []
  const facts: Status[] = []
  const backoff = { ...DEFAULT_TIMING.backoff, baseMs: 10, capMs: 20 }
  const cursorDoubtMs = 100
  const upstream = openHttp(httpConfig(server.url, { backoff, cursorDoubtMs, ...timing }))({
    deliver: (each, lane) => {
      delivered.push(each.raw.toString())
      return lane === 'push' ? reading() : undefined
    },
    report: (fact) => void facts.push(fact),
  })
  onTestFinished(() => upstream.close(100))
  await upstream.send(compose(initialize()))
  await upstream.send(compose({ jsonrpc: '2.0', method: 'notifications/initialized' }))
  await eventually('the push stream', isOpen)
  return {
    pushes: (state) => facts.filter((fact) => fact.kind === 'push' && fact.state === state) as PushStatus[],
    texts: () => delivered.flatMap((text) => /"text":"([^"]*)"/.exec(text)?.[1] ?? []),
    answers: () => delivered.filter((text) => text.includes('"result"')),
    requests: () => delivered.filter((text) => text.includes('"roots/list"')).map((text) => JSON.parse(text)),
    send: (value) => upstream.send(compose(value)),
    call: (id) =>
      upstream
        .send(compose({ jsonrpc: '2.0', id, method: 'tools/call', params: { name: 'echo' } }))
        .catch((error: unknown) => error),
  }
}

const withCursor = (x: Exchange): boolean =>
  x.request.method === 'GET' && x.request.headers['last-event-id'] !== undefined

/** One event is delivered, so that there is a cursor; then the stream is cut. */
async function cut(server: ScriptedServer, far: Far): Promise<void> {
  // (Long enough to see that headers do not wait for an event.)
  await pause(120)
  server.push(message('one'))
  await eventually('the first event', () => far.texts().includes('one'))
  server.session.push.cut()
}

/** A call's stream is cut once its first event was sent; `stream` keeps what is said on it, `answer` is what it waits for. */
function callCut(server: ScriptedServer): { stream: EventStream; answer: () => string } {
  let call: Exchange | undefined
  const stream = server.openStream(true)
  server.on('tools/call', (x) => {
    call = x
    stream.attach(x.response)
    stream.send(message('one'))
    setTimeout(() => stream.cut(), 20)
  })
  return { stream, answer: () => call?.answer({ done: true }) ?? '' }
}

const refusals: readonly [string, (x: Exchange) => unknown, Partial<HttpTiming>][] = [
  ['500', (x) => x.reply(500), {}],
  ['410', (x) => x.reply(410), {}],
  ['403', (x) => x.reply(403), {}],
  ['405', (x) => x.reply(405), {}],
  ['501', (x) => x.reply(501), {}],
  ['a page', (x) => x.reply(200, '<p>', { 'content-type': 'text/html' }), {}],
  ['no headers', () => undefined, { headersMs: 30 }],
  ['an empty stream', (x) => x.reply(200, '', { 'content-type': 'text/event-stream' }), {}],
]

test.each(refusals)(
  'a cursor that gets %s for ever is given up, and said to be',
  async (_, refuse, timing) => {
    const server = await ScriptedServer.start({ replay: true })
    server.before((x) => (withCursor(x) ? refuse(x) : false))
    const far = await open(server, timing)
    await cut(server, far)
    await eventually('a stream without the cursor', () => server.listening())
    server.push(message('two'))
    await eventually('what is said then', () => far.texts().includes('two'))
    expect(far.pushes('up').at(-1)?.continuous).toBe(false)
  },
)

test('a cursor that gets 500 three times is kept: what was missed is replayed', async () => {
  const server = await ScriptedServer.start({ replay: true })
  let refused = 0
  server.before((x) => (withCursor(x) && refused++ < 3 ? x.reply(500) : false))
  const far = await open(server)
  await cut(server, far)
  server.push(message('meanwhile'))
  await eventually('what was missed', () => far.texts().includes('meanwhile'))
  expect(far.pushes('up').at(-1)?.continuous).toBe(true)
})

test('a cursor that gets 500 again and again, but not for long, is kept: what was missed is replayed', async () => {
  const server = await ScriptedServer.start({ replay: true })
  let refused = 0
  server.before((x) => (withCursor(x) && refused++ < 8 ? x.reply(500) : false))
  const far = await open(server, { cursorDoubtMs: 5_000 })
  await cut(server, far)
  server.push(message('meanwhile'))
  await eventually('what was missed', () => far.texts().includes('meanwhile'))
  expect(far.pushes('up').at(-1)?.continuous).toBe(true)
})

test('a server whose headers come with its first event keeps being asked with the cursor: nothing is lost', async () => {
  const server = await ScriptedServer.start()
  let waiting: Exchange | undefined
  const said: string[] = []
  const say = (id: string): void => {
    said.push(id)
    const x = waiting
    waiting = undefined
    x?.stream().write(event(id))
  }
  const event = (id: string): string => `id: ${id}\ndata: ${JSON.stringify(message(id))}\n\n`
  server.before((x) => {
    if (x.request.method !== 'GET') return false
    const cursor = x.request.headers['last-event-id']
    const missed = typeof cursor === 'string' ? said.slice(said.indexOf(cursor) + 1) : []
    if (missed.length === 0) waiting = x
    else x.stream().write(missed.map(event).join(''))
    return true
  })
  const far = await open(server, { headersMs: 20 }, undefined, () => waiting !== undefined)
  say('e1')
  await eventually('the first event', () => far.texts().includes('e1'))
  server.cutAll()
  const gets = () => server.of('GET').filter((get) => get.headers['last-event-id'] === 'e1')
  await eventually('many questions', () => gets().length >= 6, 10_000)
  say('e2')
  await eventually('what is said then', () => far.texts().includes('e2'), 10_000)
  const cursors = server.of('GET').map((get) => get.headers['last-event-id'])
  expect(cursors.slice(1).every((cursor) => cursor === 'e1')).toBe(true)
  expect(far.pushes('up').at(-1)?.continuous).toBe(true)
})

test('a stream that is resumed, and bound to nothing, is replaced by one of its own; the break is told', async () => {
  const server = await ScriptedServer.start({ replay: true })
  server.before((x) => {
    return withCursor(x) ? x.stream() : false
  })
  const far = await open(server, { idlePingMs: 50 })
  const cutAt = Date.now()
  await cut(server, far)
  await eventually('the resumed one', () => server.of('GET').length === 2)
  await eventually('a stream that hears', () => server.listening())
  server.push(message('two'))
  await eventually('what is said then', () => far.texts().includes('two'))
  await eventually('the fact', () => far.pushes('up').at(-1)?.continuous === false)
  expect(far.pushes('up').at(-1)?.downMs).toBeGreaterThan(Date.now() - cutAt - 1_500)
  expect(server.of('GET').map((get) => get.headers['last-event-id'] !== undefined)).toEqual([
    false,
    true,
    false,
  ])
  await eventually('the end of the silent one', () => server.of('GET')[1]?.aborted === true)
})

test.each([401, 403, 404, 409, 500, 502])(
  'a stream that is resumed, and bound to nothing, is replaced though %d is said to the first that is asked for beside it',
  async (status) => {
    const server = await ScriptedServer.start({ replay: true })
    server.before((x) => {
      if (withCursor(x)) return x.stream()
      return x.request.method === 'GET' && server.of('GET').length === 3 ? (x.reply(status) ?? true) : false
    })
    const far = await open(server, { idlePingMs: 50 })
    await cut(server, far)
    await eventually('the refusal', () => server.of('GET')[2]?.status === status)
    await eventually('a stream that hears', () => server.listening())
    server.push(message('two'))
    await eventually('what is said then', () => far.texts().includes('two'))
    await eventually('the fact', () => far.pushes('up').at(-1)?.continuous === false)
    expect(server.sessions).toHaveLength(1)
  },
)

test('a server that ends a resumed stream for the one that is asked for beside it is asked ever later; nothing is lost', async () => {
  const server = await ScriptedServer.start({ replay: true })
  const beside: number[] = []
  server.before((x) => {
    if (x.request.method !== 'GET' || x.session?.push.open !== true) return false
    beside.push(Date.now())
    x.session.push.hangUp()
    server.push(message(`while it is asked (${beside.length})`))
    return true
  })
  const far = await open(server, { idlePingMs: 300 })
  await cut(server, far)
  await eventually('three questions', () => beside.length === 3, 15_000)
  const [first = 0, second = 0, third = 0] = beside
  // (A second for the replay, and 600 and 1,200 ms.)
  expect(second - first).toBeGreaterThanOrEqual(1_550)
  expect(third - second).toBeGreaterThanOrEqual(2_150)
  await eventually('the last event', () => far.texts().includes('while it is asked (3)'))
  expect(far.texts().slice(1)).toEqual([1, 2, 3].map((n) => `while it is asked (${n})`))
  expect(far.pushes('up').every(({ continuous }) => continuous)).toBe(true)
})

test.each([400, 405, 409])(
  'a stream that is resumed and stays quiet beside one that is refused with %d is not doubted when its session is lost',
  async (status) => {
    const server = await ScriptedServer.start({ replay: true })
    server.before(
      (x) => x.request.method === 'GET' && x.session?.push.open === true && (x.reply(status) ?? true),
    )
    const far = await open(server, { idlePingMs: 50 })
    await cut(server, far)
    await eventually('the refusal', () =>
      server.of('GET').some((get) => get.status === status && get.headers['last-event-id'] === undefined),
    )
    await pause(500)
    const lostFrom = Date.now() - 400
    const { push } = server.session
    server.wipe()
    push.hangUp()
    await eventually('the fact', () => far.pushes('up').at(-1)?.continuous === false)
    expect(far.pushes('down').at(-1)?.at).toBeGreaterThan(lostFrom)
  },
)

test('streams that are resumed, bound to nothing, and cut before that shows: the second is replaced; so is each later one', async () => {
  const server = await ScriptedServer.start({ replay: true })
  const deaf: EventStream[] = []
  server.before((x) => {
    if (!withCursor(x)) return false
    deaf.push(x.stream())
    return true
  })
  const far = await open(server, { idlePingMs: 60_000, minSilenceMs: 100 })
  await cut(server, far)
  const cutAt = Date.now()
  await eventually('the first resumed one', () => deaf.length === 1)
  await pause(300)
  deaf[0]?.cut()
  await eventually('the second', () => deaf.length === 2)
  await eventually('a stream that hears', () => server.listening())
  await eventually('the fact', () => far.pushes('up').at(-1)?.continuous === false)
  expect(Math.abs((far.pushes('down').at(-1)?.at ?? 0) - cutAt)).toBeLessThan(200)
  server.push(message('two'))
  await eventually('what is said then', () => far.texts().includes('two'))
  const againAt = Date.now()
  server.session.push.cut()
  await eventually('the third', () => deaf.length === 3)
  await eventually('a stream that hears', () => server.listening())
  await eventually('the fact', () => far.pushes('up').filter((up) => up.continuous === false).length === 2)
  expect(far.pushes('down').at(-1)?.at).toBeGreaterThan(againAt - 200)
})

test('streams that are resumed, quiet, and cut again and again stay one after the other; no break is told', async () => {
  const server = await ScriptedServer.start({ replay: true })
  const far = await open(server, { idlePingMs: 60_000, minSilenceMs: 100 })
  await cut(server, far)
  await eventually('the resumed one', () => far.pushes('up').length === 2)
  await pause(300)
  server.session.push.cut()
  await eventually('the question', () => server.of('GET').at(-1)?.status === 409)
  for (const text of ['two', 'three']) {
    server.push(message(text))
    await eventually('what is said then', () => far.texts().includes(text))
    server.session.push.cut()
    await eventually('the next one', () => server.listening())
  }
  expect(far.pushes('up').every((up) => up.continuous)).toBe(true)
  expect(server.of('GET').filter(({ status }) => status === 409)).toHaveLength(1)
})

test('a replay that the client holds up is no silence: all of it arrives, and no break is told', async () => {
  const server = await ScriptedServer.start()
  const event = (id: number): string => `id: ${id}\ndata: ${JSON.stringify(message(`${id}`))}\n\n`
  server.before((x) => {
    if (x.request.method !== 'GET') return false
    // (Streams of a session stand beside each other.)
    const replay = withCursor(x) ? [2, 3, 4, 5].map(event).join('') : event(1)
    return x.stream().write(server.of('GET').length > 2 ? ': beside\n\n' : replay)
  })
  let read: () => void = () => undefined
  const held = new Promise<void>((resolve) => {
    read = resolve
  })
  let count = 0
  const reading = (): Promise<void> => (count++ === 1 ? held : Promise.resolve())
  const far = await open(server, { idlePingMs: 50 }, reading, () => server.of('GET').length === 1)
  await eventually('the first event', () => far.texts().length === 1)
  server.cutAll()
  await eventually('the first of the replay', () => far.texts().length === 2)
  await pause(2_500)
  expect(server.of('GET')).toHaveLength(2)
  read()
  await eventually('all of it', () => far.texts().length === 5)
  expect(far.texts()).toEqual(['1', '2', '3', '4', '5'])
  expect(far.pushes('up').every(({ continuous }) => continuous)).toBe(true)
})

test('the attempts that a stream took are those of the break', async () => {
  const server = await ScriptedServer.start()
  const far = await open(server)
  let refused = 0
  server.before((x) => x.request.method === 'GET' && refused++ < 2 && (x.reply(503) ?? true))
  for (let i = 0; i < 3; i++) {
    const ups = far.pushes('up').length
    server.session.push.cut()
    await eventually('it is up again', () => far.pushes('up').length > ups && server.listening())
  }
  expect(far.pushes('up').map(({ attempts }) => attempts)).toEqual([undefined, 3, 1, 1])
})

test('a stream that is resumed, bound to nothing, and ends with its session: the break began with it', async () => {
  const server = await ScriptedServer.start({ replay: true })
  let deaf: EventStream | undefined
  server.before((x) => {
    if (!withCursor(x) || x.session?.endedBy !== undefined) return false
    deaf = x.stream()
    return true
  })
  const far = await open(server)
  await cut(server, far)
  await eventually('the resumed one', () => deaf !== undefined)
  await pause(400)
  server.wipe()
  const wipedAt = Date.now()
  deaf?.cut()
  await eventually('the next session', () => server.listening())
  await eventually('the fact', () => far.pushes('up').at(-1)?.continuous === false)
  expect(far.pushes('down').at(-1)?.at).toBeLessThan(wipedAt - 300)
})

test('a stream that is resumed, speaks, and ends with its session: the break begins when it was last heard', async () => {
  const server = await ScriptedServer.start({ replay: true })
  const far = await open(server)
  await cut(server, far)
  await eventually('the resumed one', () => far.pushes('up').length === 2)
  // (What comes within a second of it may belong to the replay.)
  await pause(1_300)
  const heardFrom = Date.now()
  server.push(message('spoken'))
  await eventually('the event', () => far.texts().includes('spoken'))
  server.wipe()
  await far.call(9)
  await eventually('the fact', () => far.pushes('up').at(-1)?.continuous === false)
  expect(far.pushes('down').at(-1)?.at).toBeGreaterThanOrEqual(heardFrom)
})

test('of a replayed event that is too long it is told that it may be of any moment since the break', async () => {
  const server = await ScriptedServer.start({ replay: true })
  const far = await open(server, { maxMessageBytes: 1_000 })
  const through = server.before((x) => withCursor(x) && (x.reply(503) ?? true))
  await cut(server, far)
  await eventually('the break', () => far.pushes('down').length === 1)
  const brokeAt = far.pushes('down')[0]?.at
  await pause(200)
  server.push(message('x'.repeat(2_000)))
  server.push(message('two'))
  through()
  await eventually('what is not too long', () => far.texts().includes('two'))
  expect(far.pushes('up').at(-1)?.continuous).toBe(false)
  expect(far.pushes('down').at(-1)?.at).toBe(brokeAt)
})

test('a stream that is resumed, quiet, and resumed again was away for as long as there was none', async () => {
  const server = await ScriptedServer.start({ replay: true })
  const far = await open(server)
  await cut(server, far)
  await eventually('the resumed one', () => far.pushes('up').length === 2)
  await pause(500)
  server.session.push.cut()
  await eventually('the next one', () => far.pushes('up').length === 3)
  expect(far.pushes('up').at(-1)).toMatchObject({ continuous: true })
  expect(far.pushes('up').at(-1)?.downMs).toBeLessThan(450)
})

test('a resumed stream that is quiet, and held by the server, stays: no event is missed and no break told', async () => {
  const server = await ScriptedServer.start({ replay: true })
  const far = await open(server, { idlePingMs: 50 })
  await cut(server, far)
  await eventually('the question', () => server.of('GET').length === 3)
  await pause(50)
  expect(server.of('GET')[2]?.status).toBe(409)
  server.push(message('two'))
  await eventually('what is said then', () => far.texts().includes('two'))
  expect(far.pushes('up').at(-1)?.continuous).toBe(true)
})

test('a server for which the old stream stays open is asked for a new session; what runs in the old one is answered', async () => {
  const server = await ScriptedServer.start()
  const far = await open(server, { conflictMs: 100 })
  const old = server.session.id
  let call: Exchange | undefined
  server.on('tools/call', (x) => {
    call = x
  })
  server.before((x) => {
    return x.request.method === 'GET' && x.request.session === old ? x.reply(409) : false
  })
  const answered = far.call(1)
  await eventually('the call', () => call !== undefined)
  server.session.push.cut()
  await eventually('a session of its own', () => server.live().some(({ push }) => push.open))
  ;(call as unknown as Exchange).result({ done: true })
  expect(await answered).toBeUndefined()
  expect(far.answers().some((text) => text.includes('"done":true'))).toBe(true)
  server.push(message('two'))
  await eventually('what is said then', () => far.texts().includes('two'))
})

/** A call whose stream was cut, and whose resumed one is held open by the server. */
async function resumedCall(timing: Partial<HttpTiming> = {}): Promise<{ server: ScriptedServer; far: Far }> {
  const server = await ScriptedServer.start()
  server.on('tools/call', (x) => {
    const stream = x.stream(true)
    stream.send(message('one'))
    setTimeout(() => stream.cut(), 20)
  })
  server.before((x) => (withCursor(x) ? x.stream() : false))
  return { server, far: await open(server, timing) }
}

test('a call on a resumed stream ends with its cancellation, and with the next initialize', async () => {
  const { server, far } = await resumedCall({ cancelGraceMs: 50 })
  const cancelled = far.call(1)
  await eventually('the resumed stream', () => server.of('GET').length === 2)
  await far.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } })
  expect(await cancelled).toBeUndefined()
  const superseded = far.call(2)
  await eventually('the next resumed stream', () => server.of('GET').length === 3)
  const again = far.send(initialize(3))
  expect(String(await superseded)).toMatch(/initialized again/)
  await again
})

test('a resumed stream of a call that is held rightly stays: what is asked beside it is refused', async () => {
  const server = await ScriptedServer.start()
  const { stream, answer } = callCut(server)
  server.before((x) => {
    const cursor = x.request.headers['last-event-id']
    if (x.request.method !== 'GET' || typeof cursor !== 'string') return false
    return stream.open ? x.reply(409) : stream.attach(x.response, cursor)
  })
  const far = await open(server, { resumedSilenceMs: 40, resumeMs: 100 })
  const answered = far.call(1)
  await eventually('a refusal', () => server.of('GET').some(({ status }) => status === 409))
  await pause(200)
  stream.send(answer())
  expect(await answered).toBeUndefined()
})

test('a call that is polled for a long time is asked for one GET at a time', async () => {
  const { server, polls, far } = await polledCall(20, { resumedSilenceMs: 1_000_000 })
  await far.call(1)
  expect(polls.most).toBe(1)
  expect(server.of('GET').filter((get) => get.headers['last-event-id'] !== undefined)).toHaveLength(20)
})

/** A call that is answered at the `last` poll; how many GETs of it were open at a time at `most`. */
async function polledCall(
  last: number,
  timing: Partial<HttpTiming>,
): Promise<{ server: ScriptedServer; polls: { most: number }; far: Far }> {
  const server = await ScriptedServer.start()
  const polls = { all: 0, open: 0, most: 0 }
  let answer = ''
  server.on('tools/call', (x) => {
    answer = x.answer({ done: true })
    const stream = x.stream(true)
    stream.prime(1)
    stream.hangUp()
  })
  server.before((x) => {
    if (!withCursor(x)) return false
    polls.most = Math.max(polls.most, ++polls.open)
    const isLast = ++polls.all === last
    const stream = x.stream(true)
    if (isLast) stream.send(answer)
    setTimeout(() => {
      polls.open--
      stream.hangUp()
    }, 15)
    return true
  })
  return { server, polls, far: await open(server, timing) }
}

test.each([401, 403, 405, 410, 429, 500, 502])(
  'a server that refuses the push stream by %i is asked no more often than the backoff says',
  async (status) => {
    const server = await ScriptedServer.start()
    const backoff = { ...DEFAULT_TIMING.backoff, baseMs: 100, capMs: 100 }
    const far = await open(server, { backoff, random: () => 1 })
    server.before((x) => (x.request.method === 'GET' ? x.reply(status) : false))
    server.session.push.cut()
    await eventually('some refusals', () => far.pushes('retrying').length >= 5)
    // The first got the stream; the second came at once.
    const at = server.of('GET').map((get) => get.at)
    expect((at[5] ?? 0) - (at[1] ?? 0)).toBeGreaterThan(350)
  },
)

/** Every GET but the first is refused. */
async function refusing(status: number, times: number): Promise<{ server: ScriptedServer; far: Far }> {
  const server = await ScriptedServer.start()
  const far = await open(server)
  let left = times
  server.before(
    (x) => x.request.method === 'GET' && left-- > 0 && x.reply(status, '', { 'retry-after': '600' }),
  )
  server.session.push.cut()
  await eventually('the refusal', () => far.pushes('retrying').length === 1)
  return { server, far }
}

test('a server that asked the push stream to wait, and serves a call later, is asked before its time', async () => {
  const { server, far } = await refusing(503, 1)
  await eventually('the push stream', async () => {
    expect(await far.call(1)).toBeUndefined()
    return server.listening()
  })
})

/** Whoever has to wait waits for minutes. */
const LONG = { backoff: { ...DEFAULT_TIMING.backoff, baseMs: 600_000, capMs: 600_000 }, random: () => 1 }

test('once a server that could not be reached has served one call, what waits is sent and the stream is asked for', async () => {
  const server = await ScriptedServer.start()
  const far = await open(server, { ...LONG, patienceMs: 600_000 })
  server.push({ jsonrpc: '2.0', id: 'theirs', method: 'roots/list' })
  await eventually('the question', () => far.requests().length === 1)
  const [{ id }] = far.requests() as [{ id: unknown }]
  await server.down()
  await eventually('that the stream is waited for', () => far.pushes('retrying').length === 1)
  const waiting = [1, 2, 3].map((n) => far.call(n))
  const reply = far.send({ jsonrpc: '2.0', id, result: { roots: [] } })
  await pause(100)
  await server.up()
  await eventually('the push stream', async () => {
    expect(await far.call(4)).toBeUndefined()
    return server.listening()
  })
  expect(await Promise.all(waiting)).toEqual([undefined, undefined, undefined])
  await reply
  expect(server.replies()).toHaveLength(1)
})

test('of many that wait five are sent once a call is served, and not all at once', async () => {
  const server = await ScriptedServer.start()
  const far = await open(server, { ...LONG, patienceMs: 600_000 })
  await server.down()
  const waiting = Array.from({ length: 12 }, (_, n) => far.call(n + 10))
  await pause(100)
  await server.up()
  expect(await far.call(1)).toBeUndefined()
  await eventually('the first of them', () => server.posts('tools/call').length === 1 + 5)
  await pause(200)
  expect(server.posts('tools/call')).toHaveLength(1 + 5)
  await eventually('the others', async () => {
    await far.send({ jsonrpc: '2.0', id: 2, method: 'tools/list' })
    return server.posts('tools/call').length === 1 + 12
  })
  await Promise.all(waiting)
})

test("the server's retry is waited for, whoever is served meanwhile", async () => {
  const server = await ScriptedServer.start()
  const far = await open(server)
  let refused = 0
  server.session.push.write('retry: 3000\n\n')
  server.before((x) => x.request.method === 'GET' && ++refused === 1 && x.reply(503))
  await pause(50)
  server.session.push.cut()
  await eventually('the refusal', () => refused === 1)
  const at = performance.now()
  await eventually('the next', async () => {
    await far.send({ jsonrpc: '2.0', id: 2, method: 'tools/list' })
    return refused === 2
  })
  expect(performance.now() - at).toBeGreaterThan(2_500)
})

test('once there is a push stream again, what waits is sent', async () => {
  const server = await ScriptedServer.start()
  const far = await open(server, { ...LONG, patienceMs: 600_000 })
  const serve = server.before((x) => x.request.rpc?.method === 'tools/list' && x.reply(502, ''))
  const waiting = far.send({ jsonrpc: '2.0', id: 1, method: 'tools/list' })
  await eventually('that it was tried twice', () => server.posts('tools/list').length === 2)
  await pause(100)
  serve()
  await pause(1_000)
  server.session.push.cut()
  await waiting
})

test.each([
  [503, 3],
  [429, 2],
])(
  'one that goes on to refuse it by %i and Retry-After is left alone: GETs in all: %i',
  async (status, gets) => {
    const { server, far } = await refusing(status, Number.POSITIVE_INFINITY)
    for (let id = 1; id < 6; id++) {
      expect(await far.call(id)).toBeUndefined()
      await pause(500)
    }
    expect(server.of('GET')).toHaveLength(gets)
  },
)

/** A silent stream is looked after often. */
const WATCHED = { idlePingMs: 40, minSilenceMs: 20 }
const inWords = (status: number, code: number) => (x: Exchange) => x.error(code, 'no', status)

test.each<[string, (x: Exchange) => unknown]>([
  ['404', (x) => x.reply(404)],
  ['410', (x) => x.reply(410)],
  ['400 and -32000', inWords(400, -32000)],
  ['-32001 in 200', inWords(200, -32001)],
])('a silent stream whose session is gone, as a ping is told by %s: it is renewed', async (_, refuse) => {
  const server = await ScriptedServer.start()
  server.refuseLost = refuse
  const far = await open(server, WATCHED)
  server.wipe()
  await eventually('the next session', () => server.listening())
  server.push(message('two'))
  await eventually('what is said then', () => far.texts().includes('two'))
})

test.each<[string, (x: Exchange) => unknown]>([
  ['-32601 in 200', inWords(200, -32601)],
  ['400 and -32601', inWords(400, -32601)],
  ['-32602 in 200', inWords(200, -32602)],
])('a silent stream of a server that says %s to a ping stays, and so does its session', async (_, answer) => {
  const server = await ScriptedServer.start()
  server.on('ping', answer)
  await open(server, WATCHED)
  await eventually('some pings', () => server.posts('ping').length >= 3)
  expect([server.posts('initialize').length, server.of('GET').length]).toEqual([1, 1])
})

test.each([502, 504, 520, 530])(
  'a silent stream whose ping gets %i, from in front of the server, is replaced in its session',
  async (status) => {
    const server = await ScriptedServer.start()
    server.on('ping', (x) => x.reply(status))
    server.secondStream = 'replace'
    await open(server, WATCHED)
    await eventually('the next stream', () => server.of('GET').length >= 2)
    expect(server.posts('initialize')).toHaveLength(1)
  },
)

/** Refuses whoever asks by 401 until the bridge has found out that it is said to everybody. */
async function refusingEverybody(server: ScriptedServer): Promise<() => void> {
  const through = server.before((x) => x.reply(401))
  server.session.push.cut()
  await eventually('a private initialize', () => server.posts('initialize').length >= 2)
  return through
}

test('a session that was lost while everybody was refused is made anew for the first call that is refused', async () => {
  let luck = 0
  const backoff = { ...DEFAULT_TIMING.backoff, baseMs: 10, capMs: 600_000 }
  const server = await ScriptedServer.start()
  server.refuseLost = (x) => x.reply(401)
  const far = await open(server, { backoff, random: () => luck })
  const through = await refusingEverybody(server)
  await eventually('many attempts at the stream', () => server.of('GET').length > 20)
  luck = 1
  await eventually('the last for minutes', () => (far.pushes('retrying').at(-1)?.delayMs ?? 0) > 60_000)
  server.wipe()
  through()
  expect(await far.call(1)).toBeUndefined()
})

test.each([400, 403, 500])(
  'a new session whose initialized is refused with %d is left for one that takes it',
  async (status) => {
    const server = await ScriptedServer.start()
    const far = await open(server)
    let refused = 1
    server.before(
      (x) => x.rpc.method === 'notifications/initialized' && refused-- > 0 && (x.reply(status) ?? true),
    )
    server.wipe()
    expect(await far.call(2)).toBeUndefined()
    expect(server.session.initialized).toBe(true)
    expect([...server.sessions.values()].at(-2)?.endedBy).toBe('delete')
  },
)

test('a server that says OK to initialized in plain text has taken it', async () => {
  const server = await ScriptedServer.start()
  const far = await open(server)
  server.on('notifications/initialized', (x) => x.reply(200, 'OK', { 'content-type': 'text/plain' }))
  server.wipe()
  expect(await far.call(2)).toBeUndefined()
  expect(server.sessions.size).toBe(2)
})

test('the first session of a second initialize whose initialized is refused is used as it is', async () => {
  const server = await ScriptedServer.start()
  const far = await open(server)
  server.on('notifications/initialized', (x) => x.reply(400))
  let refused = 1
  server.before((x) => x.rpc.method === 'initialize' && refused-- > 0 && (x.reply(400) ?? true))
  await far.send(initialize(7)).catch(() => undefined)
  expect(await far.call(8)).toBeUndefined()
})

test('a server that refuses every initialized of a new session is used all the same in the end', async () => {
  const server = await ScriptedServer.start()
  const far = await open(server)
  server.on('notifications/initialized', (x) => x.reply(400))
  server.wipe()
  expect(await far.call(2)).toBeUndefined()
  await eventually('the push stream', () => server.listening())
})

test('a server that says 404 to what was set before, and to a ping, is used all the same in the end', async () => {
  const server = await ScriptedServer.start()
  server.on('resources/subscribe', (x) => x.result({}))
  const far = await open(server)
  await far.send({ jsonrpc: '2.0', id: 1, method: 'resources/subscribe', params: { uri: 'a:b' } })
  for (const method of ['resources/subscribe', 'ping']) server.on(method, (x) => x.reply(404))
  server.wipe()
  expect(await far.call(2)).toBeUndefined()
})

test('a cursor is doubted after everybody was refused, though the server knows no ping', async () => {
  const server = await ScriptedServer.start({ replay: true })
  server.on('ping', (x) => x.error(-32601, 'no such method'))
  const far = await open(server)
  server.push(message('one'))
  await eventually('the event', () => far.texts().includes('one'))
  const through = await refusingEverybody(server)
  server.before((x) => withCursor(x) && x.reply(500))
  through()
  await eventually('the stream', () => server.listening())
})

test('a gateway that fails for a moment does not cost the session, nor what its server replays', async () => {
  const server = await ScriptedServer.start({ replay: true })
  const far = await open(server, { backoff: { ...DEFAULT_TIMING.backoff, baseMs: 10, capMs: 10 } })
  server.push(message('one'))
  await eventually('the first', () => far.texts().includes('one'))
  const through = server.before((x) => x.reply(502))
  server.session.push.cut()
  await eventually('some pings', () => server.posts('ping').length >= 2)
  server.push(message('two'))
  through()
  await eventually('what was said meanwhile', () => far.texts().includes('two'))
  expect(server.posts('initialize')).toHaveLength(1)
})

test('a server that refuses every ping is not asked for one session after the other', async () => {
  const server = await ScriptedServer.start()
  server.on('ping', (x) => x.reply(400))
  await open(server, WATCHED)
  await eventually('pings in the next session', () => server.posts('ping').length >= 5)
  expect(server.posts('initialize')).toHaveLength(2)
})

test.each([500, 502, 503])(
  '%d to whoever asks does not cost the session, nor what was said',
  async (status) => {
    const server = await ScriptedServer.start({ replay: true })
    let laterMs = 0
    const clock = { ...systemClock, uptime: () => systemClock.uptime() + laterMs }
    const far = await open(server, { clock, backoff: { ...DEFAULT_TIMING.backoff, baseMs: 10, capMs: 10 } })
    await eventually('somebody who listens', () => server.push(message('one')))
    await eventually('the first', () => far.texts().includes('one'))
    const { session } = server
    const through = server.before((x) => x.reply(status))
    session.push.cut()
    await eventually('a ping', () => server.posts('ping').length > 0)
    laterMs = 5_000
    await eventually('it is asked whether it opens any', () => server.posts('initialize').length >= 3)
    server.push(message('two'))
    through()
    await eventually('what was said meanwhile', () => far.texts().includes('two'))
    // (The last that was asked for may have been opened; it is ended at once.)
    expect(session.endedBy).toBeUndefined()
    // Over, it is no reason to go on with a cursor that brings nothing.
    server.before((x) => withCursor(x) && x.reply(200, '', { 'content-type': 'text/event-stream' }))
    session.push.cut()
    await eventually('a stream without the cursor', () => server.listening())
  },
)

test('a gateway that fails all of one session for longer does cost it', async () => {
  const server = await ScriptedServer.start()
  let laterMs = 0
  const clock = { ...systemClock, uptime: () => systemClock.uptime() + laterMs }
  const far = await open(server, { clock, backoff: { ...DEFAULT_TIMING.backoff, baseMs: 10, capMs: 10 } })
  const { id } = server.session
  server.before((x) => x.request.headers['mcp-session-id'] === id && x.reply(502))
  server.session.push.cut()
  await eventually('some pings', () => server.posts('ping').length >= 2)
  expect(server.posts('initialize')).toHaveLength(1)
  laterMs = 5_000
  await eventually('somebody who listens', () => server.push(message('two')))
  await eventually('what is said then', () => far.texts().includes('two'))
})

test.each<[string, (x: Exchange) => unknown]>([
  ['503', (x) => x.reply(503)],
  ['a cut connection', (x) => x.reset()],
])(
  'a call refused by 400 and -32000, while a first ping gets %s, is sent again in the next session',
  async (_, refuse) => {
    const server = await ScriptedServer.start()
    server.refuseLost = inWords(400, -32000)
    const far = await open(server)
    let pings = 0
    server.before((x) => {
      if (x.request.method === 'GET' && server.posts('initialize').length === 1) return x.reply(503)
      return x.rpc.method === 'ping' && pings++ === 0 ? refuse(x) : false
    })
    server.wipe()
    expect(await far.call(1)).toBeUndefined()
    expect(far.answers().filter((text) => text.includes('"id":1,'))).toHaveLength(1)
  },
)

test('a server that greets each stream with an event and hangs up is not asked in a hot loop', async () => {
  const server = await ScriptedServer.start()
  let gets = 0
  server.before((x) => {
    if (x.request.method !== 'GET') return false
    if (gets++ === 0) return false
    return x.reply(200, `data: ${JSON.stringify(message('hello'))}\n\n`, {
      'content-type': 'text/event-stream',
    })
  })
  await open(server, { backoff: DEFAULT_TIMING.backoff, random: () => 1 })
  server.session.push.cut()
  await pause(1_500)
  expect(gets).toBeLessThan(8)
})

test('a server that ends its stream after each event is asked again soon, each time', async () => {
  const server = await ScriptedServer.start({ replay: true })
  const far = await open(server, {
    backoff: { ...DEFAULT_TIMING.backoff, baseMs: 2_000, capMs: 60_000 },
    random: () => 1,
  })
  for (let i = 0; i < 5; i++) {
    server.push(message(`event ${i}`))
    await eventually('it', () => far.texts().length === i + 1)
    server.session.push.hangUp()
    await eventually('the next stream', () => server.listening())
  }
  expect(far.texts()).toHaveLength(5)
})

test('a stream that broke while nobody read was down from the moment it broke', async () => {
  const server = await ScriptedServer.start()
  let read: () => void = () => undefined
  const reading = new Promise<void>((resolve) => {
    read = resolve
  })
  const far = await open(server, {}, () => reading)
  server.push(message('one'))
  await eventually('the event', () => far.texts().length === 1)
  const brokeAt = Date.now()
  server.session.push.cut()
  await pause(300)
  read()
  await eventually('the fact', () => far.pushes('down').length === 1)
  expect(far.pushes('down')[0]?.at).toBeLessThan(brokeAt + 200)
})

test('a call whose resumed stream is bound to nothing is asked for again, and answered once', async () => {
  const server = await ScriptedServer.start()
  const { stream, answer } = callCut(server)
  let resumed = 0
  server.before((x) => {
    const cursor = x.request.headers['last-event-id']
    if (x.request.method !== 'GET' || typeof cursor !== 'string') return false
    if (++resumed > 1) return stream.attach(x.response, cursor)
    // A store's mistake: what comes from now on is kept, and sent to nobody.
    stream.send(answer())
    return x.stream()
  })
  const far = await open(server, { resumedSilenceMs: 60 })
  await far.call(1)
  expect(far.answers().filter((text) => text.includes('"done":true'))).toHaveLength(1)
  expect(far.texts()).toEqual(['one'])
  expect(resumed).toBe(2)
})

test.each<[string, (x: Exchange) => unknown]>([
  ['is swallowed', () => undefined],
  ['gets Retry-After: 86400', (x) => x.reply(503, '', { 'retry-after': '86400' })],
])('a call whose resuming GET %s fails within the time for it', async (_, refuse) => {
  const server = await ScriptedServer.start()
  server.on('tools/call', (x) => {
    const stream = x.stream(true)
    stream.send(message('one'))
    setTimeout(() => stream.cut(), 20)
  })
  server.before((x) => (withCursor(x) ? refuse(x) : false))
  const far = await open(server, { resumeMs: 200, headersMs: 100 })
  const began = performance.now()
  expect(String(await far.call(1))).toMatch(/may have run/)
  expect(performance.now() - began).toBeLessThan(2_000)
})

test('a resume that was told to wait waits, whoever is served meanwhile', async () => {
  const server = await ScriptedServer.start()
  const { answer } = callCut(server)
  let resumes = 0
  server.before((x) => {
    if (!withCursor(x)) return false
    if (++resumes === 1) return x.reply(503, '', { 'retry-after': '2' })
    return x.stream().write(`data: ${answer()}\n\n`)
  })
  const far = await open(server)
  const call = far.call(1)
  await eventually('the resume', () => resumes === 1)
  // (That the server serves is told once a second at most.)
  for (let id = 2; id < 8; id++) {
    await pause(200)
    await far.send({ jsonrpc: '2.0', id, method: 'tools/list' })
  }
  expect(resumes).toBe(1)
  expect(await call).toBeUndefined()
  expect(resumes).toBe(2)
})

test('a call is asked for until the very end of the time for it', async () => {
  const server = await ScriptedServer.start()
  const { answer } = callCut(server)
  const from = performance.now()
  server.before((x) => {
    if (!withCursor(x)) return false
    if (performance.now() - from < 1_000) return x.reply(503)
    setTimeout(() => x.stream().write(`data: ${answer()}\n\n`), 50)
    return true
  })
  // (The second wait would go far beyond it.)
  const far = await open(server, {
    resumeMs: 1_200,
    backoff: { ...DEFAULT_TIMING.backoff, baseMs: 700, capMs: 5_000 },
    random: () => 1,
  })
  await far.call(1)
  expect(far.answers()).toHaveLength(2)
})

test('what a server says behind an answer waits for a client that takes its time', async () => {
  const server = await ScriptedServer.start()
  server.on('tools/call', (x) => {
    const stream = x.stream()
    stream.send(x.answer({ done: true }))
    for (let i = 0; i < 200; i++) stream.send(message(`${i} ${'x'.repeat(2_000)}`))
    stream.finish()
  })
  const delivered: string[] = []
  const upstream = openHttp(httpConfig(server.url))({
    deliver: async ({ raw }) => {
      delivered.push(raw.toString())
      if (delivered.length === 5) await pause(600)
    },
    report: () => undefined,
  })
  onTestFinished(() => upstream.close(100))
  await upstream.send(compose(initialize()))
  await upstream.send(compose({ jsonrpc: '2.0', method: 'notifications/initialized' }))
  await upstream.send(compose({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'echo' } }))
  await eventually('all of it', () => delivered.filter((text) => text.includes('"text"')).length === 200)
})

test('a resumed stream of a call that begins with the event it was asked to go on from repeats nothing', async () => {
  const server = await ScriptedServer.start()
  let call: Exchange | undefined
  server.on('tools/call', (x) => {
    call = x
    const stream = x.stream()
    stream.write(`id: a\ndata: ${JSON.stringify(message('one'))}\n\n`)
    setTimeout(() => stream.cut(), 20)
  })
  server.before((x) => {
    if (!withCursor(x)) return false
    const answer = (call as Exchange).answer({ done: true })
    return x.stream().write(`id: a\ndata: ${JSON.stringify(message('one'))}\n\nid: b\ndata: ${answer}\n\n`)
  })
  const far = await open(server)
  await far.call(1)
  expect(far.texts()).toEqual(['one'])
})

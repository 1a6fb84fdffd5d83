/**
 * `chamade-mcp moot` as a client starts it: the real process, real pipes, a moot behind real sockets.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { rootCertificates } from 'node:tls'
import { expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { emptyFolder } from '../support/empty-folder.ts'
import { eventually } from '../support/eventually.ts'
import { toProcess } from '../support/sdk-client.ts'
import { certs } from '../support/tls.ts'
import { type Simulator, simulator } from './feed-client.ts'

const SPACE = 'sprint-planning'

function start(
  moot: Simulator,
  args: readonly string[] = [],
  env: Record<string, string> = {},
): BridgeProcess {
  return BridgeProcess.start(undefined, {
    args: ['moot', '--hold', '10ms', '--log-level', 'debug', ...args],
    env: { CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key, ...env },
  })
}

async function tool(bridge: BridgeProcess, name: string, args: object = {}): Promise<string> {
  const reply = await bridge.call('tools/call', { name, arguments: args })
  const result = reply.result as { content: { text: string }[] }
  return result.content[0]?.text ?? ''
}

test('a client that probes, shakes hands, subscribes, hears, and leaves', async () => {
  const moot = await simulator()
  const bridge = start(moot)
  bridge.send({ jsonrpc: '2.0', id: 'server-discover-probe-1', method: 'server/discover', params: {} })
  expect((await bridge.reply('server-discover-probe-1')).error?.code).toBe(-32601)
  const hello = await bridge.handshake()
  expect(hello.result).toMatchObject({
    serverInfo: { name: 'moot-channel' },
    capabilities: { experimental: { 'claude/channel': {} } },
  })
  expect(await tool(bridge, 'subscribe')).toBe('Subscribed to 1 new space(s). Total: 1 active subscriptions.')
  const said = moot.publish(SPACE, { text: 'Can you review this PR?', mentions: [moot.agent.actor_id] })
  await bridge.waitFor('the mention', () => bridge.channel().length === 1)
  expect(bridge.received('notifications/claude/channel')[0]?.params).toEqual({
    content: '@MyAgent mentioned by Alice:\nCan you review this PR?',
    meta: {
      source: 'convo-channel',
      space_id: SPACE,
      event_type: 'mention',
      event_id: said.event_id,
      speaker: 'alice-actor-id',
    },
  })
  bridge.eof()
  expect((await bridge.exited).code).toBe(0)
  expect(moot.sockets.closedWith).toEqual([1000])
  expect(bridge.stderr).not.toContain(moot.key)
})

test("the SDK's own client understands every answer", async () => {
  const moot = await simulator()
  const { client, received } = await toProcess(['moot', '--hold', '10ms'], {
    CONVO_API_URL: moot.url,
    CONVO_API_KEY: moot.key,
  })
  expect(client.getServerCapabilities()?.experimental).toEqual({ 'claude/channel': {} })
  await client.ping()
  expect((await client.listTools()).tools.map(({ name }) => name)).toContain('subscribe')
  const [first] = (await client.callTool({ name: 'subscribe' })).content as { text: string }[]
  expect(first?.text).toMatch(/^Subscribed to 1 new space/)
  await expect(client.listResources()).rejects.toThrow('Method not found')
  moot.publish(SPACE, { text: '@MyAgent here' })
  const isEvent = (message: object): boolean =>
    'method' in message && message.method === 'notifications/claude/channel'
  await eventually('the mention', () => received.some(isEvent))
})

test.each(['*', 'undici,websocket'])('NODE_DEBUG=%s does not print the key', async (names) => {
  const moot = await simulator()
  const bridge = start(moot, ['--space', SPACE], { NODE_DEBUG: names })
  await bridge.handshake()
  await eventually('the space is followed', () => moot.sockets.count(SPACE) === 1)
  await moot.stop()
  await moot.listen()
  await eventually('the space is followed again', () => moot.sockets.count(SPACE) === 1)
  bridge.eof()
  expect((await bridge.exited).code).toBe(0)
  expect(bridge.stderr).not.toContain(moot.key)
})

test('a redeploy loses nothing, and costs no notice when the gap could be filled', async () => {
  const moot = await simulator()
  const bridge = start(moot, ['--space', SPACE])
  await bridge.handshake()
  await eventually('the space is followed', () => moot.sockets.count(SPACE) === 1)
  for (let round = 0; round < 3; round++) {
    moot.publish(SPACE, { text: `@MyAgent before ${round}` })
    await moot.stop()
    moot.publish(SPACE, { text: `@MyAgent during ${round}` })
    await moot.listen()
    moot.publish(SPACE, { text: `@MyAgent after ${round}` })
  }
  await bridge.waitFor('all', () => bridge.channel().length >= 9, 15_000)
  expect(bridge.channel().map((content) => content.split('@MyAgent ').at(-1))).toEqual(
    [0, 1, 2].flatMap((round) => [`before ${round}`, `during ${round}`, `after ${round}`]),
  )
})

test('a gap that could not be filled is told to the agent', async () => {
  const moot = await simulator()
  const bridge = start(moot, ['--space', SPACE])
  await bridge.handshake()
  await eventually('the space is followed', () => moot.sockets.count(SPACE) === 1)
  moot.publish(SPACE, { text: '@MyAgent one' })
  await bridge.waitFor('the first', () => bridge.channel().length === 1)
  await moot.stop()
  moot.space(SPACE).events = []
  await moot.listen()
  await bridge.waitFor('the notice', () => bridge.channel().length === 2, 15_000)
  const notice = bridge.received('notifications/claude/channel')[1]?.params
  expect(notice).toMatchObject({ meta: { event_type: 'channel_gap', stream: SPACE } })
})

test('a flood, a huge frame and a malformed one: every event once, in order, one line each', async () => {
  const moot = await simulator()
  const bridge = start(moot, ['--space', SPACE])
  await bridge.handshake()
  await bridge.waitFor('it is up', () => bridge.stderr.includes(`push stream ${SPACE} up`))
  for (let i = 0; i < 3_000; i++) moot.publish(SPACE, { text: `@MyAgent ${i}` })
  moot.sockets.raw(SPACE, '{"type":')
  moot.publish(SPACE, { text: `@MyAgent 3000 ${'x'.repeat(10 * 1024 * 1024)}` })
  await bridge.waitFor('all', () => bridge.channel().length > 3_000, 20_000)
  const numbers = bridge
    .channel()
    .map((content) => Number(/@MyAgent (\d+)/.exec(content.split('\n')[1] ?? '')?.[1]))
  expect(numbers).toEqual(Array.from({ length: 3_001 }, (_, i) => i))
  expect(bridge.stderr).toMatch(/warn dropped a frame of 8 characters from space sprint-planning/)
  expect(await tool(bridge, 'list_subscriptions')).toBe(`- ${SPACE}`)
})

test('without a key it says so, and exits with 2', async () => {
  const moot = await simulator()
  const bridge = start(moot, [], { CONVO_API_KEY: '' })
  expect((await bridge.exited).code).toBe(2)
  await bridge.waitFor('the text', () => bridge.stderr.includes('try: '))
  expect(bridge.stderr).toMatch(/^error: no API key.*\ntry: set CONVO_API_KEY/)
})

test.each([
  ['CONVO_SPACE_ID', '../me', 'CONVO_SPACE_ID is no id of a space'],
  ['CONVO_CHANNEL_FIREHOSE', 'banana', 'CONVO_CHANNEL_FIREHOSE=banana is neither yes nor no'],
])('%s=%s is said before the first byte, and exits with 2', async (name, value, text) => {
  const moot = await simulator()
  const bridge = start(moot, [], { [name]: value })
  bridge.send({ jsonrpc: '2.0', id: 1, method: 'ping' })
  expect((await bridge.exited).code).toBe(2)
  await bridge.waitFor('the text', () => bridge.stderr.includes('try: '))
  expect(bridge.stderr).toContain(`error: ${text}`)
  expect(bridge.lines).toEqual([])
})

test('a wrong key leaves it running, with the reason in the log and in the tool', async () => {
  const moot = await simulator()
  const bridge = start(moot, [], { CONVO_API_KEY: 'convo_wrong_key' })
  await bridge.handshake()
  expect(await tool(bridge, 'subscribe', { space_id: SPACE })).toMatch(/HTTP 401.*set CONVO_API_KEY/)
  await bridge.waitFor('the log', () => /reaching moot failed.*HTTP 401/.test(bridge.stderr))
  expect(await tool(bridge, 'list_subscriptions')).toBe('No active subscriptions')
  expect(`${bridge.stderr}${Buffer.concat(bridge.lines)}`).not.toContain('convo_wrong_key')
})

test('flags do what the variables do, and the key may stand in a file', async () => {
  const moot = await simulator({ key: 'convo_from_a_file' })
  const file = join(emptyFolder(), 'key')
  writeFileSync(file, 'convo_from_a_file\n', { mode: 0o600 })
  const args = [
    '--api-url',
    moot.url,
    '--api-key-file',
    file,
    '--space',
    SPACE,
    '--firehose',
    '--texts',
    'source',
  ]
  const bridge = start(moot, args, { CONVO_API_KEY: '', CONVO_API_URL: '' })
  await bridge.handshake()
  await bridge.waitFor('it is up', () => bridge.stderr.includes(`push stream ${SPACE} up`))
  moot.publish(SPACE, { text: 'to nobody' })
  await bridge.waitFor('the event', () => bridge.channel().length === 1)
  expect(bridge.received('notifications/claude/channel')[0]?.params).toMatchObject({
    content: 'Alice (human):\nto nobody',
    meta: { source: 'convo', event_type: 'firehose' },
  })
})

test.each([
  ['at the handshake', 'handshake'],
  ['by a close code', 'close'],
] as const)(
  'a key that is refused %s and has a successor in its file: nothing is missed',
  async (_, refuseBy) => {
    const moot = await simulator({ key: 'convo_before' })
    moot.weather.refuseBy = refuseBy
    const file = join(emptyFolder(), 'key')
    writeFileSync(file, 'convo_before\n', { mode: 0o600 })
    const bridge = start(moot, ['--api-key-file', file, '--space', SPACE], { CONVO_API_KEY: '' })
    await bridge.handshake()
    await bridge.waitFor('it is up', () => bridge.stderr.includes(`push stream ${SPACE} up`))
    writeFileSync(file, 'convo_after\n')
    Object.assign(moot.agent, { api_key: 'convo_after' })
    moot.sockets.drop('cut')
    moot.publish(SPACE, { text: '@MyAgent with another key' })
    await bridge.waitFor('the event', () => bridge.channel().length === 1)
    expect(bridge.channel()).toEqual([expect.stringContaining('with another key')])
    expect(await tool(bridge, 'list_subscriptions')).toBe(`- ${SPACE}`)
    expect(bridge.stderr).not.toMatch(/convo_before|convo_after|warn .*40[13]/)
  },
)

test('a key that was wrong at the start is read again by a call', async () => {
  const moot = await simulator({ key: 'convo_right' })
  const file = join(emptyFolder(), 'key')
  writeFileSync(file, 'convo_wrong\n', { mode: 0o600 })
  const bridge = start(moot, ['--api-key-file', file], { CONVO_API_KEY: '' })
  await bridge.handshake()
  expect(await tool(bridge, 'subscribe', { space_id: SPACE })).toMatch(/HTTP 401.*--api-key-file/)
  writeFileSync(file, '')
  expect(await tool(bridge, 'subscribe', { space_id: SPACE })).toMatch(/HTTP 401/)
  writeFileSync(file, 'convo_right')
  expect(await tool(bridge, 'subscribe', { space_id: SPACE })).toMatch(/^Subscribed to/)
  expect(bridge.stderr).not.toContain('convo_right')
})

test('a key that is replaced by one of another agent: that one is listened for from then on', async () => {
  const moot = await simulator({ key: 'convo_first' })
  const file = join(emptyFolder(), 'key')
  writeFileSync(file, 'convo_first\n', { mode: 0o600 })
  const bridge = start(moot, ['--api-key-file', file, '--space', SPACE], { CONVO_API_KEY: '' })
  await bridge.handshake()
  await eventually('the space is followed', () => moot.sockets.count(SPACE) === 1)
  moot.publish(SPACE, { text: 'mine', speaker: moot.agent.actor_id, thread_id: 'thr_1' })
  moot.publish(SPACE, { text: 'to you', thread_id: 'thr_1' })
  await bridge.waitFor('the reply', () => bridge.channel().length === 1)
  const other = moot.store.addActor({ display_name: 'NewAgent', api_key: 'convo_second' })
  moot.store.actors.delete(moot.agent.actor_id)
  writeFileSync(file, 'convo_second')
  moot.sockets.drop('cut')
  await bridge.waitFor('the other', () => bridge.stderr.includes('as NewAgent'))
  await eventually('it is followed by the other', () => moot.sockets.count(SPACE) === 1)
  moot.publish(SPACE, { text: 'to the one before', thread_id: 'thr_1' })
  moot.publish(SPACE, { text: 'Can you review this?', mentions: [other.actor_id] })
  await bridge.waitFor('the mention', () => bridge.channel().length === 2)
  expect(bridge.received('notifications/claude/channel')[1]?.params).toMatchObject({
    content: '@NewAgent mentioned by Alice:\nCan you review this?',
  })
})

test('NODE_EXTRA_CA_CERTS is honoured beside SSL_CERT_FILE', async () => {
  const [key, cert] = ['server.key', 'server.pem'].map((name) => readFileSync(join(certs, name), 'utf8'))
  const moot = await simulator({ tls: { key: key ?? '', cert: cert ?? '' } })
  const another = join(emptyFolder(), 'another-ca.pem')
  writeFileSync(another, rootCertificates[0] ?? '')
  const env = { SSL_CERT_FILE: another, NODE_EXTRA_CA_CERTS: join(certs, 'ca.pem') }
  const bridge = start(moot, [], env)
  await bridge.handshake()
  expect(await tool(bridge, 'subscribe', { space_id: SPACE })).toMatch(/^Subscribed to/)
})

test('SIGTERM says goodbye to the sockets', async () => {
  const moot = await simulator()
  const bridge = start(moot, ['--space', SPACE])
  await bridge.handshake()
  await eventually('the space is followed', () => moot.sockets.count(SPACE) === 1)
  process.kill(bridge.pid, 'SIGTERM')
  expect((await bridge.exited).code).toBe(143)
  await eventually('the goodbye', () => moot.sockets.closedWith.length === 1)
  expect(moot.sockets.closedWith).toEqual([1000])
})

test('SIGTERM answers a subscribe that waits with what is true', async () => {
  const moot = await simulator()
  moot.weather.hangPath = '/events'
  const bridge = start(moot)
  await bridge.handshake()
  const waiting = tool(bridge, 'subscribe', { space_id: SPACE })
  await eventually('it is underway', () => moot.calls.some(({ path }) => path.includes('/events')))
  process.kill(bridge.pid, 'SIGTERM')
  expect(await waiting).toBe(`Not subscribed to ${SPACE}: the bridge is shutting down.`)
  expect((await bridge.exited).code).toBe(143)
})

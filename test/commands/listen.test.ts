/**
 * `chamade-mcp listen` against the local Chamade.
 */
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { expect, onTestFinished, test } from 'vitest'
import type { Io } from '../../src/commands/command.ts'
import { type Heard, pageFor } from '../../src/commands/listen/page.ts'
import { listen } from '../../src/commands/listen.ts'
import { startMootSimulator } from '../../src/simulator/moot/simulator.ts'
import { type Simulator, startSimulator } from '../../src/simulator/simulator.ts'
import { alive } from '../support/bridge-process.ts'
import { emptyFolder } from '../support/empty-folder.ts'
import { eventually } from '../support/eventually.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { Cli, runCli } from './support.ts'

const KEY = 'chmd_listen-test-key'

async function simulator(): Promise<Simulator> {
  const started = await startSimulator({ keys: [KEY], pingMs: 50 })
  onTestFinished(() => started.close())
  return started
}

/** Listens, and waits until its stream is open. */
async function listening(server: Simulator, args: readonly string[] = []): Promise<Cli> {
  const cli = new Cli(['listen', server.mcpUrl, ...args], { env: { CHAMADE_API_KEY: KEY } })
  await eventually('the stream is open', () => server.sessions.some(({ streamOpen }) => streamOpen), 10_000)
  return cli
}

function say(server: Simulator, text: string, platform = 'discord'): void {
  server.publish({ type: 'dm', from: 'Alice', text, platform })
}

test('prints an event as one JSON line with kind, sender, latency, content and meta', async () => {
  const server = await simulator()
  const cli = await listening(server, ['--count', '1'])
  say(server, 'Can you check\nthe test results?')
  const { code } = await cli.ended
  expect(code).toBe(0)
  const [event] = cli.objects.filter(({ type }) => type === 'event')
  expect(event).toMatchObject({
    kind: 'dm_chat',
    sender: 'Alice',
    content: expect.stringContaining('Can you check\nthe test results?') as string,
    meta: { platform: 'discord' },
  })
  expect(event?.latency_ms).toBeGreaterThanOrEqual(0)
  expect(event?.latency_ms).toBeLessThan(5_000)
  expect(cli.objects[0]).toMatchObject({
    type: 'status',
    text: expect.stringContaining('connected to chamade') as string,
  })
  await eventually('the session has ended', () => server.sessions.length === 0)
})

test('counts only what --only and --drop let pass', async () => {
  const server = await simulator()
  const cli = await listening(server, [
    '--count',
    '2',
    '--only',
    'platform=slack,platform=discord',
    '--drop',
    'platform=slack',
  ])
  for (const [text, platform] of [
    ['one', 'telegram'],
    ['two', 'discord'],
    ['three', 'slack'],
    ['four', 'discord'],
  ] as const) {
    say(server, text, platform)
  }
  await cli.ended
  const texts = cli.objects.filter(({ type }) => type === 'event').map(({ content }) => content)
  expect(texts).toEqual([expect.stringContaining('two'), expect.stringContaining('four')])
})

test('fails when --for ends before --count is reached, and not without --count', async () => {
  const server = await simulator()
  const options = { env: { CHAMADE_API_KEY: KEY } }
  const [short, enough] = await Promise.all([
    runCli(['listen', server.mcpUrl, '--count', '1', '--for', '2s'], options),
    runCli(['listen', server.mcpUrl, '--for', '2s'], options),
  ])
  expect(short.code).toBe(1)
  expect(short.stderr).toMatch(
    /^error: 0 of 1 events came within --for\ntry: give it longer with --for;.*\n$/,
  )
  expect(enough.code).toBe(0)
})

test('fails when --for ends before it could listen, and says what was not reached', async () => {
  const nobody = new ScriptedServer()
  await nobody.up()
  await nobody.down()
  const deaf = await ScriptedServer.start()
  deaf.before((x) => x.request.method === 'GET' && (x.reply(503) ?? true))
  const moot = await startMootSimulator({ key: 'convo_listen-test' })
  onTestFinished(() => moot.close())
  const env = { CONVO_API_KEY: 'convo_wr0ng-k3y' }
  const [away, silent, refused] = await Promise.all([
    runCli(['listen', nobody.url, '--for', '700ms']),
    runCli(['listen', deaf.url, '--for', '700ms']),
    runCli(['listen', '--moot', moot.url, '--for', '700ms'], { env }),
  ])
  expect(away.code).toBe(1)
  expect(away.stderr).toMatch(/^error: 127\.0\.0\.1:.*could not be reached .*ECONNREFUSED.*\ntry: /)
  expect(silent.code).toBe(1)
  expect(silent.stderr).toContain(`no push stream of ${deaf.url} was open within 700 ms\ntry: `)
  expect(refused.code).toBe(1)
  expect(refused.stderr).toContain(`no push stream of ${moot.url} was open within 700 ms\ntry: `)
  expect(refused.stdout + refused.stderr).not.toContain('convo_wr0ng-k3y')
})

test.each([[[]], [['--count', '1']], [['--for', '10s']]])(
  'fails where the server has no push stream, and ends its session (%j)',
  async (args) => {
    const deaf = await ScriptedServer.start({ push: false })
    const { code, stdout, stderr } = await runCli(['listen', deaf.url, ...args])
    expect(code).toBe(1)
    expect(stdout).toContain('the server offers no push stream: HTTP 405')
    expect(stderr).toMatch(/^error: nothing can be listened to: .* offers no push stream\ntry: .*\n$/)
    expect([...deaf.sessions.values()].map(({ endedBy }) => endedBy)).toEqual(['delete'])
  },
)

test('fails when --for ends and the spaces of a moot were listed, but none was heard', async () => {
  const moot = await startMootSimulator({ key: 'convo_listen-test' })
  onTestFinished(() => moot.close())
  moot.weather.handshakeStatus = 502
  const env = { CONVO_API_KEY: 'convo_listen-test' }
  const { code, stdout, stderr } = await runCli(['listen', '--moot', moot.url, '--for', '2s'], { env })
  expect(stdout).toContain('push stream sprint-planning still down')
  expect(stderr).toContain(`no push stream of ${moot.url} was open within 2 s\ntry: `)
  expect(code).toBe(1)
})

test('shows a lost session and the gap in their place, and goes on', async () => {
  const server = await simulator()
  const cli = await listening(server, ['--count', '2'])
  say(server, 'before')
  await eventually('the first event', () => cli.objects.some(({ type }) => type === 'event'))
  server.restart()
  await eventually('a new stream', () => server.sessions.some(({ streamOpen }) => streamOpen), 10_000)
  await eventually('the gap', () => cli.objects.some(({ type }) => type === 'gap'), 10_000)
  say(server, 'after')
  const { code } = await cli.ended
  expect(code).toBe(0)
  const order = cli.objects.flatMap(({ type, text }) => {
    if (type !== 'status') return [type]
    return String(text).startsWith('session') ? [String(text).replace(/[:;].*| after.*/, '')] : []
  })
  expect(order[0]).toBe('event')
  expect(order.indexOf('gap')).toBeGreaterThan(0)
  expect(order.at(-1)).toBe('event')
  expect(order).toContain('session 2 live')
})

test('runs --exec for each event, in order, with the event on stdin', async () => {
  const server = await simulator()
  const folder = emptyFolder()
  const script = join(folder, 'append.cjs')
  writeFileSync(
    script,
    `const fs = require('fs'); const e = JSON.parse(fs.readFileSync(0, 'utf8'))
     fs.appendFileSync(${JSON.stringify(join(folder, 'out'))}, e.sender + ' ' + e.content.slice(-4) + '\\n')`,
  )
  const cli = await listening(server, ['--count', '3', '--exec', `"${process.execPath}" "${script}"`])
  for (const n of [1, 2, 3]) say(server, `no${n}`)
  const { code } = await cli.ended
  expect(code).toBe(0)
  expect(readFileSync(join(folder, 'out'), 'utf8').split('\n')).toEqual([
    expect.stringMatching(/^Alice .*no1/),
    expect.stringMatching(/^Alice .*no2/),
    expect.stringMatching(/^Alice .*no3/),
    '',
  ])
})

/** A command that says where and that it runs, and then works on, in a child of its shell. */
async function busyWith(server: Simulator, args: readonly string[], ms: number) {
  const folder = emptyFolder()
  const [script, out] = [join(folder, 'busy.cjs'), join(folder, 'out')]
  const work = `fs.appendFileSync(${JSON.stringify(out)}, 'ended')`
  writeFileSync(
    script,
    `const fs = require('fs'); fs.writeFileSync(${JSON.stringify(out)}, process.pid + ' ')
     setTimeout(() => ${work}, ${ms})`,
  )
  const exec = `"${process.execPath}" "${script}"; true`
  const cli = await listening(server, [...args, '--exec', exec])
  say(server, 'one')
  const written = (): string => (existsSync(out) ? readFileSync(out, 'utf8') : '')
  await eventually('the command runs', () => written().endsWith(' '), 10_000)
  return { cli, pid: Number(written()), written }
}

test('whoever stops it stops what --exec runs', async () => {
  const { cli, pid } = await busyWith(await simulator(), [], 60_000)
  cli.child.kill('SIGTERM')
  await cli.ended
  await eventually('the command has ended', () => !alive(pid), 5_000)
})

test('what --exec runs when the time is over may end its work', async () => {
  const { cli, written } = await busyWith(await simulator(), ['--for', '4s'], 5_000)
  expect(await cli.ended).toMatchObject({ code: 0 })
  expect(written()).toMatch(/^\d+ ended$/)
})

test('says that --exec failed, goes on, and fails in the end', async () => {
  const server = await simulator()
  const cli = await listening(server, ['--count', '2', '--exec', 'exit 3'])
  say(server, 'one')
  say(server, 'two')
  const { code } = await cli.ended
  expect(code).toBe(1)
  expect(cli.objects.filter(({ text }) => text === '--exec failed: exit code 3')).toHaveLength(2)
})

test('listens for as long as no timer can hold', async () => {
  const server = await simulator()
  const cli = await listening(server, ['--for', '600h', '--count', '1'])
  say(server, 'one')
  expect(await cli.ended).toMatchObject({ code: 0, stderr: '' })
})

test('ends by Ctrl-C with 130, its session ended', async () => {
  const server = await simulator()
  const cli = await listening(server)
  cli.child.kill('SIGINT')
  expect((await cli.ended).code).toBe(130)
  await eventually('the session has ended', () => server.sessions.length === 0)
})

test('ends when its reader goes', async () => {
  const server = await simulator()
  const cli = await listening(server)
  cli.child.stdout.destroy()
  const exited = once(cli.child, 'exit')
  say(server, 'one')
  say(server, 'two')
  await exited
  await eventually('the session has ended', () => server.sessions.length === 0)
})

test('leaves nothing on a stdout that is slow', async () => {
  const stdout = new PassThrough({ highWaterMark: 1 })
  const page = pageFor({ stdout } as unknown as Io, true)
  for (const text of ['one', 'two', 'three']) {
    const written = page.event({ json: { text } } as Heard)
    stdout.read()
    await written
  }
  expect(stdout.listenerCount('drain')).toBe(0)
  expect(stdout.listenerCount('close')).toBe(0)
})

test('stops at once where Ctrl-C came before it began', async () => {
  const server = await simulator()
  const io = {
    signal: AbortSignal.abort(),
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    env: { CHAMADE_API_KEY: KEY },
  }
  expect(await listen.run({ url: server.mcpUrl }, [], io as unknown as Io)).toBe(0)
})

test('says that the key is refused, without showing it', async () => {
  const server = await simulator()
  const { code, stdout, stderr } = await runCli(['listen', server.mcpUrl], {
    env: { CHAMADE_API_KEY: 'chmd_wr0ng-k3y' },
  })
  expect(code).toBe(1)
  expect(stderr).toMatch(/^error: .*CHAMADE_API_KEY.*401.*\ntry: /)
  expect(stdout + stderr).not.toContain('chmd_wr0ng-k3y')
})

test('warns when the server does not declare the channel', async () => {
  const server = await ScriptedServer.start()
  const { stdout } = await runCli(['listen', server.url, '--for', '500ms'])
  expect(stdout).toContain('does not declare claude/channel')
})

test('refuses a count, a time or a rule that cannot be meant', async () => {
  for (const [args, text] of [
    [['--count', '0'], '--count 0 is no count'],
    [['--for', 'soon'], '--for soon is no duration'],
    [['--space', 'sprint-planning'], '--space goes with --moot'],
    [['--moot', '--header', 'X-A: b'], '--header is for an MCP server, not for a moot'],
    [['--moot', '--url', 'http://127.0.0.1:9'], '--url is for an MCP server, not for a moot'],
    [['--only', 'dm'], '--only "dm" has no "="'],
  ] as const) {
    const { code, stderr } = await runCli(['listen', 'http://127.0.0.1:9/mcp', ...args])
    expect(code).toBe(2)
    expect(stderr).toContain(`error: ${text}`)
    expect(stderr).toMatch(/^try: /m)
  }
})

test('listens as a moot entry of a client does, ours or that of the Python package', async () => {
  const moot = await startMootSimulator({ key: 'convo_listen-entry' })
  onTestFinished(() => moot.close())
  const env = { CONVO_API_URL: moot.url, CONVO_API_KEY: '${MY_KEY}' }
  const servers = {
    ours: { command: 'npx', args: ['-y', '@chamade/mcp-server@3', 'moot', '--firehose'], env },
    theirs: { command: 'python', args: ['-m', 'adapters.channel_runner'], env },
    chamade: { command: 'npx', args: ['-y', '@chamade/mcp-server@3', '--stateful'] },
  }
  const cwd = emptyFolder()
  writeFileSync(join(cwd, '.mcp.json'), JSON.stringify({ mcpServers: servers }))
  for (const [name, kind] of [
    ['ours', 'firehose'],
    ['theirs', 'mention'],
  ] as const) {
    const args = ['listen', '--entry', name, '--count', '1']
    const cli = new Cli(args, { cwd, env: { MY_KEY: moot.key, CONVO_API_KEY: 'convo_other' } })
    await eventually('it is up', () => cli.stdout.includes('push stream sprint-planning up'), 10_000)
    moot.publish('sprint-planning', { text: kind === 'mention' ? '@MyAgent you' : 'to nobody' })
    expect((await cli.ended).code).toBe(0)
    expect(cli.objects.filter(({ type }) => type === 'event')).toMatchObject([{ kind }])
  }
  const wrong = await runCli(['listen', '--moot', '--entry', 'chamade'], { cwd })
  expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('is none of moot') as string })
  const other = await runCli(['tools', '--entry', 'ours'], { cwd })
  expect(other.stderr).toContain('try: for moot: npx -y @chamade/mcp-server@3 listen --entry ours')
})

test('--moot takes the key from --api-key-file, not from the variable of Chamade', async () => {
  const moot = await startMootSimulator({ key: 'convo_listen-file' })
  onTestFinished(() => moot.close())
  const file = join(emptyFolder(), 'key')
  writeFileSync(file, moot.key)
  const env = { CHAMADE_API_KEY_FILE: '/nowhere/chamade' }
  const cli = new Cli(['listen', '--moot', moot.url, '--api-key-file', file], { env })
  await eventually('the stream is up', () => cli.stdout.includes('push stream sprint-planning up'), 10_000)
  const { stderr } = await runCli(['listen', '--moot', moot.url], { env })
  expect(stderr).toContain('error: no API key')
})

test('listens to moot spaces with --moot', async () => {
  const moot = await startMootSimulator({ key: 'convo_listen-test' })
  onTestFinished(() => moot.close())
  const cli = new Cli(['listen', '--moot', '--space', 'sprint-planning', '--count', '1'], {
    env: { CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key },
  })
  await eventually('the stream is up', () => cli.stdout.includes('push stream sprint-planning up'), 10_000)
  moot.publish('sprint-planning', { text: '@MyAgent can you review this?' })
  expect((await cli.ended).code).toBe(0)
  expect(cli.objects.filter(({ type }) => type === 'event')).toMatchObject([
    { kind: 'mention', content: expect.stringContaining('can you review this?') as string },
  ])
  expect(cli.stdout).not.toContain('convo_listen-test')
})

test('of a moot without an active space of the agent it says that, and no word of the key', async () => {
  const moot = await startMootSimulator({ key: 'convo_listen-test' })
  onTestFinished(() => moot.close())
  for (const space of moot.store.spaces.values()) moot.store.setStatus(space, 'archived')
  const env = { CONVO_API_KEY: 'convo_listen-test' }
  const { code, stderr } = await runCli(['listen', '--moot', moot.url, '--for', '1s'], { env })
  expect(stderr).toBe(
    `error: nothing was listened to: ${moot.url} has no active space of this agent\n` +
      'try: have it invited to a space, or name one to join: --space ID\n',
  )
  expect(code).toBe(1)
})

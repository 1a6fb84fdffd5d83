/** `simulate` and `emit`, the real program in both roles. */
import { readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { beaconFolder } from '../../src/simulator/beacon.ts'
import { eventually } from './agent.ts'
import { agentBehindBridge, done, home, introduced, run } from './program.ts'

it('prints what connects an agent, and ends on a signal leaving no file behind', async () => {
  const at = await home()
  const simulator = run(at, ['simulate', '--port', '0', '--key', 'chmd_told'])
  const { mcpUrl, key } = await introduced(simulator)
  expect(key).toBe('chmd_told')
  const block = /^\{$[\s\S]*?^\}$/m.exec(simulator.output())?.[0] ?? ''
  expect(JSON.parse(block)).toMatchObject({
    mcpServers: {
      'chamade-simulator': {
        command: process.platform === 'win32' ? 'cmd' : 'npx',
        args: expect.arrayContaining(['-y', '@chamade/mcp-server@3', '--stateful']) as string[],
        env: { CHAMADE_MCP_URL: mcpUrl, CHAMADE_API_KEY: 'chmd_told' },
      },
    },
  })
  expect(simulator.output()).toMatch(/^claude .* server:chamade-simulator$/m)
  const folder = beaconFolder(at)
  const [file = ''] = await readdir(folder)
  if (process.platform !== 'win32') {
    expect(((await stat(`${folder}/${file}`)).mode & 0o777).toString(8)).toBe('600')
    expect(((await stat(folder)).mode & 0o777).toString(8)).toBe('700')
  }
  simulator.child.kill('SIGTERM')
  expect(await simulator.exited).toBe(128 + 15)
  expect(await readdir(folder)).toEqual([])
})

it('emit finds the simulator, and what it emits leaves the stdout of the real bridge', async () => {
  const at = await home()
  const { mcpUrl, key } = await introduced(run(at, ['simulate', '--port', '0']))
  const events = await agentBehindBridge(mcpUrl, key, async () => {})
  const text = 'Can you check the test results?'
  const dm = await done(at, ['emit', 'dm', '--from', 'Alice', '--platform', 'discord', text])
  expect(dm.code).toBe(0)
  await eventually(() => events.length >= 1)
  expect(events.at(-1)?.content).toBe(`New message from Alice on Discord: "${text}"`)
  const call = await done(at, ['emit', 'call', '--from', '+33 1 23 45 67 89'])
  expect(call.output).toContain('Incoming call: SIP +33 1 23 45 67 89, state: "ringing"')
  const fault = await done(at, ['emit', 'fault', 'slow', '--ms', '1', '--seconds', '1'])
  expect(fault.output).toBe('slow for 1 s\n')
  const lines = '{"type":"raw","content":"from stdin","meta":{"a":"b"}}\n{"fault":"clear"}\n'
  const piped = await done(at, ['emit', '--json'], lines)
  expect(
    piped.output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown),
  ).toMatchObject([
    { events: [{ content: 'from stdin', pushed_to: ['s1'] }] },
    { done: 'all faults cleared' },
  ])
  await eventually(() => events.some((event) => event.content === 'from stdin' && event.meta.a === 'b'))
})

it('says what is wrong and what to do', async () => {
  const at = await home()
  const nobody = await done(at, ['emit', 'dm', 'hello'])
  expect(nobody).toMatchObject({ code: 1 })
  expect(nobody.errors).toContain('start one in another terminal: npx -y @chamade/mcp-server@3 simulate;')
  await introduced(run(at, ['simulate', '--port', '0']))
  expect(await done(at, ['emit', 'dm', '--platform', 'fax', 'x'])).toMatchObject({ code: 2 })
  expect((await done(at, ['emit', 'fault', 'earthquake'])).errors).toContain('half-open')
  expect((await done(at, ['emit'], 'not json\n')).errors).toContain('line 1')
  expect((await done(at, ['emit', 'dm'])).errors).toContain('needs a text')
  // Claude Code writes an attribute "source" of its own.
  expect((await done(at, ['emit', 'raw', 'x', '--meta', 'a'])).errors).toContain('try: --meta severity=high')
})

it('refuses a port that is taken, with a hint', async () => {
  const at = await home()
  const { mcpUrl } = await introduced(run(at, ['simulate', '--port', '0']))
  const second = await done(at, ['simulate', '--port', new URL(mcpUrl).port])
  expect(second.code).toBe(2)
  expect(second.errors).toContain('--port')
})

it('talks to the simulator started last, or to the one on --port; one that died is passed over', async () => {
  const at = await home()
  const first = await introduced(run(at, ['simulate', '--port', '0']))
  const second = run(at, ['simulate', '--port', '0'])
  await introduced(second)
  expect((await done(at, ['emit', 'dm', 'for the second'])).output).toContain('evt_000001')
  expect((await done(at, ['emit', 'dm', 'for the second'])).output).toContain('evt_000002')
  const { port } = new URL(first.mcpUrl)
  expect((await done(at, ['emit', 'dm', 'for the first', '--port', port])).output).toContain('evt_000001')
  second.child.kill('SIGKILL')
  await second.exited
  expect((await done(at, ['emit', 'dm', 'for the first'])).output).toContain('evt_000002')
})

it('where the simulator cannot say that it runs, it says so, and emit does not deny that it runs', async () => {
  const noFolder = join(await home(), 'file')
  await writeFile(noFolder, '')
  const simulator = run(noFolder, ['simulate', '--port', '0'])
  const { port } = new URL((await introduced(simulator)).mcpUrl)
  const file = join(beaconFolder(noFolder), `${port}.json`)
  expect(simulator.errors()).toContain(`emit will not find this simulator: ${file} cannot be written: E`)
  expect(simulator.errors()).toMatch(/\ntry: set HOME, .*\n$/)
  const asked = await done(noFolder, ['emit', 'dm', 'hello', '--port', port])
  expect(asked.code).toBe(1)
  expect(asked.errors).toContain(`error: no simulator is known on port ${port} (looked for ${file})\ntry: `)
})

it('simulates moot too, and refuses options that say nothing about it', async () => {
  const at = await home()
  const moot = run(at, ['simulate', '--moot', '--port', '0'])
  await eventually(() => moot.output().includes('curl'))
  const find = (pattern: RegExp): string => pattern.exec(moot.output())?.[1] ?? ''
  const answer = await fetch(`${find(/^address: +(\S+)$/m)}/api/actors/me`, {
    headers: { authorization: `Bearer ${find(/^key: +(\S+)$/m)}` },
  })
  expect(answer.status).toBe(200)
  await answer.text()
  expect(moot.output()).toMatch(/^npx -y @chamade\/mcp-server@3 listen --moot http:/m)
  expect(moot.output()).toMatch(/^npx -y @chamade\/mcp-server@3 emit say "@/m)
  expect((await done(at, ['simulate', '--moot', '--replay'])).code).toBe(2)
  const two = await done(at, ['simulate', '--moot', '--key', 'convo_one', '--key', 'convo_two'])
  expect(two).toMatchObject({
    code: 2,
    errors: expect.stringMatching(/^error: --key .*more than once.*\ntry: /),
  })
})

it('lets things happen in a moot: somebody speaks, a space pauses, a socket is cut', async () => {
  const at = await home()
  const moot = run(at, ['simulate', '--moot', '--port', '0', '--key', 'convo_local'])
  await eventually(() => moot.output().includes('curl'))
  const url = /^address: +(\S+)$/m.exec(moot.output())?.[1] ?? ''
  expect((await done(at, ['emit', 'say', 'nobody is here'])).output).toContain('nobody listens')
  const listener = run(at, ['listen', '--moot', url], undefined, { CONVO_API_KEY: 'convo_local' })
  const up = () => listener.output().match(/push stream sprint-planning up/g)?.length ?? 0
  await eventually(() => up() === 1)
  const said = await done(at, ['emit', 'say', '--from', 'Alice', '@MyAgent can you review this?'])
  expect(said).toMatchObject({ code: 0 })
  expect(said.output).toMatch(
    /^evt_\w+ {2}pushed to 1 {2}Alice in sprint-planning: @MyAgent can you review this\?\n$/,
  )
  await eventually(() => /"kind":"mention".*can you review this/.test(listener.output()))
  for (const [given, why] of [
    [['bad-key', '--seconds', '3'], 'in a moot fault "bad-key" has no "seconds"'],
    [['drop', '--space', 'nope'], 'there is no space "nope"'],
  ] as const) {
    const vain = await done(at, ['emit', 'fault', ...given])
    expect(vain).toMatchObject({ code: 2, errors: expect.stringContaining(why) as string })
  }
  expect((await done(at, ['emit', 'fault', 'drop'])).output).toBe('drop: done\n')
  await eventually(() => up() === 2)
  expect((await done(at, ['emit', 'status', 'paused', '--json'])).output).toContain('"status":"paused"')
  await eventually(() => listener.output().includes('paused'))
  expect(await done(at, ['emit', 'status', 'asleep'])).toMatchObject({
    code: 2,
    errors: expect.stringContaining('active, paused or archived') as string,
  })
})

it('each event goes where it can happen; what cannot happen in what runs is said so', async () => {
  const at = await home()
  const moot = run(at, ['simulate', '--moot', '--port', '0'])
  await eventually(() => moot.output().includes('curl'))
  const wrong = await done(at, ['emit', 'dm', 'hello'])
  expect(wrong.code).toBe(1)
  expect(wrong.errors).toMatch(
    /^error: the simulator at \S+ is a moot: there is no "dm" in it\ntry: emit say, emit status or emit fault;/,
  )
  expect(wrong.errors).toContain('npx -y @chamade/mcp-server@3 simulate --port 0')
  expect((await done(at, ['emit', 'fault', '502'])).errors).toContain(
    'is a moot: there is no fault "502" in it',
  )
  await introduced(run(at, ['simulate', '--port', '0']))
  expect((await done(at, ['emit', 'dm', 'hello'])).output).toContain('evt_000001')
  expect((await done(at, ['emit', 'say', 'hello'])).output).toContain('Alice in sprint-planning: hello')
  expect((await done(at, ['emit', 'fault', 'suspend'])).output).toBe('suspend: done\n')
  expect((await done(at, ['emit', 'fault', 'refuse', '--seconds', '1'])).output).toContain('1 s')
})

it('a simulator that refuses connections is not one that does not run', async () => {
  const at = await home()
  await introduced(run(at, ['simulate', '--port', '0']))
  await done(at, ['emit', 'fault', 'refuse', '--seconds', '60'])
  const { code, errors } = await done(at, ['emit', 'dm', 'hello'])
  expect(code).toBe(1)
  expect(errors).toMatch(
    /^error: the simulator at http:\S+ does not answer\ntry: wait, if it was told to refuse/,
  )
  expect((await done(at, ['emit', 'dm', 'hello', '--port', 'x'])).errors).toContain('--port x is no port')
})

it('sends a file along, at an address that needs no login', async () => {
  const at = await home()
  await introduced(run(at, ['simulate', '--port', '0']))
  const file = join(at, 'a note.txt')
  await writeFile(file, 'what I meant')
  const { output } = await done(at, ['emit', 'dm', 'see the file', '--file', file, '--json'])
  const { events } = JSON.parse(output) as { events: { content: string }[] }
  const url = /\[file: a note\.txt, \S+, (\S+)\]/.exec(events[0]?.content ?? '')?.[1] ?? ''
  expect(await (await fetch(url)).text()).toBe('what I meant')
  expect((await done(at, ['emit', 'dm', 'x', '--file', join(at, 'missing')])).code).toBe(2)
})

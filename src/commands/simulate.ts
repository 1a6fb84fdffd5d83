/**
 * `chamade-mcp simulate`: the local Chamade (or moot), until you stop it or its scenario ends.
 *
 * Not a stdio MCP server: what it prints to stdout is for people. The one rule: the first lines are all somebody
 * needs to connect an agent.
 */
import { readFile } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { list, text } from '../config.ts'
import { invalid, seconds } from '../errors.ts'
import { isLoopback } from '../loopback.ts'
import { nameGiven, type OptionValues } from '../options.ts'
import { aborted } from '../retry.ts'
import { ASSUMPTIONS } from '../simulator/assumptions.ts'
import { announce, type Beacon, portIn } from '../simulator/beacon.ts'
import type { Scenario } from '../simulator/scenario/scenario.ts'
import type { Simulator } from '../simulator/simulator.ts'
import type { CommandSpec, Io } from './command.ts'
import { CLAUDE_CODE } from './init/clients.ts'
import { entryFor, USUAL_NAME, type Wish } from './init/entry.ts'
import { launchLines } from './init/launch.ts'
import { shellLine } from './shell-line.ts'
import { numberOf, portOf } from './values.ts'

const DEFAULT_PORT = 8484
/** Of the local moot. */
const SPACE = 'sprint-planning'

export const simulate: CommandSpec = {
  name: 'simulate',
  summary: `Run a local Chamade (or moot, with --moot) with faults on demand, without an account.
Its address opens a console in your browser; "emit" talks to it from the shell.
Scripts can do the same over HTTP, with the console's token as Bearer:
POST /control/emit and /control/fault, GET /control/state and /control/timeline.

What the real product does not tell is assumed:
${ASSUMPTIONS.map((line) => `  - ${line}`).join('\n')}`,
  options: [
    {
      flags: '--port <n>',
      description: 'port to listen on; 0 is any free one',
      env: 'CHAMADE_SIMULATOR_PORT',
      fallback: String(DEFAULT_PORT),
    },
    { flags: '--host <address>', description: 'address to listen on', fallback: '127.0.0.1' },
    {
      flags: '--key <key...>',
      description: 'API key of an agent; repeat it for more agents',
      env: 'CHAMADE_SIMULATOR_KEY',
      fallback: 'a random one',
    },
    {
      flags: '--scenario <file>',
      description: 'run this timeline (YAML or JSON), then exit: 0 when every expectation was met',
    },
    { flags: '--speed <n>', description: 'calls ring and connect n times faster', fallback: '1' },
    { flags: '--ping <seconds>', description: 'between comments on an idle stream', fallback: '15' },
    {
      flags: '--legacy-push',
      description: 'every connection is stateful, as production was before ?stateful',
    },
    {
      flags: '--byo-audio',
      description: 'no hosted voice: nothing is transcribed, chamade_call_say is refused',
    },
    { flags: '--replay', description: 'events carry ids; resuming with Last-Event-ID gives what was missed' },
    {
      flags: '--replace-stream',
      description: 'a second stream takes the place of the first, instead of 409',
    },
    { flags: '--moot', description: 'simulate moot instead of Chamade' },
  ],
  examples: [
    'chamade-mcp simulate',
    'chamade-mcp simulate --port 9000 --key chmd_local',
    'chamade-mcp simulate --scenario ./redeploy.yaml',
  ],
  run: (values, _operands, io) => (values.moot === true ? runMoot(values, io) : runChamade(values, io)),
}

async function runChamade(values: OptionValues, io: Io): Promise<number> {
  const { startSimulator } = await import('../simulator/simulator.ts')
  const scenario = await scenarioOf(values, io)
  const pingS = numberOf(values, 'ping')
  const keys = list(values.key)
  const simulator = await startSimulator({
    host: text(values.host),
    port: portOf(values, DEFAULT_PORT),
    keys: keys.length === 0 ? undefined : keys,
    pingMs: pingS === undefined ? undefined : pingS * 1_000,
    speed: speedOf(values) ?? scenario?.speed,
    hostedVoice: values.byoAudio !== true,
    legacyPush: values.legacyPush === true || scenario?.legacyPush === true,
    replay: values.replay === true || scenario?.replay === true,
    duplicateStream: values.replaceStream === true ? 'replace' : 'refuse',
  }).catch(failedToListen)
  const hide = await announced({ system: 'chamade', url: simulator.url, token: simulator.token }, io)
  try {
    warnOfOthers(values, io)
    io.stdout.write(introductionOf(simulator, io))
    if (scenario !== undefined) return await play(simulator, scenario, io)
    await aborted(io.signal)
    return 0
  } finally {
    await hide()
    await simulator.close()
  }
}

function warnOfOthers(values: OptionValues, io: Io): void {
  const host = text(values.host) ?? '127.0.0.1'
  if (isLoopback(host)) return
  io.stderr.write(`listening on ${host}: others on your network can reach the simulator\n`)
}

/** Without the file `emit` cannot find us; everything else works. */
async function announced(beacon: Omit<Beacon, 'startedAt'>, io: Io): Promise<() => Promise<void>> {
  const startedAt = new Date().toISOString()
  try {
    return await announce(io.homedir, portIn(beacon.url), { ...beacon, startedAt })
  } catch (error) {
    io.stderr.write(`emit will not find this simulator: ${messageOf(error)}
try: set HOME, for simulate and for emit, to a folder that you can write to
`)
    return () => Promise.resolve()
  }
}

function introductionOf(simulator: Simulator, io: Io): string {
  const { consoleUrl, mcpUrl, agents } = simulator
  const wish = { system: 'chamade', name: USUAL_NAME.simulator, space: undefined } as const
  const keys = agents.map(({ name, key }) => `${`key of ${name}:`.padEnd(14)} ${key}`).join('\n')
  return `Chamade simulator
console:       ${consoleUrl}
MCP endpoint:  ${mcpUrl}   (?stateful for push)
${keys}

For an MCP client (.mcp.json):
${configFor({ ...wish, url: mcpUrl }, simulator.key, io)}

Claude Code, with the channel:
${launchLines([wish.name])[0]?.line}

`
}

/** The entry for `.mcp.json`, as `init` would write it. */
function configFor(wish: Pick<Wish, 'system' | 'name' | 'url' | 'space'>, key: string, io: Io): string {
  const whole: Wish = {
    ...wish,
    stateful: true,
    allowHttp: false,
    installed: false,
    key: { kind: 'value', value: key },
  }
  const entry = entryFor(CLAUDE_CODE, whole, io.platform)
  return JSON.stringify({ mcpServers: { [wish.name]: entry } }, undefined, 2)
}

async function scenarioOf(values: OptionValues, io: Io): Promise<Scenario | undefined> {
  const file = text(values.scenario)
  if (file === undefined) return undefined
  const { BadScenario, readScenario } = await import('../simulator/scenario/scenario.ts')
  const content = await readFile(isAbsolute(file) ? file : join(io.cwd, file), 'utf8').catch(
    (error: unknown) => {
      throw invalid(`--scenario ${file} cannot be read: ${messageOf(error)}`, 'check the path')
    },
  )
  try {
    return readScenario(content)
  } catch (error) {
    if (!(error instanceof BadScenario)) throw error
    throw invalid(`--scenario ${file}: ${error.message}`, 'see examples/scenarios in the repository')
  }
}

async function play(simulator: Simulator, scenario: Scenario, io: Io): Promise<number> {
  const { runScenario } = await import('../simulator/scenario/run.ts')
  io.stdout.write(`scenario: ${scenario.name}\n`)
  const [first] = scenario.steps
  // (Nobody can have connected yet.)
  if (first?.kind === 'expect')
    io.stdout.write(`step 1 waits for your agent, ${seconds(first.ms)} at most: start it now\n`)
  const ok = await runScenario(
    simulator,
    scenario,
    (step) => io.stdout.write(`${step.ok ? 'ok  ' : 'FAIL'}  ${step.step}  ${step.text}\n`),
    io.signal,
  )
  io.stdout.write(ok ? 'passed\n' : 'failed\n')
  return ok ? 0 : 1
}

/** Options that say nothing about a moot. */
const CHAMADE_ONLY = ['scenario', 'speed', 'ping', 'legacyPush', 'byoAudio', 'replay', 'replaceStream']

async function runMoot(values: OptionValues, io: Io): Promise<number> {
  const wrong = CHAMADE_ONLY.find((name) => values[name] !== undefined && values[name] !== false)
  if (wrong !== undefined)
    throw invalid(`${nameGiven(values, wrong)} says nothing about a moot`, 'leave it away, or --moot')
  const [given, ...more] = list(values.key)
  if (more.length > 0)
    throw invalid('--key was given more than once, and a local moot has one agent', 'give it once')
  const { startMootSimulator } = await import('../simulator/moot/simulator.ts')
  const simulator = await startMootSimulator({
    host: text(values.host),
    port: portOf(values, DEFAULT_PORT),
    key: given,
  }).catch(failedToListen)
  const { url, key, agent } = simulator
  const wish = { system: 'moot', name: USUAL_NAME.moot, url, space: SPACE } as const
  const hide = await announced({ system: 'moot', url, token: key }, io)
  warnOfOthers(values, io)
  io.stdout.write(`moot simulator
address:  ${url}
key:      ${key}

For an MCP client (.mcp.json):
${configFor(wish, key, io)}

See that it works, each in a terminal of its own, the first with CONVO_API_KEY set as above:
${shellLine(`listen --moot ${url}`)}
${shellLine(`emit say "@${agent.display_name} can you review this?"`)}

The same over HTTP:
curl -X POST ${url}/_simulator/publish -H 'Authorization: Bearer ${key}' \\
  -d '{"space_id":"${SPACE}","text":"hello","mentions":["${agent.actor_id}"]}'
`)
  try {
    await aborted(io.signal)
    return 0
  } finally {
    await hide()
    await simulator.close()
  }
}

function speedOf(values: OptionValues): number | undefined {
  const speed = numberOf(values, 'speed')
  if (speed === 0) throw invalid('--speed 0 would stop the clock', '--speed 10')
  return speed
}

function failedToListen(error: unknown): never {
  throw invalid(
    `the simulator cannot start: ${messageOf(error)}`,
    'choose another --port (0 is any free one) or --host',
  )
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/**
 * `chamade-mcp simulate`: the local Chamade, until you stop it.
 *
 * Not a stdio MCP server: what it prints to stdout is for people. The one rule: the first lines are all somebody
 * needs to connect an agent.
 */
import { BridgeError } from '../errors.ts'
import { ASSUMPTIONS } from '../simulator/assumptions.ts'
import type { CommandSpec, Io, OptionValues } from './command.ts'

export const simulate: CommandSpec = {
  name: 'simulate',
  summary: `Run a local Chamade (or moot, with --moot) with faults on demand, without an account.

Assumed, because the real product does not say: ${ASSUMPTIONS.join('; ')}.`,
  options: [
    {
      flags: '--port <n>',
      description: 'port to listen on; 0 is any free one',
      env: 'CHAMADE_SIMULATOR_PORT',
      fallback: '8484',
    },
    { flags: '--host <address>', description: 'address to listen on', fallback: '127.0.0.1' },
    {
      flags: '--key <key...>',
      description: 'API key of an agent; repeat it for more agents',
      env: 'CHAMADE_SIMULATOR_KEY',
      fallback: 'random',
    },
    {
      flags: '--legacy-push',
      description: 'every connection is stateful, as production was before ?stateful',
    },
    {
      flags: '--replay',
      description: 'events carry ids; a stream resumed with Last-Event-ID gets what it missed',
    },
    { flags: '--moot', description: 'simulate moot instead of Chamade' },
  ],
  examples: [
    'chamade-mcp simulate',
    'chamade-mcp simulate --port 9000 --key chmd_local',
    'chamade-mcp simulate --legacy-push',
  ],
  run: (values, _operands, io) => (values.moot === true ? runMoot(values, io) : runChamade(values, io)),
}

async function runChamade(values: OptionValues, io: Io): Promise<number> {
  const { startSimulator } = await import('../simulator/simulator.ts')
  const simulator = await startSimulator({
    host: textOf(values, 'host'),
    port: portOf(values),
    keys: keysOf(values),
    legacyPush: values.legacyPush === true,
    replay: values.replay === true,
  }).catch(failedToListen)
  io.stdout.write(`Chamade simulator: ${simulator.url}
key:               ${simulator.key}
MCP endpoint:      ${simulator.mcpUrl}   (add ?stateful for push)

For an MCP client (.mcp.json):
${configFor(simulator.mcpUrl, simulator.key)}

Claude Code, with the channel:
claude --dangerously-load-development-channels server:chamade

Ctrl-C stops it.
`)
  await aborted(io.signal)
  await simulator.close()
  return 0
}

/** What the moot simulator gives; its own room decides the rest. */
interface MootSimulator {
  readonly url: string
  readonly key: string
  close(): Promise<void>
}

async function runMoot(values: OptionValues, io: Io): Promise<number> {
  const path = '../simulator/moot/simulator.ts'
  const room = (await import(path)) as {
    startMootSimulator(options: object): Promise<MootSimulator>
  }
  const key = keysOf(values)?.[0]
  const options = {
    host: textOf(values, 'host'),
    port: portOf(values),
    ...(key === undefined ? {} : { key }),
  }
  const simulator = await room.startMootSimulator(options).catch(failedToListen)
  io.stdout.write(`moot simulator: ${simulator.url}\nkey:            ${simulator.key}\n\nCtrl-C stops it.\n`)
  await aborted(io.signal)
  await simulator.close()
  return 0
}

/** The block for `.mcp.json`. */
function configFor(mcpUrl: string, key: string): string {
  const args = ['-y', '@chamade/mcp-server', '--stateful', '--url', mcpUrl]
  const entry = { command: 'npx', args, env: { CHAMADE_API_KEY: key } }
  return JSON.stringify({ mcpServers: { chamade: entry } }, undefined, 2)
}

function failedToListen(error: unknown): never {
  throw new BridgeError('CONFIG_INVALID', `the simulator cannot start: ${messageOf(error)}`, {
    hint: 'choose another --port (0 is any free one) or --host',
    cause: error,
  })
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function textOf(values: OptionValues, name: string): string | undefined {
  const value = values[name]
  return typeof value === 'string' ? value : undefined
}

function keysOf(values: OptionValues): readonly string[] | undefined {
  const value = values.key
  if (typeof value === 'string') return [value]
  return Array.isArray(value) && value.length > 0 ? (value as readonly string[]) : undefined
}

function portOf(values: OptionValues): number {
  const text = textOf(values, 'port') ?? '8484'
  const port = Number(text)
  if (/^\d+$/.test(text) && port < 65_536) return port
  throw new BridgeError('CONFIG_INVALID', `--port ${text} is no port`, {
    hint: 'give a number from 0 to 65535',
  })
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** `chamade-mcp` with a home of its own, as users run it: real processes, real pipes. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { onTestFinished } from 'vitest'
import { baseEnv, bin, root } from '../support/bridge-process.ts'
import { type ChannelMessage, eventually } from './agent.ts'

export interface Program {
  readonly child: ChildProcess
  readonly output: () => string
  readonly errors: () => string
  readonly exited: Promise<number | null>
}

/** A folder that stands in for the user's home, gone after the test. */
export async function home(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'chamade-home-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Starts the program; ended with the test if it has not ended by itself. */
export function run(
  homedir: string,
  args: readonly string[],
  input?: string,
  more: Readonly<Record<string, string>> = {},
): Program {
  const child = spawn(process.execPath, [bin, ...args], {
    cwd: root,
    env: { ...baseEnv, HOME: homedir, USERPROFILE: homedir, ...more },
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  })
  child.stdin?.end(input)
  let output = ''
  let errors = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    errors += chunk.toString()
  })
  const exited = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)))
  onTestFinished(async () => {
    child.kill('SIGTERM')
    await exited
  })
  return { child, output: () => output, errors: () => errors, exited }
}

/** Runs it to its end. */
export async function done(
  homedir: string,
  args: readonly string[],
  input?: string,
): Promise<{ readonly code: number | null; readonly output: string; readonly errors: string }> {
  const program = run(homedir, args, input)
  const code = await program.exited
  return { code, output: program.output(), errors: program.errors() }
}

/** What `simulate` said about itself. */
export async function introduced(
  simulator: Program,
): Promise<{ readonly mcpUrl: string; readonly key: string; readonly consoleUrl: string }> {
  await eventually(() => simulator.output().includes('claude --dangerously'))
  const find = (pattern: RegExp): string => pattern.exec(simulator.output())?.[1] ?? ''
  return {
    consoleUrl: find(/^console: +(\S+)$/m),
    mcpUrl: find(/^MCP endpoint: +(\S+) /m),
    key: find(/^key of agent: +(\S+)$/m),
  }
}

export type Reaction = (
  event: ChannelMessage,
  call: (tool: string, args: Record<string, unknown>) => Promise<unknown>,
) => Promise<void>

/** An agent behind the real bridge that reacts to each pushed event, one after the other. */
export async function agentBehindBridge(
  mcpUrl: string,
  key: string,
  react: Reaction,
): Promise<ChannelMessage[]> {
  const client = new Client({ name: 'scripted-agent', version: '1.0.0' })
  const events: ChannelMessage[] = []
  let turn: Promise<void> = Promise.resolve()
  client.fallbackNotificationHandler = (note) => {
    if (note.method !== 'notifications/claude/channel') return Promise.resolve()
    const event = note.params as unknown as ChannelMessage
    events.push(event)
    const call = (name: string, args: Record<string, unknown>): Promise<unknown> =>
      client.callTool({ name, arguments: args })
    // A call that fails while the server is away is the scenario's business, not ours.
    turn = turn.then(() => react(event, call)).catch(() => undefined)
    return Promise.resolve()
  }
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [bin, '--stateful', '--url', mcpUrl],
    env: { ...baseEnv, CHAMADE_API_KEY: key },
    stderr: 'ignore',
  })
  onTestFinished(() => client.close())
  await client.connect(transport)
  // As Claude Code does: what is pushed at once is held until the client asks for something else.
  await client.listTools()
  return events
}

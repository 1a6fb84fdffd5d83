/**
 * The command table, and the only room that takes anything from the global `process`: argv and environment become
 * option values, errors become a line and a hint, the outcome becomes an exit code.
 *
 * A host starts one of these per window and waits for it, so well-formed options of the two bridges are read
 * here; commander is loaded for everything else: subcommands, help, mistakes.
 * The one rule: stdout belongs to the command.
 */
import { setMaxListeners } from 'node:events'
import { type CommandEntry, camelCase, type Io, longName, withEnvironment } from './commands/command.ts'
import { connect } from './commands/connect.ts'
import { harmless } from './commands/terminal.ts'
import { BridgeError, invalid } from './errors.ts'
import type { OptionSpec, OptionValues } from './options.ts'

/** The subcommands; their tables are loaded when asked for. */
const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'init',
    summary: 'write the entry for Claude Code, Claude Desktop, Cursor or VS Code',
    load: async () => (await import('./commands/init.ts')).init,
  },
  {
    name: 'doctor',
    summary: 'check every link between the server and the agent',
    load: async () => (await import('./commands/doctor.ts')).doctor,
  },
  {
    name: 'listen',
    summary: 'print pushed events as they come',
    load: async () => (await import('./commands/listen.ts')).listen,
  },
  {
    name: 'tools',
    summary: "list the server's tools",
    load: async () => (await import('./commands/tools.ts')).tools,
  },
  {
    name: 'call',
    summary: 'call one tool from the shell',
    load: async () => (await import('./commands/call.ts')).call,
  },
  {
    name: 'moot',
    summary: 'push the events of moot spaces: mentions, thread replies, decisions',
    load: async () => (await import('./commands/moot.ts')).moot,
  },
  {
    name: 'simulate',
    summary: 'a local Chamade with faults on demand, without an account',
    load: async () => (await import('./commands/simulate.ts')).simulate,
  },
  {
    name: 'emit',
    summary: 'let something happen in the running simulator',
    load: async () => (await import('./commands/emit.ts')).emit,
  },
]

/** What ends it, and their numbers, the same on every system. */
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const
/** A command that was told to end and has not done so by then is left alone. */
const GOODBYE_MS = 2_000

async function main(): Promise<void> {
  const args = process.argv.slice(2)
  // Any number of requests may wait for one thing; Node would warn of a leak, on a stderr that was to be silent.
  setMaxListeners(0)
  const stop = new AbortController()
  // One shutdown, whichever signal comes first and however many follow.
  for (const signal of Object.keys(SIGNALS)) process.on(signal, () => stop.abort(signal))
  // A bridge that dies of its own mistake is deaf for good: say it, and go on.
  process.on('uncaughtException', (error) => complain(error))
  process.on('unhandledRejection', (error) => complain(error))
  // A reader that has gone (`| head`) had enough; a full disk is a failure, whatever came of the rest.
  let lost = false
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (lost || error.code === 'EPIPE') return
    lost = true
    const hint = 'try: make room, or write it somewhere else\n'
    openStderr().write(`error: the output could not be written: ${error.message}\n${hint}`)
  })
  let code: number
  try {
    code = await Promise.race([run(args, worldOf(stop.signal)), overdue(stop.signal)])
  } catch (error) {
    // What ends because it was told to has failed of nothing.
    code = error === stop.signal.reason ? 1 : complain(error)
  }
  // The failure of the last write is told a moment after it.
  await new Promise(setImmediate)
  if (lost) code = 1
  if (stop.signal.aborted) code = 128 + SIGNALS[stop.signal.reason as keyof typeof SIGNALS]
  process.exit(code)
}

/** Resolves when the time for a goodbye is over. */
function overdue(stop: AbortSignal): Promise<number> {
  return new Promise((resolve) => {
    stop.addEventListener('abort', () => setTimeout(resolve, GOODBYE_MS, 1), { once: true })
  })
}

async function run(args: readonly string[], io: Io): Promise<number> {
  const [first] = args
  const spec = first === 'moot' ? (await import('./commands/moot.ts')).moot : connect
  const quick = readQuickly(spec === connect ? args : args.slice(1), spec.options)
  if (quick !== undefined && (spec === connect || quick.operands.length === 0)) {
    return await spec.run(withEnvironment(quick.values, spec.options, io.env), quick.operands, io)
  }
  const { runCommand } = await import('./commander.ts')
  return await runCommand(args, connect, COMMANDS, io)
}

/** Options of a bridge, when there is nothing to explain about them: all else is commander's to read. */
function readQuickly(
  args: readonly string[],
  options: readonly OptionSpec[],
): { values: OptionValues; operands: readonly string[] } | undefined {
  const operands: string[] = []
  const values: Record<string, string | true | string[]> = {}
  const rest = args.values()
  for (const arg of rest) {
    if (!arg.startsWith('-')) {
      operands.push(arg)
      continue
    }
    const [, name, given] = /^--([a-z-]+)(?:=(.*))?$/s.exec(arg) ?? []
    const option = options.find((each) => longName(each) === name)
    if (name === undefined || option === undefined) return undefined
    const key = camelCase(name)
    if (!option.flags.includes('<')) {
      if (given !== undefined) return undefined
      values[key] = true
      continue
    }
    const value: string | undefined = given ?? rest.next().value
    if (value === undefined || (given === undefined && value.startsWith('-'))) return undefined
    const before = values[key]
    values[key] = option.flags.includes('...') ? [...(Array.isArray(before) ? before : []), value] : value
  }
  const [operand] = operands
  const unclear = operands.length > 1 || (operand !== undefined && !operand.includes(':'))
  return unclear ? undefined : { operands, values }
}

function worldOf(signal: AbortSignal): Io {
  const parent = process.ppid
  return {
    env: process.env,
    stdin: process.stdin,
    stdout: process.stdout,
    // Opened when something is said: it costs 0.75 ms of every start.
    get stderr() {
      return openStderr()
    },
    platform: process.platform,
    // A bridge needs neither, and there may be none: a folder that was removed, a user without an entry or HOME.
    get cwd() {
      return found(process.cwd, 'this folder is gone', 'cd to one that is there')
    },
    get homedir() {
      return found(homedir, 'this user has no home folder', 'set HOME to one')
    },
    signal,
    parentAlive: () => process.ppid === parent,
  }
}

/** (Not imported: few ask, and that is 0.5 ms of every start.) */
function homedir(): string {
  return (require('node:os') as typeof import('node:os')).homedir()
}

function found(folder: () => string, otherwise: string, hint: string): string {
  try {
    return folder()
  } catch {
    throw invalid(otherwise, hint)
  }
}

let stderr: NodeJS.WriteStream | undefined

/** A terminal that has gone away is no reason to end. */
function openStderr(): NodeJS.WriteStream {
  stderr ??= process.stderr.on('error', () => undefined)
  return stderr
}

/** Says it on stderr as people can use it; the exit code that goes with it. */
function complain(error: unknown): number {
  if (error instanceof BridgeError) {
    const hint = error.hint === undefined ? '' : `try: ${error.hint}\n`
    openStderr().write(harmless(`error: ${error.message}\n${hint}`))
    return error.code === 'CONFIG_INVALID' ? 2 : 1
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  openStderr().write(`error: internal: ${text}\n`)
  return 1
}

void main()

/**
 * The command line when there is something to explain: subcommands, help, a mistake.
 */
import { Command, CommanderError, Option } from 'commander'
import {
  type CommandEntry,
  type CommandSpec,
  camelCase,
  type Io,
  longName,
  withEnvironment,
} from './commands/command.ts'
import { throwInShell } from './commands/in-shell.ts'
import { program as programWords } from './commands/shell-line.ts'
import type { OptionSpec, OptionValues } from './options.ts'
import { VERSION } from './version.ts'

/** What every command takes. */
const STANDARD: ReadonlySet<string> = new Set(['--help', '--version'])

/** As who has only npx can run it. */
const PROGRAM = programWords(false).join(' ')

/** Runs the command that `args` name; resolves with the exit code. Mistakes are said on stderr: code 2. */
export async function runCommand(
  words: readonly string[],
  main: CommandSpec,
  others: readonly CommandEntry[],
  io: Io,
): Promise<number> {
  const args = askingForHelp(words)
  const named = others.find((entry) => entry.name === args[0])
  if (named === undefined && /^[a-z][a-z-]*$/.test(args[0] ?? '')) return explainUnknown(args, others, io)
  const operands = args.filter((_word, at) => !isValue(args, at, main.options))
  const late = named === undefined ? others.find(({ name }) => operands.includes(name)) : undefined
  if (late !== undefined) return explainLate(late.name, io)
  const spec = named === undefined ? main : await named.load()
  const isBridge = named === undefined || named.name === 'moot'
  let done: Promise<number> | undefined
  const program = build(spec, io, named !== undefined).action((...called: unknown[]) => {
    const command = called.at(-1) as Command
    const values = Object.fromEntries(
      spec.options.flatMap((option) => {
        const name = camelCase(longName(option))
        const value = command.getOptionValue(optionOf(option).attributeName()) as OptionValues[string]
        if (option.flags.startsWith('--no-')) return value === false ? [[name, true]] : []
        return value === undefined ? [] : [[name, value]]
      }),
    )
    done = spec.run(withEnvironment(values, spec.options, io.env), command.args, io)
    if (!isBridge) done = done.catch(throwInShell)
  })
  if (named === undefined) {
    program.version(VERSION, '-V, --version', 'print the version')
    program.addHelpText('after', () => commandList(others))
  }
  const examples = spec.examples.map((line) => `  ${line.replace('chamade-mcp', PROGRAM)}`)
  program.addHelpText('after', () => `\nExamples:\n${examples.join('\n')}\n`)
  try {
    const given = named === undefined ? args : args.slice(1)
    await program.parseAsync(withoutValues(given, spec.options), { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    throw error
  }
  const code = (await done) ?? 0
  // (A bridge has limits of its own for what its client does not take.)
  if (!isBridge) await taken(io)
  return code
}

/** What was written to a pipe is on its way still: the end of the process would cut it off. */
function taken({ stdout, signal }: Io): Promise<void> {
  if (stdout.writableLength === 0 || stdout.destroyed || signal.aborted) return Promise.resolve()
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true })
    stdout.write('', () => resolve())
  })
}

/** `help`, `help COMMAND`, `--help COMMAND` and `COMMAND help`, as the flag that they mean. */
function askingForHelp(words: readonly string[]): readonly string[] {
  const [first, second, ...more] = words
  const isAsked = /^(help|--help|-h)$/.test(first ?? '')
  if (more.length > 0 || (!isAsked && second !== 'help')) return words
  const about = isAsked ? second : first
  return about === undefined || about === 'help' || about.startsWith('-') ? ['--help'] : [about, '--help']
}

/** Does a word stand behind an option that takes one? */
function isValue(words: readonly string[], at: number, options: readonly OptionSpec[]): boolean {
  const before = options.find((option) => `--${longName(option)}` === words[at - 1])
  return before?.flags.includes('<') === true
}

function explainLate(name: string, io: Io): number {
  io.stderr.write(
    `error: ${name} comes too late: a command is the first word\ntry: ${PROGRAM} ${name} --help\n`,
  )
  return 2
}

/** A word that is no command: commander knows the nearest one. */
function explainUnknown(args: readonly string[], others: readonly CommandEntry[], io: Io): number {
  const program = quiet(new Command(PROGRAM), io, [])
  for (const entry of others) program.command(entry.name)
  try {
    program.parse(args.slice(0, 1), { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
  }
  return 2
}

/** Never exits, says what it has to say on our streams. */
function quiet(command: Command, io: Io, options: readonly OptionSpec[]): Command {
  return command
    .exitOverride()
    .showSuggestionAfterError()
    .configureHelp({ helpWidth: io.stdout.columns ?? 100 })
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      outputError: (text, write) => {
        const said = switchWithValue(text, options) ?? text.trimEnd()
        write(`${withoutSecrets(said)}\ntry: ${command.name()} --help\n`)
      },
    })
}

/** Of what is no option the name is said, and what may be a key instead is not. */
function withoutSecrets(said: string): string {
  return said
    .replace(/(unknown option '(?:--[\w-]*|-[^-]))[\s\S]*'/, "$1'")
    .replace(/(unknown option '--?(?:chmd|convo)_)[^']*/, '$1…')
}

/** What is no option is said, and looked for, without the value it was given: that may be a key. */
function withoutValues(words: readonly string[], options: readonly OptionSpec[]): readonly string[] {
  const known = new Set([...STANDARD, ...options.map((option) => `--${longName(option)}`)])
  const end = words.indexOf('--')
  return words.map((word, i) => {
    const [name, value] = isValue(words, i, options) || (end !== -1 && i > end) ? [] : word.split('=', 2)
    const isOption = /^--./.test(name ?? '') && value !== undefined
    return name !== undefined && isOption && !known.has(name) ? name : word
  })
}

/** Commander knows no `--stateful=maybe`; we know `--stateful`. */
function switchWithValue(text: string, options: readonly OptionSpec[]): string | undefined {
  const [, name] = /unknown option '--([\w-]+)=/.exec(text) ?? []
  const known = options.some((option) => longName(option) === name)
  return known || STANDARD.has(`--${name}`) ? `error: --${name} takes no value` : undefined
}

function build(spec: CommandSpec, io: Io, isSubcommand: boolean): Command {
  const name = isSubcommand ? `${PROGRAM} ${spec.name}` : PROGRAM
  const command = quiet(new Command(name).description(spec.summary), io, spec.options)
  for (const operand of spec.operands?.split(/\s+/) ?? []) command.argument(operand)
  for (const option of spec.options) command.addOption(optionOf(option))
  return command.allowExcessArguments(false)
}

function optionOf(spec: OptionSpec): Option {
  const twin = spec.env === undefined ? '' : ` (env ${spec.env})`
  const fallback = spec.fallback === undefined ? '' : ` (default ${spec.fallback})`
  const flags = spec.flags.replace('...>', '>')
  const option = new Option(flags, `${spec.description}${fallback}${twin}`)
  if (!spec.flags.includes('...')) return option
  // One value each time it is given: `--header a --header b`, never the operand behind it.
  return option.argParser((value: string, before: string[] | undefined) => [...(before ?? []), value])
}

function commandList(others: readonly CommandEntry[]): string {
  const width = Math.max(...others.map((entry) => entry.name.length))
  const lines = [...others, { name: 'help', summary: 'help COMMAND: the options of one of these' }]
  return `\nCommands:\n${lines.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`).join('\n')}\n`
}

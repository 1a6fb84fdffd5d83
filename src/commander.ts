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
  type OptionSpec,
  withEnvironment,
} from './commands/command.ts'
import { VERSION } from './version.ts'

/** Runs the command that `args` name; resolves with the exit code. Mistakes are said on stderr: code 2. */
export async function runCommand(
  args: readonly string[],
  main: CommandSpec,
  others: readonly CommandEntry[],
  io: Io,
): Promise<number> {
  const named = others.find((entry) => entry.name === args[0])
  if (named === undefined && /^[a-z][a-z-]*$/.test(args[0] ?? '')) return explainUnknown(args, others, io)
  const spec = named === undefined ? main : await named.load()
  let done: Promise<number> | undefined
  const program = build(spec, io, named !== undefined).action((...called: unknown[]) => {
    const command = called.at(-1) as Command
    const values = Object.fromEntries(
      spec.options.flatMap((option) => {
        const name = camelCase(longName(option))
        const value = command.getOptionValue(attributeOf(option)) as string | boolean | string[] | undefined
        if (name.startsWith('no')) return value === false ? [[name, true]] : []
        return value === undefined ? [] : [[name, value]]
      }),
    )
    done = spec.run(withEnvironment(values, spec.options, io.env), command.args, io)
  })
  if (named === undefined) {
    program.version(VERSION, '-V, --version', 'print the version')
    program.addHelpText('after', () => commandList(others))
  }
  program.addHelpText('after', () => `\nExamples:\n${spec.examples.map((line) => `  ${line}`).join('\n')}\n`)
  try {
    await program.parseAsync(named === undefined ? args : args.slice(1), { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    throw error
  }
  return (await done) ?? 0
}

/** A word that is no command: commander knows the nearest one. */
function explainUnknown(args: readonly string[], others: readonly CommandEntry[], io: Io): number {
  const program = quiet(new Command('chamade-mcp'), io)
  for (const entry of others) program.command(entry.name)
  try {
    program.parse(args.slice(0, 1), { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
  }
  return 2
}

/** Never exits, says what it has to say on our streams. */
function quiet(command: Command, io: Io): Command {
  return command
    .exitOverride()
    .showSuggestionAfterError()
    .configureHelp({ helpWidth: io.stdout.columns ?? 100 })
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      outputError: (text, write) =>
        write(`${text.trimEnd().replaceAll(/(--[\w-]+)=[^'\s]*/g, '$1')}\ntry: ${command.name()} --help\n`),
    })
}

function build(spec: CommandSpec, io: Io, isSubcommand: boolean): Command {
  const name = isSubcommand ? `chamade-mcp ${spec.name}` : 'chamade-mcp'
  const command = quiet(new Command(name).description(spec.summary), io)
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

function attributeOf(spec: OptionSpec): string {
  return optionOf(spec).attributeName()
}

function commandList(others: readonly CommandEntry[]): string {
  const width = Math.max(...others.map((entry) => entry.name.length))
  return `\nCommands:\n${others.map((entry) => `  ${entry.name.padEnd(width)}  ${entry.summary}`).join('\n')}\n`
}

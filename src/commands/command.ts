/**
 * What a subcommand is: a table of options and one function. `commander.ts` turns the table into flags and help; a
 * command reads neither `process` nor `argv`.
 */

import { invalid } from '../errors.ts'
import { type OptionSpec, type OptionValues, switchSet, TWINS } from '../options.ts'

/** What a command may touch of the world. */
export interface Io {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdin: NodeJS.ReadStream
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
  readonly platform: NodeJS.Platform
  readonly cwd: string
  readonly homedir: string
  /** Aborted by the first SIGINT, SIGTERM or SIGHUP; `reason` is the signal's name. */
  readonly signal: AbortSignal
  /** False once the process that started us is gone. */
  readonly parentAlive: () => boolean
}

export interface CommandSpec {
  readonly name: string
  readonly summary: string
  /** Operands in commander's notation: `[url]`, `<tool> [pairs...]`. */
  readonly operands?: string
  readonly options: readonly OptionSpec[]
  /** Three runnable lines. */
  readonly examples: readonly string[]
  /**
   * Does it; resolves with the exit code (0 fine, 1 failed). A `BridgeError` it throws is shown as
   * `error:` and `try:`; with the code CONFIG_INVALID the exit code is 2, else 1.
   */
  run(values: OptionValues, operands: readonly string[], io: Io): Promise<number>
}

/** A subcommand in the table: its options are loaded when it is asked for. */
export interface CommandEntry {
  readonly name: string
  readonly summary: string
  readonly load: () => Promise<CommandSpec>
}

/**
 * Flags win; else the environment twin counts, unless it is empty. Throws CONFIG_INVALID for a flag without a
 * value (`--url "$UNSET"` must not come to mean the default), and for a switch set to neither yes nor no.
 */
export function withEnvironment(
  values: OptionValues,
  options: readonly OptionSpec[],
  env: Io['env'],
): OptionValues {
  const merged: Record<string, OptionValues[string]> = { ...values }
  const twins: Record<string, string> = {}
  for (const option of options) {
    const name = camelCase(longName(option))
    refuseEmpty(option, merged[name])
    const twin = option.env === undefined ? undefined : env[option.env]?.trim()
    if (merged[name] !== undefined || twin === undefined || twin === '') continue
    if (option.flags.includes('<')) merged[name] = twin
    else if (switchSet(String(option.env), twin)) merged[name] = true
    twins[name] = String(option.env)
  }
  return { ...merged, [TWINS]: twins }
}

function refuseEmpty(option: OptionSpec, value: OptionValues[string]): void {
  const empty = typeof value === 'string' ? value === '' : Array.isArray(value) && value.includes('')
  if (!empty) return
  throw invalid(
    `--${longName(option)} is empty`,
    'give it a value (a variable in it may not be set), or leave it away',
  )
}

/** `--api-key-file <path>` -> `api-key-file`. */
export function longName(option: OptionSpec): string {
  return /--([a-z-]+)/.exec(option.flags)?.[1] ?? option.flags
}

export function camelCase(name: string): string {
  return name.replaceAll(/-([a-z])/g, (_dash, letter: string) => letter.toUpperCase())
}

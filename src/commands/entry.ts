/**
 * `--entry NAME`: connect as a client's configuration says, instead of by flags.
 *
 * Reads the entry the way its client would: `${NAME}` from this shell, flags from its arguments. The one rule:
 * what the client would not understand is said, not guessed.
 */
import { existsSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { parseArgs } from 'node:util'
import { list, text, timeLimit } from '../config.ts'
import { withVariables } from '../credentials.ts'
import { BridgeError, invalid } from '../errors.ts'
import { type OptionSpec, type OptionValues, SERVER_OPTIONS, TWINS } from '../options.ts'
import { record } from './client.ts'
import { type CommandSpec, camelCase, type Io, longName, withEnvironment } from './command.ts'
import { connect } from './connect.ts'
import { configured, type Found, type Plain, strings } from './doctor/entries.ts'
import { isOurs, isProgram } from './init/launch.ts'
import { moot } from './moot.ts'
import { bridgeSettings, checkLogFile } from './run-bridge.ts'
import { shellLine } from './shell-line.ts'

export const ENTRY_OPTION: OptionSpec = {
  flags: '--entry <name>',
  description: "take address and key from this entry of a client's configuration",
}

/** What `serverSettings` needs. */
export interface Asked {
  readonly values: OptionValues
  readonly operands: readonly string[]
  readonly env: Io['env']
}

/** The settings as they are, or those of the entry that `--entry` names, with the flags given beside it on top. */
export async function askedFor(values: OptionValues, operands: readonly string[], io: Io): Promise<Asked> {
  const name = text(values.entry)
  if (name === undefined) return { values, operands, env: io.env }
  const entry = await entryNamed(name, io)
  const flags = withoutTwins(values)
  const env = { ...io.env, ...expanded(record(entry.env), io.env) }
  const url = text(entry.url as string | undefined)
  if (url !== undefined) {
    const headers = Object.entries(expanded(record(entry.headers), io.env)).map(
      ([key, value]) => `${key}: ${value}`,
    )
    const own = operands.length > 0 ? {} : { url: here(url, io.env) }
    return { values: { ...own, ...flags, header: [...headers, ...list(flags.header)] }, operands, env }
  }
  if (!isOurs(entry) || isMoot(entry)) {
    throw invalid(
      `the entry "${name}" is no entry for an MCP server behind a URL`,
      isMoot(entry) ? `for moot: ${shellLine(`listen --entry ${name}`)}` : 'name one that is, or give --url',
    )
  }
  const own = said(entry, name, connect, io.env, env)
  // Twins of the entry's own environment count below its flags.
  const merged = withEnvironment({ ...own.values, ...flags }, SERVER_OPTIONS, env)
  return { values: merged, operands: operands.length > 0 ? operands : own.operands, env }
}

/** What the moot entry says that `--entry` names; undefined when it names none of moot. */
export async function mootAsked(values: OptionValues, io: Io): Promise<Omit<Asked, 'operands'> | undefined> {
  const { entry: name } = values
  if (typeof name !== 'string') return undefined
  const entry = await entryNamed(name, io)
  if (isMoot(entry)) {
    const env = { ...io.env, ...expanded(record(entry.env), io.env) }
    return { values: said(entry, name, moot, io.env, env).values, env }
  }
  if (values.moot === true) throw invalid(`the entry "${name}" is none of moot`, 'leave --moot away')
  return undefined
}

async function entryNamed(name: string, io: Io): Promise<Plain> {
  const { entries } = await configured(io)
  const [first, ...others] = entries.filter((each) => each.name === name)
  const ofClient = others.filter(({ client }) => client === first?.client)
  // (What waits for an approval may be somebody else's: one that its client starts already goes before it.)
  const isStarted = ({ disabled, unapproved }: Found): boolean => !disabled && !unapproved
  const found = first !== undefined && isStarted(first) ? first : (ofClient.find(isStarted) ?? first)
  if (found !== undefined) return found.entry
  const names = [...new Set(entries.map((each) => each.name))]
  throw invalid(
    `no client here has an entry "${name}" for this server`,
    names.length === 0 ? `${shellLine('init')} writes one` : `there is ${names.join(', ')}`,
  )
}

/** Ours, or the one of the Python package: the same variables. */
function isMoot(entry: Plain): boolean {
  return strings(entry.args).some((word) => word === 'moot' || word.endsWith('channel_runner'))
}

/** The flags and operands among the arguments of an entry, read with all that its command takes; `env`: what it gets. */
function said(
  entry: Plain,
  name: string,
  { options }: CommandSpec,
  shell: Io['env'],
  env: Io['env'],
): Pick<Asked, 'values' | 'operands'> {
  const args = strings(entry.args).map((word) => here(word, shell))
  const words = [String(entry.command), ...args]
  const program = words.findIndex(isProgram)
  // `npx -p @chamade/mcp-server chamade-mcp` names it twice.
  const start = isProgram(words[program + 1] ?? '') ? program + 1 : program
  const shapes = Object.fromEntries(options.map((option) => [longName(option), shape(option)]))
  const own = parseArgs({
    args: args.slice(start === -1 ? args.length : start),
    strict: false,
    tokens: true,
    allowPositionals: true,
    options: shapes,
  })
  for (const token of own.tokens) {
    if (token.kind !== 'option') continue
    const wrong = complaint(token.rawName, token.value, shapes[token.name]?.type)
    if (wrong !== undefined) throw unstartable(name, wrong, shellLine('--help'))
  }
  if (own.positionals.length > 1) throw unstartable(name, 'it has too many arguments', shellLine('--help'))
  const values = Object.fromEntries(
    Object.entries(own.values).map(([key, value]) => [camelCase(key), value as OptionValues[string]]),
  ) as OptionValues
  try {
    const all = withEnvironment(values, options, env)
    bridgeSettings(all)
    timeLimit(all, 'toolTimeout')
    const log = text(all.logFile)
    // (A relative path begins where the client starts the entry, which need not be here.)
    if (log !== undefined && (isAbsolute(log) || existsSync(log))) checkLogFile(log)
  } catch (error) {
    throw error instanceof BridgeError ? unstartable(name, error.message, error.hint) : error
  }
  return { values, operands: own.positionals }
}

function complaint(flag: string, value?: string, type?: 'string' | 'boolean'): string | undefined {
  if (type === undefined) return `unknown option ${flag}`
  if (type === 'string') return value === undefined ? `${flag} is without a value` : undefined
  return value === undefined ? undefined : `${flag} takes no value`
}

/** What the bridge would say, and exit. */
function unstartable(name: string, why: string, hint: string | undefined): BridgeError {
  return new BridgeError('CONFIG_INVALID', `the entry "${name}" does not start: ${why}`, { hint })
}

/** What was said by flag: in a client the environment of the entry wins over that of the shell. */
export function withoutTwins(values: OptionValues): OptionValues {
  const twins = values[TWINS] ?? {}
  return Object.fromEntries(Object.entries(values).filter(([name]) => twins[name] === undefined))
}

function shape(option: OptionSpec): { type: 'string' | 'boolean'; multiple: boolean } {
  return { type: option.flags.includes('<') ? 'string' : 'boolean', multiple: option.flags.includes('...') }
}

/** Without what VS Code asks for and keeps to itself (`${input:…}`): what this shell has counts in its place. */
function expanded(members: Readonly<Record<string, unknown>>, env: Io['env']): Record<string, string> {
  const known = Object.entries(members).filter(([, value]) => !String(value).includes('${input:'))
  return Object.fromEntries(known.map(([name, value]) => [name, here(String(value), env)]))
}

/** What is not set here stays, as it does in the client. */
function here(text: string, env: Io['env']): string {
  return withVariables(text, env, (whole) => whole)
}

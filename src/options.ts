/**
 * The options of the commands: flags, environment twins, words for the help text and the README.
 *
 * Not their meaning: `config.ts` reads and checks the values.
 * The one rule: an option stands here once, and every command that has it takes it from here.
 */
import { invalid } from './errors.ts'

/** Where the values keep which of them came from a variable: names of variables by camel-cased long flag. */
export const TWINS = Symbol('twins')

/** One option. `flags` in commander's notation: `--port <n>`, `--stateful`, `--header <line...>` for repeatable. */
export interface OptionSpec {
  readonly flags: string
  readonly description: string
  /** Environment twin; see `withEnvironment`. */
  readonly env?: string
  /** Shown in help; the command applies it. */
  readonly fallback?: string
}

/** Values by camel-cased long flag: `apiKeyFile`. A switch is `true`; a repeatable option is a list. */
export type OptionValues = Readonly<Record<string, string | boolean | readonly string[] | undefined>> & {
  readonly [TWINS]?: Readonly<Record<string, string>>
}

/** An option as it was set, for error texts: `--hold x`, or `CHAMADE_HOLD=x` where the variable was. */
export function asGiven(values: OptionValues, name: string): string {
  const between = values[TWINS]?.[name] === undefined ? ' ' : '='
  return `${nameGiven(values, name)}${between}${values[name]}`
}

/** The flag, or the variable where that was set: for values that are not to be shown. */
export function nameGiven(values: OptionValues, name: string): string {
  return values[TWINS]?.[name] ?? `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

/** A key of Chamade or moot, by its first letters. (In capitals it is the name of a variable.) */
export const KEY = /\b(chmd|convo)_\w[\w-]*/g

/** A URL, or what was meant as one, without what may be secret in it: login, query, a key put there by mistake. */
export function shown(address: string): string {
  const plain = (address.split('?')[0] ?? '').replace(/^([a-z]+:\/\/)?.*@/i, '$1')
  return plain.replaceAll(KEY, '$1_…')
}

/** What a switch's variable says; undefined: neither yes nor no. */
export function switchOf(word: string): boolean | undefined {
  if (/^(1|true|yes|on)$/i.test(word)) return true
  return /^(0|false|no|off)$/i.test(word) ? false : undefined
}

/** The same, of a variable that must be either. Throws CONFIG_INVALID. */
export function switchSet(variable: string, word: string): boolean {
  const on = switchOf(word)
  if (on !== undefined) return on
  throw invalid(`${variable}=${word.slice(0, 40)} is neither yes nor no`, `set ${variable} to 1 or to 0`)
}

export const DEFAULT_URL = 'https://mcp.chamade.io/mcp/'

/** Options of every command that talks to an MCP server. */
export const SERVER_OPTIONS: readonly OptionSpec[] = [
  {
    flags: '--url <url>',
    env: 'CHAMADE_MCP_URL',
    description: 'endpoint; CHAMADE_URL (https://chamade.io) also sets it',
    fallback: DEFAULT_URL,
  },
  {
    flags: '--stateful',
    env: 'CHAMADE_STATEFUL',
    description: 'adds ?stateful: a session, and events pushed',
  },
  {
    flags: '--api-key-file <path>',
    env: 'CHAMADE_API_KEY_FILE',
    description: 'file with the API key, read again when it is refused; or set CHAMADE_API_KEY',
  },
  { flags: '--header <line...>', description: "another header, 'Name: value'; ${VARIABLES} are expanded" },
  {
    flags: '--allow-http',
    env: 'CHAMADE_ALLOW_HTTP',
    description: 'send credentials over plain http beyond this machine',
  },
  {
    flags: '--ca <file>',
    env: 'SSL_CERT_FILE',
    description: 'trust these certificates too (PEM); HTTPS_PROXY and NO_PROXY are honoured',
  },
  { flags: '--cert <file>', env: 'CHAMADE_CLIENT_CERT', description: 'client certificate (PEM), with --key' },
  {
    flags: '--key <file>',
    env: 'CHAMADE_CLIENT_KEY',
    description: 'private key of the client certificate (PEM)',
  },
  {
    flags: '--patience <time>',
    env: 'CHAMADE_PATIENCE',
    description: 'how long a request waits for a server that is down',
    fallback: '25s',
  },
  {
    flags: '--max-message <size>',
    env: 'CHAMADE_MAX_MESSAGE',
    description: 'longest message, either way',
    fallback: '64MiB',
  },
]

export const CHANNEL_OPTIONS: readonly OptionSpec[] = [
  {
    flags: '--only <rule...>',
    description: 'pass only channel events whose meta matches, e.g. event_type=dm_*',
  },
  { flags: '--drop <rule...>', description: 'drop channel events whose meta matches' },
  {
    flags: '--hold <time>',
    env: 'CHAMADE_HOLD',
    description: 'how long early events wait for the client to listen',
    fallback: '2s',
  },
  {
    flags: '--gap-interval <time>',
    env: 'CHAMADE_GAP_INTERVAL',
    description: 'after a gap notice, gather further breaks for so long',
    fallback: '10m',
  },
  {
    flags: '--no-gap-notice',
    env: 'CHAMADE_NO_GAP_NOTICE',
    description: 'do not tell the agent when events may have been missed',
  },
]

export const LOG_OPTIONS: readonly OptionSpec[] = [
  {
    flags: '--log-level <level>',
    env: 'CHAMADE_LOG_LEVEL',
    description: 'error, warn, info or debug, on stderr',
    fallback: 'warn',
  },
  {
    flags: '--log-format <format>',
    env: 'CHAMADE_LOG_FORMAT',
    description: 'text or json',
    fallback: 'text',
  },
  { flags: '--log-file <path>', env: 'CHAMADE_LOG_FILE', description: 'append the log to this file as well' },
  { flags: '--silent', env: 'CHAMADE_SILENT', description: 'nothing on stderr' },
]

export const TOOL_OPTIONS: readonly OptionSpec[] = [
  { flags: '--ignore-tool <glob...>', description: 'hide tools from the client, and refuse calls of them' },
  {
    flags: '--tool-timeout <time>',
    env: 'CHAMADE_TOOL_TIMEOUT',
    description: 'give up a tool call without an answer or progress for so long',
    fallback: 'never',
  },
]

export const DRAIN_OPTION: OptionSpec = {
  flags: '--drain <time>',
  env: 'CHAMADE_DRAIN',
  description: 'how long open requests may take after the client has closed stdin',
  fallback: '20s',
}

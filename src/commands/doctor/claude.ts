/**
 * The checks of Claude Code: what makes it drop pushed events without a word.
 *
 * The one rule: a setting is named with the file or variable it stands in, never with a secret value.
 */
import { open, readdir, stat } from 'node:fs/promises'
import { record } from '../client.ts'
import { type Place, paths } from '../init/clients.ts'
import { CHANNEL_FLAG, launchLines } from '../init/launch.ts'
import { type Check, fail, ok, skip, warn } from './check.ts'
import { type Configured, readSettings, settingsFiles } from './entries.ts'
import type { MachineContext } from './machine.ts'
import { older, version } from './processes.ts'

const OLDEST_CLAUDE = '2.1.80'
const LOGS = 20
/** Of each: whether it listens is said as soon as it is connected; behind that some grow to gigabytes. */
const LOG_BYTES = 64 * 1024
/** What was so long ago says nothing about now. */
const LOG_AGE_MS = 24 * 3_600_000

/** Each switches channels off, or moves Claude Code to where there are none. */
const SWITCHES: Readonly<Record<string, string>> = {
  DISABLE_TELEMETRY: 'switches telemetry off, whatever its value, and channels with it',
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: 'switches channels off with other traffic, whatever its value',
  DO_NOT_TRACK: 'switches telemetry off, and channels with it',
  DISABLE_GROWTHBOOK: 'hides the feature switch that channels need',
  CLAUDE_CODE_DISABLE_FEATURE_FLAGS: 'hides the feature switch that channels need',
  CLAUDE_CODE_USE_BEDROCK: 'moves Claude Code to Bedrock, where there are no channels',
  CLAUDE_CODE_USE_VERTEX: 'moves Claude Code to Vertex, where there are no channels',
  CLAUDE_CODE_USE_FOUNDRY: 'moves Claude Code to Foundry, where there are no channels',
  CLAUDE_CODE_USE_MANTLE: 'moves Claude Code to Bedrock, where there are no channels',
  CLAUDE_CODE_USE_ANTHROPIC_AWS:
    'moves Claude Code to the Claude Platform on AWS, where there are no channels',
  CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD:
    'moves Claude Code to the Claude Platform on Google Cloud, where there are no channels',
}
/** Of these any value is a yes, `0` and `false` too (as of Claude Code 2.1.330). */
const ON_BY_ANY = ['DISABLE_TELEMETRY', 'CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC']

const claude: Check<MachineContext> = {
  name: 'claude-code',
  async run({ io }) {
    const found = /\d+\.\d+\.\d+/.exec((await version('claude', io)) ?? '')?.[0]
    if (found === undefined) return skip('claude is not on the PATH')
    if (older(found, OLDEST_CLAUDE))
      return fail(
        `Claude Code ${found} has no channels`,
        `update it to ${OLDEST_CLAUDE} or newer: claude update`,
      )
    return ok(`Claude Code ${found}`)
  },
}

const switches: Check<MachineContext> = {
  name: 'channels-off',
  async run({ io }) {
    for (const [name, why] of Object.entries(SWITCHES)) {
      if (on(name, io.env[name]))
        return fail(`${name} is set: it ${why}`, `unset ${name} where Claude Code is started`)
    }
    for (const file of settingsFiles(io)) {
      const { value, wrong } = await readSettings(file)
      if (wrong !== undefined) return warn(`${file} ${wrong.problem}`, wrong.advice)
      const variables = record(value?.env)
      const name = Object.keys(SWITCHES).find((each) => on(each, variables[each]))
      if (name !== undefined)
        return fail(`${file} sets ${name}: it ${SWITCHES[name]}`, `remove it from "env" there`)
      if (value?.channelsEnabled === false)
        return fail(`${file} says channelsEnabled: false`, 'ask whoever manages it')
    }
    return ok('no variable or setting that switches channels off')
  },
}

const launch: Check<MachineContext> = {
  name: 'launch-line',
  run({ entries, processes, io }) {
    const unique = pushing(entries)
    if (unique.length === 0) return skip('no entry of Claude Code here pushes events')
    const line = launchLines(unique)[0]?.line ?? ''
    const sessions = (processes ?? []).filter(
      ({ words, cwd }) => isClaude(words) && (cwd === undefined || cwd === io.cwd),
    )
    if (sessions.length === 0) return ok(`each time: ${line}`)
    const deaf = sessions.filter(({ words }) => !unique.every((name) => loads(words, name)))
    if (deaf.length === 0) return ok(`${sessions.length} running Claude Code with the flag`)
    const wrong = deaf.flatMap(({ words }) => named(words)).find((name) => !unique.includes(name))
    const partly = deaf.some(({ words }) => named(words).length > 0)
    const missing = unique.filter((name) => !deaf.every(({ words }) => loads(words, name)))
    const without = partly ? missing.map((name) => `server:${name}`).join(' ') : 'the flag'
    const what = wrong === undefined ? `without ${without}` : `with server:${wrong}, which is no entry here`
    return warn(
      `${deaf.length} of ${sessions.length} running Claude Code ${what} (process ${deaf.map(({ pid }) => pid).join(', ')})`,
      `start it like this: ${line}`,
    )
  },
}

const log: Check<MachineContext> = {
  name: 'claude-log',
  async run({ entries, io }) {
    const names = pushing(entries)
    if (names.length === 0) return skip('no entry of Claude Code here pushes events')
    const heard: string[] = []
    for (const name of names) {
      const last = await lastStart(io, name)
      if (last === undefined) continue
      const { file, at, skipped } = last
      if (skipped === undefined) {
        heard.push(`"${name}"`)
        continue
      }
      return warn(
        `Claude Code dropped what "${name}" pushes (${new Date(at).toISOString().slice(0, 16).replace('T', ' ')} UTC): ${skipped}`,
        adviceFor(skipped, name, file),
      )
    }
    return heard.length === 0
      ? skip('Claude Code has left no log of a start here in the last 24 hours')
      : ok(`when it was last started here, Claude Code listened to ${heard.join(', ')}`)
  },
}

export const CLAUDE_CHECKS: readonly Check<MachineContext>[] = [claude, switches, launch, log]

function pushing({ entries }: Configured): readonly string[] {
  const names = entries
    .filter(({ client, pushes, disabled }) => client === 'Claude Code' && pushes && !disabled)
    .map(({ name }) => name)
  return [...new Set(names)]
}

interface Start {
  readonly file: string
  readonly at: number
  /** Why it does not listen; undefined: it does. */
  readonly skipped: string | undefined
}

/** What Claude Code wrote of the last start of `name` here that got so far. It does so without --debug, too. */
async function lastStart(place: Place, name: string): Promise<Start | undefined> {
  const { join } = paths(place)
  const plain = (text: string): string => text.replaceAll(/[^A-Za-z0-9]/g, '-')
  const folder = join(logsFolder(place), plain(place.cwd), `mcp-logs-${plain(name)}`)
  const names = await readdir(folder).catch(() => [])
  const files = await Promise.all(
    names.map(async (each) => {
      const file = join(folder, each)
      const found = await stat(file).catch(() => undefined)
      return { file, at: found?.isFile() === true ? found.mtimeMs : 0 }
    }),
  )
  const recent = files
    .filter(({ at }) => at > Date.now() - LOG_AGE_MS)
    .sort((a, b) => b.at - a.at)
    .slice(0, LOGS)
  for (const { file, at } of recent) {
    const said = /"Channel notifications (?:registered|skipped: *([^"]*))"/.exec(await startOf(file))
    if (said !== null) return { file, at, skipped: said[1] }
  }
  return undefined
}

/** Where Claude Code keeps a log of each server, by project. */
function logsFolder({ platform, homedir, env }: Place): string {
  const { join } = paths({ platform })
  if (platform === 'darwin') return join(homedir, 'Library', 'Caches', 'claude-cli-nodejs')
  if (platform === 'win32') {
    return join(env.LOCALAPPDATA || join(homedir, 'AppData', 'Local'), 'claude-cli-nodejs', 'Cache')
  }
  return join(env.XDG_CACHE_HOME || join(homedir, '.cache'), 'claude-cli-nodejs')
}

async function startOf(file: string): Promise<string> {
  const handle = await open(file).catch(() => undefined)
  if (handle === undefined) return ''
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(LOG_BYTES), 0, LOG_BYTES, 0)
    return buffer.toString('utf8', 0, bytesRead)
  } catch {
    return ''
  } finally {
    await handle.close()
  }
}

function adviceFor(reason: string, name: string, file: string): string {
  // Claude Code's words when its own feature switch is off or could not be fetched.
  if (reason.includes('not currently available'))
    return 'Claude Code must reach Anthropic with telemetry on; start it once more (not at the first start after an install)'
  // Its words when it was started without the flag, or with --channels.
  if (/--channels list|allowlist/.test(reason)) return `start it with ${CHANNEL_FLAG} server:${name}`
  return `see ${file}`
}

function isClaude(words: readonly string[]): boolean {
  const program = words
    .slice(0, 2)
    .some((word) => /(?:^|[\\/])claude(?:\.exe)?$|@anthropic-ai[\\/]claude-code[\\/]/.test(word))
  const rest = words.slice(1)
  return (
    program &&
    !rest.includes('mcp') &&
    !rest.includes('-p') &&
    !rest.includes('--print') &&
    !rest.includes('--version')
  )
}

function named(words: readonly string[]): readonly string[] {
  return words.flatMap((word) => (word.startsWith('server:') ? [word.slice('server:'.length)] : []))
}

function loads(words: readonly string[], name: string): boolean {
  return words.some((word) => word.startsWith(CHANNEL_FLAG)) && named(words).includes(name)
}

/** As Claude Code reads it; `value` of a settings file may be a number, or true. */
function on(name: string, value: unknown): boolean {
  const said = String(value ?? '')
  return ON_BY_ANY.includes(name) ? said !== '' : /^(?:1|true|yes|on)$/i.test(said.trim())
}

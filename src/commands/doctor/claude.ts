/**
 * The checks of Claude Code: what makes it drop pushed events without a word.
 *
 * The one rule: a setting is named with the file or variable it stands in, never with a secret value.
 */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { record, text } from '../client.ts'
import { paths } from '../init/clients.ts'
import { CHANNEL_FLAG, launchLines } from '../init/launch.ts'
import { type Check, fail, ok, skip, warn } from './check.ts'
import { claudeFolder, readSettings, settingsFiles } from './entries.ts'
import type { MachineContext } from './machine.ts'
import { older, version } from './processes.ts'

const OLDEST_CLAUDE = '2.1.80'
const DEBUG_FILES = 20
const DEBUG_BYTES = 4 * 1024 * 1024
/** What was so long ago says nothing about now. */
const DEBUG_AGE_MS = 24 * 3_600_000

/** Each switches channels off, or moves Claude Code to where there are none. */
const SWITCHES: Readonly<Record<string, string>> = {
  DISABLE_TELEMETRY: 'switches telemetry off, and channels with it',
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: 'switches channels off with other traffic',
  DO_NOT_TRACK: 'switches telemetry off, and channels with it',
  DISABLE_GROWTHBOOK: 'hides the feature switch that channels need',
  CLAUDE_CODE_USE_BEDROCK: 'there are no channels on Bedrock',
  CLAUDE_CODE_USE_VERTEX: 'there are no channels on Vertex',
  CLAUDE_CODE_USE_FOUNDRY: 'there are no channels on Foundry',
}

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
      if (on(io.env[name]))
        return fail(`${name} is set: it ${why}`, `unset ${name} where Claude Code is started`)
    }
    for (const file of settingsFiles(io)) {
      const { value, why } = await readSettings(file)
      if (why !== undefined) return warn(`${file} is broken (${why})`, 'mend it')
      const variables = record(value?.env)
      const name = Object.keys(SWITCHES).find((each) =>
        on(text(variables[each]) ?? String(variables[each] ?? '')),
      )
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
    const names = entries.entries
      .filter(({ client, pushes, disabled }) => client === 'Claude Code' && pushes && !disabled)
      .map(({ name }) => name)
    const unique = [...new Set(names)]
    if (unique.length === 0) return skip('no entry of Claude Code here pushes events')
    const line = launchLines(unique)[0]?.line ?? ''
    const sessions = (processes ?? []).filter(
      ({ words, cwd }) => isClaude(words) && (cwd === undefined || cwd === io.cwd),
    )
    if (sessions.length === 0) return ok(`each time: ${line}`)
    const deaf = sessions.filter(({ words }) => !unique.every((name) => loads(words, name)))
    if (deaf.length === 0) return ok(`${sessions.length} running Claude Code with the flag`)
    const wrong = deaf.flatMap(({ words }) => named(words)).find((name) => !unique.includes(name))
    const what = wrong === undefined ? 'without the flag' : `with server:${wrong}, which is no entry here`
    return warn(
      `${deaf.length} of ${sessions.length} running Claude Code ${what} (process ${deaf.map(({ pid }) => pid).join(', ')})`,
      `start it like this: ${line}`,
    )
  },
}

const debugLog: Check<MachineContext> = {
  name: 'debug-log',
  async run({ io }) {
    const folder = paths(io).join(claudeFolder(io), 'debug')
    const names = await readdir(folder).catch(() => undefined)
    if (names === undefined)
      return skip('Claude Code has written no debug log; start it with --debug to have one')
    const files = await Promise.all(
      names.map(async (name) => {
        const file = join(folder, name)
        const found = await stat(file).catch(() => undefined)
        return { file, at: found?.isFile() === true ? found.mtimeMs : 0 }
      }),
    )
    const recent = files
      .filter(({ at }) => at > Date.now() - DEBUG_AGE_MS)
      .sort((a, b) => b.at - a.at)
      .slice(0, DEBUG_FILES)
    for (const { file, at } of recent) {
      const content = (await readFile(file, 'utf8').catch(() => '')).slice(-DEBUG_BYTES)
      const lines = content.split('\n').filter((line) => line.includes('Channel notifications skipped'))
      const reason = /Channel notifications skipped:?\s*(.*)$/.exec(lines.at(-1) ?? '')?.[1]
      if (reason === undefined) continue
      return warn(
        `Claude Code dropped events (${new Date(at).toISOString().slice(0, 16).replace('T', ' ')} UTC): ${reason.trim() || 'no reason given'}`,
        // Claude Code's words when its own feature switch is off or could not be fetched.
        reason.includes('not currently available')
          ? 'Claude Code must reach Anthropic with telemetry on; start it once more (not at the first start after an install)'
          : `start it with ${CHANNEL_FLAG} server:NAME; see ${file}`,
      )
    }
    return ok(
      `no "Channel notifications skipped" in the last ${recent.length} debug log${recent.length === 1 ? '' : 's'}`,
    )
  },
}

export const CLAUDE_CHECKS: readonly Check<MachineContext>[] = [claude, switches, launch, debugLog]

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

function on(value: string | undefined): boolean {
  return value !== undefined && value !== '' && value !== '0' && value.toLowerCase() !== 'false'
}

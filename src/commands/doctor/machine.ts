/**
 * The checks here: what is installed, what is configured, what runs.
 *
 * Everything is found by looking: nothing is changed, no client is started but for its version. The one rule:
 * a setting is named with the file or variable it stands in, never with a secret value.
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { PLACEHOLDER, withVariables } from '../../credentials.ts'
import { DEFAULT_URL, KEY } from '../../options.ts'
import { VERSION } from '../../version.ts'
import { record, text } from '../client.ts'
import type { Io } from '../command.ts'
import type { Place } from '../init/clients.ts'
import { isProgram, words } from '../init/launch.ts'
import { shellLine } from '../shell-line.ts'
import { type Check, fail, ok, skip, warn } from './check.ts'
import { type Configured, type Found, readSettings, strings } from './entries.ts'
import { older, type Running, running, version } from './processes.ts'

export interface MachineContext {
  readonly io: Io
  /** Read once, used by several checks. */
  readonly entries: Configured
  readonly processes: readonly Running[] | undefined
}

export async function machineContext(io: Io, entries: Configured): Promise<MachineContext> {
  return { io, entries, processes: await running(io.platform) }
}

const OLDEST_NODE = '20.18.1'

const node: Check<MachineContext> = {
  name: 'node',
  async run({ io }) {
    const found = (await version('node', io))?.replace(/^v/, '')
    if (found === undefined)
      return fail('there is no node on the PATH', `install Node.js ${OLDEST_NODE} or newer`)
    if (older(found, OLDEST_NODE))
      return fail(`node ${found} on the PATH is too old`, `install Node.js ${OLDEST_NODE} or newer`)
    return ok(`node ${found} on the PATH`)
  },
}

const npx: Check<MachineContext> = {
  name: 'npx',
  async run({ io, entries }) {
    const used = entries.entries.some(({ entry }) => throughNpx(entry))
    const installed = await version('chamade-mcp', io)
    if (installed !== undefined) {
      return older(installed, VERSION) && /^\d/.test(installed)
        ? warn(
            `chamade-mcp ${installed} is on the PATH; this is ${VERSION}`,
            'npm install -g @chamade/mcp-server@3',
          )
        : ok(`chamade-mcp ${installed} is on the PATH`)
    }
    const missing = entries.entries.find(
      ({ entry }) => !throughNpx(entry) && words(entry).find(isProgram) === 'chamade-mcp',
    )
    if (missing !== undefined)
      return fail(
        `"${missing.name}" of ${missing.client} starts chamade-mcp, which is not on the PATH`,
        'npm install -g @chamade/mcp-server@3, or have init write the entry again without --installed',
      )
    const cached = await cachedVersions(io)
    if (cached.length === 0) {
      return used
        ? warn(
            'not in the cache of npx: the first start downloads it, which may take longer than a client waits',
            'npx -y @chamade/mcp-server@3 --version',
          )
        : ok('no entry starts it through npx')
    }
    const newest = cached.reduce((a, b) => (older(a, b) ? b : a))
    if (older(newest, VERSION))
      return warn(
        `the cache of npx holds ${newest}; this is ${VERSION}`,
        'npx -y @chamade/mcp-server@latest --version',
      )
    return ok(`${newest} is in the cache of npx`)
  },
}

const environment: Check<MachineContext> = {
  name: 'environment',
  run({ io, entries }) {
    const ours = Object.entries(io.env).filter(([name]) => /^(CHAMADE|CONVO)_/.test(name))
    for (const [name, value = ''] of ours) {
      const reference = /\$\{[^}]*\}/.exec(value)?.[0]
      if (reference !== undefined) {
        return fail(
          `${name} is the literal text ${reference}: the variable was not set where it should have been expanded`,
          'set the variable before you start the client',
        )
      }
      if (value === PLACEHOLDER) return fail(`${name} still says ${PLACEHOLDER}`, 'put your key there')
      if (value !== value.trim())
        return warn(`${name} begins or ends with white space`, 'set it again without')
    }
    const needed = entries.entries.find(({ entry }) => missingVariable(entry, io) !== undefined)
    if (needed !== undefined) {
      const name = missingVariable(needed.entry, io) ?? ''
      return warn(
        `the entry "${needed.name}" of ${needed.client} names \${${name}}, which is not set in this shell`,
        `set ${name} where ${needed.client} is started`,
      )
    }
    const names = ours.map(([name]) => name).sort()
    return ok(names.length === 0 ? 'no CHAMADE_ or CONVO_ variable is set' : `set: ${names.join(', ')}`)
  },
}

const config: Check<MachineContext> = {
  name: 'config',
  run({ entries, io }) {
    const [bad] = entries.broken
    if (bad !== undefined) return fail(`${bad.file} ${bad.problem}`, bad.advice)
    if (entries.entries.length === 0)
      return warn('no client here has an entry for this server', shellLine('init'))
    for (const each of entries.entries) {
      const problem = entryProblem(each, io)
      if (problem !== undefined)
        return warn(`"${each.name}" of ${each.client}: ${problem.text}`, problem.advice)
    }
    const found = entries.entries.map(({ client, name, unapproved }) => {
      return `"${name}" in ${client}${unapproved ? ' (it asks for your approval when it starts)' : ''}`
    })
    return ok(found.join(', '))
  },
}

const duplicates: Check<MachineContext> = {
  name: 'duplicates',
  run({ entries, processes, io }) {
    const active = entries.entries.filter(({ disabled, client }) => !disabled && client === 'Claude Code')
    const doubled = active.find((each, at) =>
      active.some((other, index) => index < at && sameTarget(each, other, io.env)),
    )
    if (doubled !== undefined) {
      const other = active.find((each) => each !== doubled && sameTarget(each, doubled, io.env))
      return warn(
        `Claude Code has it twice: "${other?.name}" (${other?.file}) and "${doubled.name}" (${doubled.file})`,
        'each opens a session of its own and may get every event: remove one',
      )
    }
    if (processes === undefined) return skip('processes cannot be listed here')
    const bridges = processes.filter(({ words }) => isBridge(words))
    const orphans = bridges.filter((each) => isOrphan(each, processes))
    if (orphans.length > 0) {
      return warn(
        `${orphans.length} running without a client (process ${orphans.map(({ pid }) => pid).join(', ')})`,
        'end them; if it happens again, report it',
      )
    }
    return ok(bridges.length === 0 ? 'none is running' : `${bridges.length} running, each with its client`)
  },
}

export const MACHINE_CHECKS: readonly Check<MachineContext>[] = [node, npx, environment, config, duplicates]

function throughNpx(entry: Found['entry']): boolean {
  return words(entry).some((word) => /^npx(\.cmd)?$/.test(word))
}

/** What is wrong with one entry, the worst first. */
function entryProblem(
  { entry, disabled, declined, client, file }: Found,
  io: Io,
): { text: string; advice: string } | undefined {
  const args = strings(entry.args)
  const env = record(entry.env)
  if (declined)
    return {
      text: 'is switched off by "disabledMcpjsonServers": it was declined when Claude Code asked',
      advice:
        'in this folder run claude mcp reset-project-choices, then start Claude Code and choose to use it',
    }
  if (disabled)
    return { text: 'is switched off by "disabledMcpServers"', advice: 'enable it with /mcp in Claude Code' }
  if (Object.values(env).includes(PLACEHOLDER))
    return { text: 'its key is still missing', advice: `put it into ${file}` }
  if (args.some((word) => word.search(KEY) !== -1 || /^Authorization:\s*Bearer\s+[^$\s]/i.test(word))) {
    return {
      text: 'a key stands in its arguments, where every program on this machine can read it',
      advice: `move it to "env": ${shellLine('init')} does`,
    }
  }
  if (io.platform === 'win32') {
    if (args.some((word) => /[\s&|<>^%]/.test(word)))
      return {
        text: 'an argument holds a space or & and will not arrive whole',
        advice: `move it to "env": ${shellLine('init')} does`,
      }
    if (entry.command === 'npx')
      return {
        text: 'npx cannot be started without a shell on Windows',
        advice: `use "cmd" with "/c", "npx": ${shellLine('init')} does`,
      }
  }
  const literal = Object.entries(env).find(([, value]) => /^\$\{[^}]*\}$/.test(String(value)))
  if (literal !== undefined && client === 'Claude Desktop') {
    return {
      text: `${literal[0]} names a variable, which Claude Desktop does not expand`,
      advice: 'write the key there, or CHAMADE_API_KEY_FILE',
    }
  }
  const major = args
    .map((word) => /^@chamade\/mcp-server(?:@(.*))?$/.exec(word))
    .find((match) => match !== null)
  if (major !== undefined && major !== null && major[1] === undefined) {
    return {
      text: 'it takes whatever version is newest',
      advice: 'name the major version: @chamade/mcp-server@3',
    }
  }
  return undefined
}

/** A variable that the entry takes from the shell and that is not there. */
function missingVariable(entry: Found['entry'], io: Io): string | undefined {
  for (const value of Object.values(record(entry.env))) {
    const name = /^\$\{(?:env:)?([A-Za-z_]\w*)\}$/.exec(String(value))?.[1]
    if (name !== undefined && !io.env[name]) return name
  }
  return undefined
}

/** Do two entries reach the same server? */
function sameTarget(a: Found, b: Found, shell: Io['env']): boolean {
  const reached = target(a, shell)
  return reached !== undefined && reached === target(b, shell)
}

/** What an entry reaches; undefined where its address can't be read here. */
function target({ entry }: Found, shell: Io['env']): string | undefined {
  const args = strings(entry.args)
  const env = record(entry.env)
  if (args.includes('moot') || args.some((word) => word.endsWith('channel_runner'))) {
    return `moot ${text(env.CONVO_API_URL) ?? ''} ${text(env.CONVO_SPACE_ID) ?? ''}`
  }
  const known = (word: string): string => withVariables(word, shell, (whole) => whole)
  const named =
    text(entry.url) ??
    args[args.indexOf('--url') + 1 || args.length] ??
    args.map((word) => known(word.replace(/^--url=/, ''))).find((word) => /^https?:/.test(word)) ??
    text(env.CHAMADE_MCP_URL) ??
    text(env.CHAMADE_URL)
  if (named === undefined) return new URL(DEFAULT_URL).host
  if (!URL.canParse(known(named))) return undefined
  const { host, pathname, searchParams } = new URL(known(named))
  if (/(?:^|\.)chamade\.io$/.test(host)) return host.replace(/^(?!mcp\.)/, 'mcp.')
  searchParams.delete('stateful')
  return `${host}${pathname.replace(/\/$/, '')}?${searchParams.toString()}`
}

function isBridge(words: readonly string[]): boolean {
  const [program = '', script = ''] = words
  const ours = /(?:^|[\\/])chamade-mcp(?:\.js)?$/
  const started = ours.test(program) || (/(?:^|[\\/])node(?:\.exe)?$/.test(program) && ours.test(script))
  const rest = words.slice(ours.test(program) ? 1 : 2)
  return (
    started &&
    (rest[0] === undefined || rest[0].startsWith('-') || rest[0].includes(':') || rest[0] === 'moot')
  )
}

/** Left to whoever collects what others have left: the init process, or what stands in for it. */
function isOrphan({ parent }: Running, all: readonly Running[]): boolean {
  const program = all.find(({ pid }) => pid === parent)?.words[0] ?? ''
  return /(?:^|\/)(?:systemd|init|launchd|tini|dumb-init|docker-init|catatonit)$/.test(program)
}

/** Versions of our package that npx keeps. */
async function cachedVersions(place: Place): Promise<readonly string[]> {
  const local = place.env.LOCALAPPDATA
  const usual =
    place.platform === 'win32' && local !== undefined ? join(local, 'npm-cache') : join(place.homedir, '.npm')
  const cache = place.env.npm_config_cache || usual
  const folders = await readdir(join(cache, '_npx')).catch(() => [])
  const found = await Promise.all(
    folders.map(async (folder) => {
      const file = join(cache, '_npx', folder, 'node_modules', '@chamade', 'mcp-server', 'package.json')
      return text((await readSettings(file)).value?.version)
    }),
  )
  return found.filter((each) => each !== undefined)
}

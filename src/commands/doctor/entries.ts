/**
 * What the clients on this machine are configured to start: every entry that is ours, wherever it stands.
 *
 * Reads only; a file that is absent is no news, one that is broken is. The one rule: values of entries are
 * looked at and never shown.
 */
import { readFile, stat } from 'node:fs/promises'
import { type ParseError, parse, printParseErrorCode } from 'jsonc-parser'
import { record } from '../client.ts'
import { CLAUDE_CODE, CLIENTS, type Place, paths } from '../init/clients.ts'
import { laxAt, NO_LAX } from '../init/edit.ts'
import { bytesOf } from '../init/files.ts'
import { channelEntries, isOurs } from '../init/launch.ts'

export type Plain = Readonly<Record<string, unknown>>

/** One entry that starts our program, or reaches Chamade over HTTP. */
export interface Found {
  readonly client: string
  readonly file: string
  readonly name: string
  readonly entry: Plain
  readonly pushes: boolean
  /** Switched off by Claude Code's settings. */
  readonly disabled: boolean
  /** The same, by a "no" to its question whether to use what stands in a project's file. */
  readonly declined: boolean
  /** Stands in a project's file and nobody has approved it yet, as far as can be seen. */
  readonly unapproved: boolean
}

export interface Configured {
  readonly entries: readonly Found[]
  /** Files that cannot be read. */
  readonly broken: readonly ({ readonly file: string } & Unreadable)[]
}

/** What is wrong with a file, as a clause, and what helps. */
export interface Unreadable {
  readonly problem: string
  readonly advice: string
}

/** All of them: project and user files of the four clients, and Claude Code's own file. */
export async function configured(place: Place): Promise<Configured> {
  const entries: Found[] = []
  /** By Claude Code: of one name the first. */
  const started = new Set<string>()
  const broken: ({ file: string } & Unreadable)[] = []
  const take = (
    client: string,
    file: string,
    root: unknown,
    off: ReadonlySet<string> = NONE,
    no: ReadonlySet<string> = NONE,
    approved: (name: string) => boolean = () => true,
  ): void => {
    const named = Object.entries(record(root)).filter(
      ([name]) => !started.has(name) || client !== CLAUDE_CODE.title,
    )
    const all = new Map(named.map(([name, entry]) => [name, record(entry)]))
    const pushing = new Set(channelEntries(all))
    for (const [name, entry] of all) {
      if (!isOurs(entry) && !pushing.has(name)) continue
      const declined = no.has(name)
      const disabled = declined || off.has(name)
      const unapproved = !disabled && !approved(name)
      if (client === CLAUDE_CODE.title && !disabled && !unapproved) started.add(name)
      entries.push({ client, file, name, entry, pushes: pushing.has(name), disabled, declined, unapproved })
    }
  }
  const load = async (file: string, strict = false): Promise<Plain | undefined> => {
    const found = await readSettings(file, strict)
    if (found.wrong !== undefined) broken.push({ file, ...found.wrong })
    return found.value
  }
  const own = await load(claudeFile(place))
  const above = upward(place)
  const key = (await repositoryOf(above, place)) ?? place.cwd
  const projects = record(own?.projects)
  const project = record(projects[key] ?? projects[key.replaceAll('\\', '/')])
  const choices = [project, ...(await settingsOf(place))]
  const off = new Set(strings(project.disabledMcpServers))
  const no = new Set(choices.flatMap((each) => strings(each.disabledMcpjsonServers)))
  const on = new Set(choices.flatMap((each) => strings(each.enabledMcpjsonServers)))
  const all = choices.some((each) => each.enableAllProjectMcpServers === true)
  // Of one name it is the first that Claude Code starts: its own for this repository (or folder), the project's (of
  // folders above too, the nearest first), the user's. (Measured with 2.1.330.)
  take('Claude Code', claudeFile(place), project.mcpServers, off)
  for (const client of CLIENTS) {
    for (const scope of client.scopes) {
      const file = client.file(place, scope)
      if (file === undefined) {
        take(client.title, claudeFile(place), own?.mcpServers, off)
        continue
      }
      if (client.name !== 'claude-code') {
        take(client.title, file, (await load(file, client.strict))?.[client.root])
        continue
      }
      const nearer = new Set<string>()
      for (const cwd of above) {
        const each = client.file({ ...place, cwd }, scope) ?? file
        const whole = Object.entries(record((await load(each, client.strict))?.[client.root]))
        const root = Object.fromEntries(whole.filter(([name]) => !nearer.has(name)))
        for (const [name] of whole) nearer.add(name)
        take(client.title, each, root, off, no, (name) => all || on.has(name))
      }
    }
  }
  return { entries, broken }
}

/** The folder that this is, and those above it but for the root. */
function upward(place: Place): readonly string[] {
  const { dirname } = paths(place)
  const folders: string[] = []
  for (let at = place.cwd; dirname(at) !== at; at = dirname(at)) folders.push(at)
  return folders
}

/** The git repository that holds this folder; of a worktree the main one. */
async function repositoryOf(above: readonly string[], place: Place): Promise<string | undefined> {
  const { dirname, join, resolve } = paths(place)
  for (const folder of above) {
    const git = join(folder, '.git')
    if ((await stat(git).catch(() => undefined)) === undefined) continue
    // (Of a worktree it is a file, and leads to a folder that names the common one; that of a submodule names none.)
    const link = await readFile(git, 'utf8').catch(() => '')
    const own = resolve(folder, /^gitdir: (.+)$/m.exec(link)?.[1] ?? '')
    const common = await readFile(join(own, 'commondir'), 'utf8').catch(() => undefined)
    return common === undefined ? folder : dirname(resolve(own, common.trim()))
  }
  return undefined
}

/** Claude Code's settings, the ones that win first. */
export function settingsFiles(place: Place): readonly string[] {
  const { join } = paths(place)
  const managed = {
    darwin: '/Library/Application Support/ClaudeCode/managed-settings.json',
    win32: 'C:\\Program Files\\ClaudeCode\\managed-settings.json',
  }[place.platform as 'darwin' | 'win32']
  return [
    managed ?? '/etc/claude-code/managed-settings.json',
    join(place.cwd, '.claude', 'settings.local.json'),
    join(place.cwd, '.claude', 'settings.json'),
    join(claudeFolder(place), 'settings.json'),
  ]
}

/** `~/.claude`, or where CLAUDE_CONFIG_DIR says. */
function claudeFolder(place: Place): string {
  return place.env.CLAUDE_CONFIG_DIR || paths(place).join(place.homedir, '.claude')
}

/** A JSON file; with comments, unless `strict`. Undefined value: absent, or not to be read when something is `wrong`. */
export async function readSettings(
  file: string,
  strict = false,
): Promise<{ readonly value: Plain | undefined; readonly wrong?: Unreadable }> {
  let text: string
  try {
    text = (await bytesOf(file)).toString('utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return { value: undefined }
    const wrong = {
      problem: `cannot be read (${code ?? message})`,
      advice: 'check the path and its permissions',
    }
    return { value: undefined, wrong }
  }
  if (text.trim() === '') return { value: {} }
  const problems: ParseError[] = []
  const value = record(parse(text.replace(/^\uFEFF/, ''), problems, { allowTrailingComma: true }))
  const [first] = problems
  const at = first?.offset ?? (strict ? laxAt(text) : undefined)
  if (at === undefined) return { value }
  const line = text.slice(0, at).split('\n').length
  const why = first === undefined ? `its client takes ${NO_LAX}` : printParseErrorCode(first.error)
  const advice = 'mend it: its client ignores the whole file'
  return { value: undefined, wrong: { problem: `is broken (line ${line}: ${why})`, advice } }
}

function claudeFile(place: Place): string {
  const { join } = paths(place)
  const folder = place.env.CLAUDE_CONFIG_DIR
  return folder ? join(folder, '.claude.json') : join(place.homedir, '.claude.json')
}

async function settingsOf(place: Place): Promise<readonly Plain[]> {
  const all = await Promise.all(settingsFiles(place).map((file) => readSettings(file)))
  return all.map(({ value }) => value ?? {})
}

export function strings(value: unknown): readonly string[] {
  return Array.isArray(value)
    ? (value as unknown[]).filter((each): each is string => typeof each === 'string')
    : []
}

const NONE: ReadonlySet<string> = new Set()

/**
 * The clients that `init` knows: where each keeps its servers, and how it names a variable there.
 *
 * Nothing here touches the disk: paths are built for the platform that is asked for, whatever runs this.
 * The one rule: what stands here was read in the client's own documentation or measured.
 */
import { posix, win32 } from 'node:path'
import type { Env } from '../terminal.ts'

export type ClientName = 'claude-code' | 'claude-desktop' | 'cursor' | 'vscode'
export type Scope = 'project' | 'user'

/** Where `init` runs: the part of `Io` that says where files are. */
export interface Place {
  readonly platform: NodeJS.Platform
  readonly cwd: string
  readonly homedir: string
  readonly env: Env
}

export interface Client {
  readonly name: ClientName
  readonly title: string
  /** The first one is meant when none is named. */
  readonly scopes: readonly [Scope, ...Scope[]]
  /** Member of the file that holds the entries. */
  readonly root: 'mcpServers' | 'servers'
  /** Ignores a whole file that holds a comment or a trailing comma, as far as was measured. */
  readonly strict: boolean
  /** Does an entry say `"type": "stdio"`? */
  readonly typed: boolean
  /** Shows `notifications/claude/channel` to the agent. */
  readonly channels: boolean
  /** How an entry names the variable, or undefined when the client leaves such text as it is. */
  reference(variable: string): string | undefined
  /** The file, absolute; undefined where the client wants its own command to write it. */
  file(place: Place, scope: Scope): string | undefined
}

export const CLAUDE_CODE: Client = {
  name: 'claude-code',
  title: 'Claude Code',
  scopes: ['project', 'user'],
  root: 'mcpServers',
  strict: true,
  typed: true,
  channels: true,
  reference: (variable) => `\${${variable}}`,
  file: (place, scope) => (scope === 'project' ? paths(place).join(place.cwd, '.mcp.json') : undefined),
}

export const CLIENTS: readonly Client[] = [
  CLAUDE_CODE,
  {
    name: 'claude-desktop',
    title: 'Claude Desktop',
    scopes: ['user'],
    root: 'mcpServers',
    strict: false,
    typed: false,
    channels: false,
    reference: () => undefined,
    file: (place) => paths(place).join(applications(place), 'Claude', 'claude_desktop_config.json'),
  },
  {
    name: 'cursor',
    title: 'Cursor',
    scopes: ['project', 'user'],
    root: 'mcpServers',
    strict: false,
    typed: false,
    channels: false,
    reference: (variable) => `\${env:${variable}}`,
    file: (place, scope) =>
      paths(place).join(scope === 'project' ? place.cwd : place.homedir, '.cursor', 'mcp.json'),
  },
  {
    name: 'vscode',
    title: 'VS Code',
    scopes: ['project', 'user'],
    root: 'servers',
    strict: false,
    typed: true,
    channels: false,
    reference: (variable) => `\${input:${inputId(variable)}}`,
    file: (place, scope) =>
      scope === 'project'
        ? paths(place).join(place.cwd, '.vscode', 'mcp.json')
        : paths(place).join(applications(place), 'Code', 'User', 'mcp.json'),
  },
]

export function clientNamed(name: string): Client | undefined {
  return CLIENTS.find((each) => each.name === name)
}

/** VS Code asks for what an entry names as `${input:…}` once, and keeps it in its own safe place. */
export function inputId(variable: string): string {
  return variable.toLowerCase().replaceAll('_', '-')
}

/** Path functions of the platform that is asked for. */
export function paths(place: Pick<Place, 'platform'>): typeof posix {
  return place.platform === 'win32' ? win32 : posix
}

/** Where applications keep what is theirs, per user. */
function applications(place: Place): string {
  const { join } = paths(place)
  switch (place.platform) {
    case 'win32':
      return place.env.APPDATA || join(place.homedir, 'AppData', 'Roaming')
    case 'darwin':
      return join(place.homedir, 'Library', 'Application Support')
    default:
      return place.env.XDG_CONFIG_HOME || join(place.homedir, '.config')
  }
}

/**
 * What a client is told to start: command, arguments, environment.
 *
 * The one rule: arguments are words without spaces or shell characters, so that `cmd /c`, PowerShell and every
 * client's own quoting leave them alone. URLs go into the environment (an `&` would end the command for cmd),
 * keys too (arguments can be read by everybody on the machine).
 */
import { PLACEHOLDER } from '../../credentials.ts'
import { DEFAULT_API_URL } from '../../feed/config.ts'
import { program } from '../shell-line.ts'
import { type Client, inputId } from './clients.ts'

/** What somebody wants to connect. */
export interface Wish {
  readonly system: 'chamade' | 'moot'
  /** Key of the entry; Claude Code's launch line repeats it. */
  readonly name: string
  readonly url: string | undefined
  readonly stateful: boolean
  /** The key may cross a network in the clear. */
  readonly allowHttp: boolean
  /** moot: the space to join at the start. */
  readonly space: string | undefined
  /** Start `chamade-mcp` from the PATH instead of through npx. */
  readonly installed: boolean
  readonly key: KeyFrom
}

/** Where the key comes from: the client's environment, a file, or the entry itself. */
export type KeyFrom =
  | { readonly kind: 'variable' }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'value'; readonly value: string }

export interface Entry {
  readonly type?: 'stdio'
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/** VS Code's declaration of something to ask for. */
export interface Input {
  readonly type: 'promptString'
  readonly id: string
  readonly description: string
  readonly password: true
}

/** Of an entry that nobody has named. */
export const USUAL_NAME = {
  chamade: 'chamade',
  moot: 'moot-channel',
  simulator: 'chamade-simulator',
} as const
export const SIMULATOR_URL = 'http://127.0.0.1:8484/mcp/'

export function keyVariable(system: Wish['system']): string {
  return system === 'moot' ? 'CONVO_API_KEY' : 'CHAMADE_API_KEY'
}

/** The entry for `client` on `platform`. */
export function entryFor(client: Client, wish: Wish, platform: NodeJS.Platform): Entry {
  const [command, ...args] = commandLine(wish, platform)
  return { ...(client.typed ? { type: 'stdio' } : {}), command, args, env: environment(client, wish) }
}

/** What VS Code must ask for before it can start the entry; undefined elsewhere. */
export function inputFor(client: Client, wish: Wish): Input | undefined {
  if (client.name !== 'vscode' || wish.key.kind !== 'variable') return undefined
  const title = wish.system === 'moot' ? 'moot' : 'Chamade'
  return {
    type: 'promptString',
    id: inputId(keyVariable(wish.system)),
    description: `${title} API key`,
    password: true,
  }
}

/** What starts the server, word by word. */
function commandLine(wish: Wish, platform: NodeJS.Platform): [string, ...string[]] {
  const words = wish.system === 'moot' ? ['moot'] : wish.stateful ? ['--stateful'] : []
  // npx and chamade-mcp are .cmd files there, which cannot be started without a shell.
  const line = [...program(wish.installed), ...words]
  return platform === 'win32' ? ['cmd', '/c', ...line] : (line as [string])
}

/**
 * `claude mcp add …`, for a POSIX shell or PowerShell: single quotes keep `${…}` as it is in both.
 * This line is shown, and its words are arguments: not for a key that is a secret.
 */
export function claudeAddLine(client: Client, wish: Wish, platform: NodeJS.Platform): string {
  const entry = entryFor(client, wish, platform)
  const env = Object.entries(entry.env).flatMap(([name, value]) => ['--env', quoted(`${name}=${value}`)])
  const command = [entry.command, ...entry.args].join(' ')
  return `claude mcp add --scope user ${env.join(' ')} --transport stdio ${wish.name} -- ${command}`
}

function environment(client: Client, wish: Wish): Record<string, string> {
  if (wish.system === 'moot') {
    return {
      CONVO_API_URL: wish.url ?? DEFAULT_API_URL,
      ...(wish.allowHttp ? { CONVO_ALLOW_HTTP: '1' } : {}),
      ...key(client, wish),
      ...(wish.space === undefined ? {} : { CONVO_SPACE_ID: wish.space }),
    }
  }
  return {
    ...(wish.url === undefined ? {} : { CHAMADE_MCP_URL: wish.url }),
    ...(wish.allowHttp ? { CHAMADE_ALLOW_HTTP: '1' } : {}),
    ...key(client, wish),
  }
}

function key(client: Client, wish: Wish): Record<string, string> {
  const variable = keyVariable(wish.system)
  switch (wish.key.kind) {
    case 'file':
      return { [`${variable}_FILE`]: wish.key.path }
    case 'value':
      return { [variable]: wish.key.value }
    case 'variable':
      return { [variable]: client.reference(variable) ?? PLACEHOLDER }
  }
}

function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

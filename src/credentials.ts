/**
 * What a call is let in with: header lines, a key file, the key in the environment.
 *
 * Not aware of options or defaults, and not sent from here: `http/` asks for the headers of each call.
 * The one rule: a key goes where it belongs (Chamade, this machine, the host that was named for it) and nowhere
 * else, and what is secret is known to `redact` before it goes anywhere.
 */
import { promises as files, readFileSync } from 'node:fs'
import { invalid } from './errors.ts'
import type { Credentials } from './http/config.ts'
import { isLoopback } from './loopback.ts'
import type { NoteStatus, Redactor } from './status.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** What `init` writes where a client cannot name a variable and no key was given. */
export const PLACEHOLDER = 'put-your-key-here'

/** Headers that belong to the transport: setting them would break it, or not be possible at all. */
const OURS = new Set([
  'host',
  'content-length',
  'content-type',
  'content-encoding',
  'transfer-encoding',
  'connection',
  'keep-alive',
  'upgrade',
  'expect',
  'accept',
  'accept-encoding',
  'mcp-session-id',
  'mcp-protocol-version',
  'last-event-id',
])

/** What `--header` lines say, by names in lower case. Throws CONFIG_INVALID. */
export function extraHeaders(
  lines: readonly string[],
  env: Environment,
  redact: Redactor,
  notes: NoteStatus[],
): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const line of lines) {
    const colon = line.indexOf(':')
    const name = line.slice(0, colon).trim()
    if (colon < 1 || !/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/.test(name)) {
      // What stands behind the first word may be the secret itself.
      const word = name.split(/\s/, 1)[0]
      const shown =
        colon < 1 ? 'a --header has no colon' : `--header ${JSON.stringify(word)} is no header name`
      throw invalid(shown, "write --header 'Name: value'")
    }
    const value = expand(line.slice(colon + 1), name, env).trim()
    if (/[^\t\x20-\x7e\x80-\xff]/.test(value)) {
      throw invalid(
        `the value of --header ${name} holds characters that no header can`,
        'check it for line breaks, typographic quotes and invisible characters',
      )
    }
    if (OURS.has(name.toLowerCase())) {
      notes.push({
        kind: 'note',
        level: 'warn',
        text: `--header ${name} is set by the transport itself; yours is not sent`,
      })
      continue
    }
    if (isSecret(name) && /^(bearer|basic|token|apikey)?$/i.test(value)) {
      throw invalid(
        `--header ${name} is without a key`,
        'give it one (a variable in it may be empty), or leave the header away',
      )
    }
    for (const part of [value, ...words(name, value), ...inside(value)]) addSecret(redact, name, part)
    headers[name.toLowerCase()] = value
  }
  return headers
}

/** Word by word, without the name of a scheme [RFC 9110 §11.1], which is no secret. */
function words(name: string, value: string): readonly string[] {
  const all = value.split(/\s+/)
  return isSecret(name) && all.length > 1 ? all.slice(1) : all
}

/** What a value is made of: the cookies of one line, the fields of a signature, the password in `Basic`. */
function inside(value: string): string[] {
  const [, login = ''] = /^basic (\S+)$/i.exec(value) ?? []
  const [, password = ''] = /:(.*)/.exec(Buffer.from(login, 'base64').toString()) ?? []
  const fields = Array.from(value.matchAll(/=([^\s;,]+)/g), ([, field = '']) => field)
  return [password, ...fields].filter((part) => part.length >= 8)
}

/** Short plain words (`true`, `2025`) are no secrets, unless the name says so: cutting them out would only confuse. */
export function addSecret(redact: Redactor, name: string, value: string): void {
  if (!isSecret(name) && value.length < 8) return
  redact.add(value)
}

export function isSecret(name: string): boolean {
  return /auth|cookie|key|token|secret|password|session/i.test(name)
}

/** Clients hand on what is not set where they run. */
function expand(value: string, header: string, env: Environment): string {
  return withVariables(value, env, (_whole, name) => {
    throw invalid(
      `--header ${header} uses \${${name}}, which is not set`,
      `set ${name} in the "env" of the entry`,
    )
  })
}

/**
 * `text` with its variables, written as clients do: `${NAME}`, `${env:NAME}`, `${NAME:-other}`. `unset` gives what
 * stands for one that is not set.
 */
export function withVariables(
  text: string,
  env: Environment,
  unset: (whole: string, name: string) => string,
): string {
  const reference = /\$\{(?:env:)?([A-Za-z_]\w*)(?::-([^}]*))?\}/g
  return text.replaceAll(
    reference,
    (whole: string, name: string, other?: string) => env[name] ?? other ?? unset(whole, name),
  )
}

/** Where a key file is, and the flag or the variable that says so. */
export interface NamedFile {
  readonly path: string
  readonly setBy: string
}

const OTHERS_KEY = "--header 'Authorization: Bearer ${YOUR_KEY}' or --api-key-file for this server"

/** A header wins over a key file, and that over CHAMADE_API_KEY. Throws CONFIG_INVALID. */
export function credentialsFor(
  url: URL,
  file: NamedFile | undefined,
  env: Environment,
  headers: Readonly<Record<string, string>>,
  redact: Redactor,
  notes: NoteStatus[],
): Credentials {
  if (headers.authorization !== undefined) return constant(headers, '--header')
  if (file !== undefined) return new KeyFile(file, headers, redact)
  const key = normalKey(env.CHAMADE_API_KEY)
  if (key === undefined) {
    const name = Object.keys(headers).find((each) => /key|token|secret/.test(each))
    if (name !== undefined) return constant(headers, `--header ${name}`)
    return { ...constant(headers, undefined), ...(keyMayGoTo(url, env) ? {} : { advice: OTHERS_KEY }) }
  }
  if (key === PLACEHOLDER) {
    return without(
      headers,
      notes,
      `CHAMADE_API_KEY still says ${PLACEHOLDER}`,
      'put your key there, then restart the client',
    )
  }
  // Most clients say ${NAME}; Gemini CLI and its kin $NAME, of which Qwen Code hands on what is not set.
  if (/^\$(\{[^}]*\}|[A-Z_][A-Z0-9_]*)$/.test(key)) {
    const problem = `CHAMADE_API_KEY is the literal text ${key}: the variable is not set where your client expands it`
    return without(headers, notes, problem, setting(key))
  }
  redact.add(key)
  checkKey(key, 'CHAMADE_API_KEY')
  if (!keyMayGoTo(url, env)) {
    const problem = `CHAMADE_API_KEY is not sent to ${url.host}: it is a key for Chamade`
    return without(headers, notes, problem, OTHERS_KEY)
  }
  return constant({ authorization: `Bearer ${key}`, ...headers }, 'CHAMADE_API_KEY')
}

/** No key, and why not. */
function without(
  headers: Readonly<Record<string, string>>,
  notes: NoteStatus[],
  problem: string,
  hint: string,
): Credentials {
  notes.push({ kind: 'note', level: 'warn', text: problem, hint })
  return { ...constant(headers, undefined), problem: { text: problem, hint } }
}

/**
 * What to do about a `reference` that was not expanded. (Named without its braces: Claude Code cuts each value of the
 * entry's `env` out of what it shows.)
 */
export function setting(reference: string): string {
  const name = /^\$\{?(?:env:)?(\w+)\}?$/.exec(reference)?.[1] ?? 'the variable'
  return `set ${name} where you start the client, then start it again`
}

/** Chamade's own hosts, this machine, and the host that was named for the key. */
function keyMayGoTo(url: URL, env: Environment): boolean {
  const host = url.hostname
  if (host === 'chamade.io' || host.endsWith('.chamade.io') || isLoopback(host)) return true
  const named = [env.CHAMADE_URL, env.CHAMADE_MCP_URL].filter((u) => u !== undefined && URL.canParse(u))
  return named.some((u) => {
    const namedHost = new URL(u as string).hostname
    return host === namedHost || host === `mcp.${namedHost}`
  })
}

function constant(headers: Readonly<Record<string, string>>, source: string | undefined): Credentials {
  return { source, headers: () => headers, renew: () => Promise.resolve(false) }
}

/** A key in a file, read again when the server refuses it: keys can be rotated under a running bridge. */
class KeyFile implements Credentials {
  readonly source: string
  readonly #path: string
  readonly #extra: Readonly<Record<string, string>>
  readonly #redact: Redactor
  #headers: Readonly<Record<string, string>>

  constructor({ path, setBy }: NamedFile, extra: Readonly<Record<string, string>>, redact: Redactor) {
    this.source = `the file ${path}`
    this.#path = path
    this.#extra = extra
    this.#redact = redact
    let content: string
    try {
      content = readFileSync(path, 'utf8')
    } catch (cause) {
      const why = (cause as NodeJS.ErrnoException).code ?? 'error'
      throw invalid(
        `the API key file ${path} cannot be read (${why})`,
        `check the path in ${setBy} and its permissions`,
      )
    }
    this.#headers = this.#with(content)
  }

  headers(): Readonly<Record<string, string>> {
    return this.#headers
  }

  async renew(used: Readonly<Record<string, string>>): Promise<boolean> {
    try {
      this.#headers = this.#with(await files.readFile(this.#path, 'utf8'))
    } catch {
      return false // Being replaced just now: the refusal stands, the next one looks again.
    }
    return this.#headers.authorization !== used.authorization
  }

  #with(content: string): Readonly<Record<string, string>> {
    const key = normalKey(content)
    if (key === undefined)
      throw invalid(`the API key file ${this.#path} is empty`, 'put the key in it, one line')
    this.#redact.add(key)
    checkKey(key, this.source)
    return { authorization: `Bearer ${key}`, ...this.#extra }
  }
}

function normalKey(key: string | undefined): string | undefined {
  const trimmed = key?.trim().replace(/^bearer(\s+|$)/i, '')
  return trimmed === '' ? undefined : trimmed
}

/** What no server can have given out. `source`: where it comes from ("CHAMADE_API_KEY"). Throws CONFIG_INVALID. */
export function checkKey(key: string, source: string): void {
  if (/^["']|["']$/.test(key)) {
    throw invalid(
      `the API key from ${source} stands in quotes`,
      'leave the quotes away: they are sent with it',
    )
  }
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw invalid(
      `the API key from ${source} holds white space or other characters that no key has`,
      'copy it again',
    )
  }
}

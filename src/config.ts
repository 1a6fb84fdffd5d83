/**
 * What can be configured, its defaults, and one pass of validation.
 *
 * Not aware of argv: gets option values (flags, or their environment twins) and the environment.
 * The one rule: a wrong setting is said here, before the first byte is read, with what to do about it. A key
 * goes where it belongs (Chamade, this machine, the host that was named for it) and nowhere else.
 */
import { promises as files, readFileSync } from 'node:fs'
import type { OptionValues } from './commands/command.ts'
import { BridgeError } from './errors.ts'
import { type Credentials, DEFAULT_TIMING, type HttpConfig, isLoopback, SYSTEM } from './http/config.ts'

export { isLoopback }

import { asGiven, DEFAULT_URL, TWINS } from './options.ts'
import { MAX_WAIT_MS } from './retry.ts'
import { LEVELS, type Level, type Redactor } from './status.ts'
import { VERSION } from './version.ts'

const LEAST_PATIENCE_MS = 100

type Environment = Readonly<Record<string, string | undefined>>

/** The HTTP side of a command, and what to tell the user about it. */
export interface ServerSettings {
  readonly http: HttpConfig
  readonly notes: readonly { readonly level: Level; readonly text: string; readonly hint?: string }[]
}

/**
 * Endpoint, credentials and limits. Throws CONFIG_INVALID.
 * Every secret found on the way is given to `redact`.
 */
export async function serverSettings(
  values: OptionValues,
  operands: readonly string[],
  env: Environment,
  redact: Redactor,
): Promise<ServerSettings> {
  const notes: { level: Level; text: string; hint?: string }[] = []
  const stateful = values.stateful === true
  const [operand] = operands
  const option = text(values.url)
  if (operand !== undefined && option !== undefined && option !== env.CHAMADE_MCP_URL?.trim()) {
    throw invalid('there are two URLs: one as --url, one without', 'give one of them')
  }
  const url = endpoint(
    operand ?? option,
    operand === undefined ? values[TWINS]?.url : undefined,
    env,
    stateful,
  )
  // (`searchParams` costs the start 1.2 ms.)
  if (url.search.includes('=')) for (const [name, value] of url.searchParams) addSecret(redact, name, value)
  const headers = extraHeaders(list(values.header), env, redact, notes)
  const credentials = credentialsFor(url, values, env, headers, redact, notes)
  if (credentials.source !== undefined || Object.keys(headers).length > 0) refusePlain(url, values)
  const http: HttpConfig = {
    ...DEFAULT_TIMING,
    ...SYSTEM,
    url: url.href,
    stateful,
    credentials,
    userAgent: `chamade-mcp/${VERSION}`,
    version: VERSION,
    redact,
    patienceMs: patience(values) ?? DEFAULT_TIMING.patienceMs,
    maxMessageBytes: maxMessage(values),
    ...(await networkSettings(url, values, env, redact)),
  }
  return { http, notes }
}

/** What the endpoint is reached through. Throws CONFIG_INVALID. */
async function networkSettings(
  url: URL,
  values: OptionValues,
  env: Environment,
  redact: Redactor,
): Promise<Pick<HttpConfig, 'tls' | 'proxy'>> {
  const proxied = Object.keys(env).some((name) => /^(https?|all)_proxy$/i.test(name))
  const https = url.protocol === 'https:'
  // Over plain http they are looked at all the same, but for SSL_CERT_FILE, which is not ours and not about this.
  const ca = https || values[TWINS]?.ca === undefined ? list(values.ca) : []
  const files = { ca, cert: text(values.cert), key: text(values.key) }
  const named = ca.length > 0 || files.cert !== undefined || files.key !== undefined
  if (!proxied && !named) return {}
  const { proxyFor, throughProxy, tlsOptions } = await import('./http/network.ts')
  const tls = tlsOptions(files, env)
  const proxy = proxyFor(url, env)
  if (proxy !== undefined) redact.add(proxy.password)
  return {
    ...(tls === undefined || !https ? {} : { tls }),
    ...(proxy === undefined ? {} : { proxy: { dispatcher: throughProxy(proxy, tls), host: proxy.host } }),
  }
}

/** `--max-message` in bytes. */
export function maxMessage(values: OptionValues): number {
  return size(values, 'maxMessage') ?? 64 * 1024 * 1024
}

/** `--log-level` and `--log-format`. */
export function logSettings(values: OptionValues): { level: Level; format: 'text' | 'json' } {
  const level = text(values.logLevel) ?? 'warn'
  const format = text(values.logFormat) ?? 'text'
  if (!isLevel(level))
    throw invalid(`${asGiven(values, 'logLevel')} is not a level`, `use one of ${LEVELS.join(', ')}`)
  if (format !== 'text' && format !== 'json') {
    throw invalid(`${asGiven(values, 'logFormat')} is not a format`, 'use text or json')
  }
  return { level, format }
}

/** A duration option in milliseconds: `25s`, `500ms`, `10m`, `1h`, or plain seconds. */
export function duration(values: OptionValues, name: string): number | undefined {
  const given = text(values[name])
  if (given === undefined) return undefined
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h)?$/.exec(given.trim())
  if (match === null) throw invalid(`${asGiven(values, name)} is no duration`, 'write 500ms, 25s, 10m or 1h')
  const unit = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }[match[2] ?? 's'] ?? 1_000
  return Math.min(Number(match[1]) * unit, MAX_WAIT_MS)
}

/** `--patience` in milliseconds. With less than a connection takes, every request would fail with all being well. */
function patience(values: OptionValues): number | undefined {
  const ms = duration(values, 'patience')
  if (ms === undefined || ms >= LEAST_PATIENCE_MS) return ms
  throw invalid(
    `${asGiven(values, 'patience')} is too short for any server`,
    `give at least ${LEAST_PATIENCE_MS}ms`,
  )
}

function size(values: OptionValues, name: string): number | undefined {
  const given = text(values[name])
  if (given === undefined) return undefined
  const match = /^(\d+)\s*(B|KiB|MiB|GiB)?$/i.exec(given.trim())
  const unit = { b: 1, kib: 1024, mib: 1024 ** 2, gib: 1024 ** 3 }[(match?.[2] ?? 'B').toLowerCase()] ?? 1
  const bytes = Number(match?.[1]) * unit
  if (match === null || bytes < 1024 || bytes > 512 * 1024 ** 2) {
    throw invalid(
      `${asGiven(values, name)} is no size`,
      'write bytes, KiB or MiB, from 1KiB to 512MiB: 64MiB',
    )
  }
  return bytes
}

/** The endpoint, with `stateful` in its query exactly once if asked for. The rest of the query stays as it is. */
function endpoint(
  given: string | undefined,
  variable: string | undefined,
  env: Environment,
  stateful: boolean,
): URL {
  const derived = given ?? fromApiHost(env.CHAMADE_URL)
  const literal = derived ?? DEFAULT_URL
  const said = variable === undefined ? shown(literal) : `${variable}=${shown(literal)}`
  const hint = `write it whole: ${variable === undefined ? '--url ' : `${variable}=`}https://mcp.example.com/mcp`
  if (!URL.canParse(literal)) throw invalid(`${said} is not a URL`, hint)
  const url = new URL(literal)
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw invalid(`${said} is neither http nor https`, hint)
  }
  refuseLogin(url, "pass it as --header 'Authorization: Basic …' instead")
  url.hash = ''
  if (
    stateful &&
    !url.search
      .slice(1)
      .split('&')
      .some((pair) => pair.split('=')[0] === 'stateful')
  ) {
    url.search = url.search === '' ? '?stateful' : `${url.search}&stateful`
  }
  return url
}

/** A login in an address would be shown wherever the address is. Throws CONFIG_INVALID. */
export function refuseLogin(url: URL, hint: string): void {
  if (url.username === '' && url.password === '') return
  throw invalid('the URL holds a user name or password', hint)
}

/** An address to which no key goes, unless that is said to be all right. Throws CONFIG_INVALID. */
export function refusePlain(url: URL, values: OptionValues): void {
  if (url.protocol !== 'http:' || isLoopback(url.hostname) || values.allowHttp === true) return
  throw invalid(
    `${url.origin} is plain http: a key or header sent there can be read by anyone on the way`,
    'use https, or --allow-http if that network is yours',
  )
}

/** `https://chamade.io` -> `https://mcp.chamade.io/mcp/`. */
function fromApiHost(api: string | undefined): string | undefined {
  if (api === undefined || api.trim() === '') return undefined
  if (!URL.canParse(api))
    throw invalid(`CHAMADE_URL=${shown(api)} is not a URL`, 'set it to https://chamade.io')
  const url = new URL(api)
  if (isLoopback(url.hostname)) return `${url.origin}/mcp/`
  return `${url.protocol}//mcp.${url.host}/mcp/`
}

/** A URL, or what was meant as one, without what may be secret in it. */
export function shown(text: string): string {
  return (text.split('?')[0] ?? '').replace(/^([a-z]+:\/\/)?.*@/i, '$1')
}

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

function extraHeaders(
  lines: readonly string[],
  env: Environment,
  redact: Redactor,
  notes: { level: Level; text: string }[],
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
    const value = expand(line.slice(colon + 1).trim(), name, env)
    if (/[^\t\x20-\x7e\x80-\xff]/.test(value)) {
      throw invalid(
        `the value of --header ${name} holds characters that no header can`,
        'check it for line breaks',
      )
    }
    if (OURS.has(name.toLowerCase())) {
      notes.push({
        level: 'warn',
        text: `--header ${name} is set by the transport itself; yours is not sent`,
      })
      continue
    }
    for (const part of [value, ...value.split(/\s+/)]) addSecret(redact, name, part)
    headers[name.toLowerCase()] = value
  }
  return headers
}

/** Short plain words (`true`, `2025`, `Bearer`) are no secrets, unless the name says so: cutting them out would only confuse. */
function addSecret(redact: Redactor, name: string, value: string): void {
  const named = /auth|cookie|key|token|secret|password|session/i.test(name)
  if (/^(bearer|basic)$/i.test(value) || (!named && value.length < 8)) return
  redact.add(value)
}

function expand(value: string, header: string, env: Environment): string {
  return value.replaceAll(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (_whole, name: string) => {
    const found = env[name]
    if (found !== undefined) return found
    throw invalid(
      `--header ${header} uses \${${name}}, which is not set`,
      `set ${name} in the "env" of the entry`,
    )
  })
}

function credentialsFor(
  url: URL,
  values: OptionValues,
  env: Environment,
  headers: Readonly<Record<string, string>>,
  redact: Redactor,
  notes: { level: Level; text: string; hint?: string }[],
): Credentials {
  if (headers.authorization !== undefined) return constant(headers, '--header')
  const file = text(values.apiKeyFile)
  if (file !== undefined) return new KeyFile(file, headers, redact)
  const key = normalKey(env.CHAMADE_API_KEY)
  if (key === undefined) {
    const name = Object.keys(headers).find((each) => /key|token|secret/.test(each))
    return constant(headers, name === undefined ? undefined : `--header ${name}`)
  }
  if (/^\$\{[^}]*\}$/.test(key)) {
    const problem = `CHAMADE_API_KEY is the literal text ${key}: the variable is not set where your client expands it`
    notes.push({ level: 'warn', text: problem, hint: 'set the variable before you start the client' })
    return { ...constant(headers, undefined), problem }
  }
  redact.add(key)
  checkKey(key, 'CHAMADE_API_KEY')
  if (!keyMayGoTo(url, env)) {
    const problem = `CHAMADE_API_KEY is not sent to ${url.host}: it is a key for Chamade`
    notes.push({
      level: 'warn',
      text: problem,
      hint: `--header 'Authorization: Bearer \${YOUR_KEY}' or --api-key-file for this server`,
    })
    return { ...constant(headers, undefined), problem }
  }
  return constant({ authorization: `Bearer ${key}`, ...headers }, 'CHAMADE_API_KEY')
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

  constructor(path: string, extra: Readonly<Record<string, string>>, redact: Redactor) {
    this.source = `the file ${path}`
    this.#path = path
    this.#extra = extra
    this.#redact = redact
    let content: string
    try {
      content = readFileSync(path, 'utf8')
    } catch (cause) {
      const why = (cause as NodeJS.ErrnoException).code ?? 'error'
      throw invalid(`the API key file ${path} cannot be read (${why})`, 'check the path and its permissions')
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
  const trimmed = key?.trim().replace(/^bearer\s+/i, '')
  return trimmed === '' ? undefined : trimmed
}

function checkKey(key: string, source: string): void {
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw invalid(
      `the API key from ${source} holds white space or other characters that no key has`,
      'copy it again',
    )
  }
}

export function invalid(message: string, hint: string): BridgeError {
  return new BridgeError('CONFIG_INVALID', message, { hint })
}

export function text(value: OptionValues[string]): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

export function list(value: OptionValues[string]): readonly string[] {
  if (typeof value === 'string') return [value]
  return Array.isArray(value) ? (value as readonly string[]) : []
}

function isLevel(value: string): value is Level {
  return (LEVELS as readonly string[]).includes(value)
}

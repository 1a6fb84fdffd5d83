/**
 * What can be configured, its defaults, and one pass of validation.
 *
 * Not aware of argv: gets option values (flags, or their environment twins) and the environment.
 * Nor of what a call is let in with: `credentials.ts`.
 * The one rule: a wrong setting is said here, before the first byte is read, with what to do about it.
 */
import { addSecret, credentialsFor, extraHeaders, isSecret, setting } from './credentials.ts'
import { invalid } from './errors.ts'
import { DEFAULT_TIMING, type HttpConfig, SYSTEM } from './http/config.ts'
import { isLoopback } from './loopback.ts'
import { asGiven, DEFAULT_URL, nameGiven, type OptionValues, shown, TWINS } from './options.ts'
import { pem } from './pem.ts'
import { MAX_WAIT_MS } from './retry.ts'
import { LEVELS, type Level, type NoteStatus, type Redactor } from './status.ts'
import { VERSION } from './version.ts'

const LEAST_PATIENCE_MS = 100

type Environment = Readonly<Record<string, string | undefined>>

/** The HTTP side of a command, and what to tell the user about it. */
export interface ServerSettings {
  readonly http: HttpConfig
  readonly notes: readonly NoteStatus[]
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
  const notes: NoteStatus[] = []
  const stateful = values.stateful === true
  const [operand] = operands
  const option = text(values.url)
  const variable = values[TWINS]?.url
  if (operand !== undefined && option !== undefined && variable === undefined) {
    throw invalid('there are two URLs: one as --url, one without', 'give one of them')
  }
  const url = endpoint(operand ?? option, operand === undefined ? variable : undefined, env, stateful)
  // (`searchParams` costs the start 1.2 ms.)
  const query = url.search.includes('=') ? [...url.searchParams] : []
  for (const [name, value] of query) addSecret(redact, name, value)
  const headers = extraHeaders(list(values.header), env, redact, notes)
  const path = text(values.apiKeyFile)
  const file = path === undefined ? undefined : { path, setBy: nameGiven(values, 'apiKeyFile') }
  const credentials = credentialsFor(url, file, env, headers, redact, notes)
  const isOpen = credentials.source === undefined && Object.keys(headers).length === 0
  if (!isOpen || query.some(([name]) => isSecret(name))) refusePlain(url, values)
  const http: HttpConfig = {
    ...DEFAULT_TIMING,
    ...SYSTEM,
    url: url.href,
    stateful,
    credentials,
    version: VERSION,
    redact,
    patienceMs: patience(values) ?? DEFAULT_TIMING.patienceMs,
    maxMessageBytes: maxMessage(values),
    ...(await networkSettings(url, values, env, redact)),
  }
  return { http, notes }
}

/** Each is looked for in capitals as well. */
const PROXIES = ['https_proxy', 'http_proxy', 'all_proxy'] as const

/** What the endpoint is reached through. Throws CONFIG_INVALID. */
async function networkSettings(
  url: URL,
  values: OptionValues,
  env: Environment,
  redact: Redactor,
): Promise<Pick<HttpConfig, 'tls' | 'tlsLater' | 'proxy'>> {
  // (Asked one by one: to list the variables costs a start 0.1 ms.)
  const proxied = PROXIES.some((name) => env[name] || env[name.toUpperCase()])
  const https = url.protocol === 'https:'
  // Over plain http they are looked at all the same, but for SSL_CERT_FILE, which is not ours and not about this.
  const ca = https || values[TWINS]?.ca === undefined ? list(values.ca) : []
  const setBy = {
    ca: nameGiven(values, 'ca'),
    cert: nameGiven(values, 'cert'),
    key: nameGiven(values, 'key'),
  }
  const files = { ca, cert: text(values.cert), key: text(values.key), setBy }
  const named = ca.length > 0 || files.cert !== undefined || files.key !== undefined
  if (!proxied && !named) return {}
  // Set for many programs, and as a rule to what Node trusts anyway: read (50 ms) for a server that Node does not trust.
  if (!proxied && values[TWINS]?.ca !== undefined && files.cert === undefined && files.key === undefined) {
    for (const path of ca) pem(path, 'CA certificate', setBy.ca)
    return { tlsLater: async () => (await import('./http/network.ts')).tlsOptions(files, env) }
  }
  const { proxyFor } = await import('./proxy.ts')
  const { throughProxy, tlsOptions } = await import('./http/network.ts')
  const tls = tlsOptions(files, env)
  const proxy = proxyFor(url, env)
  if (proxy !== undefined) redact.add(proxy.url.password)
  return {
    ...(tls === undefined || !https ? {} : { tls }),
    ...(proxy === undefined ? {} : { proxy: { ...proxy, open: (ms) => throughProxy(proxy.url, tls, ms) } }),
  }
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

/** The same of one that cannot be 0. */
export function lengthOf(
  values: OptionValues,
  name: string,
  hint = 'write 30s, 10m or 1h',
): number | undefined {
  const ms = duration(values, name)
  if (ms === 0) throw invalid(`${asGiven(values, name)} is no time`, hint)
  return ms
}

/** A limit that may be none: `never`, as its default is written; 0 would end everything before it began. */
export function timeLimit(values: OptionValues, name: string): number | undefined {
  if (text(values[name])?.trim() === 'never') return undefined
  return lengthOf(values, name, 'write 30s, 10m or 1h; never is without a limit')
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

/** `--max-message` in bytes. */
export function maxMessage(values: OptionValues): number {
  const given = text(values.maxMessage) ?? '64MiB'
  const match = /^(\d+)\s*(B|KiB|MiB|GiB)?$/i.exec(given.trim())
  const unit = { b: 1, kib: 1024, mib: 1024 ** 2, gib: 1024 ** 3 }[(match?.[2] ?? 'B').toLowerCase()] ?? 1
  const bytes = Number(match?.[1]) * unit
  if (match === null || bytes < 1024 || bytes > 512 * 1024 ** 2) {
    throw invalid(
      `${asGiven(values, 'maxMessage')} is no size`,
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
  if (literal.trim() === '') {
    throw invalid('the URL is empty', 'write it whole (is a variable unset?), or leave it away')
  }
  refuseReference(literal, variable ?? 'the URL')
  if (!URL.canParse(literal)) throw invalid(`${said} is not a URL`, hint)
  const url = new URL(literal)
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw invalid(`${said} is neither http nor https`, hint)
  }
  refuseLogin(url, "pass it as --header 'Authorization: Basic …'")
  url.hash = ''
  if (stateful && !/(?:^\?|&)stateful(?:[=&]|$)/.test(url.search)) {
    url.search = url.search === '' ? '?stateful' : `${url.search}&stateful`
  }
  return url
}

/** Throws CONFIG_INVALID for an address that holds a variable which nobody has expanded. */
function refuseReference(address: string, where: string): void {
  const [reference] = /\$\{[^}]*\}/.exec(address) ?? []
  if (reference === undefined) return
  throw invalid(
    `${where} holds the literal text ${reference}: the variable is not set where your client expands it`,
    setting(reference),
  )
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

/** `https://chamade.io` -> `https://mcp.chamade.io/mcp/`; who names that host already means it too. */
function fromApiHost(api: string | undefined): string | undefined {
  if (api === undefined || api.trim() === '') return undefined
  refuseReference(api, 'CHAMADE_URL')
  if (!URL.canParse(api) || !/^https?:$/.test(new URL(api).protocol))
    throw invalid(`CHAMADE_URL=${shown(api)} is no http(s) URL`, 'set it to https://chamade.io')
  const url = new URL(api)
  if (isLoopback(url.hostname)) return `${url.origin}/mcp/`
  return `${url.protocol}//${url.host.startsWith('mcp.') ? '' : 'mcp.'}${url.host}/mcp/`
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

/**
 * What can be configured of the moot feed: the documented CONVO_* variables, flags of the same meaning, defaults.
 *
 * Reads no files but those with certificates and the key that it is told of (key.ts reads that again); connects to nothing.
 * The one rule: whatever is wrong is said here, before the first byte, as CONFIG_INVALID.
 */
import { readFileSync } from 'node:fs'
import { getBuiltinModule } from 'node:process'
import type { SecureContext } from 'node:tls'
import { checkKey } from '../credentials.ts'
import { invalid, reasonOf } from '../errors.ts'
import { isLoopback } from '../loopback.ts'
import { nameGiven, shown, TWINS } from '../options.ts'
import { extraCertificates, pem } from '../pem.ts'
import { type NamedProxy, proxyFor } from '../proxy.ts'
import { type BackoffOptions, type Clock, DEFAULT_BACKOFF, systemClock } from '../retry.ts'
import type { NoteStatus, Redactor } from '../status.ts'
import { FeedKey } from './key.ts'
import { DOCS_MAX_TEXT, SOURCE_MAX_TEXT, type Wording } from './texts.ts'

type Values = Parameters<typeof nameGiven>[0]
type Environment = Readonly<Record<string, string | undefined>>

export interface FeedConfig {
  /** Base of the REST API and of the sockets; no trailing slash, no query. */
  readonly apiUrl: string
  readonly apiKey: FeedKey
  /** The documented single socket; undefined: one socket a space, under `apiUrl`. */
  readonly channelUrl?: string | undefined
  /** Joined and subscribed at start. */
  readonly spaceId?: string | undefined
  /** At start subscribe to every active space the agent takes part in. */
  readonly autoSubscribe: boolean
  readonly firehose: boolean
  /** Used where the backend tells no identity. */
  readonly agentId?: string | undefined
  readonly agentName?: string | undefined
  /** Whom to trust; undefined: as Node does. One for all connections: 140 certificates are read in 50 ms. */
  readonly secureContext?: SecureContext | undefined
  /** What `apiUrl` is reached through, and the sockets under it; undefined: directly. */
  readonly proxy?: NamedProxy | undefined
  /** The same of `channelUrl`, which may be elsewhere. */
  readonly channelProxy?: NamedProxy | undefined
  readonly wording: Wording
  /** Characters of a text before it is cut. */
  readonly maxText: number
  readonly limits: FeedLimits
  readonly backoff: BackoffOptions
  readonly clock: Clock
  readonly random: () => number
}

/** Milliseconds, bytes, and how many at once. */
export interface FeedLimits {
  /** Opening a connection, and waiting for the reply to a REST call. */
  readonly httpMs: number
  readonly handshakeMs: number
  /** How long a space waits for its history, and before for its turn; beyond, it is followed without, and it is asked for beside. */
  readonly historyMs: number
  /** Histories asked for at once that something waits for, and as many beside; slow ones make room for others. */
  readonly histories: number
  /** A server may let a connection in before it sends there what is said: by then it does. */
  readonly lookAgainMs: number
  /** `{"type":"heartbeat"}` keeps the agent's last-seen fresh. */
  readonly heartbeatMs: number
  /** A ping is sent this often; as long without any byte, and the connection is replaced. */
  readonly pingMs: number
  /** How often new spaces are looked for. */
  readonly discoverMs: number
  /** How long a tool call waits for what it started. */
  readonly toolMs: number
  readonly maxFrameBytes: number
  readonly maxBodyBytes: number
  /** Frames waiting for the client; beyond, the socket is not read. Characters. */
  readonly maxQueued: number
}

export const DEFAULT_LIMITS: FeedLimits = {
  httpMs: 30_000,
  handshakeMs: 10_000,
  historyMs: 4_000,
  histories: 16,
  lookAgainMs: 2_000,
  heartbeatMs: 60_000,
  pingMs: 20_000,
  discoverMs: 30_000,
  toolMs: 10_000,
  maxFrameBytes: 16 * 1024 * 1024,
  maxBodyBytes: 64 * 1024 * 1024,
  maxQueued: 256 * 1024,
}

/** How long one address of a name may take: Node's own 250 ms are too few on a long way (a satellite, a busy cell). */
export const ADDRESS_MS = 1_000

export const DEFAULT_API_URL = 'https://mootup.io'

/**
 * The configuration, and what a person should know about it. `values`: those of `chamade-mcp moot`, flags and their
 * variables; of `env` only the key is read, which has no flag because arguments can be read by everybody, what Node
 * is to trust, and the proxies. Every key and the password of a proxy is told to `redact`. Throws CONFIG_INVALID, which
 * names what was set.
 */
export function resolveFeed(
  values: Values,
  env: Environment,
  redact: Redactor,
): { readonly config: FeedConfig; readonly notes: readonly NoteStatus[] } {
  const allowHttp = values.allowHttp === true
  const api = given(values, 'apiUrl') ?? { value: DEFAULT_API_URL, name: 'CONVO_API_URL' }
  const apiKey = keyOf(given(values, 'apiKeyFile'), env, redact)
  const channel = given(values, 'channelUrl')
  const wording = wordingOf(given(values, 'texts'))
  // Over plain http a flag is looked at all the same, but not SSL_CERT_FILE, which is not ours and not about this.
  const encrypted = [api, channel].some((setting) => /^(https|wss):/i.test(setting?.value ?? ''))
  const ca = encrypted || values[TWINS]?.ca === undefined ? given(values, 'ca') : undefined
  const apiUrl = baseUrl(api, allowHttp)
  const channelUrl = channel === undefined ? undefined : socketUrl(channel, allowHttp)
  const keyName = given(values, 'apiKeyFile')?.name ?? 'CONVO_API_KEY'
  const oddKey = `the key in ${keyName} does not begin with "convo_"; it is used as it is`
  return {
    config: {
      apiUrl,
      apiKey,
      channelUrl,
      spaceId: spaceIdOf(given(values, 'space')),
      autoSubscribe: values.autoSubscribe === true,
      firehose: values.firehose === true,
      agentId: given(values, 'agentId')?.value,
      agentName: given(values, 'agentName')?.value,
      secureContext: ca === undefined ? undefined : tls().createSecureContext({ ca: authorities(ca, env) }),
      proxy: proxyOf(apiUrl, env, redact),
      channelProxy: channelUrl === undefined ? undefined : proxyOf(channelUrl, env, redact),
      wording,
      maxText: maxTextOf(given(values, 'maxText'), wording),
      limits: DEFAULT_LIMITS,
      backoff: DEFAULT_BACKOFF,
      clock: systemClock,
      random: Math.random,
    },
    notes: apiKey.value.startsWith('convo_') ? [] : [{ kind: 'note', level: 'warn', text: oddKey }],
  }
}

/** A setting, and what it is called where it was made. */
interface Setting {
  readonly value: string
  readonly name: string
}

function given(values: Values, option: string): Setting | undefined {
  const value = values[option]
  if (typeof value !== 'string' || value.trim() === '') return undefined
  return expanded({ value: value.trim(), name: nameGiven(values, option) })
}

function keyOf(file: Setting | undefined, env: Environment, redact: Redactor): FeedKey {
  const name = 'CONVO_API_KEY'
  if (file === undefined) {
    return new FeedKey(checked(expanded({ value: env[name] ?? '', name }), redact), redact)
  }
  const source = `the file ${file.value}`
  const read = (): string =>
    checked({ value: fileText(file.value, `the API key of ${file.name}`), name: source }, redact)
  return new FeedKey(read(), redact, read)
}

function checked({ value, name }: Setting, redact: Redactor): string {
  const key = value.trim()
  if (key === '') {
    throw invalid(
      'no API key: the moot feed needs one to know who it listens for',
      'set CONVO_API_KEY=convo_… in the "env" of the server\'s entry in your MCP config (or --api-key-file PATH)',
    )
  }
  if (/^[^<]*<[^>]*>$/.test(key)) {
    throw invalid(
      'the API key is still the placeholder of the documentation',
      'put the key of your agent there',
    )
  }
  checkKey(key, name)
  redact.add(key)
  return key
}

function baseUrl(setting: Setting, allowHttp: boolean): string {
  const url = parsed(setting, ['http:', 'https:'], DEFAULT_API_URL)
  guardPlain(url, setting.name, allowHttp)
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`
}

function socketUrl(setting: Setting, allowHttp: boolean): string {
  const url = parsed(setting, ['ws:', 'wss:', 'http:', 'https:'], 'wss://mootup.io/channel')
  guardPlain(url, setting.name, allowHttp)
  url.protocol = url.protocol.replace('http', 'ws')
  // No WebSocket takes one, and no server is sent it.
  url.hash = ''
  return url.href
}

function parsed({ value, name }: Setting, protocols: readonly string[], example: string): URL {
  const url = URL.canParse(value) ? new URL(value) : undefined
  if (url === undefined || !protocols.includes(url.protocol)) {
    throw invalid(
      `${name} is no ${protocols[0]}// or ${protocols[1]}// address: ${shown(value).slice(0, 100)}`,
      `write it out, for example ${example}`,
    )
  }
  if (url.username !== '' || url.password !== '')
    throw invalid(`${name} holds a user name or password`, 'leave it out; the key goes into CONVO_API_KEY')
  return url
}

/** The key crosses the wire: without TLS only on this machine, unless it is said to be all right. */
function guardPlain(url: URL, name: string, allowHttp: boolean): void {
  if (url.protocol === 'https:' || url.protocol === 'wss:' || allowHttp || isLoopback(url.hostname)) return
  throw invalid(
    `${name} would send the API key without encryption to ${url.host}`,
    'use https:// or wss://, or add --allow-http if that network is yours',
  )
}

function proxyOf(url: string, env: Environment, redact: Redactor): NamedProxy | undefined {
  const proxy = proxyFor(new URL(url), env)
  if (proxy !== undefined) redact.add(proxy.url.password)
  return proxy
}

/** An id goes into a path: what could lead elsewhere is none. */
export function isSpaceId(value: string): boolean {
  return /^[^\s/\\?#\p{C}]{1,200}$/u.test(value) && value !== '.' && value !== '..'
}

function spaceIdOf(setting: Setting | undefined): string | undefined {
  if (setting === undefined || isSpaceId(setting.value)) return setting?.value
  throw invalid(
    `${setting.name} is no id of a space: ${JSON.stringify(setting.value.slice(0, 60))}`,
    'give up to 200 characters without white space or slashes, or leave it out and call subscribe',
  )
}

function wordingOf(setting: Setting | undefined): Wording {
  if (setting === undefined) return 'docs'
  const { value, name } = setting
  if (value === 'docs' || value === 'source') return value
  throw invalid(
    `${name} is "docs" or "source", not "${value.slice(0, 40)}"`,
    `leave ${name} out, or give one of them`,
  )
}

function maxTextOf(setting: Setting | undefined, wording: Wording): number {
  if (setting === undefined) return wording === 'docs' ? DOCS_MAX_TEXT : SOURCE_MAX_TEXT
  const { value, name } = setting
  const max = Number(value)
  if (Number.isInteger(max) && max >= 1 && max <= 1_000_000) return max
  throw invalid(`${name} is no number of characters: "${value.slice(0, 40)}"`, 'give one from 1 to 1000000')
}

/** Naming certificates takes the place of Node's own: these, and what it was told to trust beside them, go on being trusted. */
export function authorities(named: Setting, env: Environment): string[] {
  return [
    ...tls().rootCertificates,
    pem(named.value, 'CA certificate', named.name),
    ...extraCertificates(env),
  ]
}

/** (Not imported: few ask before the client has its first answer, and that is 5 ms of every start.) */
function tls(): typeof import('node:tls') {
  return getBuiltinModule('node:tls')
}

function fileText(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw invalid(`can't read ${what}: ${reasonOf(cause)}`, `check the path: ${path}`)
  }
}

/** Clients hand an unset `${VAR}` through as it stands. */
function expanded(setting: Setting): Setting {
  const [text, unset = text?.slice(1)] = /\$\{([^}]*)\}|^\$[A-Z_][A-Z0-9_]*$/.exec(setting.value) ?? []
  if (text === undefined) return setting
  throw invalid(
    `${setting.name} is the literal text ${text}: the variable ${unset} is not set where your client runs`,
    `set ${unset}, or write the value itself`,
  )
}

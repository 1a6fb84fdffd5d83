/**
 * What can be configured of the moot feed: the documented CONVO_* variables, flags of the same meaning, defaults.
 *
 * Reads no file but the CA certificate and the key file it is told of; connects to nothing.
 * The one rule: whatever is wrong is said here, before the first byte, as CONFIG_INVALID.
 */
import { readFileSync } from 'node:fs'
import { rootCertificates } from 'node:tls'
import { BridgeError, reasonOf } from '../errors.ts'
import { switchSet } from '../options.ts'
import { type BackoffOptions, type Clock, DEFAULT_BACKOFF, systemClock } from '../retry.ts'
import { DOCS_MAX_TEXT, SOURCE_MAX_TEXT, type Wording } from './texts.ts'

export interface FeedConfig {
  /** Base of the REST API and of the sockets; no trailing slash, no query. */
  readonly apiUrl: string
  readonly apiKey: string
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
  /** PEM certificates to trust; undefined: those Node trusts. */
  readonly ca?: readonly string[] | undefined
  readonly wording: Wording
  /** Characters of a text before it is cut. */
  readonly maxText: number
  /** Told to the client as the server's version. */
  readonly version: string
  readonly limits: FeedLimits
  readonly backoff: BackoffOptions
  readonly clock: Clock
  readonly random: () => number
}

/** Milliseconds and bytes. */
export interface FeedLimits {
  /** Opening a connection, and waiting for the reply to a REST call. */
  readonly httpMs: number
  readonly handshakeMs: number
  /** How long a space waits for its history; beyond, it is followed without, and asked for beside. */
  readonly historyMs: number
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
  heartbeatMs: 60_000,
  pingMs: 20_000,
  discoverMs: 30_000,
  toolMs: 10_000,
  maxFrameBytes: 16 * 1024 * 1024,
  maxBodyBytes: 64 * 1024 * 1024,
  maxQueued: 256 * 1024,
}

export const DEFAULT_API_URL = 'https://mootup.io'

/** What a command was given: flags and their environment twins by camel-cased name, and the environment. */
export interface FeedInput {
  readonly values: Readonly<Record<string, string | boolean | readonly string[] | undefined>>
  readonly env: Readonly<Record<string, string | undefined>>
  readonly version: string
  /** For the tests: files. */
  readonly read?: (path: string) => string
}

/** The configuration, and what a person should know about it. Throws CONFIG_INVALID. */
export function resolveFeed(input: FeedInput): { readonly config: FeedConfig; readonly warnings: string[] } {
  const read = input.read ?? ((path: string): string => readFileSync(path, 'utf8'))
  const warnings: string[] = []
  const given = (flag: string, variable?: string): string | undefined => {
    const value = input.values[flag]
    if (typeof value === 'string' && value.trim() !== '') return expanded(value.trim(), `--${kebab(flag)}`)
    const fromEnv = variable === undefined ? undefined : input.env[variable]?.trim()
    return fromEnv === undefined || fromEnv === '' ? undefined : expanded(fromEnv, variable ?? flag)
  }
  const on = (flag: string, variable: string): boolean => {
    const value = input.values[flag] ?? input.env[variable]?.trim() ?? ''
    return typeof value === 'string' && value !== '' ? switchSet(variable, value) : value === true
  }
  const allowHttp = on('allowHttp', 'CONVO_ALLOW_HTTP')
  const apiUrl = baseUrl(given('apiUrl', 'CONVO_API_URL') ?? DEFAULT_API_URL, allowHttp)
  const apiKey = keyOf(given, read)
  const channelUrl = given('channelUrl', 'CONVO_CHANNEL_URL')
  const wording = wordingOf(given('texts', 'CONVO_TEXTS'))
  const caFile = given('ca', 'SSL_CERT_FILE')
  if (!apiKey.startsWith('convo_'))
    warnings.push('CONVO_API_KEY does not begin with "convo_"; it is used as it is')
  return {
    config: {
      apiUrl,
      apiKey,
      channelUrl: channelUrl === undefined ? undefined : socketUrl(channelUrl, allowHttp),
      spaceId: spaceIdOf(given('space', 'CONVO_SPACE_ID')),
      autoSubscribe: on('autoSubscribe', 'CONVO_AUTO_SUBSCRIBE'),
      firehose: on('firehose', 'CONVO_CHANNEL_FIREHOSE'),
      agentId: given('agentId', 'CONVO_AGENT_ID'),
      agentName: given('agentName', 'CONVO_AGENT_NAME'),
      ca: caFile === undefined ? undefined : [...rootCertificates, certificates(caFile, read)],
      wording,
      maxText: maxTextOf(given('maxText', 'CONVO_MAX_TEXT'), wording),
      version: input.version,
      limits: DEFAULT_LIMITS,
      backoff: DEFAULT_BACKOFF,
      clock: systemClock,
      random: Math.random,
    },
    warnings,
  }
}

type Given = (flag: string, variable?: string) => string | undefined

function keyOf(given: Given, read: (path: string) => string): string {
  const file = given('apiKeyFile', 'CONVO_API_KEY_FILE')
  const key =
    file === undefined ? given('apiKey', 'CONVO_API_KEY') : fileText(file, 'the API key', read).trim()
  if (key === undefined || key === '') {
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
  if (/[^\x21-\x7e]/.test(key)) throw invalid('the API key holds white space or characters no key has')
  return key
}

function baseUrl(value: string, allowHttp: boolean): string {
  const url = parsed(value, 'CONVO_API_URL', ['http:', 'https:'])
  guardPlain(url, 'CONVO_API_URL', allowHttp)
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`
}

function socketUrl(value: string, allowHttp: boolean): string {
  const url = parsed(value, 'CONVO_CHANNEL_URL', ['ws:', 'wss:', 'http:', 'https:'])
  guardPlain(url, 'CONVO_CHANNEL_URL', allowHttp)
  url.protocol = url.protocol.replace('http', 'ws')
  return url.href
}

function parsed(value: string, name: string, protocols: readonly string[]): URL {
  const url = URL.canParse(value) ? new URL(value) : undefined
  if (url === undefined || !protocols.includes(url.protocol)) {
    throw invalid(
      `${name} is no ${protocols[0]}// or ${protocols[1]}// address: ${value.slice(0, 100)}`,
      `write it out, for example ${name === 'CONVO_API_URL' ? DEFAULT_API_URL : 'wss://mootup.io/channel'}`,
    )
  }
  if (url.username !== '' || url.password !== '')
    throw invalid(`${name} holds a user name or password; the key goes into CONVO_API_KEY`)
  return url
}

/** The key crosses the wire: without TLS only on this machine, unless it is said to be all right. */
function guardPlain(url: URL, name: string, allowHttp: boolean): void {
  if (url.protocol === 'https:' || url.protocol === 'wss:' || allowHttp) return
  if (/^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname)) return
  throw invalid(
    `${name} would send the API key without encryption to ${url.host}`,
    'use https:// or wss://, or add --allow-http if that network is yours',
  )
}

/** An id goes into a path: what could lead elsewhere is none. */
export function isSpaceId(value: string): boolean {
  return /^[^\s/\\?#\p{C}]{1,200}$/u.test(value) && value !== '.' && value !== '..'
}

function spaceIdOf(value: string | undefined): string | undefined {
  if (value === undefined || isSpaceId(value)) return value
  throw invalid(
    `CONVO_SPACE_ID is no id of a space: ${JSON.stringify(value.slice(0, 60))}`,
    'give up to 200 characters without white space or slashes, or leave it out and call subscribe',
  )
}

function wordingOf(value: string | undefined): Wording {
  if (value === undefined || value === 'docs' || value === 'source') return value ?? 'docs'
  throw invalid(`--texts is "docs" or "source", not "${value.slice(0, 40)}"`)
}

function maxTextOf(value: string | undefined, wording: Wording): number {
  if (value === undefined) return wording === 'docs' ? DOCS_MAX_TEXT : SOURCE_MAX_TEXT
  const max = Number(value)
  if (Number.isInteger(max) && max >= 1 && max <= 1_000_000) return max
  throw invalid(`--max-text is a number of characters from 1 to 1000000, not "${value.slice(0, 40)}"`)
}

function certificates(path: string, read: (path: string) => string): string {
  const text = fileText(path, 'the CA certificate of SSL_CERT_FILE', read)
  if (text.includes('-----BEGIN CERTIFICATE-----') || text.includes('-----BEGIN TRUSTED CERTIFICATE-----'))
    return text
  throw invalid(`SSL_CERT_FILE names ${path}, which holds no certificate in PEM form`)
}

function fileText(path: string, what: string, read: (path: string) => string): string {
  try {
    return read(path)
  } catch (cause) {
    throw invalid(`can't read ${what}: ${reasonOf(cause)}`, `check the path: ${path}`)
  }
}

/** Clients hand an unset `${VAR}` through as it stands. */
function expanded(value: string, name: string): string {
  const unset = /\$\{([^}]*)\}/.exec(value)?.[1]
  if (unset === undefined) return value
  throw invalid(
    `${name} is the literal text \${${unset}}: the variable ${unset} is not set where your client runs`,
    `set ${unset}, or write the value itself`,
  )
}

function invalid(message: string, hint?: string): BridgeError {
  return new BridgeError('CONFIG_INVALID', message, { hint })
}

function kebab(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

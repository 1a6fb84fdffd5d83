/**
 * The checks out there: from the name of the host to the answer of a tool list.
 *
 * Later checks stand on what earlier ones learned (`Facts`); where that is missing they are skipped, so that the
 * first failure is the one that is read. The one rule: every session that is opened here is ended by `hangUp`.
 */
import { lookup } from 'node:dns/promises'
import { connect } from 'node:net'
import { type PeerCertificate, connect as tlsConnect } from 'node:tls'
import { isLoopback, type ServerSettings, serverSettings } from '../../config.ts'
import { BridgeError, reasonOf, seconds } from '../../errors.ts'
import { HEADER } from '../../protocol.ts'
import type { Redactor } from '../../status.ts'
import { record, text } from '../client.ts'
import type { Io, OptionValues } from '../command.ts'
import { askedFor } from '../entry.ts'
import { type Check, type Finding, fail, ok, skip, warn } from './check.ts'
import { type Exchanged, Probe, type SessionRef } from './probe.ts'
import { type Watched, watch } from './stream.ts'

export interface ServerContext {
  readonly io: Io
  readonly values: OptionValues
  readonly operands: readonly string[]
  readonly redact: Redactor
  readonly signal: AbortSignal
  /** How long the push stream is listened to. */
  readonly waitMs: number
  /** How long at most, to see what closes an idle one; undefined: not looked for. */
  readonly longMs: number | undefined
  readonly facts: Facts
}

/** What the checks have learned so far. */
export interface Facts {
  settings?: ServerSettings
  probe?: Probe
  /** The host has no address. */
  unresolved?: boolean
  /** Something answers at the address. */
  reached?: boolean
  first?: Exchanged
  stateless?: SessionRef
  session?: SessionRef
  capabilities?: Readonly<Record<string, unknown>>
  stream?: Watched
}

const PROXY = /^(https?|all)_proxy$/i
const VERSIONS = ['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25']
const ROUND_TRIPS = 10
/** Enough is known of a slow server after this long. */
const ROUND_TRIPS_MS = 3_000

/** Ends the sessions and the stream. Never rejects. */
export async function hangUp({ facts }: ServerContext): Promise<void> {
  facts.stream?.stop()
  const { probe } = facts
  for (const session of [facts.stateless, facts.session]) {
    if (probe === undefined || session?.id === undefined) continue
    await probe
      .open('DELETE', probe.url(session === facts.session), session, undefined, AbortSignal.timeout(2_000))
      .then((reply) => reply.body.destroy())
      .catch(() => undefined)
  }
}

const settings: Check<ServerContext> = {
  name: 'settings',
  async run({ values, operands, io, redact, facts, signal }) {
    const asked = await askedFor(values, operands, io)
    const found = await serverSettings({ ...asked.values, stateful: true }, asked.operands, asked.env, redact)
    facts.settings = found
    facts.probe = new Probe(found.http, signal)
    const url = facts.probe.url(false)
    const { source } = found.http.credentials
    const [note] = found.notes.filter(({ level }) => level === 'warn' || level === 'error')
    const where = `${url.origin}${url.pathname}`
    if (note !== undefined) return warn(`${where}; ${note.text}`, note.hint)
    return ok(`${where}, ${source === undefined ? 'without a key' : `key from ${source}`}`)
  },
}

const dns: Check<ServerContext> = {
  name: 'dns',
  async run({ facts, io }) {
    const url = urlOf(facts)
    if (url === undefined) return skip('no address')
    const host = url.hostname.replace(/^\[|\]$/g, '')
    if (/^[\d.]+$|:/.test(host)) return skip(`${host} is an address already`)
    if (facts.settings?.http.dispatcher !== undefined) return skip('the proxy resolves it')
    const start = performance.now()
    try {
      const found = await lookup(host, { all: true })
      const families = [...new Set(found.map(({ family }) => `IPv${family}`))].sort().join(' and ')
      return ok(
        `${host} has ${found.length} address${found.length === 1 ? '' : 'es'} (${families}), ${since(start)}`,
      )
    } catch (error) {
      facts.unresolved = true
      return fail(
        `${host} cannot be resolved (${(error as NodeJS.ErrnoException).code ?? reasonOf(error)})`,
        io.env.HTTPS_PROXY === undefined
          ? 'check the name and your network; behind a company proxy set HTTPS_PROXY'
          : 'check the name and your network',
      )
    }
  },
}

const proxy: Check<ServerContext> = {
  name: 'proxy',
  async run({ facts, io }) {
    const url = urlOf(facts)
    if (url === undefined) return skip('no address')
    const names = Object.keys(io.env).filter((name) => PROXY.test(name) && io.env[name])
    if (names.length === 0) return ok('none in the environment; the connection is direct')
    if (facts.settings?.http.dispatcher === undefined)
      return ok(`${names.join(', ')} set, not used for ${url.hostname}`)
    const wanted = url.protocol === 'https:' ? /^https_proxy$/i : /^http_proxy$/i
    const name = names.find((each) => wanted.test(each)) ?? names[0] ?? ''
    const value = io.env[name] ?? ''
    const address = new URL(value.includes('://') ? value : `http://${value}`)
    try {
      const ms = await reach(address.hostname, portOf(address))
      return ok(`${address.host} from ${name}, reached in ${ms} ms`)
    } catch (error) {
      return fail(
        `the proxy ${address.host} from ${name} cannot be reached (${reasonOf(error)})`,
        `correct or unset ${name}, or add ${url.hostname} to NO_PROXY`,
      )
    }
  },
}

const reachable: Check<ServerContext> = {
  name: 'connect',
  async run({ facts }) {
    const url = urlOf(facts)
    if (url === undefined || facts.unresolved === true) return skip('no address')
    if (facts.settings?.http.dispatcher !== undefined) {
      facts.reached = true
      return skip('through the proxy')
    }
    try {
      const ms = await reach(url.hostname.replace(/^\[|\]$/g, ''), portOf(url))
      facts.reached = true
      return ok(`${url.host} accepts connections, ${ms} ms`)
    } catch (error) {
      const advice = isLoopback(url.hostname)
        ? 'is the server running? chamade-mcp simulate starts a local one'
        : 'check the host and port, your network and firewall'
      return fail(`${url.host} cannot be reached (${reasonOf(error)})`, advice)
    }
  },
}

const certificate: Check<ServerContext> = {
  name: 'tls',
  async run({ facts }) {
    const url = urlOf(facts)
    if (url === undefined || facts.reached !== true) return skip('not reached')
    if (url.protocol === 'http:') {
      if (isLoopback(url.hostname)) return skip('plain http on this machine')
      return warn('plain http: everything can be read on the way', 'use https')
    }
    if (facts.settings?.http.dispatcher !== undefined) return skip('inside the tunnel of the proxy')
    const found = await peer(url, facts.settings?.http.tls)
    if (found.error !== undefined)
      return fail(`the certificate is not accepted: ${found.error}`, tlsAdvice(found.code, found.issuer))
    const days = Math.floor((Date.parse(found.certificate.valid_to) - Date.now()) / 86_400_000)
    const line = `${found.protocol}, certificate of ${found.issuer}, good for ${days} more days`
    return days < 7 ? warn(line, 'tell the operator: it should have been renewed by now') : ok(line)
  },
}

const http: Check<ServerContext> = {
  name: 'http',
  async run({ facts }) {
    const { probe } = facts
    if (probe === undefined || facts.reached !== true) return skip('not reached')
    facts.reached = false
    const reply = await probe.initialize(false)
    facts.reached = true
    facts.first = reply
    const { status, excerpt } = reply
    const took = `${Math.round(reply.ms)} ms`
    if (status >= 300 && status < 400) {
      const target = String(reply.headers.location ?? '').split('?')[0]
      return warn(`HTTP ${status} to ${target}`, 'use that address as --url if you trust it')
    }
    if (status === 404 || status === 405) {
      facts.reached = false
      return fail(
        `no MCP endpoint at this path (HTTP ${status})`,
        "check the path of the URL; Chamade's ends in /mcp/",
      )
    }
    if (status === 429 || status >= 500) {
      facts.reached = false
      const after = reply.headers['retry-after']
      const wait = after === undefined ? '' : `, it asks to wait ${after} s`
      return fail(
        `the server cannot serve now: HTTP ${status}${wait}${excerpt === '' ? '' : ` (${excerpt})`}`,
        'wait and run this again; the bridge keeps trying by itself',
      )
    }
    const by = text(reply.headers.via) ?? text(reply.headers.server)
    return ok(`HTTP ${status} in ${took}${by === undefined ? '' : `, by ${by}`}`)
  },
}

const key: Check<ServerContext> = {
  name: 'key',
  run({ facts }) {
    return Promise.resolve(keyFinding(facts))
  },
}

function keyFinding(facts: Facts): Finding {
  if (facts.first === undefined || facts.reached !== true) return skip('no answer to look at')
  const { status, headers } = facts.first
  const credentials = facts.settings?.http.credentials
  const source = credentials?.source
  const set = 'set CHAMADE_API_KEY (in the "env" of the entry, for a client), or --api-key-file PATH'
  if (status === 401 || status === 403) {
    facts.reached = false
    if (credentials?.problem !== undefined) return fail(credentials.problem, set)
    if (source !== undefined)
      return fail(`the key from ${source} is refused (HTTP ${status})`, `check it, or make a new one; ${set}`)
    if (/resource_metadata/i.test(String(headers['www-authenticate']))) {
      return fail(
        `the server wants an OAuth login (HTTP ${status}), which is not supported yet`,
        'if it also takes keys, use one',
      )
    }
    return fail(`the server wants a key and none is set (HTTP ${status})`, set)
  }
  return ok(source === undefined ? 'none set, none asked for' : `the key from ${source} is accepted`)
}

const initialize: Check<ServerContext> = {
  name: 'initialize',
  run({ facts }) {
    const { first } = facts
    if (first === undefined || facts.reached !== true) return Promise.resolve(skip('no answer to look at'))
    const result = record(first.message?.result)
    const error = record(first.message?.error)
    const version = text(result.protocolVersion)
    if (version === undefined) {
      facts.reached = false
      const why = text(error.message) ?? (first.excerpt || `an empty body, HTTP ${first.status}`)
      return Promise.resolve(
        fail(
          `initialize was not answered: ${why}`,
          'is this the address of an MCP server (Streamable HTTP)?',
        ),
      )
    }
    const info = record(result.serverInfo)
    const line = `${text(info.name) ?? 'unnamed'} ${text(info.version) ?? ''} speaks MCP ${version}`
    return Promise.resolve(
      VERSIONS.includes(version)
        ? ok(line)
        : warn(line, 'that version is not known here; update chamade-mcp'),
    )
  },
}

const stateless: Check<ServerContext> = {
  name: 'stateless',
  run({ facts }) {
    const { first } = facts
    if (first === undefined || facts.reached !== true) return Promise.resolve(skip('not initialized'))
    const id = sessionOf(first)
    facts.stateless = { id, version: versionOf(first) }
    if (id === undefined)
      return Promise.resolve(ok('without ?stateful there is no session: nothing to lose at a restart'))
    return Promise.resolve(ok('a session is kept without ?stateful too'))
  },
}

const stateful: Check<ServerContext> = {
  name: 'stateful',
  async run({ facts, redact }) {
    const { probe } = facts
    if (probe === undefined || facts.reached !== true) return skip('not initialized')
    const reply = await probe.initialize(true)
    const result = record(reply.message?.result)
    if (text(result.protocolVersion) === undefined) {
      return fail(
        `initialize with ?stateful: HTTP ${reply.status} ${reply.excerpt}`,
        'leave --stateful away for this server',
      )
    }
    facts.capabilities = record(result.capabilities)
    const id = sessionOf(reply)
    if (id === undefined)
      return warn('no session id is issued: this server cannot push', 'nothing to do if you need no push')
    redact.add(id)
    facts.session = { id, version: versionOf(reply) }
    await probe.rpc(probe.url(true), 'notifications/initialized', undefined, facts.session)
    return ok('with ?stateful a session id is issued')
  },
}

const channel: Check<ServerContext> = {
  name: 'channel',
  run({ facts }) {
    if (facts.capabilities === undefined) return Promise.resolve(skip('not initialized'))
    const declared = record(facts.capabilities.experimental)['claude/channel'] !== undefined
    return Promise.resolve(
      declared
        ? ok('claude/channel is declared: Claude Code will listen')
        : warn(
            'claude/channel is not declared: Claude Code ignores what this server pushes',
            'ask its operator; nothing to do if you need no push',
          ),
    )
  },
}

const push: Check<ServerContext> = {
  name: 'push',
  async run({ facts, signal }) {
    const { probe, session } = facts
    if (probe === undefined || session === undefined) return skip('no session')
    const reply = await probe.open('GET', probe.url(true), session, undefined, signal)
    const type = String(reply.headers['content-type'] ?? 'no content type').split(';')[0]
    const took = `${Math.round(reply.headersMs)} ms`
    if (reply.status === 200 && type === 'text/event-stream') {
      facts.stream = watch(reply)
      return ok(`the push stream is open, headers after ${took}`)
    }
    reply.body.destroy()
    if (reply.status === 405)
      return warn('the server offers no push stream (HTTP 405)', 'nothing to do if you need no push')
    if (reply.status === 409) {
      return fail(
        'the push stream is refused: the server still holds another one (HTTP 409)',
        'wait half a minute; if it stays so, tell the operator',
      )
    }
    return fail(
      `the push stream is refused: HTTP ${reply.status}, ${type}`,
      'tell the operator; is something between that does not let GET pass?',
    )
  },
}

const unknownSession: Check<ServerContext> = {
  name: 'session-404',
  async run({ facts }) {
    const { probe, session } = facts
    if (probe === undefined || session === undefined) return skip('no session')
    const made = { id: '00000000-0000-4000-8000-000000000000', version: session.version }
    const reply = await probe.rpc(probe.url(true), 'ping', undefined, made)
    if (reply.status === 404) return ok('an unknown session is answered with 404, as MCP wants')
    if (reply.status >= 200 && reply.status < 300) {
      return warn(
        `an unknown session is accepted (HTTP ${reply.status}): a lost one cannot be noticed`,
        'tell the operator; push may stop without a sign after a restart',
      )
    }
    return warn(
      `an unknown session is answered with HTTP ${reply.status} instead of 404`,
      'the bridge copes, by asking with a ping; other clients may not: tell the operator',
    )
  },
}

const toolList: Check<ServerContext> = {
  name: 'tools',
  async run({ facts }) {
    const { probe } = facts
    const session = facts.session ?? facts.stateless
    if (probe === undefined || session === undefined) return skip('not initialized')
    const reply = await probe.rpc(probe.url(session === facts.session), 'tools/list', {}, session)
    if (reply.message === undefined)
      return fail(
        `tools/list: HTTP ${reply.status} ${reply.excerpt}`,
        'run this again; if it stays so, tell the operator',
      )
    const error = text(record(reply.message.error).message)
    if (error !== undefined)
      return warn(`tools/list is refused: ${error}`, 'nothing to do if this server has no tools')
    const tools = record(reply.message.result).tools
    const count = Array.isArray(tools) ? tools.length : 0
    return count === 0 ? warn('no tools', 'does the key belong to an agent?') : ok(`${count} tools`)
  },
}

const roundTrip: Check<ServerContext> = {
  name: 'round-trip',
  async run({ facts }, progress) {
    const { probe } = facts
    const session = facts.session ?? facts.stateless
    if (probe === undefined || session === undefined) return skip('not initialized')
    const times: number[] = []
    const end = performance.now() + ROUND_TRIPS_MS
    for (let n = 1; n <= ROUND_TRIPS && (n <= 3 || performance.now() < end); n++) {
      progress(`ping ${n} of ${ROUND_TRIPS}`)
      const reply = await probe.rpc(probe.url(session === facts.session), 'ping', undefined, session)
      if (reply.status !== 200)
        return fail(
          `ping ${n}: HTTP ${reply.status} ${reply.excerpt}`,
          'run this again; if it stays so, tell the operator',
        )
      times.push(reply.ms)
    }
    times.sort((a, b) => a - b)
    const middle = times[Math.floor(times.length / 2)] ?? 0
    const line = `p50 ${Math.round(middle)} ms, slowest of ${times.length} ${Math.round(times.at(-1) ?? 0)} ms, each on a connection of its own`
    return middle > 1_000 ? warn(line, 'the server or the way to it is slow') : ok(line)
  },
}

export const SERVER_CHECKS: readonly Check<ServerContext>[] = [
  settings,
  dns,
  proxy,
  reachable,
  certificate,
  http,
  key,
  initialize,
  stateless,
  stateful,
  channel,
  push,
  unknownSession,
  toolList,
  roundTrip,
]

const firstByte: Check<ServerContext> = {
  name: 'first-byte',
  async run({ facts, waitMs, signal }, progress) {
    const { stream } = facts
    if (stream === undefined) return skip('no push stream')
    await until(stream, waitMs, signal, () => stream.arrivals.length > 0, progress)
    const [at] = stream.arrivals
    if (at !== undefined) return ok(`${seconds(at - stream.openedAt)} after the stream was opened`)
    if (stream.ended !== undefined) return fail(endText(stream), END_ADVICE)
    return warn(
      `nothing in ${seconds(waitMs)}: no keep-alive is sent, or something between holds it back`,
      'switch off response buffering for text/event-stream (nginx: proxy_buffering off; X-Accel-Buffering: no)',
    )
  },
}

const cadence: Check<ServerContext> = {
  name: 'keep-alive',
  async run({ facts, waitMs, signal }, progress) {
    const { stream } = facts
    if (stream === undefined || stream.arrivals.length === 0) return skip('nothing came')
    await until(stream, waitMs, signal, () => stream.arrivals.length >= 3, progress)
    if (stream.ended !== undefined) return fail(endText(stream), END_ADVICE)
    const gaps = stream.arrivals.slice(1).map((at, n) => at - (stream.arrivals[n] ?? at))
    if (gaps.length === 0)
      return warn(`only one sign of life in ${seconds(waitMs)}`, 'run with --wait 2m to learn more')
    const longest = Math.max(...gaps)
    const line = `a sign of life every ${seconds(longest)}`
    return longest > 60_000 ? warn(line, 'many load balancers cut what is silent for 60 s') : ok(line)
  },
}

const idle: Check<ServerContext> = {
  name: 'idle',
  async run({ facts, longMs, signal }, progress) {
    const { stream } = facts
    if (stream === undefined) return skip('no push stream')
    if (longMs === undefined) return skip('what closes an idle stream, and when: --long finds out')
    await until(stream, longMs, signal, () => false, progress)
    if (stream.ended === undefined)
      return ok(`the stream was still open after ${seconds(performance.now() - stream.openedAt)}`)
    return warn(endText(stream), END_ADVICE)
  },
}

/** The checks that need time; they come last, while the stream has been open for a while already. */
export const STREAM_CHECKS: readonly Check<ServerContext>[] = [firstByte, cadence, idle]

const END_ADVICE =
  'the bridge opens it again; if it happens often, raise the idle limit of what stands between'

function endText(stream: Watched): string {
  const lived = seconds((stream.ended?.at ?? stream.openedAt) - stream.openedAt)
  const last = stream.arrivals.at(-1)
  const silent =
    last === undefined
      ? 'without one byte'
      : `${seconds((stream.ended?.at ?? last) - last)} after its last byte`
  return `the push stream ${stream.ended?.how ?? 'ended'} after ${lived}, ${silent}`
}

/** Until `enough`, or the stream has ended, or it has been open for `limitMs`. */
async function until(
  stream: Watched,
  limitMs: number,
  signal: AbortSignal,
  enough: () => boolean,
  progress: (text: string) => void,
): Promise<void> {
  for (;;) {
    const left = stream.openedAt + limitMs - performance.now()
    if (enough() || stream.ended !== undefined || left <= 0 || signal.aborted) return
    progress(`listening, ${Math.ceil(left / 1_000)} s at most`)
    let timer: NodeJS.Timeout | undefined
    const tick = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, Math.min(left, 1_000))
    })
    await Promise.race([stream.changed(), tick])
    clearTimeout(timer)
  }
}

function urlOf(facts: Facts): URL | undefined {
  return facts.probe?.url(false)
}

function portOf(url: URL): number {
  if (url.port !== '') return Number(url.port)
  return url.protocol === 'https:' ? 443 : 80
}

/** Milliseconds to connect. */
function reach(host: string, port: number): Promise<number> {
  const start = performance.now()
  return new Promise((resolve, reject) => {
    const socket = connect({ host: host.replace(/^\[|\]$/g, ''), port, timeout: 10_000 })
    socket.once('connect', () => {
      socket.destroy()
      resolve(Math.round(performance.now() - start))
    })
    socket.once('timeout', () => socket.destroy(new Error('no answer within 10 s')))
    socket.once('error', reject)
  })
}

interface Peer {
  readonly certificate: PeerCertificate
  readonly issuer: string
  readonly protocol: string
  readonly error: string | undefined
  readonly code: string
}

/** The server's certificate as it is, accepted or not. */
function peer(url: URL, options: ServerSettings['http']['tls']): Promise<Peer> {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  return new Promise((resolve, reject) => {
    const name = /^[\d.]+$|:/.test(host) ? {} : { servername: host }
    const socket = tlsConnect({
      host,
      port: portOf(url),
      ...name,
      ...options,
      rejectUnauthorized: false,
      timeout: 10_000,
    })
    socket.once('secureConnect', () => {
      const found = socket.getPeerCertificate()
      const { O, CN } = found.issuer ?? {}
      const problem = socket.authorizationError as Error | string | null | undefined
      const code =
        typeof problem === 'string' ? problem : ((problem as NodeJS.ErrnoException | null)?.code ?? '')
      socket.destroy()
      resolve({
        certificate: found,
        issuer: String(O ?? CN ?? 'an unnamed issuer'),
        protocol: socket.getProtocol() ?? 'TLS',
        error: socket.authorized ? undefined : problem instanceof Error ? problem.message : code,
        code,
      })
    })
    socket.once('timeout', () => socket.destroy(new Error('no answer to the TLS handshake within 10 s')))
    socket.once('error', (error) => {
      const advice = 'is this really the port of a TLS server?'
      reject(
        new BridgeError('SERVER_UNREACHABLE', `TLS failed: ${reasonOf(error)}`, {
          hint: advice,
          cause: error,
        }),
      )
    })
  })
}

function tlsAdvice(code: string, issuer: string): string {
  if (code === 'CERT_HAS_EXPIRED') return 'check the clock of this machine; else tell the operator'
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return 'the certificate is for another name: check the host in the URL'
  return `if you trust ${issuer} (a company's own, or self-made): --ca FILE, or NODE_EXTRA_CA_CERTS=FILE`
}

function sessionOf(reply: Exchanged): string | undefined {
  return text(reply.headers[HEADER.session])
}

function versionOf(reply: Exchanged): string {
  return text(record(reply.message?.result).protocolVersion) ?? ''
}

function since(start: number): string {
  return `${Math.round(performance.now() - start)} ms`
}

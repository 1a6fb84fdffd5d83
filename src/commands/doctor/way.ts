/**
 * The checks on the way to the server: settings, name, proxy, connection, certificate.
 */
import { lookup } from 'node:dns/promises'
import { connect } from 'node:net'
import { type PeerCertificate, connect as tlsConnect } from 'node:tls'
import { type ServerSettings, serverSettings } from '../../config.ts'
import { BridgeError, reasonOf } from '../../errors.ts'
import { isLoopback } from '../../loopback.ts'
import { trustSystem } from '../../system-trust.ts'
import { askedFor } from '../entry.ts'
import { shellLine } from '../shell-line.ts'
import { type Check, connectionAdvice, fail, ok, skip, warn } from './check.ts'
import type { Facts, ServerContext } from './context.ts'
import { LONG_WAY, Probe } from './probe.ts'

const PROXY = /^(https?|all)_proxy$/i

const settings: Check<ServerContext> = {
  name: 'settings',
  async run({ values, operands, io, redact, facts, signal }) {
    const asked = await askedFor(values, operands, io)
    const found = await serverSettings({ ...asked.values, stateful: true }, asked.operands, asked.env, redact)
    // (The bridge asks SSL_CERT_FILE only where Node does not trust the server.)
    const tls = found.http.tls ?? (await found.http.tlsLater?.())
    const http = tls === undefined ? found.http : { ...found.http, tls }
    facts.settings = { ...found, http }
    facts.probe = new Probe(http, signal)
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
    if (facts.settings?.http.proxy !== undefined) return skip('the proxy resolves it')
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
    const set = Object.keys(io.env).filter((name) => PROXY.test(name) && io.env[name])
    if (set.length === 0) return ok('none in the environment; the connection is direct')
    const used = facts.settings?.http.proxy
    if (used === undefined) return ok(`${set.join(', ')} set, not used for ${url.hostname}`)
    const { url: address, variable } = used
    try {
      const ms = await reach(address.hostname, portOf(address))
      return ok(`${address.host} from ${variable}, reached in ${ms} ms`)
    } catch (error) {
      return fail(
        `the proxy ${address.host} from ${variable} cannot be reached (${reasonOf(error)})`,
        `correct or unset ${variable}, or add ${url.hostname} to NO_PROXY`,
      )
    }
  },
}

const reachable: Check<ServerContext> = {
  name: 'connect',
  async run({ facts }) {
    const url = urlOf(facts)
    if (url === undefined || facts.unresolved === true) return skip('no address')
    if (facts.settings?.http.proxy !== undefined) {
      facts.goesOn = true
      return skip('through the proxy')
    }
    try {
      const ms = await reach(url.hostname, portOf(url))
      facts.goesOn = true
      return ok(`${url.host} accepts connections, ${ms} ms`)
    } catch (error) {
      const advice = isLoopback(url.hostname)
        ? `is the server running? ${shellLine('simulate')} starts a local one`
        : 'check the host and port, your network and firewall'
      return fail(`${url.host} cannot be reached (${reasonOf(error)})`, advice)
    }
  },
}

const certificate: Check<ServerContext> = {
  name: 'tls',
  async run({ facts }) {
    const url = urlOf(facts)
    if (url === undefined || facts.goesOn !== true) return skip('not reached')
    if (url.protocol === 'http:') {
      if (isLoopback(url.hostname)) return skip('plain http on this machine')
      return warn('plain http: everything can be read on the way', 'use https')
    }
    if (facts.settings?.http.proxy !== undefined) return skip('inside the tunnel of the proxy')
    const { tls } = facts.settings?.http ?? {}
    facts.goesOn = false
    let found = await peer(url, tls)
    // The bridge asks the operating system too, before it gives up.
    if (found.error !== undefined && tls === undefined && trustSystem()) found = await peer(url, tls)
    if (found.error !== undefined)
      return fail(`the certificate is not accepted: ${found.error}`, tlsAdvice(found.code, found.issuer))
    facts.goesOn = true
    const days = Math.floor((Date.parse(found.certificate.valid_to) - Date.now()) / 86_400_000)
    const line = `${found.protocol}, certificate of ${found.issuer}, good for ${days} more days`
    return days < 7 ? warn(line, 'tell the operator: it should have been renewed by now') : ok(line)
  },
}
export const WAY_CHECKS: readonly Check<ServerContext>[] = [settings, dns, proxy, reachable, certificate]

function urlOf(facts: Facts): URL | undefined {
  return facts.probe?.url(false)
}

function portOf(url: URL): number {
  if (url.port !== '') return Number(url.port)
  return url.protocol === 'https:' ? 443 : 80
}

const PATIENT = { timeout: 10_000, ...LONG_WAY } as const

/** Milliseconds to connect. */
function reach(host: string, port: number): Promise<number> {
  const start = performance.now()
  return new Promise((resolve, reject) => {
    const socket = connect({ host: host.replace(/^\[|\]$/g, ''), port, ...PATIENT })
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
      ...PATIENT,
    })
    socket.once('secureConnect', () => {
      const found = socket.getPeerCertificate()
      const { O, CN } = found.issuer ?? {}
      const problem = socket.authorizationError as Error | string | null | undefined
      const code =
        typeof problem === 'string' ? problem : ((problem as NodeJS.ErrnoException | null)?.code ?? '')
      const protocol = socket.getProtocol() ?? 'TLS'
      socket.destroy()
      resolve({
        certificate: found,
        issuer: String(O ?? CN ?? 'an unnamed issuer'),
        protocol,
        error: socket.authorized ? undefined : problem instanceof Error ? problem.message : code,
        code,
      })
    })
    socket.once('timeout', () => socket.destroy(new Error('no answer to the TLS handshake within 10 s')))
    socket.once('error', (error) => {
      const hint = connectionAdvice(error, 'is this really the port of a TLS server?')
      const text = `TLS failed: ${reasonOf(error)}`
      reject(new BridgeError('SERVER_UNREACHABLE', text, { hint, cause: error }))
    })
  })
}

function tlsAdvice(code: string, issuer: string): string {
  if (code === 'CERT_HAS_EXPIRED') return 'check the clock of this machine; else tell the operator'
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return 'the certificate is for another name: check the host in the URL'
  return `if you trust ${issuer} (a company's own, or self-made): --ca FILE, or NODE_EXTRA_CA_CERTS=FILE`
}
function since(start: number): string {
  return `${Math.round(performance.now() - start)} ms`
}

/**
 * The checks of the server itself: from its first HTTP answer to the round trip of a ping.
 */
import { seconds } from '../../errors.ts'
import { HEADER } from '../../protocol.ts'
import { ENDLESS_MS, firstOf, limit } from '../../retry.ts'
import { declaresChannel, record, text } from '../client.ts'
import { type Check, type Finding, fail, ok, skip, warn } from './check.ts'
import type { Facts, ServerContext } from './context.ts'
import type { Exchanged } from './probe.ts'
import { BUFFERED, watch } from './watch.ts'

const VERSIONS = ['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25']
/** The headers of a push stream come at once, or they are held back. */
const HEADERS_MS = 10_000
const ROUND_TRIPS = 10
/** Enough is known of a slow server after this long. */
const ROUND_TRIPS_MS = 3_000

const http: Check<ServerContext> = {
  name: 'http',
  async run({ facts }) {
    const { probe } = facts
    if (probe === undefined || facts.goesOn !== true) return skip('not reached')
    facts.goesOn = false
    const reply = await probe.initialize(false)
    facts.goesOn = true
    facts.first = reply
    const { status, excerpt } = reply
    const took = `${Math.round(reply.ms)} ms`
    if (status >= 300 && status < 400) {
      const target = String(reply.headers.location ?? '').split('?')[0]
      return warn(`HTTP ${status} to ${target}`, 'use that address as --url if you trust it')
    }
    if (status === 404 || status === 405) {
      facts.goesOn = false
      return fail(
        `no MCP endpoint at this path (HTTP ${status})`,
        "check the path of the URL; Chamade's ends in /mcp/",
      )
    }
    if (status === 429 || status >= 500) {
      facts.goesOn = false
      const after = reply.headers['retry-after']
      // [RFC 9110 §10.2.3] Seconds or a date.
      const length = /^\d+$/.test(String(after)) ? `${after} s` : `until ${after}`
      const wait = after === undefined ? '' : `, it asks to wait ${length}`
      return fail(
        `the server cannot serve now: HTTP ${status}${wait}${excerpt === '' ? '' : ` (${excerpt})`}`,
        'wait and run this again; the bridge keeps trying by itself',
      )
    }
    const by = text(reply.headers.via) ?? text(reply.headers.server)
    return ok(`HTTP ${status} in ${took}${by === undefined ? '' : `, by ${by}`}`)
  },
}

const key: Check<ServerContext> = { name: 'key', run: ({ facts }) => keyFinding(facts) }

function keyFinding(facts: Facts): Finding {
  if (facts.first === undefined || facts.goesOn !== true) return skip('no answer to look at')
  const { status, headers } = facts.first
  const credentials = facts.settings?.http.credentials
  const source = credentials?.source
  const usual = 'set CHAMADE_API_KEY (in the "env" of the entry, for a client), or --api-key-file PATH'
  const set = credentials?.advice ?? usual
  const challenge = text(headers['www-authenticate'])
  const isOfKey = [source, credentials?.problem?.text, challenge].some((each) => each !== undefined)
  // (A 403 that the server explains itself may be about anything: a Host that it does not take.)
  if (status === 401 || (status === 403 && (isOfKey || facts.first.message?.error === undefined))) {
    facts.goesOn = false
    if (credentials?.problem !== undefined) return fail(credentials.problem.text, credentials.problem.hint)
    if (source !== undefined) {
      const where = source === 'CHAMADE_API_KEY' ? `; ${set}` : ' and put it there'
      return fail(`the key from ${source} is refused (HTTP ${status})`, `check it, or make a new one${where}`)
    }
    if (/resource_metadata/i.test(challenge ?? '')) {
      return fail(
        `the server wants an OAuth login (HTTP ${status}), which is not supported yet`,
        'if it also takes keys, use one',
      )
    }
    return status === 401
      ? fail('the server wants a key and none is set (HTTP 401)', set)
      : fail('the server refuses access and no key is set (HTTP 403)', `if it wants a key: ${set}`)
  }
  // Anything else may come from somebody who never looked at a key.
  if (facts.first.message?.result === undefined) {
    const which = source === undefined ? 'a key' : `the key from ${source}`
    return skip(`HTTP ${status} without an answer to initialize says nothing about ${which}`)
  }
  return ok(source === undefined ? 'none set, none asked for' : `the key from ${source} is accepted`)
}

const initialize: Check<ServerContext> = {
  name: 'initialize',
  run({ facts }) {
    const { first } = facts
    if (first === undefined || facts.goesOn !== true) return skip('no answer to look at')
    const result = record(first.message?.result)
    const error = record(first.message?.error)
    const version = text(result.protocolVersion)
    if (version === undefined) {
      facts.goesOn = false
      const why = text(error.message) ?? (first.excerpt || `an empty body, HTTP ${first.status}`)
      return fail(
        `initialize was not answered: ${why}`,
        'is this the address of an MCP server (Streamable HTTP)?',
      )
    }
    const info = record(result.serverInfo)
    const line = `${text(info.name) ?? 'unnamed'} ${text(info.version) ?? ''} speaks MCP ${version}`
    return VERSIONS.includes(version)
      ? ok(line)
      : warn(line, 'that version is not known here; update chamade-mcp')
  },
}

const stateless: Check<ServerContext> = {
  name: 'stateless',
  run({ facts, redact }) {
    const { first } = facts
    if (first === undefined || facts.goesOn !== true) return skip('not initialized')
    const id = sessionOf(first)
    if (id !== undefined) redact.add(id)
    facts.stateless = { stateful: false, id, version: versionOf(first) }
    if (id === undefined) return ok('without ?stateful there is no session: nothing to lose at a restart')
    return ok('a session is kept without ?stateful too')
  },
}

const stateful: Check<ServerContext> = {
  name: 'stateful',
  async run({ facts, redact }) {
    const { probe } = facts
    if (probe === undefined || facts.goesOn !== true) return skip('not initialized')
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
    facts.session = { stateful: true, id, version: versionOf(reply) }
    await probe.rpc('notifications/initialized', undefined, facts.session)
    return ok('with ?stateful a session id is issued')
  },
}

const channel: Check<ServerContext> = {
  name: 'channel',
  run({ facts }) {
    if (facts.capabilities === undefined) return skip('not initialized')
    return declaresChannel(facts.capabilities)
      ? ok('claude/channel is declared: Claude Code will listen')
      : warn(
          'claude/channel is not declared: Claude Code ignores what this server pushes',
          'ask its operator; nothing to do if you need no push',
        )
  },
}

const push: Check<ServerContext> = {
  name: 'push',
  async run({ facts, signal }) {
    const { probe, session } = facts
    if (probe === undefined || session === undefined) return skip('no session')
    const late = new AbortController()
    const { signal: over } = limit(ENDLESS_MS, signal, late.signal)
    const opened = await firstOf([probe.open('GET', session, undefined, over)], HEADERS_MS)
    if (opened === undefined) {
      late.abort()
      return warn(
        `no response headers within ${seconds(HEADERS_MS)}: they may come with the first event`,
        BUFFERED,
      )
    }
    const reply = opened.result
    const type = String(reply.headers['content-type'] ?? 'no content type').split(';')[0]
    const took = `${Math.round(reply.headersMs)} ms`
    if (reply.status === 200 && type === 'text/event-stream') {
      facts.stream = watch(reply)
      return ok(`the push stream is open, headers after ${took}`)
    }
    reply.body.destroy()
    if (reply.status === 405 || reply.status === 204) {
      return warn(
        `the server offers no push stream (HTTP ${reply.status})`,
        'nothing to do if you need no push',
      )
    }
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
    const made = { ...session, id: '00000000-0000-4000-8000-000000000000' }
    const reply = await probe.rpc('ping', undefined, made)
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
    const reply = await probe.rpc('tools/list', {}, session)
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
      const reply = await probe.rpc('ping', undefined, session)
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

function sessionOf(reply: Exchanged): string | undefined {
  return text(reply.headers[HEADER.session])
}

function versionOf(reply: Exchanged): string {
  return text(record(reply.message?.result).protocolVersion) ?? ''
}

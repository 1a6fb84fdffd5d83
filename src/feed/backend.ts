/**
 * The REST calls of the feed: who am I, join a space, its events, its status, my spaces.
 *
 * Not a retry (but with another key, when the file of a refused one holds one by now), not a cache. The one rule: the
 * token travels in a header and shows nowhere; a reply is what the server said or a Refusal, never an exception.
 */
import { type Dispatcher, request } from 'undici'
import { reasonOf, seconds } from '../errors.ts'
import { ENDLESS_MS, firstOf, limit, MAX_WAIT_MS } from '../retry.ts'
import type { Status } from '../status.ts'
import { isSystemTrusted, isUntrusted, trustSystem } from '../system-trust.ts'
import { type FeedConfig, isSpaceId } from './config.ts'
import { isRecord, text } from './filter.ts'
import { dispatcherFor } from './network.ts'
import { failedBy, lineOf, no, type Reply, refusedBy, retryAfterMs, unreadable, yes } from './refusal.ts'
import { startOf } from './texts.ts'
import { Turns } from './turns.ts'

export interface Actor {
  readonly actorId: string
  readonly displayName: string
}

/** The spaces of this agent, each once, of any status, and when that was so, ms since 1970: by the server's own clock, if it tells. */
export interface Discovered {
  readonly spaces: readonly SpaceSummary[]
  readonly at: number
}

export interface SpaceSummary {
  readonly spaceId: string
  readonly status: string
}

/** Events asked for at once: the most that is documented. */
export const PAGE = 200

export interface EventQuery {
  readonly since?: string | undefined
  readonly before?: string | undefined
}

interface CallOptions {
  readonly body?: object
  /** Is told the `Date` of the answer. */
  readonly tellDate?: (date: string) => void
  /** For all of the answer. */
  readonly wholeMs?: number
  readonly agent?: Dispatcher
}

export class Backend {
  readonly #config: FeedConfig
  readonly #report: (status: Status) => void
  readonly #agent: Dispatcher
  /** On connections of their own: those of the other calls are not to be had by histories that hang. */
  readonly #histories: Dispatcher
  readonly #host: string
  /** For the histories that frames wait for, and for those beside: neither waits for the other. */
  readonly awaited: Turns
  readonly beside: Turns
  /** What was listed for the id of a space and is none, as it was reported. */
  readonly #odd = new Set<string>()

  constructor(config: FeedConfig, report: (status: Status) => void) {
    this.#config = config
    this.#report = report
    this.#host = new URL(config.apiUrl).host
    const { httpMs, maxBodyBytes, histories } = config.limits
    const limits = { headersTimeout: httpMs, bodyTimeout: httpMs, maxResponseSize: maxBodyBytes }
    const way = { ...config, connectMs: httpMs }
    this.#agent = dispatcherFor(way, { ...limits, connections: 8 }, 'forwarded')
    this.#histories = dispatcherFor(way, limits, 'forwarded')
    this.awaited = new Turns(histories)
    this.beside = new Turns(histories)
  }

  /** `GET /api/actors/me` */
  async me(signal: AbortSignal): Promise<Reply<Actor>> {
    const what = 'say whose key this is'
    const reply = await this.#call('GET', '/api/actors/me', what, signal)
    const { agentId, agentName } = this.#config
    if (!reply.ok) {
      const absent = reply.no.status === 404 || reply.no.status === 405
      return absent && agentId !== undefined
        ? yes({ actorId: agentId, displayName: agentName ?? agentId })
        : reply
    }
    const actorId = isRecord(reply.value) ? text(reply.value.actor_id) : undefined
    if (actorId === undefined || !isRecord(reply.value)) return no(unreadable(what, 'it names no actor_id'))
    return yes({ actorId, displayName: text(reply.value.display_name) ?? agentName ?? actorId })
  }

  /** `POST /api/spaces/{id}/join` */
  async join(spaceId: string, actor: Actor, signal: AbortSignal): Promise<Reply<unknown>> {
    const body = {
      participant_id: actor.actorId,
      name: actor.displayName,
      participant_type: 'agent',
      agent_adapter: 'channel',
    }
    return this.#call('POST', `${spacePath(spaceId)}/join`, `join space ${spaceId}`, signal, { body })
  }

  /** `GET /api/actors/me/spaces?status=active` */
  async activeSpaces(signal: AbortSignal): Promise<Reply<Discovered>> {
    const what = 'list the spaces of this agent'
    const { clock } = this.#config
    const asked = clock.uptime()
    let at = clock.now()
    const tellDate = (date: string): void => {
      const ms = Date.parse(date)
      // What it holds was looked up before it was sent.
      if (!Number.isNaN(ms)) at = ms - (clock.uptime() - asked)
    }
    const reply = await this.#call('GET', '/api/actors/me/spaces?status=active', what, signal, { tellDate })
    if (!reply.ok) return reply
    const list = listIn(reply.value, 'spaces')
    if (list === undefined) return no(unreadable(what, 'it is no list'))
    const spaces = new Map<string, SpaceSummary>()
    for (const space of list.filter(isRecord)) {
      const spaceId = text(space.space_id)
      // Active ones were asked for: one without a status is.
      const status = text(space.status) ?? 'active'
      if (spaceId !== undefined && this.#accepts(spaceId)) spaces.set(spaceId, { spaceId, status })
    }
    return yes({ spaces: [...spaces.values()], at })
  }

  #accepts(spaceId: string): boolean {
    if (isSpaceId(spaceId)) return true
    const shown = JSON.stringify(startOf(spaceId, 60))
    if (!this.#odd.has(shown)) {
      this.#report({ kind: 'dropped', what: `space ${shown} of the list`, why: 'that is no id of a space' })
    }
    this.#odd.add(shown)
    return false
  }

  /** `GET /api/spaces/{id}/events`, oldest first whatever the server's order, as far as their times tell. */
  async events(spaceId: string, query: EventQuery, signal: AbortSignal): Promise<Reply<readonly unknown[]>> {
    const search = new URLSearchParams({ limit: String(PAGE) })
    if (query.since !== undefined) search.set('since', query.since)
    if (query.before !== undefined) search.set('before', query.before)
    const what = `give the events of space ${spaceId}`
    // Pages may be long and lines slow: who can't wait says so.
    const options = { wholeMs: ENDLESS_MS, agent: this.#histories }
    const reply = await this.#call('GET', `${spacePath(spaceId)}/events?${search}`, what, signal, options)
    if (!reply.ok) return reply
    const list = listIn(reply.value, 'events')
    return list === undefined ? no(unreadable(what, 'it is no list')) : yes(oldestFirst(list))
  }

  /** `GET /api/spaces/{id}/status` */
  async status(spaceId: string, signal: AbortSignal): Promise<Reply<string | undefined>> {
    const what = `give the status of space ${spaceId}`
    const reply = await this.#call('GET', `${spacePath(spaceId)}/status`, what, signal)
    if (!reply.ok) return reply
    return yes(isRecord(reply.value) ? text(reply.value.status) : undefined)
  }

  async close(): Promise<void> {
    await Promise.all([this.#agent.destroy(), this.#histories.destroy()])
  }

  async #call(
    method: Dispatcher.HttpMethod,
    path: string,
    what: string,
    signal: AbortSignal,
    options: CallOptions = {},
  ): Promise<Reply<unknown>> {
    const { body, tellDate, wholeMs = this.#config.limits.httpMs, agent = this.#agent } = options
    const { apiUrl, apiKey } = this.#config
    const key = apiKey.value
    const trusted = isSystemTrusted()
    const soon = limit(wholeMs, signal)
    let received: string
    let status: number
    let retryAfter: string | undefined
    try {
      const responding = request(`${apiUrl}${path}`, {
        method,
        dispatcher: agent,
        signal: soon.signal,
        headers: {
          authorization: `Bearer ${key}`,
          accept: 'application/json',
          // [RFC 9110 §12.5.3] Without this any coding may come.
          'accept-encoding': 'identity',
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        body: body === undefined ? null : JSON.stringify(body),
      })
      // (undici looks at the signal once it has a connection.)
      const response = (await firstOf([responding], MAX_WAIT_MS, soon.signal))?.result
      if (response === undefined) throw soon.signal.reason
      status = response.statusCode
      retryAfter = text(response.headers['retry-after'])
      tellDate?.(text(response.headers.date) ?? '')
      received = await response.body.text()
    } catch (cause) {
      if (this.#config.secureContext === undefined && isUntrusted(cause) && trustSystem(trusted)) {
        return await this.#call(method, path, what, signal, options)
      }
      const late = soon.signal.aborted && !signal.aborted
      const why = late ? new Error(`no whole answer within ${seconds(wholeMs)}`, { cause }) : cause
      return no(failedBy(why, what, this.#host, this.#config.proxy))
    } finally {
      soon.clear()
    }
    if (status < 200 || status > 299) {
      const refusal = refusedBy(status, what, {
        said: this.#said(received),
        retryAfterMs: retryAfterMs(retryAfter),
      })
      return apiKey.renew(key, refusal) ? this.#call(method, path, what, signal, options) : no(refusal)
    }
    try {
      return yes(received === '' ? undefined : (JSON.parse(received) as unknown))
    } catch (cause) {
      return no(unreadable(what, lineOf(reasonOf(cause), apiKey.clean)))
    }
  }

  /** The `detail` of an error body, as one short clean line. */
  #said(body: string): string {
    let line: string
    try {
      const value: unknown = JSON.parse(body)
      const said = isRecord(value) ? (value.detail ?? value.error ?? value.message) : undefined
      if (said === undefined || said === null) return ''
      // What is nested too deep can be read, but not written.
      line = typeof said === 'string' ? said : JSON.stringify(said)
    } catch {
      return ''
    }
    return lineOf(line, this.#config.apiKey.clean)
  }
}

function spacePath(spaceId: string): string {
  return `/api/spaces/${encodeURIComponent(spaceId)}`
}

function listIn(value: unknown, member: string): readonly unknown[] | undefined {
  const lists = isRecord(value) ? [value[member], value.items, value.data] : [value]
  return lists.find((list) => Array.isArray(list))
}

function oldestFirst(list: readonly unknown[]): readonly unknown[] {
  return direction(list) < 0 ? list.toReversed() : list
}

/**
 * Which end of a list is the older by the times in it: above 0 the first, below 0 the last, 0 if they don't say. The
 * steps are counted: a clock that was set back is one of them. Where about as many go up as down (several writers may
 * not have been stored in the order sent), the ends tell.
 */
export function direction(list: readonly unknown[]): number {
  const times = list.flatMap((event) => timeOf(event) ?? [])
  const steps = times.reduce((sum, at, i) => sum + Math.sign(at - (times[i - 1] ?? at)), 0)
  return Math.abs(steps) > 1 ? steps : (times.at(-1) ?? 0) - (times[0] ?? 0)
}

/** Milliseconds since 1970 of an event, by the server's clock. */
export function timeOf(event: unknown): number | undefined {
  const said = isRecord(event) && typeof event.timestamp === 'string' ? event.timestamp : ''
  // Date.parse takes a time without a zone for one of this machine; Python's naive ones are UTC.
  const at = Date.parse(/^\d{4}-\d\d-\d\d[T ][\d:.]+$/.test(said) ? `${said}Z` : said)
  return Number.isNaN(at) ? undefined : at
}

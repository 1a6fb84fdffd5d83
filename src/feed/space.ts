/**
 * One space: what was missed, what comes in, which of it the agent is told.
 *
 * Knows no sockets: frames are handed in, in order. The one rule: an event counts as dealt with only after the
 * client has taken it, so whatever breaks before that is fetched again.
 */

import type { ChannelDraft } from '../channel/notification.ts'
import { limit } from '../retry.ts'
import type { Status } from '../status.ts'
import { type Actor, type Backend, timeOf } from './backend.ts'
import { isRecord, readEvent, relevance, text } from './filter.ts'
import { FORGOTTEN, History, idOf } from './history.ts'
import { isAbsent, isDeclined, type Refusal, type Reply, yes } from './refusal.ts'
import { eventDraft, statusDraft, type Voice } from './texts.ts'

export interface SpaceOptions {
  readonly spaceId: string
  /** False for a space the agent is known to take part in. */
  readonly join: boolean
  /**
   * For a space that appeared while we were looking: what was said since this moment (ms, the server's clock)
   * is news, not past. Whoever invites an agent speaks to it at once.
   */
  readonly newsSince?: number | undefined
  readonly backend: Backend
  readonly identity: (signal: AbortSignal) => Promise<Reply<Actor>>
  readonly push: (draft: ChannelDraft) => Promise<void>
  readonly report: (status: Status) => void
  readonly firehose: boolean
  readonly voice: Omit<Voice, 'displayName'>
}

/** A parsed frame of the server. */
export interface Frame {
  readonly type: string
  readonly data: unknown
  readonly spaceId: string | undefined
}

/** A status is nice to have: nothing waits longer for it. */
const STATUS_MS = 2_000

export class Space {
  readonly spaceId: string
  readonly #options: SpaceOptions
  readonly #history = new History()
  readonly #threads = new Set<string>()
  #actor: Actor | undefined
  #joined = false
  #joinNoted = false
  #status: string | undefined
  /** Counts what was heard of the status: an answer older than that is no news. */
  #statusHeard = 0

  constructor(options: SpaceOptions) {
    this.spaceId = options.spaceId
    this.#options = options
  }

  /** Identity, join, and the past to continue from; each only until it has succeeded. */
  async prepare(signal: AbortSignal): Promise<Reply<unknown>> {
    const { backend, identity, join } = this.#options
    const actor = await identity(signal)
    if (!actor.ok) return actor
    this.#actor = actor.value
    if (join && !this.#joined) {
      const joined = await backend.join(this.spaceId, actor.value, signal)
      if (!joined.ok && (isAbsent(joined.no.status) || !isDeclined(joined.no.status))) return joined
      this.#joined = joined.ok
      if (!joined.ok) this.#noteJoin(joined.no)
    }
    if (this.#history.seeded) return yes(undefined)
    const seeded = await this.#seed(signal)
    if (seeded.ok && !signal.aborted) await this.checkStatus(signal)
    return seeded
  }

  /**
   * Gives what was missed. `up` is called once it is known whether the gap closes, before the first event is
   * given. A refusal means: could not be told, try again on a new connection.
   */
  async catchUp(
    up: (continuous: boolean, why?: string) => void,
    signal: AbortSignal,
  ): Promise<Reply<unknown>> {
    let isUp = false
    const { backend } = this.#options
    const fetch = (query: Parameters<Backend['events']>[1]): ReturnType<Backend['events']> =>
      backend.events(this.spaceId, query, signal)
    for await (const page of this.#history.since(fetch)) {
      if (signal.aborted) return yes(undefined)
      if (!page.ok) {
        if (!isDeclined(page.no.status) || isUp) return page
        return this.#startOver((why) => up(false, why), page.no, signal)
      }
      const { missing, events } = page.value
      if (!isUp || missing !== undefined) up(missing === undefined, missing)
      isUp = true
      for (const event of events) {
        await this.#event(event)
        if (signal.aborted) return yes(undefined)
      }
    }
    return yes(undefined)
  }

  /** One frame that concerns this space. */
  async frame(frame: Frame): Promise<void> {
    switch (frame.type) {
      case 'context_event':
        return this.#isElsewhere('an event', frame.data)
          ? undefined
          : this.#event(frame.data, isNameless(frame.data))
      case 'space_update':
        return this.#statusFrame(frame.data)
      default:
        return
    }
  }

  /** Asks for the space's status, where the backend tells it in time, and tells the agent when it changed. */
  async checkStatus(signal: AbortSignal): Promise<void> {
    const answered = this.statusAsked()
    const soon = limit(STATUS_MS, signal)
    const status = await this.#options.backend.status(this.spaceId, soon.signal).finally(soon.clear)
    if (signal.aborted) return
    if (status.ok && status.value !== undefined) await answered(status.value)
  }

  /** The backend is being asked: gives what to do with its answer, which is no news if one was heard meanwhile. */
  statusAsked(): (status: string) => Promise<void> {
    const heard = this.#statusHeard
    return async (status) => {
      if (heard === this.#statusHeard) await this.#noticeStatus(status)
    }
  }

  /** The space has this status now. The first one ever seen is no change. */
  async #noticeStatus(status: string, from: { eventId?: string; speaker?: string } = {}): Promise<void> {
    this.#statusHeard++
    const before = this.#status
    if (before === status) return
    this.#status = status
    if (before === undefined && status === 'active') return
    const known = before === undefined ? {} : { before }
    const change = { spaceId: this.spaceId, status, ...known, ...from }
    await this.#options.push(statusDraft(change, this.#options.voice.wording))
  }

  /** The backend does not know where we were: what it has that we do not know is given, and from there we go on. */
  async #startOver(
    up: (why: string) => void,
    because: Refusal,
    signal: AbortSignal,
  ): Promise<Reply<unknown>> {
    const now = await this.#options.backend.events(this.spaceId, { limit: 200 }, signal)
    if (!now.ok && !isDeclined(now.no.status)) return now
    const { message } = because.error
    up(now.ok ? `${FORGOTTEN}: ${message}` : message)
    const events = now.ok ? now.value : []
    for (const event of events) {
      if (signal.aborted) return yes(undefined)
      await this.#event(event)
    }
    this.#history.restart(events)
    return yes(undefined)
  }

  async #seed(signal: AbortSignal): Promise<Reply<unknown>> {
    const past = await this.#options.backend.events(this.spaceId, { limit: 200 }, signal)
    if (!past.ok) {
      // Without its past a space can still be followed; a backend that is away is tried again.
      const { status } = past.no
      const noSpace = !this.#joined && isAbsent(status)
      if (!isDeclined(status) || noSpace) return past
      this.#note(past.no)
      this.#history.seed([])
      return yes(undefined)
    }
    for (const value of past.value) {
      const event = readEvent(value, this.spaceId)
      if (event?.threadId !== undefined && event.speakerId === this.#actor?.actorId)
        this.#threads.add(event.threadId)
    }
    this.#history.seed(this.#past(past.value))
    return yes(undefined)
  }

  /** Of the latest events those that are no news. */
  #past(latest: readonly unknown[]): readonly unknown[] {
    const { newsSince } = this.#options
    if (newsSince === undefined) return latest
    const past = latest.filter((event) => (timeOf(event) ?? 0) < newsSince)
    // A full page of news and nothing older: without a place to begin, begin with the page.
    return past.length === 0 && latest.length >= 200 ? latest.slice(0, 1) : past
  }

  /** `anew`: it is news whether or not there was one like it. */
  async #event(value: unknown, anew = false): Promise<void> {
    const event = readEvent(value, this.spaceId)
    const actor = this.#actor
    if (event === undefined || actor === undefined) {
      const what = `a context_event of space ${this.spaceId}`
      this.#options.report({ kind: 'dropped', what, why: 'its data is no object' })
      return
    }
    if (this.#history.knows(value) && !anew) return
    const { firehose, voice } = this.#options
    const { actorId, displayName } = actor
    const why = relevance(event, { actorId, displayName, threads: this.#threads, firehose })
    if (why === 'own') {
      if (event.threadId !== undefined) this.#threads.add(event.threadId)
    } else if (why !== undefined) {
      await this.#options.push(eventDraft(event, why, { ...voice, displayName }))
    }
    this.#history.remember(value)
  }

  async #statusFrame(data: unknown): Promise<void> {
    const status = isRecord(data) ? text(data.status) : undefined
    if (!isRecord(data) || status === undefined || this.#isElsewhere('a status', data)) return
    const eventId = text(data.event_id)
    const speaker = text(data.speaker_id)
    await this.#noticeStatus(status, {
      ...(eventId === undefined ? {} : { eventId }),
      ...(speaker === undefined ? {} : { speaker }),
    })
  }

  /** Does it name another space? Then it is dropped. */
  #isElsewhere(what: string, data: unknown): boolean {
    const named = isRecord(data) ? text(data.space_id) : undefined
    if (named === undefined || named === this.spaceId) return false
    this.#options.report({
      kind: 'dropped',
      what: `${what} of space ${JSON.stringify(named.slice(0, 200))}`,
      why: `it came on the stream of space ${this.spaceId}`,
    })
    return true
  }

  /** The shipped adapter does not look at the answer to its join: who may not listen is told by the socket. */
  #noteJoin(refusal: Refusal): void {
    if (this.#joinNoted) return
    this.#joinNoted = true
    const text = `space ${this.spaceId} is followed all the same: ${refusal.error.message}`
    this.#options.report({ kind: 'note', level: 'warn', text })
  }

  #note(refusal: Refusal): void {
    const text = `the past of space ${this.spaceId} is not to be had (${refusal.error.message}); breaks can't be filled`
    this.#options.report({ kind: 'note', level: 'warn', text })
  }
}

/** With neither id nor time two events of the same words look like one: rather told twice than not. */
function isNameless(event: unknown): boolean {
  return idOf(event) === '' && timeOf(event) === undefined
}

/** Reads a frame; undefined when it is no JSON object with a `type`. */
export function readFrame(frameText: string): Frame | undefined {
  let value: unknown
  try {
    value = JSON.parse(frameText)
  } catch {
    return undefined
  }
  if (!isRecord(value) || typeof value.type !== 'string') return undefined
  const inner = isRecord(value.data) ? text(value.data.space_id) : undefined
  return { type: value.type, data: value.data, spaceId: text(value.space_id) ?? inner }
}

/**
 * One space: what was missed, what comes in, which of it the agent is told.
 *
 * Knows no sockets: frames are handed in, in order. The one rule: an event counts as dealt with only after the
 * client has taken it, so whatever breaks before that is fetched again.
 */

import type { ChannelDraft } from '../channel/notification.ts'
import { Backoff, limit, sleep } from '../retry.ts'
import type { Status } from '../status.ts'
import { type Actor, type Backend, type EventQuery, timeOf } from './backend.ts'
import type { FeedConfig } from './config.ts'
import { isRecord, readEvent, relevance, text } from './filter.ts'
import { type FetchPage, FORGOTTEN, History, idOf } from './history.ts'
import { Patience } from './patience.ts'
import { isAbsent, isDeclined, no, type Refusal, type Reply, yes } from './refusal.ts'
import { eventDraft, firstOf, statusDraft } from './texts.ts'

export interface SpaceOptions {
  readonly spaceId: string
  /** False for a space the agent is known to take part in. */
  readonly join: boolean
  /**
   * For a space that appeared while we were looking: what was said since this moment (ms, the server's clock)
   * is news, not past. Whoever invites an agent speaks to it at once.
   */
  readonly newsSince?: number | undefined
  /** Is this the id of another space we have met? An unknown one may be what the backend calls this space. */
  readonly isAnother: (spaceId: string) => boolean
  readonly backend: Backend
  readonly identity: (signal: AbortSignal) => Promise<Reply<Actor>>
  readonly push: (draft: ChannelDraft) => Promise<void>
  readonly report: (status: Status) => void
  readonly config: FeedConfig
}

/** A parsed frame of the server. */
export interface Frame {
  readonly type: string
  readonly data: unknown
  readonly spaceId: string | undefined
}

/** A status is nice to have: nothing waits longer for it. */
const STATUS_MS = 2_000
/** So long after it was stored an event may still come over the socket. */
const ON_ITS_WAY_MS = 10_000
/** Events kept that may turn out to concern the agent; beyond, they don't. */
const MAX_UNSURE = 1_000

export class Space {
  readonly spaceId: string
  readonly #options: SpaceOptions
  readonly #history = new History()
  readonly #patience: Patience
  readonly #threads = new Set<string>()
  #actor: Actor | undefined
  #joined = false
  /** Why it could not be joined. */
  #unjoined: Refusal | undefined
  #joinNoted = false
  /** The past was asked for as long as anybody would wait: had, or not. */
  #begun = false
  /** Why there is no past to continue from. */
  #pastless: Refusal | undefined
  /** What was missed is still to be had, beside the frames. */
  #owed = false
  /** Words in threads that came meanwhile: whether the agent took part in those is not known yet. */
  #unsure: unknown[] = []
  #connections = 0
  #wasUp = false
  #status: string | undefined
  /** Counts what was heard of the status: an answer older than that is no news. */
  #statusHeard = 0
  /** The event before is dealt with. */
  #told: Promise<void> = Promise.resolve()

  constructor(options: SpaceOptions) {
    this.spaceId = options.spaceId
    this.#options = options
    this.#patience = new Patience(options.spaceId, options.backend, options.config)
  }

  /** Identity, join, and the past to continue from; each only until it has succeeded. */
  async prepare(signal: AbortSignal): Promise<Reply<unknown>> {
    const { backend, identity, join } = this.#options
    const actor = await identity(signal)
    if (!actor.ok) return actor
    this.#actor = actor.value
    if (join && !this.#joined) {
      const joined = await backend.join(this.spaceId, actor.value, signal)
      if (!joined.ok && !isDeclined(joined.no)) return joined
      this.#joined = joined.ok
      this.#unjoined = joined.ok ? undefined : joined.no
    }
    if (!this.#begun) {
      const begun = await this.#begin(signal)
      if (!begun.ok || signal.aborted) return begun
      this.#begun = true
      await this.checkStatus(signal)
    }
    this.#noteJoin()
    return yes(undefined)
  }

  /**
   * Gives what was missed. `up` is called once it is known whether the gap closes, before the first event is
   * given. A refusal means: could not be told, try again on a new connection.
   */
  async catchUp(
    up: (continuous: boolean, why?: string) => void,
    signal: AbortSignal,
  ): Promise<Reply<unknown>> {
    const wasUp = this.#wasUp
    this.#connections++
    const live = (continuous: boolean, why?: string): void => {
      this.#wasUp = true
      up(continuous, why)
    }
    if (!this.#history.placed) {
      // At the start nothing was missed yet; without a history to come, all is told as it is heard.
      if (!wasUp && this.#owed) live(true)
      else live(false, this.#pastless?.error.message)
      return yes(undefined)
    }
    const caught = await this.#tellMissed(live, (query) => this.#patience.page(query, signal), signal)
    if (caught.ok && this.#pastless === undefined && !signal.aborted) await this.#settled()
    if (signal.aborted || caught.ok || !this.#patience.tiresOf(caught.no)) return caught
    live(false, caught.no.error.message)
    this.#history.hold()
    this.#owed = true
    return yes(undefined)
  }

  /** Beside the frames of a connection that caught up: the status, and the history if it could not be had yet. */
  async settle(signal: AbortSignal): Promise<void> {
    const { backend, config } = this.#options
    await this.checkStatus(signal)
    const backoff = new Backoff(config.backoff, config.random)
    const fetch = (query: EventQuery): ReturnType<FetchPage> => backend.events(this.spaceId, query, signal)
    while (this.#owed && !signal.aborted) {
      await sleep(backoff.slow(), signal)
      if (signal.aborted) return
      const past = this.#pastless === undefined ? yes(undefined) : await this.#readPast(fetch)
      // That something is missing was told when the connection came up.
      const caught = past.ok ? await this.#tellMissed(() => undefined, fetch, signal) : past
      if (signal.aborted) return
      if (caught.ok || isDeclined(caught.no)) await this.#settled()
      if (!caught.ok) continue
      const text = `the history of space ${this.spaceId} is there again; what was missed has been fetched`
      this.#options.report({ kind: 'note', level: 'info', text })
    }
  }

  /** The history is there, or will never be: what waited for it is looked at again. */
  async #settled(): Promise<void> {
    this.#owed = false
    for (const event of this.#unsure.splice(0)) await this.#event(event)
  }

  /** One frame that concerns this space. */
  async frame(frame: Frame): Promise<void> {
    switch (frame.type) {
      case 'context_event':
        return this.#isElsewhere('an event', frame.data, this.#options.isAnother)
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
    await this.#options.push(statusDraft(change, this.#options.config.wording))
  }

  async #tellMissed(
    up: (continuous: boolean, why?: string) => void,
    fetch: FetchPage,
    signal: AbortSignal,
  ): Promise<Reply<unknown>> {
    let isUp = false
    for await (const page of this.#history.since(fetch)) {
      if (signal.aborted) return yes(undefined)
      if (!page.ok) {
        if (!isDeclined(page.no) || isUp) return page
        return this.#startOver((why) => up(false, why), page.no, fetch, signal)
      }
      const { missing, events } = page.value
      if (!isUp || missing !== undefined) up(missing === undefined, missing)
      isUp = true
      for (const event of events) {
        if (this.#isOld(event)) this.#takeAsPast(event)
        else await this.#event(event)
        if (signal.aborted) return yes(undefined)
      }
    }
    this.#patience.restore()
    return yes(undefined)
  }

  /** The backend does not know where we were: what it has that we do not know is given, and from there we go on. */
  async #startOver(
    up: (why: string) => void,
    because: Refusal,
    fetch: FetchPage,
    signal: AbortSignal,
  ): Promise<Reply<unknown>> {
    const now = await fetch({ limit: 200 })
    if (!now.ok && !isDeclined(now.no)) return now
    const { message } = because.error
    up(now.ok ? `${FORGOTTEN}: ${message}` : message)
    if (!now.ok) {
      this.#history.hold()
      return yes(undefined)
    }
    for (const event of now.value) {
      if (signal.aborted) return yes(undefined)
      await this.#event(event)
    }
    this.#history.restart(now.value)
    this.#patience.restore()
    return yes(undefined)
  }

  /** The past, if it is to be had in time: what is said now is worth more. */
  async #begin(signal: AbortSignal): Promise<Reply<unknown>> {
    const past = await this.#readPast((query) => this.#patience.page(query, signal))
    if (past.ok || signal.aborted) return past
    const declined = isDeclined(past.no)
    const noSpace = isAbsent(this.#unjoined?.status) && isAbsent(past.no.status)
    if (this.#unjoined !== undefined && noSpace) return no(this.#unjoined)
    if (!declined && !this.#patience.tiresOf(past.no)) return past
    this.#pastless = past.no
    this.#owed = !declined
    const { message } = past.no.error
    const what = declined ? "is not to be had (%); breaks can't be filled" : 'is not to be had yet (%)'
    const text = `the past of space ${this.spaceId} ${what.replace('%', () => message)}`
    this.#options.report({ kind: 'note', level: 'warn', text })
    return yes(undefined)
  }

  async #readPast(fetch: FetchPage): Promise<Reply<unknown>> {
    const past = await fetch({ limit: 200 })
    if (!past.ok) return past
    for (const event of past.value) this.#noteThread(event)
    const known = this.#past(past.value)
    if (this.#pastless === undefined) {
      this.#history.seed(known)
    } else {
      // Late, the end of it may be on its way to us; what was missed in a break may be in all of it.
      const latest = timeOf(known.at(-1)) ?? 0
      if (this.#connections < 2) {
        this.#history.pass(known.filter((event) => (timeOf(event) ?? latest) < latest - ON_ITS_WAY_MS))
      }
      if (!this.#history.placed || this.#options.newsSince !== undefined) {
        this.#history.restart(known.slice(-1))
      }
    }
    this.#pastless = undefined
    this.#patience.restore()
    return past
  }

  /** Of the latest events those that are no news. */
  #past(latest: readonly unknown[]): readonly unknown[] {
    const { newsSince } = this.#options
    if (newsSince === undefined) return latest
    const past = latest.filter((event) => (timeOf(event) ?? 0) < newsSince)
    // A full page of news and nothing older: without a place to begin, begin with the page.
    return past.length === 0 && latest.length >= 200 ? latest.slice(0, 1) : past
  }

  /** Was it said before this space appeared? The latest events seldom reach back so far. */
  #isOld(event: unknown): boolean {
    const { newsSince = 0 } = this.#options
    return (timeOf(event) ?? newsSince) < newsSince
  }

  #takeAsPast(value: unknown): void {
    this.#noteThread(value)
    this.#history.remember(value)
  }

  /** An own word in a thread: what follows there concerns us. */
  #noteThread(value: unknown): void {
    const event = readEvent(value, this.spaceId)
    if (event?.threadId !== undefined && event.speakerId === this.#actor?.actorId)
      this.#threads.add(event.threadId)
  }

  /** One after the other. `anew`: it is news whether or not there was one like it. */
  #event(value: unknown, anew = false): Promise<void> {
    const told = this.#told.then(() => this.#tell(value, anew))
    this.#told = told.catch(() => undefined)
    return told
  }

  async #tell(value: unknown, anew: boolean): Promise<void> {
    const event = readEvent(value, this.spaceId)
    const actor = this.#actor
    if (event === undefined || actor === undefined) {
      const what = `a context_event of space ${this.spaceId}`
      this.#options.report({ kind: 'dropped', what, why: 'its data is no object' })
      return
    }
    if (this.#history.knows(value) && !anew) return
    const { firehose, wording, maxText } = this.#options.config
    const { actorId, displayName } = actor
    const why = relevance(event, { actorId, displayName, threads: this.#threads, firehose })
    if (why === 'own') {
      if (event.threadId !== undefined) this.#threads.add(event.threadId)
    } else if (why === undefined && event.threadId !== undefined && this.#owed && !anew) {
      if (this.#unsure.length < MAX_UNSURE) this.#unsure.push(value)
      return
    } else if (why !== undefined) {
      await this.#options.push(eventDraft(event, why, { wording, maxText, displayName }))
    }
    this.#history.remember(value)
  }

  async #statusFrame(data: unknown): Promise<void> {
    const status = isRecord(data) ? text(data.status) : undefined
    if (!isRecord(data) || status === undefined || this.#isElsewhere('a status', data, () => true)) return
    const eventId = text(data.event_id)
    const speaker = text(data.speaker_id)
    await this.#noticeStatus(status, {
      ...(eventId === undefined ? {} : { eventId }),
      ...(speaker === undefined ? {} : { speaker }),
    })
  }

  /** Does it name another space? Then it is dropped: who wants to hear of that listens there. */
  #isElsewhere(what: string, data: unknown, isAnother: (spaceId: string) => boolean): boolean {
    const named = isRecord(data) ? text(data.space_id) : undefined
    if (named === undefined || named === this.spaceId || !isAnother(named)) return false
    this.#options.report({
      kind: 'dropped',
      what: `${what} of space ${JSON.stringify(firstOf(named, 200))}`,
      why: `it came on the stream of space ${this.spaceId}`,
    })
    return true
  }

  /** The shipped adapter does not look at the answer to its join: who may not listen is told by the socket. */
  #noteJoin(): void {
    if (this.#unjoined === undefined || this.#joinNoted) return
    this.#joinNoted = true
    const text = `space ${this.spaceId} is followed all the same: ${this.#unjoined.error.message}`
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

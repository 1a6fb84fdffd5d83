/**
 * One space: what comes in of it, which of that the agent is told, and its status.
 *
 * Knows no sockets: frames are handed in, in order; what was missed is had from past.ts. The one rule: an event
 * counts as dealt with only after the client has taken it, so whatever breaks before that is fetched again.
 */

import type { ChannelDraft } from '../channel/notification.ts'
import { seconds } from '../errors.ts'
import { Backoff, limit, sleep } from '../retry.ts'
import type { Status } from '../status.ts'
import { type Actor, type Backend, timeOf } from './backend.ts'
import type { FeedConfig } from './config.ts'
import { isRecord, readEvent, relevance, text } from './filter.ts'
import { idOf } from './history.ts'
import { Past, type Up } from './past.ts'
import { MAX_TRIES } from './patience.ts'
import { isDeclined, no, type Refusal, type Reply, refusedBy, yes } from './refusal.ts'
import { eventDraft, startOf, statusDraft } from './texts.ts'

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
  readonly identity: () => Promise<Reply<Actor>>
  readonly push: (draft: ChannelDraft) => Promise<void>
  readonly report: (status: Status) => void
  readonly config: FeedConfig
}

/** A parsed frame of the server. */
export interface Frame {
  readonly type: string
  readonly data: unknown
  readonly spaceId: string | undefined
  /** All of it. */
  readonly whole: Readonly<Record<string, unknown>>
}

/** A status is nice to have: nothing waits longer for it. */
const STATUS_MS = 2_000

export class Space {
  readonly spaceId: string
  readonly #options: SpaceOptions
  readonly #past: Past
  readonly #threads = new Set<string>()
  #actor: Actor | undefined
  #joins: boolean
  /** Each attempt begins with a join, until that has succeeded, or there is a connection without. */
  #isToJoin: boolean
  /** Why it could not be joined. */
  #unjoined: Refusal | undefined
  #joinNoted = false
  #joinTries = 0
  /** The past was asked for as long as anybody would wait: had, or not. */
  #begun = false
  #status: string | undefined
  /** Counts what was said of the status, and how often it was asked for: an answer older than another word is no news. */
  #statusesSaid = 0
  #statusesAsked = 0
  #lastAnswered = 0
  /** The event before is dealt with. */
  #told: Promise<void> = Promise.resolve()

  constructor(options: SpaceOptions) {
    this.spaceId = options.spaceId
    this.#options = options
    this.#joins = options.join
    this.#isToJoin = options.join
    this.#past = new Past({
      ...options,
      tell: (event) => this.#event(event),
      note: (event) => this.#noteThread(event),
    })
  }

  /** The agent asks for it once more: it may have been put out of it. */
  joinAgain(): void {
    this.#joins = true
    this.#isToJoin = true
    this.#joinTries = 0
  }

  /** It is to join, and that has not failed since it was asked for. */
  get hasYetToJoin(): boolean {
    return this.#isToJoin && this.#joinTries === 0
  }

  /** A connection follows it: there is nothing to join. */
  entered(): void {
    this.#isToJoin = false
  }

  /** Identity, join, and the past to continue from; each only until it has succeeded. */
  async prepare(signal: AbortSignal): Promise<Reply<unknown>> {
    const actor = await this.#options.identity()
    if (!actor.ok) return actor
    if (actor.value.actorId !== this.#actor?.actorId) {
      this.#isToJoin = this.#joins
      this.#threads.clear()
    }
    this.#actor = actor.value
    if (this.#isToJoin) {
      const joined = await this.#join(actor.value, signal)
      if (!joined.ok && !this.#goesOnWithout(joined.no)) return joined
    }
    if (!this.#begun) {
      const begun = await this.#past.begin(this.#unjoined, signal)
      if (!begun.ok || signal.aborted) return begun
      this.#begun = true
      await this.checkStatus(signal)
    }
    this.#noteJoin()
    return yes(undefined)
  }

  /** Gives what was missed: see `Past`. */
  catchUp(up: Up, signal: AbortSignal): Promise<Reply<unknown>> {
    return this.#past.catchUp(up, signal)
  }

  /** Beside the frames of a connection that caught up: the status, and what could not be had yet: history, join. */
  async settle(signal: AbortSignal): Promise<void> {
    await this.checkStatus(signal)
    await Promise.all([this.#past.settle(signal), this.#joinLate(signal)])
  }

  /** It was refused; perhaps because it is not active any more: the agent is told if so. */
  async refused(refusal: Refusal, signal: AbortSignal): Promise<void> {
    if (isDeclined(refusal) || refusal.status === 403) await this.checkStatus(signal)
  }

  async #join(actor: Actor, signal: AbortSignal): Promise<Reply<unknown>> {
    const { backend, config } = this.#options
    // (The socket, too, is to be asked for within the time of a tool.)
    const toolMs = this.#begun ? config.limits.toolMs / 2 : config.limits.toolMs
    const soon = limit(toolMs, signal)
    const joined = await backend.join(this.spaceId, actor, soon.signal).finally(soon.clear)
    if (joined.ok) this.#isToJoin = false
    this.#unjoined = joined.ok ? undefined : joined.no
    if (joined.ok || !soon.signal.aborted || signal.aborted) return joined
    this.#joinTries = MAX_TRIES
    const how = `no answer within ${seconds(toolMs)}`
    this.#unjoined = refusedBy(504, `join space ${this.spaceId}`, { how })
    return no(this.#unjoined)
  }

  /** A join that is declined, fails each time, or is not the first is no reason to be deaf: the socket tells who may not listen. */
  #goesOnWithout(refusal: Refusal): boolean {
    this.#joinTries++
    return this.#begun || isDeclined(refusal) || (isBusy(refusal) && this.#joinTries >= MAX_TRIES)
  }

  /** What failed without being declined is tried on. */
  async #joinLate(signal: AbortSignal): Promise<void> {
    const { backoff: options, random } = this.#options.config
    const backoff = new Backoff(options, random)
    while (this.#actor !== undefined && this.#unjoined !== undefined && isBusy(this.#unjoined)) {
      await sleep(backoff.slow(), signal)
      if (signal.aborted) return
      await this.#join(this.#actor, signal)
    }
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

  /** As far as is known. */
  get status(): string | undefined {
    return this.#status
  }

  /** Asks for the space's status, where the backend tells it in time, and tells the agent when it changed. */
  async checkStatus(...signals: readonly AbortSignal[]): Promise<void> {
    const answered = this.statusAsked()
    const soon = limit(STATUS_MS, ...signals)
    const status = await this.#options.backend.status(this.spaceId, soon.signal).finally(soon.clear)
    if (signals.some(({ aborted }) => aborted)) return
    if (status.ok && status.value !== undefined) await answered(status.value)
  }

  /** The backend is being asked: gives what to do with its answer. */
  statusAsked(): (status: string) => Promise<void> {
    const said = this.#statusesSaid
    const asked = ++this.#statusesAsked
    return async (status) => {
      if (said !== this.#statusesSaid || asked < this.#lastAnswered) return
      this.#lastAnswered = asked
      await this.#noticeStatus(status)
    }
  }

  /** The space has this status now. The first one ever seen is no change. */
  async #noticeStatus(status: string, from: { eventId?: string; speaker?: string } = {}): Promise<void> {
    const before = this.#status
    if (before === status) return
    this.#status = status
    if (before === undefined && status === 'active') return
    const known = before === undefined ? {} : { before }
    const change = { spaceId: this.spaceId, status, ...known, ...from }
    await this.#options.push(statusDraft(change, this.#options.config.wording))
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
    if (this.#past.knows(value) && !anew) return
    const { firehose, wording, maxText } = this.#options.config
    const { actorId, displayName } = actor
    const why = relevance(event, { actorId, displayName, threads: this.#threads, firehose })
    if (why === 'own') {
      if (event.threadId !== undefined) this.#threads.add(event.threadId)
    } else if (why === undefined && event.threadId !== undefined && !anew && this.#past.postpones(value)) {
      return
    } else if (why !== undefined) {
      await this.#options.push(eventDraft(event, why, { wording, maxText, displayName }))
    }
    this.#past.remember(value)
  }

  async #statusFrame(data: unknown): Promise<void> {
    const status = isRecord(data) ? text(data.status) : undefined
    if (!isRecord(data) || status === undefined || this.#isElsewhere('a status', data, () => true)) return
    this.#statusesSaid++
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
      what: `${what} of space ${JSON.stringify(startOf(named, 200))}`,
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

/** The backend is there, and fails. */
function isBusy({ error }: Refusal): boolean {
  return error.code === 'SERVER_BUSY'
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
  return { type: value.type, data: value.data, spaceId: text(value.space_id) ?? inner, whole: value }
}

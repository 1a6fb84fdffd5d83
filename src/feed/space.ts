/**
 * One space: what comes in of it, and which of that the agent is told.
 *
 * Knows no sockets: frames are handed in, in order. Not what was missed (past.ts), its status (space-status.ts) and
 * how it is joined (joining.ts).
 * The one rule: an event counts as dealt with only after the client has taken it, so whatever breaks before that is
 * fetched again.
 */
import type { ChannelDraft } from '../channel/notification.ts'
import type { Status } from '../status.ts'
import { type Actor, type Backend, timeOf } from './backend.ts'
import type { FeedConfig } from './config.ts'
import { isRecord, readEvent, relevance, text } from './filter.ts'
import type { Frame } from './frame.ts'
import { idOf } from './history.ts'
import { Joining } from './joining.ts'
import { Past, type Up } from './past.ts'
import { isDeclined, type Refusal, type Reply, yes } from './refusal.ts'
import { SpaceStatus } from './space-status.ts'
import { eventDraft, startOf } from './texts.ts'

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

export class Space {
  readonly spaceId: string
  readonly #options: SpaceOptions
  readonly joining: Joining
  readonly status: SpaceStatus
  readonly #past: Past
  readonly #threads = new Set<string>()
  #actor: Actor | undefined
  /** The past was asked for as long as anybody would wait: had, or not. */
  #begun = false
  /** The event before is dealt with. */
  #told: Promise<void> = Promise.resolve()

  constructor(options: SpaceOptions) {
    this.spaceId = options.spaceId
    this.#options = options
    this.joining = new Joining(options)
    this.status = new SpaceStatus(options)
    this.#past = new Past({
      ...options,
      tell: (event) => this.#event(event),
      note: (event) => this.#noteThread(event),
    })
  }

  /** Identity, join, and the past to continue from; each only until it has succeeded. */
  async prepare(signal: AbortSignal): Promise<Reply<unknown>> {
    const actor = await this.#options.identity()
    if (!actor.ok) return actor
    if (actor.value.actorId !== this.#actor?.actorId) {
      this.joining.restart()
      this.#threads.clear()
    }
    this.#actor = actor.value
    const joined = await this.joining.join(actor.value, !this.#begun, signal)
    if (!joined.ok) return joined
    if (!this.#begun) {
      const begun = await this.#past.begin(this.joining.refusal, signal)
      if (!begun.ok || signal.aborted) return begun
      this.#begun = true
      await this.status.check(signal)
    }
    this.joining.tell()
    return yes(undefined)
  }

  /** Gives what was missed: see `Past`. */
  catchUp(up: Up, signal: AbortSignal): Promise<Reply<unknown>> {
    return this.#past.catchUp(up, signal)
  }

  /** Beside the frames of a connection that caught up: the status, and what could not be had yet: history, join. */
  async settle(signal: AbortSignal): Promise<void> {
    await this.status.check(signal)
    const joined = this.#actor === undefined ? undefined : this.joining.joinLate(this.#actor, signal)
    await Promise.all([this.#past.settle(signal), joined])
  }

  /** It was refused; perhaps because it is not active any more: the agent is told if so. */
  async refused(refusal: Refusal, signal: AbortSignal): Promise<void> {
    if (isDeclined(refusal) || refusal.status === 403) await this.status.check(signal)
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
    const eventId = text(data.event_id)
    const speaker = text(data.speaker_id)
    await this.status.said(status, {
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
}

/** With neither id nor time two events of the same words look like one: rather told twice than not. */
function isNameless(event: unknown): boolean {
  return idOf(event) === '' && timeOf(event) === undefined
}

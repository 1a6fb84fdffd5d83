/**
 * What a moot backend knows: actors, spaces, participants, events, threads, decisions.
 *
 * No HTTP and no sockets; whoever wants to hear of new events listens. It outlives a "restart" of the backend.
 * The one rule: an event is stored before anybody hears of it, and never changes.
 *
 * Shapes and id prefixes are those of the public client's models; states of a decision go one way.
 */
import { randomBytes } from 'node:crypto'

export type SpaceStatus = 'active' | 'paused' | 'archived'
export const SPACE_STATUSES: readonly SpaceStatus[] = ['active', 'paused', 'archived']

export interface MootActor {
  readonly actor_id: string
  readonly display_name: string
  readonly actor_type: 'agent' | 'human'
  readonly api_key: string
}

export interface MootEvent {
  readonly event_id: string
  readonly space_id: string
  readonly speaker_id: string
  readonly speaker_name: string
  readonly speaker_type: string
  readonly text: string
  readonly timestamp: string
  readonly parent_event_id: string | null
  readonly references: readonly string[]
  readonly thread_id: string | null
  readonly metadata: Readonly<Record<string, unknown>> | null
}

export interface MootDecision {
  readonly decision_id: string
  readonly space_id: string
  readonly text: string
  readonly proposed_by: string
  readonly status: 'proposed' | 'resolved' | 'rejected'
  readonly resolution: string | null
}

export interface Participant {
  readonly participant_id: string
  readonly name: string
  readonly participant_type: string
  readonly agent_adapter: string | null
  readonly joined_at: string
}

export interface MootSpace {
  readonly space_id: string
  readonly description: string
  status: SpaceStatus
  readonly started_at: string
  readonly participants: Map<string, Participant>
  events: MootEvent[]
  readonly decisions: MootDecision[]
}

/** What somebody says. */
export interface Saying {
  readonly speaker: string
  readonly text: string
  readonly mentions?: readonly string[] | undefined
  readonly message_type?: string | undefined
  readonly thread_id?: string | undefined
  readonly parent_event_id?: string | undefined
  readonly references?: readonly string[] | undefined
}

export interface StoreListener {
  said(event: MootEvent): void
  statusChanged(space: MootSpace): void
}

export class MootStore {
  readonly actors = new Map<string, MootActor>()
  readonly spaces = new Map<string, MootSpace>()
  readonly #listener: StoreListener
  #lastTime = 0

  constructor(listener: StoreListener) {
    this.#listener = listener
  }

  addActor(actor: Partial<MootActor> & { readonly display_name: string }): MootActor {
    const type = actor.actor_type ?? 'agent'
    const added: MootActor = {
      actor_id: actor.actor_id ?? mootId(type === 'agent' ? 'agt' : 'usr'),
      display_name: actor.display_name,
      actor_type: type,
      api_key: actor.api_key ?? `convo_${randomBytes(18).toString('base64url')}`,
    }
    this.actors.set(added.actor_id, added)
    return added
  }

  actorOf(apiKey: string | undefined): MootActor | undefined {
    return [...this.actors.values()].find((actor) => actor.api_key === apiKey)
  }

  addSpace(spaceId: string, description = '', status: SpaceStatus = 'active'): MootSpace {
    const space: MootSpace = {
      space_id: spaceId,
      description,
      status,
      started_at: new Date().toISOString(),
      participants: new Map(),
      events: [],
      decisions: [],
    }
    this.spaces.set(spaceId, space)
    return space
  }

  /** Idempotent. The identity is the actor's, whatever the body of the request claims. */
  join(space: MootSpace, actor: MootActor, adapter: string | null): Participant {
    const known = space.participants.get(actor.actor_id)
    const participant: Participant = known ?? {
      participant_id: actor.actor_id,
      name: actor.display_name,
      participant_type: actor.actor_type,
      agent_adapter: adapter,
      joined_at: new Date().toISOString(),
    }
    space.participants.set(actor.actor_id, participant)
    return participant
  }

  /** Stores an event; `quietly`: nobody hears of it (a broadcast that got lost). */
  say(space: MootSpace, saying: Saying, quietly = false): MootEvent {
    const actor = this.actors.get(saying.speaker)
    const metadata = {
      ...(saying.mentions === undefined ? {} : { mentions: saying.mentions }),
      ...(saying.message_type === undefined ? {} : { message_type: saying.message_type }),
    }
    const event: MootEvent = {
      event_id: mootId('evt'),
      space_id: space.space_id,
      speaker_id: saying.speaker,
      speaker_name: actor?.display_name ?? saying.speaker,
      speaker_type: actor?.actor_type ?? 'human',
      text: saying.text,
      timestamp: this.#time(),
      parent_event_id: saying.parent_event_id ?? null,
      references: saying.references ?? [],
      thread_id: saying.thread_id ?? this.#threadOf(space, saying.parent_event_id),
      metadata: Object.keys(metadata).length === 0 ? null : metadata,
    }
    space.events.push(event)
    if (!quietly) this.#listener.said(event)
    return event
  }

  setStatus(space: MootSpace, status: SpaceStatus): void {
    if (space.status === status) return
    space.status = status
    this.#listener.statusChanged(space)
  }

  /** Also says it in the space, as `[DECISION proposed] …`. */
  propose(space: MootSpace, by: string, text: string): MootDecision {
    const decision: MootDecision = {
      decision_id: mootId('dec'),
      space_id: space.space_id,
      text,
      proposed_by: by,
      status: 'proposed',
      resolution: null,
    }
    space.decisions.push(decision)
    this.say(space, { speaker: by, text: `[DECISION proposed] ${text}`, message_type: 'decision' })
    return decision
  }

  /** Undefined when there is no such decision, or it is decided already. */
  decide(
    space: MootSpace,
    decisionId: string,
    by: string,
    resolution: string,
    status: 'resolved' | 'rejected',
  ): MootDecision | undefined {
    const at = space.decisions.findIndex(({ decision_id }) => decision_id === decisionId)
    const proposed = space.decisions[at]
    if (proposed === undefined || proposed.status !== 'proposed') return undefined
    const decided: MootDecision = { ...proposed, status, resolution }
    space.decisions[at] = decided
    const text = `[DECISION ${status}] ${proposed.text}: ${resolution}`
    this.say(space, { speaker: by, text, message_type: 'decision' })
    return decided
  }

  /** A thread for `eventId`: the one it is in, or a new one. */
  thread(space: MootSpace, eventId: string): string | undefined {
    const at = space.events.findIndex(({ event_id }) => event_id === eventId)
    const event = space.events[at]
    if (event === undefined) return undefined
    if (event.thread_id !== null) return event.thread_id
    const threadId = mootId('thr')
    space.events[at] = { ...event, thread_id: threadId }
    return threadId
  }

  #threadOf(space: MootSpace, parentId: string | undefined): string | null {
    if (parentId === undefined) return null
    return space.events.find(({ event_id }) => event_id === parentId)?.thread_id ?? null
  }

  /** Strictly growing, so that the order of events is that of their times. */
  #time(): string {
    this.#lastTime = Math.max(Date.now(), this.#lastTime + 1)
    return new Date(this.#lastTime).toISOString()
  }
}

const CROCKFORD = '0123456789abcdefghjkmnpqrstvwxyz'

/** `prefix_` and a random 63-bit number in lowercase Crockford base32. */
export function mootId(prefix: string): string {
  let number = randomBytes(8).readBigUInt64BE() >> 1n
  let text = ''
  for (let i = 0; i < 13; i++) {
    text = `${CROCKFORD[Number(number & 31n)]}${text}`
    number >>= 5n
  }
  return `${prefix}_${text}`
}

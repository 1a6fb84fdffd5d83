/**
 * One agent of the simulated account: its key, inbox, conversations and calls.
 *
 * Not a connection: sessions and streams come and go, an agent stays. The one rule: an event goes to the agent
 * that owns the account it came in on, and to no other.
 */
import { ASSUMED, EVENT_TYPES } from './assumptions.ts'
import { Calls } from './calls.ts'
import { Conversations } from './conversations.ts'
import type { Draft, InboxEvent } from './events.ts'
import { Inbox } from './inbox.ts'
import type { Journal } from './journal.ts'

/** An event on its way: what it became, and the sessions whose streams took it. */
export interface Published {
  readonly event: InboxEvent
  readonly routes: readonly string[]
}

/** Which event a tool call answers, and how long after it. */
export interface Answered {
  readonly answers: string
  readonly afterMs: number
}

export interface AgentOptions {
  readonly name: string
  readonly key: string
  /** Goes into event ids, so that no two agents share one. */
  readonly prefix: string
  readonly journal: Journal
  /** How many times faster than the wall clock calls and WhatsApp's window run. */
  readonly speed: number
  /** Hosted speech: without it the agent brings its own audio, and nothing is transcribed or spoken here. */
  readonly hostedVoice: boolean
}

/** Events an agent answers; the others only inform. */
const ASKS: ReadonlySet<string> = new Set([EVENT_TYPES.dm, EVENT_TYPES.callInvite, EVENT_TYPES.transcript])

const KEEPS_UNANSWERED = 500

export class Agent {
  readonly name: string
  readonly key: string
  readonly hostedVoice: boolean
  readonly inbox: Inbox
  readonly conversations: Conversations
  readonly calls: Calls
  readonly #journal: Journal
  /** Latest unanswered event by what it is about: a conversation or a call. */
  readonly #unanswered = new Map<string, InboxEvent>()

  constructor(options: AgentOptions) {
    this.name = options.name
    this.key = options.key
    this.hostedVoice = options.hostedVoice
    this.#journal = options.journal
    this.inbox = new Inbox(options.prefix)
    this.conversations = new Conversations(ASSUMED.whatsappWindowMs / options.speed)
    this.calls = new Calls({
      publish: (draft) => this.publish(draft),
      record: (callId, state) => options.journal.record({ kind: 'call', agent: this.name, callId, state }),
      speed: options.speed,
    })
  }

  /** Into the inbox, and to every live stream of this agent. */
  publish(draft: Draft): Published {
    const published = this.inbox.append(draft)
    const { event, routes } = published
    const about = event.meta.conversation_id ?? event.meta.call_id
    if (about !== undefined && ASKS.has(event.type)) this.#ask(about, event)
    this.#journal.record({ kind: 'event', agent: this.name, event, routes })
    return published
  }

  #ask(about: string, event: InboxEvent): void {
    // Set anew, the newest stand last; the oldest is forgotten when there are too many.
    this.#unanswered.delete(about)
    this.#unanswered.set(about, event)
    const [oldest] = this.#unanswered.keys()
    if (this.#unanswered.size > KEEPS_UNANSWERED && oldest !== undefined) this.#unanswered.delete(oldest)
  }

  /** A tool call spoke to `about`: which event does it answer? Each is answered once. */
  answered(about: string): Answered | undefined {
    const event = this.#unanswered.get(about)
    if (event === undefined) return undefined
    this.#unanswered.delete(about)
    return { answers: event.id, afterMs: Date.now() - event.at }
  }
}

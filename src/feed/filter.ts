/**
 * Which event matters to this agent, and why. Pure.
 *
 * Not the wording (texts.ts), not the bookkeeping (space.ts). The one rule: the first reason that holds is the
 * reason; what a server leaves out of an event never makes it throw.
 *
 * The order is that of the shipped adapter: own, mention by id, mention by name, thread, decision, firehose.
 */

/** An event of a space, read from `context_event.data` or from `GET /api/spaces/{id}/events`. */
export interface SpaceEvent {
  /** Empty when the server sent none. */
  readonly eventId: string
  readonly spaceId: string
  readonly speakerId: string
  readonly speakerName: string
  readonly speakerType: string
  readonly text: string
  readonly threadId: string | undefined
  readonly mentions: readonly string[]
  readonly messageType: string | undefined
}

/** Who listens. */
export interface Listener {
  readonly actorId: string
  readonly displayName: string
  /** Threads of this space the agent took part in. */
  readonly threads: ReadonlySet<string>
  /** Everything matters. */
  readonly firehose: boolean
}

export type Relevance = 'mention' | 'thread_reply' | 'decision' | 'firehose'

/** Why `event` matters to `listener`; `own` for the agent's own words, undefined when it does not matter. */
export function relevance(event: SpaceEvent, listener: Listener): Relevance | 'own' | undefined {
  if (event.speakerId === listener.actorId) return 'own'
  if (event.mentions.includes(listener.actorId)) return 'mention'
  if (namesIn(event.text, listener.displayName)) return 'mention'
  if (event.threadId !== undefined && listener.threads.has(event.threadId)) return 'thread_reply'
  if (event.text.startsWith('[DECISION') || event.messageType === 'decision') return 'decision'
  return listener.firehose ? 'firehose' : undefined
}

/** Does `text` hold `@name`, whatever the case? [mootup adapter] As a substring: `@Ann` is in `@Anna` too. */
export function namesIn(text: string, name: string): boolean {
  return name !== '' && text.toLowerCase().includes(`@${name}`.toLowerCase())
}

/** Reads an event as tolerantly as the shipped adapter; undefined when it is no object. */
export function readEvent(value: unknown, spaceId: string): SpaceEvent | undefined {
  if (!isRecord(value)) return undefined
  const metadata = isRecord(value.metadata) ? value.metadata : {}
  const mentions = Array.isArray(metadata.mentions) ? metadata.mentions : []
  return {
    eventId: text(value.event_id) ?? '',
    spaceId: text(value.space_id) ?? spaceId,
    speakerId: text(value.speaker_id) ?? '',
    speakerName: text(value.speaker_name) ?? '?',
    speakerType: text(value.speaker_type) ?? '?',
    text: text(value.text) ?? '',
    threadId: text(value.thread_id),
    mentions: mentions.flatMap((mention) => text(mention) ?? []),
    messageType: text(metadata.message_type),
  }
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A string or a number as text; anything else, and the empty string, is undefined. */
export function text(value: unknown): string | undefined {
  if (typeof value === 'string') return value === '' ? undefined : value
  return typeof value === 'number' ? String(value) : undefined
}

/**
 * What the agent reads: an event as a channel notification, in one of two wordings.
 *
 * `docs` is what the documentation shows, `source` what the shipped package 0.5.14 says. Where the documentation
 * shows no example, the package's words are used. The one rule: meta values are strings, and a long text ends
 * at a whole character with a pointer to where the rest is.
 */
import type { ChannelDraft } from '../channel/notification.ts'
import type { Relevance, SpaceEvent } from './filter.ts'

/** Whose words are used. */
export type Wording = 'docs' | 'source'

export interface Voice {
  readonly wording: Wording
  /** The agent's display name, for `docs`. */
  readonly displayName: string
  /** Texts longer than this many characters are cut. */
  readonly maxText: number
}

/** The shipped package cuts here. */
export const SOURCE_MAX_TEXT = 500
/** Long enough for most requests, short enough for an agent's context. */
export const DOCS_MAX_TEXT = 2_000
const POINTER = '... [truncated, use get_recent_context for full]'

/** The notification of an event that matters because of `why`. */
export function eventDraft(event: SpaceEvent, why: Relevance, voice: Voice): ChannelDraft {
  return {
    content: `${heading(event, why, voice)}\n${cut(event.text, voice.maxText)}`,
    meta: {
      source: sourceName(voice.wording),
      space_id: event.spaceId,
      event_type: why,
      event_id: event.eventId === '' ? undefined : event.eventId,
      speaker: event.speakerId === '' ? undefined : event.speakerId,
    },
  }
}

/** The notification of a change of a space's status (active, paused, archived). */
export function statusDraft(
  change: { spaceId: string; status: string; before?: string; eventId?: string; speaker?: string },
  wording: Wording,
): ChannelDraft {
  const before = change.before === undefined ? '' : ` (was ${change.before})`
  return {
    content: `Space ${change.spaceId} is now ${change.status}${before}`,
    meta: {
      source: sourceName(wording),
      space_id: change.spaceId,
      event_type: 'status_change',
      event_id: change.eventId,
      speaker: change.speaker,
      status: change.status,
    },
  }
}

/** The notification of the agent's own interval. */
export function intervalDraft(prompt: string, agentId: string, wording: Wording): ChannelDraft {
  return {
    content: prompt,
    meta: { source: sourceName(wording), event_type: 'agent_interval', agent_id: agentId },
  }
}

/** `text` up to `max` characters, with the pointer when something is missing. */
export function cut(text: string, max: number): string {
  const kept = startOf(text, max)
  return kept.length === text.length ? text : `${kept}${POINTER}`
}

/** The first `max` characters of `text`: code points, never half a pair. */
export function startOf(text: string, max: number): string {
  if (text.length <= max) return text
  let end = 0
  for (let count = 0; count < max && end < text.length; count++) {
    end += (text.codePointAt(end) ?? 0) > 0xffff ? 2 : 1
  }
  return text.slice(0, end)
}

function heading(event: SpaceEvent, why: Relevance, voice: Voice): string {
  switch (why) {
    case 'mention':
      return `@${voice.wording === 'docs' ? voice.displayName : 'you'} mentioned by ${event.speakerName}:`
    case 'thread_reply':
      return `Thread reply from ${event.speakerName}:`
    case 'decision':
      return `Decision event from ${event.speakerName}:`
    case 'firehose':
      return `${event.speakerName} (${event.speakerType}):`
    default:
      return why satisfies never
  }
}

function sourceName(wording: Wording): string {
  return wording === 'docs' ? 'convo-channel' : 'convo'
}

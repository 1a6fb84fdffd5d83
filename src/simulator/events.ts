/**
 * What happens in the simulated world, and the words in which an agent hears of it.
 *
 * Not delivery: where an event goes is the inbox's and the streams' business. The one rule: `content` alone tells
 * the story (the documentation's own wordings), `meta` repeats it for machines as flat strings.
 */
import { EVENT_TYPES } from './assumptions.ts'

/** The platforms of the documentation, with the names people read. */
export const PLATFORMS = {
  discord: 'Discord',
  teams: 'Teams',
  meet: 'Google Meet',
  zoom: 'Zoom',
  telegram: 'Telegram',
  slack: 'Slack',
  nctalk: 'NC Talk',
  sip: 'SIP',
  whatsapp: 'WhatsApp',
} as const

export type Platform = keyof typeof PLATFORMS

/** Platforms a direct message can come from, and those that hold meetings. */
export const DM_PLATFORMS = ['discord', 'telegram', 'teams', 'whatsapp', 'slack', 'nctalk'] as const
export const CALL_PLATFORMS = Object.keys(PLATFORMS) as readonly Platform[]

export function isPlatform(name: string): name is Platform {
  return Object.hasOwn(PLATFORMS, name)
}

/** An event before it has an id and a time. */
export interface Draft {
  readonly type: string
  readonly content: string
  readonly meta: Readonly<Record<string, string>>
}

/** An event as the inbox keeps it; `meta` includes `event_type`, `event_id` and `ts`. */
export interface InboxEvent extends Draft {
  readonly id: string
  /** Counts the events of one agent from 1. */
  readonly sequence: number
  /** Milliseconds since 1970. */
  readonly at: number
}

/** A file somebody sent. */
export interface Attachment {
  readonly name: string
  readonly mime: string
  readonly size: number
  readonly url: string
}

/** Somebody wrote a direct message. */
export function dmEvent(dm: {
  readonly platform: Platform
  readonly conversationId: string
  readonly messageId: string
  readonly senderId: string
  readonly senderName: string
  readonly text: string
  readonly attachments: readonly Attachment[]
}): Draft {
  const files = dm.attachments.map((file) => `\n[file: ${file.name}, ${file.mime}, ${file.url}]`).join('')
  return {
    type: EVENT_TYPES.dm,
    content: `New message from ${dm.senderName} on ${PLATFORMS[dm.platform]}: "${dm.text}"${files}`,
    meta: {
      platform: dm.platform,
      conversation_id: dm.conversationId,
      message_id: dm.messageId,
      sender_id: dm.senderId,
      sender_name: dm.senderName,
    },
  }
}

/** The phone rings. */
export function inviteEvent(call: {
  readonly platform: Platform
  readonly callId: string
  readonly caller: string
}): Draft {
  return {
    type: EVENT_TYPES.callInvite,
    content: `Incoming call: ${PLATFORMS[call.platform]} ${call.caller}, state: "ringing"`,
    meta: { platform: call.platform, call_id: call.callId, state: 'ringing', caller: call.caller },
  }
}

/** A call changed its state. */
export function callStateEvent(call: {
  readonly platform: Platform
  readonly callId: string
  readonly state: string
  readonly reason: string
}): Draft {
  const why = call.reason === '' ? '' : ` (${call.reason})`
  return {
    type: EVENT_TYPES.callState,
    content: `Call ${call.callId} on ${PLATFORMS[call.platform]}: state: "${call.state}"${why}`,
    meta: { platform: call.platform, call_id: call.callId, state: call.state },
  }
}

/** Somebody said a line in a call. `index` counts the lines of the call from 0. */
export function transcriptEvent(line: {
  readonly platform: Platform
  readonly callId: string
  readonly speaker: string
  readonly text: string
  readonly index: number
}): Draft {
  return {
    type: EVENT_TYPES.transcript,
    content: `Transcript: [${line.speaker}] ${line.text}`,
    meta: {
      platform: line.platform,
      call_id: line.callId,
      speaker: line.speaker,
      index: String(line.index),
    },
  }
}

/** Queued messages left after the window reopened, in one batch. */
export function deliveredEvent(batch: {
  readonly platform: Platform
  readonly conversationId: string
  readonly to: string
  readonly messageIds: readonly string[]
}): Draft {
  const count = batch.messageIds.length
  return {
    type: EVENT_TYPES.delivered,
    content: `${count} queued ${count === 1 ? 'message was' : 'messages were'} delivered to ${batch.to} on ${PLATFORMS[batch.platform]}`,
    meta: {
      platform: batch.platform,
      conversation_id: batch.conversationId,
      count: String(count),
      message_ids: batch.messageIds.join(','),
    },
  }
}

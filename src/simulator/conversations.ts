/**
 * One agent's direct messages: who wrote what on which platform, and what the agent wrote back.
 *
 * Not transport: it gives events and results, others carry them. The one rule: a platform's documented limits
 * (text caps, WhatsApp's 24 h window) hold here, so every tool meets them the same way.
 */
import { type Attachment, type Draft, deliveredEvent, dmEvent, PLATFORMS, type Platform } from './events.ts'

/** [docs] characters of one message; longer is refused, never split. */
export const TEXT_CAPS: Readonly<Partial<Record<Platform, number>>> = {
  discord: 2_000,
  telegram: 4_096,
  slack: 40_000,
}

export interface Line {
  readonly id: string
  readonly from: 'them' | 'agent'
  readonly text: string
  readonly attachments: readonly Attachment[]
  readonly at: number
  /** Waits for WhatsApp's window. */
  queued: boolean
}

export interface Conversation {
  readonly id: string
  readonly platform: Platform
  /** The other side, as they call themselves once they have written; before, as the agent does. */
  name: string
  readonly senderId: string
  readonly lines: Line[]
  /** When the other side wrote last, or undefined if never. */
  lastInboundAt: number | undefined
  /** Until when the agent is shown as typing; milliseconds since 1970. */
  typingUntil: number
}

/** What became of an agent's message. */
export type Sent =
  | { readonly status: 'sent'; readonly line: Line }
  | { readonly status: 'queued'; readonly line: Line; readonly position: number; readonly template: boolean }

const KEEPS_LINES = 500

export class Conversations {
  readonly #windowMs: number
  readonly #byId = new Map<string, Conversation>()
  #messages = 0

  constructor(windowMs: number) {
    this.#windowMs = windowMs
  }

  get all(): readonly Conversation[] {
    return [...this.#byId.values()]
  }

  get(id: string): Conversation | undefined {
    return this.#byId.get(id)
  }

  /** The conversation with `name` (or whose own or sender's id it is) on `platform`, made if there is none. */
  with(platform: Platform, name: string): Conversation {
    const handle = handleOf(name)
    const id = `${platform}:${handle}`
    const known = this.#byId.get(id) ?? this.all.find((each) => each.senderId === name || each.id === name)
    if (known !== undefined) return known
    const senderId = `${platform}-user-${handle}`
    const made = { id, platform, name, senderId, lines: [], lastInboundAt: undefined, typingUntil: 0 }
    this.#byId.set(id, made)
    return made
  }

  /** The conversation with `name`, who writes and so says how the name is spelt. */
  writtenBy(platform: Platform, name: string): Conversation {
    const conversation = this.with(platform, name)
    conversation.name = name
    return conversation
  }

  /** The other side writes. Gives the event, and a second one when that let queued messages go. */
  receive(
    conversation: Conversation,
    text: string,
    attachments: readonly Attachment[] = [],
  ): readonly Draft[] {
    const line = this.#add(conversation, 'them', text, attachments, false)
    conversation.lastInboundAt = line.at
    const { id: conversationId, platform, senderId, name: senderName } = conversation
    const message = dmEvent({
      platform,
      conversationId,
      messageId: line.id,
      senderId,
      senderName,
      text,
      attachments,
    })
    const queued = conversation.lines.filter((each) => each.queued)
    for (const each of queued) each.queued = false
    if (queued.length === 0) return [message]
    const messageIds = queued.map((each) => each.id)
    return [message, deliveredEvent({ platform, conversationId, to: senderName, messageIds })]
  }

  /** The agent writes. `textProblem` beforehand: this does not look at caps again. */
  send(conversation: Conversation, text: string, attachments: readonly Attachment[] = []): Sent {
    const queue = conversation.lines.filter((each) => each.queued).length
    const open = this.windowOpen(conversation)
    const line = this.#add(conversation, 'agent', text, attachments, !open)
    conversation.typingUntil = 0
    if (open) return { status: 'sent', line }
    return { status: 'queued', line, position: queue + 1, template: queue === 0 }
  }

  /** [docs] WhatsApp takes free text only within 24 h of the other side's last message. */
  windowOpen(conversation: Conversation): boolean {
    if (conversation.platform !== 'whatsapp') return true
    const since = conversation.lastInboundAt
    return since !== undefined && Date.now() - since < this.#windowMs
  }

  /** As if the other side had not written for longer than the window. */
  closeWindow(conversation: Conversation): void {
    conversation.lastInboundAt = undefined
  }

  #add(
    conversation: Conversation,
    from: Line['from'],
    text: string,
    attachments: readonly Attachment[],
    queued: boolean,
  ): Line {
    const id = `msg_${String(++this.#messages).padStart(6, '0')}`
    const line: Line = { id, from, text, attachments, at: Date.now(), queued }
    conversation.lines.push(line)
    if (conversation.lines.length > KEEPS_LINES) conversation.lines.shift()
    return line
  }
}

/** Why a platform would refuse this text, or undefined. */
export function textProblem(platform: Platform, text: string, files: number): string | undefined {
  if (text === '' && files === 0) return 'the message is empty: give text or attachments'
  const cap = TEXT_CAPS[platform]
  const length = [...text].length
  if (cap === undefined || length <= cap) return undefined
  return `the text has ${length} characters, ${PLATFORMS[platform]} takes at most ${cap}; it was not sent, shorten or split it`
}

function handleOf(name: string): string {
  const handle = name
    .normalize('NFKD')
    .toLowerCase()
    .replace(/\p{M}/gu, '')
    .replace(/[^\p{L}\p{N}+]+/gu, '-')
    .replace(/^-|-$/g, '')
  return handle === '' ? 'somebody' : handle
}

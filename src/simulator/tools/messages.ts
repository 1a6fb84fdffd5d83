/**
 * The tools around messages: the inbox, direct messages, files, the account.
 *
 * Not delivery; see inbox and conversations. The one rule: argument names that are documented are kept, the others
 * are assumptions (see assumptions.ts) and accept what an agent would most likely try.
 */
import { ASSUMED } from '../assumptions.ts'
import { type Conversation, textProblem } from '../conversations.ts'
import type { InboxEvent } from '../events.ts'
import { type Attachment, DM_PLATFORMS, isPlatform } from '../events.ts'
import type { Files } from '../files.ts'
import { isCursor } from '../inbox.ts'
import {
  type Arguments,
  numberOf,
  type Property,
  type Tool,
  type ToolCall,
  ToolError,
  textOf,
} from './tool.ts'

/** [docs] attachments: a list of `{file_id}`, `{url}` or `{bytes_b64, name, mime}`. */
export const ATTACHMENTS: Property = {
  type: 'array',
  description: 'files: each {file_id}, {url} or {bytes_b64, name, mime}; 25 MB at most',
  items: { type: 'object' },
}

const TARGET = {
  conversation_id: { type: 'string', description: 'the conversation_id of the message you answer' },
  platform: { type: 'string', description: 'with "to", instead of conversation_id', enum: DM_PLATFORMS },
  to: { type: 'string', description: 'name or sender_id of the person, with "platform"' },
} as const satisfies Record<string, Property>

const inbox: Tool = {
  name: 'chamade_inbox',
  description:
    'Reads new direct messages and call events. In polling mode call it in a loop with wait=55; with channel push, only to catch up after a break.',
  inputSchema: {
    type: 'object',
    properties: {
      wait: { type: 'integer', description: 'seconds to wait for something new, 0 to 55', minimum: 0 },
      cursor: { type: 'string', description: 'cursor of an earlier answer: gives what came after it' },
      limit: {
        type: 'integer',
        description: 'how many events at most',
        minimum: 1,
        maximum: ASSUMED.inboxMaxLimit,
      },
    },
  },
  async run({ agent, args, signal }) {
    const cursor = textOf(args, 'cursor')
    if (cursor !== undefined && !isCursor(cursor))
      throw new ToolError(`"${cursor}" is no cursor of this inbox`)
    const waitMs = Math.min(numberOf(args, 'wait', 0), ASSUMED.inboxMaxWaitS) * 1_000
    const limit = numberOf(args, 'limit', ASSUMED.inboxDefaultLimit)
    const page = await agent.inbox.readOrWait(cursor, limit, waitMs, signal)
    return { value: { events: page.events.map(recordOf), cursor: page.cursor } }
  },
}

const dmChat: Tool = {
  name: 'chamade_dm_chat',
  description:
    'Sends a direct message: an answer (conversation_id) or a first message (platform and to). Answer within 60 seconds of a message where you can. WhatsApp takes free text only within 24 h of the last message of the other side; later messages are queued and a template asks the person to write.',
  inputSchema: {
    type: 'object',
    properties: {
      ...TARGET,
      text: { type: 'string', description: 'what to say' },
      attachments: ATTACHMENTS,
    },
  },
  run({ agent, files, args }) {
    const conversation = targetOf({ agent, args })
    const text = textOf(args, 'text') ?? ''
    const attachments = attachmentsOf(args, files)
    const problem = textProblem(conversation.platform, text, attachments.length)
    if (problem !== undefined) throw new ToolError(problem)
    const sent = agent.conversations.send(conversation, text, attachments)
    const about = conversation.id
    const ids = { message_id: sent.line.id, conversation_id: about }
    if (sent.status === 'sent') return { about, value: { status: 'sent', ...ids } }
    // [docs] the body of REST's 202, carried as a success.
    const { position: queue_position, template: template_sent } = sent
    return {
      about,
      value: { status: 'queued', reason: 'outside_24h_window', ...ids, template_sent, queue_position },
    }
  },
}

const dmTyping: Tool = {
  name: 'chamade_dm_typing',
  description: 'Shows that you are typing in a direct message (no effect on Slack).',
  inputSchema: { type: 'object', properties: TARGET },
  run({ agent, args }) {
    const conversation = targetOf({ agent, args })
    if (conversation.platform !== 'slack') conversation.typingUntil = Date.now() + 10_000
    return { value: { status: 'ok', conversation_id: conversation.id } }
  },
}

const fileUploadUrl: Tool = {
  name: 'chamade_file_upload_url',
  description: 'Gives an address to PUT a file to (no login), and the file_id to attach it with afterwards.',
  inputSchema: {
    type: 'object',
    properties: {
      name: { type: 'string', description: 'file name' },
      mime: { type: 'string', description: 'media type, e.g. image/png' },
    },
    required: ['name'],
  },
  run({ files, args }) {
    const mime = textOf(args, 'mime') ?? 'application/octet-stream'
    const { fileId, url, expiresMs } = files.offer(textOf(args, 'name') ?? 'file', mime)
    return { value: { file_id: fileId, upload_url: url, method: 'PUT', expires_in: expiresMs / 1_000 } }
  },
}

const account: Tool = {
  name: 'chamade_account',
  description: 'Tells which agent this key belongs to and which platform accounts it owns.',
  inputSchema: { type: 'object', properties: {} },
  run({ agent }) {
    const accounts = DM_PLATFORMS.map((platform) => ({ platform, account_id: `${platform}:simulated` }))
    return {
      value: { agent: agent.name, accounts: [...accounts, { platform: 'sip', account_id: 'sip:simulated' }] },
    }
  },
}

export const messageTools: readonly Tool[] = [inbox, dmChat, dmTyping, fileUploadUrl, account]

function recordOf(event: InboxEvent): Readonly<Record<string, string>> {
  return { ...event.meta, content: event.content }
}

function targetOf({ agent, args }: Pick<ToolCall, 'agent' | 'args'>): Conversation {
  const id = textOf(args, 'conversation_id')
  if (id !== undefined) {
    const known = agent.conversations.get(id)
    if (known === undefined) throw new ToolError(`there is no conversation "${id}"; see chamade_inbox`)
    return known
  }
  const platform = textOf(args, 'platform')
  const to = textOf(args, 'to')
  if (platform === undefined || to === undefined || !isPlatform(platform))
    throw new ToolError('give conversation_id, or platform and to')
  return agent.conversations.with(platform, to)
}

/** The attachments of a call, or a refusal that says which one is wrong. */
export function attachmentsOf(args: Arguments, files: Files): readonly Attachment[] {
  const list = args.attachments
  if (!Array.isArray(list)) return []
  return list.map((item: unknown, index) => {
    const given: Arguments = typeof item === 'object' && item !== null ? { ...item } : {}
    const fileId = textOf(given, 'file_id')
    const url = textOf(given, 'url')
    const inline = textOf(given, 'bytes_b64')
    const name = textOf(given, 'name') ?? 'file'
    const mime = textOf(given, 'mime') ?? 'application/octet-stream'
    if (fileId !== undefined) {
      const found = files.attachment(fileId)
      if (found === undefined) throw new ToolError(`attachment ${index}: nothing was uploaded as "${fileId}"`)
      return found
    }
    if (url !== undefined) {
      if (!URL.canParse(url)) throw new ToolError(`attachment ${index}: "${url}" is no URL`)
      return { name, mime, size: 0, url }
    }
    if (inline === undefined) throw new ToolError(`attachment ${index}: give file_id, url or bytes_b64`)
    const bytes = Buffer.from(inline, 'base64')
    if (bytes.length > ASSUMED.maxFileBytes) throw new ToolError(`attachment ${index}: over 25 MB`)
    return files.add(name, mime, bytes)
  })
}

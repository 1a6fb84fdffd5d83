/**
 * What can happen to an agent, as data: the one vocabulary of the console, `emit`, scenarios and tests.
 *
 * Not events: one happening may become several events, or only change a state. The one rule: `happeningOf` is the
 * only door for text from outside, and what it refuses it refuses with a sentence.
 */
import type { Agent, Published } from './agent.ts'
import type { Call } from './calls.ts'
import { type Attachment, DM_PLATFORMS, isPlatform, PLATFORMS, type Platform } from './events.ts'
import type { Files } from './files.ts'

/** A file somebody sends along: its bytes, or where it is. */
export interface Enclosure {
  readonly name: string
  readonly mime?: string | undefined
  readonly bytes_b64?: string | undefined
  readonly url?: string | undefined
}

interface ForAgent {
  /** Which agent; default the first. */
  readonly agent?: string | undefined
}

export type Happening = ForAgent &
  (
    | {
        readonly type: 'dm'
        readonly from: string
        readonly text: string
        readonly platform?: string | undefined
        readonly attachments?: readonly Enclosure[] | undefined
      }
    /** The phone rings. */
    | { readonly type: 'call'; readonly from: string; readonly platform?: string | undefined }
    /** Somebody says a line in a call; default the newest active one. */
    | {
        readonly type: 'transcript'
        readonly speaker: string
        readonly text: string
        readonly call?: string | undefined
      }
    /** The other side hangs up, or the line breaks. */
    | { readonly type: 'hangup'; readonly call?: string | undefined; readonly broken?: boolean | undefined }
    /** WhatsApp's 24 h window with somebody closes: what is sent now is queued until they write again. */
    | { readonly type: 'window-closed'; readonly from: string }
    /** A channel event as it is, for what the others cannot say. */
    | {
        readonly type: 'raw'
        readonly content: string
        readonly meta?: Readonly<Record<string, string>> | undefined
      }
  )

/** What came of a happening: the events it became, and the call it was about. */
export interface Happened {
  readonly published: readonly Published[]
  readonly callId?: string | undefined
}

/** What is wrong with a happening or a fault, as a sentence for people. */
export class BadHappening extends Error {
  override readonly name = 'BadHappening'
}

/** Fields by type: required first, then optional ones. */
const FIELDS: Readonly<Record<Happening['type'], { must: readonly string[]; may: readonly string[] }>> = {
  dm: { must: ['from', 'text'], may: ['platform', 'attachments'] },
  call: { must: ['from'], may: ['platform'] },
  transcript: { must: ['speaker', 'text'], may: ['call'] },
  hangup: { must: [], may: ['call', 'broken'] },
  'window-closed': { must: ['from'], may: [] },
  raw: { must: ['content'], may: ['meta'] },
}

/** What a field holds that is no text. */
const KINDS: Readonly<Record<string, string>> = {
  broken: 'true or false',
  attachments: 'a list of { name, bytes_b64 } or { name, url }',
  meta: 'a map of texts',
}

export const HAPPENINGS = Object.keys(FIELDS)

/** Reads a happening out of parsed JSON or YAML; throws BadHappening. */
export function happeningOf(value: unknown): Happening {
  if (typeof value !== 'object' || value === null)
    throw new BadHappening('an event is an object with a "type"')
  const given = value as Readonly<Record<string, unknown>>
  const { type } = given
  if (typeof type !== 'string' || !Object.hasOwn(FIELDS, type)) {
    throw new BadHappening(`there is no event "${String(type)}"; there are ${HAPPENINGS.join(', ')}`)
  }
  const { must, may } = FIELDS[type as Happening['type']]
  for (const field of must) {
    if (typeof given[field] !== 'string') throw new BadHappening(`"${type}" needs "${field}", a text`)
  }
  for (const [field, content] of Object.entries(given)) {
    if (field === 'type' || must.includes(field)) continue
    if (field !== 'agent' && !may.includes(field)) throw new BadHappening(`"${type}" has no "${field}"`)
    if (isRightKind(field, content)) continue
    throw new BadHappening(`"${field}" of "${type}" is of the wrong kind: it is ${KINDS[field] ?? 'a text'}`)
  }
  return given as unknown as Happening
}

function isRightKind(field: string, content: unknown): boolean {
  if (content === undefined) return true
  if (field === 'broken') return typeof content === 'boolean'
  if (field === 'attachments') return Array.isArray(content) && content.every(isEnclosure)
  if (field !== 'meta') return typeof content === 'string'
  if (typeof content !== 'object' || content === null) return false
  return Object.values(content).every((each) => typeof each === 'string')
}

function isEnclosure(value: unknown): boolean {
  const { name, mime = '', bytes_b64, url } = (value ?? {}) as Partial<Record<keyof Enclosure, unknown>>
  return typeof name === 'string' && typeof mime === 'string' && typeof (url ?? bytes_b64) === 'string'
}

/** Lets it happen; throws BadHappening when the world is not so. */
export function happen(agents: readonly Agent[], files: Files, happening: Happening): Happened {
  const agent = agentNamed(agents, happening.agent)
  switch (happening.type) {
    case 'dm': {
      const conversation = agent.conversations.writtenBy(dmPlatformOf(happening.platform), happening.from)
      const sent = (happening.attachments ?? []).map((each) => attachmentOf(each, files))
      const drafts = agent.conversations.receive(conversation, happening.text, sent)
      return { published: drafts.map((draft) => agent.publish(draft)) }
    }
    case 'call': {
      const { call, draft } = agent.calls.ring(platformOf(happening.platform ?? 'sip'), happening.from)
      return { published: [agent.publish(draft)], callId: call.id }
    }
    case 'transcript': {
      if (!agent.hostedVoice) throw new BadHappening('without the hosted voice nothing is transcribed')
      const call = callOf(agent, happening.call, 'active')
      const draft = agent.calls.hear(call.id, happening.speaker, happening.text)
      if (draft === undefined) throw new BadHappening(`call ${call.id} is "${call.state}", not active`)
      return { published: [agent.publish(draft)], callId: call.id }
    }
    case 'hangup': {
      const call = callOf(agent, happening.call)
      if (!agent.calls.hangUp(call.id, happening.broken === true ? 'disconnected' : 'ended'))
        throw new BadHappening(`call ${call.id} is over: "${call.state}"`)
      return { published: [], callId: call.id }
    }
    case 'window-closed':
      agent.conversations.closeWindow(agent.conversations.with('whatsapp', happening.from))
      return { published: [] }
    case 'raw':
      return {
        published: [agent.publish({ type: 'raw', content: happening.content, meta: happening.meta ?? {} })],
      }
    default:
      return happening satisfies never
  }
}

/** [docs] a file that comes in is served at an address that needs no login. */
function attachmentOf(
  { name, mime = 'application/octet-stream', bytes_b64, url }: Enclosure,
  files: Files,
): Attachment {
  if (url !== undefined) return { name, mime, size: 0, url }
  return files.add(name, mime, Buffer.from(bytes_b64 ?? '', 'base64'))
}

function agentNamed(agents: readonly Agent[], name: string | undefined): Agent {
  const found = name === undefined ? agents[0] : agents.find((agent) => agent.name === name)
  if (found !== undefined) return found
  throw new BadHappening(
    `there is no agent "${name}"; there are ${agents.map((each) => each.name).join(', ')}`,
  )
}

function callOf(agent: Agent, id: string | undefined, state?: 'active'): Call {
  const call = id === undefined ? agent.calls.latest(state) : agent.calls.get(id)
  if (call !== undefined) return call
  if (id !== undefined) throw new BadHappening(`there is no call "${id}"`)
  const waiting = state === 'active' ? agent.calls.latest() : undefined
  if (waiting?.state === 'ringing')
    throw new BadHappening(
      `call ${waiting.id} is still ringing: the agent has to accept it (chamade_call_accept)`,
    )
  if (waiting !== undefined)
    throw new BadHappening(`call ${waiting.id} is still ${waiting.state}: try again in a moment`)
  throw new BadHappening(`there is no ${state ?? 'open'} call: ring one, or let the agent join a meeting`)
}

function dmPlatformOf(name = 'discord'): Platform {
  const platform = DM_PLATFORMS.find((each) => each === name)
  if (platform !== undefined) return platform
  throw new BadHappening(`no direct messages come from "${name}"; they come from ${DM_PLATFORMS.join(', ')}`)
}

function platformOf(name: string): Platform {
  if (isPlatform(name)) return name
  throw new BadHappening(`there is no platform "${name}"; there are ${Object.keys(PLATFORMS).join(', ')}`)
}

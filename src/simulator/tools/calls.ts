/**
 * The tools of calls: join, accept, refuse, leave, status, say, stop speaking, chat, typing, list.
 *
 * Not the life of a call; see calls.ts. The one rule: a call in the wrong state is refused with a sentence that
 * names the state it is in.
 */
import type { Agent } from '../agent.ts'
import type { Call, CallLine } from '../calls.ts'
import { textProblem } from '../conversations.ts'
import { CALL_PLATFORMS, isPlatform } from '../events.ts'
import { ATTACHMENTS, attachmentsOf } from './messages.ts'
import { numberOf, type Property, type Tool, type ToolCall, ToolError, textOf } from './tool.ts'

const CALL_ID: Property = { type: 'string', description: 'the call_id of the event or of chamade_call_join' }

/** [docs, REST] what a call in the hosted-voice setup can do. */
const CAPABILITIES = ['audio_in', 'audio_out', 'read', 'write', 'typing', 'files']
const HOSTED = ['hosted_stt', 'hosted_tts']
const AUDIO = {
  sample_rate: 48_000,
  format: 'pcm_s16le',
  channels: 1,
  frame_duration_ms: 20,
  frame_bytes: 1_920,
}

const join: Tool = {
  name: 'chamade_call_join',
  description:
    'Joins a meeting by its link. The call is "connecting" at first; an event or chamade_call_status tells when it is "active".',
  inputSchema: {
    type: 'object',
    properties: {
      platform: { type: 'string', description: 'where the meeting is', enum: CALL_PLATFORMS },
      meeting_url: { type: 'string', description: 'the link to join' },
      agent_name: { type: 'string', description: 'name shown to the others; default "AI Agent"' },
    },
    required: ['platform', 'meeting_url'],
  },
  run({ agent, args }) {
    const platform = textOf(args, 'platform') ?? ''
    const url = textOf(args, 'meeting_url') ?? ''
    if (!isPlatform(platform) || url === '') throw new ToolError('give platform and meeting_url')
    const call = agent.calls.join(platform, url, textOf(args, 'agent_name') ?? 'AI Agent')
    const shape = { room_id: `room_${call.id.slice(5)}`, participant_id: `part_${call.id.slice(5)}` }
    const rest = {
      capabilities: capabilitiesOf(agent),
      meeting_url: url,
      agent_name: call.agentName,
      audio: AUDIO,
    }
    return { value: { ...summaryOf(call), ...shape, ...rest } }
  },
}

const accept: Tool = {
  name: 'chamade_call_accept',
  description: 'Answers a ringing call. It rings for 60 seconds.',
  inputSchema: { type: 'object', properties: { call_id: CALL_ID }, required: ['call_id'] },
  run(call) {
    const { id } = found(call)
    if (!call.agent.calls.accept(id)) throw wrongState(call, 'ringing')
    return { about: id, value: { ...summaryOf(found(call)), capabilities: capabilitiesOf(call.agent) } }
  },
}

const refuse: Tool = {
  name: 'chamade_call_refuse',
  description: 'Refuses a ringing call.',
  inputSchema: { type: 'object', properties: { call_id: CALL_ID }, required: ['call_id'] },
  run(call) {
    const { id } = found(call)
    if (!call.agent.calls.refuse(id)) throw wrongState(call, 'ringing')
    return { about: id, value: summaryOf(found(call)) }
  },
}

const leave: Tool = {
  name: 'chamade_call_leave',
  description: 'Hangs up.',
  inputSchema: { type: 'object', properties: { call_id: CALL_ID }, required: ['call_id'] },
  run(call) {
    const { id } = found(call)
    if (!call.agent.calls.leave(id)) throw wrongState(call, 'going on')
    return { about: id, value: summaryOf(found(call)) }
  },
}

const status: Tool = {
  name: 'chamade_call_status',
  description:
    'Gives the state of a call and the transcript lines from index "since" on; transcript_length is the next "since". Do not poll it while events are pushed to you.',
  inputSchema: {
    type: 'object',
    properties: {
      call_id: CALL_ID,
      since: { type: 'integer', description: 'index of the first line wanted', minimum: 0 },
    },
    required: ['call_id'],
  },
  run(call) {
    const shown = found(call)
    const spoken = shown.lines.slice(numberOf(call.args, 'since', 0)).map(lineOf)
    return {
      value: { ...summaryOf(shown), transcript: spoken, transcript_length: shown.lines.length },
    }
  },
}

const say: Tool = {
  name: 'chamade_call_say',
  description: 'Speaks in an active call with the hosted voice.',
  inputSchema: {
    type: 'object',
    properties: { call_id: CALL_ID, text: { type: 'string', description: 'what to say' } },
    required: ['call_id', 'text'],
  },
  run(call) {
    const { id } = found(call)
    const text = textOf(call.args, 'text') ?? ''
    if (text.trim() === '') throw new ToolError('there is nothing to say: text is empty')
    if (!call.agent.hostedVoice) {
      throw new ToolError('no hosted voice: choose a voice preset in the dashboard, or send your own audio')
    }
    const durationMs = call.agent.calls.say(id, text)
    if (durationMs === undefined) throw wrongState(call, 'active')
    return { about: id, value: { status: 'speaking', call_id: id, duration_ms: durationMs } }
  },
}

const stopSpeaking: Tool = {
  name: 'chamade_call_stop_speaking',
  description: 'Stops the hosted voice in the middle of a sentence.',
  inputSchema: { type: 'object', properties: { call_id: CALL_ID }, required: ['call_id'] },
  run(call) {
    const { id } = found(call)
    const spoken = call.agent.calls.stopSpeaking(id)
    if (spoken === undefined) return { value: { status: 'not_speaking', call_id: id } }
    return { value: { status: 'stopped', call_id: id, spoken } }
  },
}

const chat: Tool = {
  name: 'chamade_call_chat',
  description: 'Writes into the chat of an active meeting.',
  inputSchema: {
    type: 'object',
    properties: {
      call_id: CALL_ID,
      text: { type: 'string', description: 'what to write' },
      attachments: ATTACHMENTS,
    },
    required: ['call_id'],
  },
  run(call) {
    const { id } = found(call)
    const text = textOf(call.args, 'text') ?? ''
    const attachments = attachmentsOf(call.args, call.files)
    const problem = textProblem(found(call).platform, text, attachments.length)
    if (problem !== undefined) throw new ToolError(problem)
    if (!call.agent.calls.chat(id, text, attachments)) throw wrongState(call, 'active')
    return { about: id, value: { status: 'sent', call_id: id } }
  },
}

const typing: Tool = {
  name: 'chamade_call_typing',
  description: 'Shows that you are typing in the chat of an active meeting.',
  inputSchema: { type: 'object', properties: { call_id: CALL_ID }, required: ['call_id'] },
  run(call) {
    if (found(call).state !== 'active') throw wrongState(call, 'active')
    return { value: { status: 'ok', call_id: found(call).id } }
  },
}

const list: Tool = {
  name: 'chamade_call_list',
  description: 'Lists calls, newest first; in polling mode the way to find a ringing one.',
  inputSchema: { type: 'object', properties: {} },
  run({ agent }) {
    return { value: { calls: agent.calls.all.map(summaryOf) } }
  },
}

export const callTools: readonly Tool[] = [
  join,
  accept,
  refuse,
  leave,
  status,
  say,
  stopSpeaking,
  chat,
  typing,
  list,
]

function capabilitiesOf(agent: Agent): readonly string[] {
  return agent.hostedVoice ? [...CAPABILITIES, ...HOSTED] : CAPABILITIES
}

function summaryOf(call: Call) {
  const peer = call.direction === 'inbound' ? { caller: call.peer } : { meeting_url: call.peer }
  return { call_id: call.id, platform: call.platform, direction: call.direction, state: call.state, ...peer }
}

function lineOf(line: CallLine) {
  const { index, speaker, text, by, at } = line
  return { index, speaker, text, by, ts: new Date(at).toISOString() }
}

function found({ agent, args }: ToolCall): Call {
  const id = textOf(args, 'call_id') ?? ''
  const call = agent.calls.get(id)
  if (call === undefined) throw new ToolError(`there is no call "${id}"; see chamade_call_list`)
  return call
}

function wrongState(call: ToolCall, wanted: string): ToolError {
  const { id, state } = found(call)
  return new ToolError(`call ${id} is "${state}", not ${wanted}`)
}

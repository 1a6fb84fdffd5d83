/**
 * One agent's calls: meetings it joins, phones that ring, what is said in them, and when they end.
 *
 * Not audio: nothing is heard, lines are text. The one rule: a call changes its state only through `#become`, which
 * tells the agent and the journal; a call that is over stays over.
 *
 * [docs] connecting -> active -> ended; ringing -> active | refused | missed after 60 s.
 */
import { randomBytes } from 'node:crypto'
import { ASSUMED } from './assumptions.ts'
import {
  type Attachment,
  callStateEvent,
  type Draft,
  inviteEvent,
  type Platform,
  transcriptEvent,
} from './events.ts'

export type CallState = 'connecting' | 'ringing' | 'active' | 'ended' | 'refused' | 'missed' | 'disconnected'

export interface CallLine {
  /** Counts the lines of the call from 0. */
  readonly index: number
  readonly speaker: string
  readonly text: string
  readonly at: number
  /** `voice` stands in the transcript; `chat` in the meeting's chat. */
  readonly by: 'voice' | 'chat'
  readonly fromAgent: boolean
  readonly attachments: readonly Attachment[]
}

export interface Call {
  readonly id: string
  readonly platform: Platform
  readonly direction: 'inbound' | 'outbound'
  /** Who rang, or the address that was joined. */
  readonly peer: string
  readonly agentName: string
  readonly at: number
  readonly state: CallState
  readonly lines: readonly CallLine[]
}

interface Live {
  readonly id: string
  readonly platform: Platform
  readonly direction: 'inbound' | 'outbound'
  readonly peer: string
  readonly agentName: string
  readonly at: number
  state: CallState
  readonly lines: CallLine[]
  timer: NodeJS.Timeout | undefined
  speech: Speech | undefined
}

interface Speech {
  readonly text: string
  readonly since: number
  readonly lengthMs: number
}

export interface CallsOptions {
  readonly publish: (draft: Draft) => void
  readonly record: (callId: string, state: CallState) => void
  /** How many times faster than the wall clock calls live. */
  readonly speed: number
}

const KEEPS_CALLS = 50
const OVER: ReadonlySet<CallState> = new Set<CallState>(['ended', 'refused', 'missed', 'disconnected'])

export class Calls {
  readonly #options: CallsOptions
  readonly #calls = new Map<string, Live>()

  constructor(options: CallsOptions) {
    this.#options = options
  }

  /** Newest first. */
  get all(): readonly Call[] {
    return [...this.#calls.values()].reverse()
  }

  get(id: string): Call | undefined {
    return this.#calls.get(id)
  }

  /** The newest call that goes on, or with `state` the newest in it. */
  latest(state?: CallState): Call | undefined {
    return this.all.find((call) => (state === undefined ? !OVER.has(call.state) : call.state === state))
  }

  /** The agent joins a meeting: connecting, and active a moment later. */
  join(platform: Platform, meetingUrl: string, agentName: string): Call {
    const call = this.#add(platform, 'outbound', meetingUrl, agentName, 'connecting')
    this.#after(call, ASSUMED.connectMs, () => this.#become(call, 'active', 'joined'))
    return call
  }

  /** Somebody calls. */
  ring(platform: Platform, caller: string): { readonly call: Call; readonly draft: Draft } {
    const call = this.#add(platform, 'inbound', caller, 'AI Agent', 'ringing')
    this.#after(call, ASSUMED.ringMs, () => this.#become(call, 'missed', 'nobody answered'))
    return { call, draft: inviteEvent({ platform, callId: call.id, caller }) }
  }

  /** False when the call is not ringing. */
  accept(id: string): boolean {
    return this.#move(id, 'ringing', 'active', 'answered')
  }

  refuse(id: string): boolean {
    return this.#move(id, 'ringing', 'refused', 'refused by the agent')
  }

  /** The agent hangs up; false when the call is over already. */
  leave(id: string): boolean {
    return this.#end(id, 'ended', 'the agent left')
  }

  /** The other side hangs up, or with `disconnected` the line breaks. A ringing call is missed then. */
  hangUp(id: string, how: 'ended' | 'disconnected' = 'ended'): boolean {
    if (this.#calls.get(id)?.state === 'ringing') return this.#end(id, 'missed', 'the caller hung up')
    return this.#end(id, how, how === 'ended' ? 'the other side hung up' : 'the connection broke')
  }

  /** Somebody in the call says a line; undefined unless it is active. */
  hear(id: string, speaker: string, text: string): Draft | undefined {
    const call = this.#calls.get(id)
    if (call?.state !== 'active') return undefined
    const { index } = this.#addLine(call, { speaker, text, by: 'voice', fromAgent: false, attachments: [] })
    return transcriptEvent({ platform: call.platform, callId: id, speaker, text, index })
  }

  /** The agent speaks; milliseconds it takes, or undefined unless the call is active. */
  say(id: string, text: string): number | undefined {
    const call = this.#calls.get(id)
    if (call?.state !== 'active') return undefined
    const { agentName: speaker } = call
    this.#addLine(call, { speaker, text, by: 'voice', fromAgent: true, attachments: [] })
    const lengthMs = [...text].length * ASSUMED.speakMsPerCharacter
    call.speech = { text, since: performance.now(), lengthMs }
    return lengthMs
  }

  /** Cuts the agent short; what was said of the sentence, or undefined when it was not speaking. */
  stopSpeaking(id: string): string | undefined {
    const call = this.#calls.get(id)
    const speech = call?.speech
    if (call === undefined || speech === undefined) return undefined
    call.speech = undefined
    const part = ((performance.now() - speech.since) * this.#options.speed) / speech.lengthMs
    if (part >= 1) return undefined
    const characters = [...speech.text]
    return characters.slice(0, Math.floor(characters.length * part)).join('')
  }

  /** The agent writes into the meeting's chat; false unless the call is active. */
  chat(id: string, text: string, attachments: readonly Attachment[]): boolean {
    const call = this.#calls.get(id)
    if (call?.state !== 'active') return false
    this.#addLine(call, { speaker: call.agentName, text, by: 'chat', fromAgent: true, attachments })
    return true
  }

  /** Stops every timer. */
  close(): void {
    for (const call of this.#calls.values()) clearTimeout(call.timer)
  }

  #add(
    platform: Platform,
    direction: Live['direction'],
    peer: string,
    agentName: string,
    state: CallState,
  ): Live {
    const call: Live = {
      id: `call_${randomBytes(4).toString('hex')}`,
      platform,
      direction,
      peer,
      agentName,
      at: Date.now(),
      state,
      lines: [],
      timer: undefined,
      speech: undefined,
    }
    this.#calls.set(call.id, call)
    for (const old of [...this.#calls.values()].slice(0, -KEEPS_CALLS)) {
      if (OVER.has(old.state)) this.#calls.delete(old.id)
    }
    this.#options.record(call.id, state)
    return call
  }

  #addLine(call: Live, line: Omit<CallLine, 'index' | 'at'>): CallLine {
    const added = { ...line, index: call.lines.length, at: Date.now() }
    call.lines.push(added)
    return added
  }

  #after(call: Live, ms: number, then: () => void): void {
    call.timer = setTimeout(then, ms / this.#options.speed)
    call.timer.unref()
  }

  #move(id: string, from: CallState, to: CallState, reason: string): boolean {
    const call = this.#calls.get(id)
    if (call?.state !== from) return false
    this.#become(call, to, reason)
    return true
  }

  #end(id: string, to: CallState, reason: string): boolean {
    const call = this.#calls.get(id)
    if (call === undefined || OVER.has(call.state)) return false
    this.#become(call, to, reason)
    return true
  }

  #become(call: Live, state: CallState, reason: string): void {
    clearTimeout(call.timer)
    call.state = state
    this.#options.record(call.id, state)
    this.#options.publish(callStateEvent({ platform: call.platform, callId: call.id, state, reason }))
  }
}

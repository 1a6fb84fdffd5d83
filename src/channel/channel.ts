/**
 * What is said on the channel: an Upstream in front of an Upstream that makes channel events arrive.
 *
 * Four things, all only for a server that declared `claude/channel` in its answer to the client's `initialize`:
 * early events are held until the client hears them (lane.ts), meta that it would lose is repaired (meta.ts),
 * `--only` and `--drop` are obeyed (filter.ts), and it is told when events may have been missed (breaks.ts,
 * notice.ts). Not a transport: what is no channel event passes as it came, unread, among it both directions of
 * the permission relay.
 * The one rule: the order within a lane never changes, and nothing waits here for longer than the hold, or
 * than a notice takes that stands before it.
 */
import {
  METHOD,
  type Message,
  type Notification,
  type Request,
  type Response,
  sameId,
  textMember,
} from '../protocol.ts'
import { firstOf, systemClock, turn } from '../retry.ts'
import type { Lane, OpenUpstream, Outlet, Room, Upstream } from '../sides.ts'
import type { Level, Status } from '../status.ts'
import { Breaks, type BreaksOptions, type Gap, type Outage, type Recovery } from './breaks.ts'
import { type FilterRule, passes } from './filter.ts'
import { Hold, Queue } from './lane.ts'
import { repaired, verdict } from './meta.ts'
import { downNotice, gapNotice, upNotice } from './notice.ts'
import { type ChannelDraft, channelNotification } from './notification.ts'
import { type CatchUp, Tools } from './tools.ts'

/** All times in milliseconds. */
export interface ChannelOptions extends BreaksOptions {
  /** Events within this time of the client's `notifications/initialized` wait; 0 holds nothing. */
  readonly holdMs: number
  /** False: neither `channel_gap` nor `channel_down`. */
  readonly gapNotice: boolean
  /** A gap notice waits at most so long for the server's tool names. */
  readonly toolsPatienceMs: number
  /** From `parseFilter`; empty: everything. */
  readonly only: readonly FilterRule[]
  readonly drop: readonly FilterRule[]
  /** Cuts secrets out of the reasons that a notice tells. */
  readonly redact: (text: string) => string
}

export const DEFAULT_CHANNEL: ChannelOptions = {
  holdMs: 2_000,
  gapNotice: true,
  gapIntervalMs: 10 * 60_000,
  downAfterMs: 60_000,
  lateFirstMs: 5_000,
  toolsPatienceMs: 2_000,
  only: [],
  drop: [],
  clock: systemClock,
  redact: (text) => text,
}

/** `open`, with the channel taken care of. */
export function withChannel(open: OpenUpstream, options: ChannelOptions): OpenUpstream {
  return (outlet) => new Channel(open, options, outlet)
}

/** Requests with which a client sets itself up: they do not show that it hears channel events. */
const SETTING_UP: ReadonlySet<string> = new Set([
  METHOD.initialize,
  METHOD.discover,
  METHOD.ping,
  METHOD.toolsList,
  'prompts/list',
  'resources/list',
  'resources/templates/list',
])

class Channel implements Upstream {
  readonly #options: ChannelOptions
  readonly #outlet: Outlet
  readonly #upstream: Upstream
  readonly #lane = new Queue()
  readonly #tools = new Tools((request) => this.#upstream.send(request))
  readonly #breaks: Breaks
  readonly #closing = new AbortController()
  readonly #filtered: Tally
  readonly #ignored: Tally
  readonly #held: Tally
  #hold: Hold
  /** Raw id of the client's `initialize` while it is unanswered. */
  #initializing: string | undefined
  /** The server declared `claude/channel`. */
  #active = false
  #hasTools = false

  constructor(open: OpenUpstream, options: ChannelOptions, outlet: Outlet) {
    this.#options = options
    this.#outlet = outlet
    this.#hold = new Hold(options.holdMs)
    this.#filtered = new Tally(
      outlet,
      'debug',
      (n) => `${events(n)} kept from the client by --only or --drop`,
    )
    this.#ignored = new Tally(
      outlet,
      'warn',
      (n) => `${events(n)} without a text in "content": clients ignore it`,
    )
    this.#held = new Tally(outlet, 'debug', (n) => `${events(n)} held until the client listens`)
    this.#breaks = new Breaks(options, {
      gap: (gap) => this.#tellGap(gap),
      down: (outage) => this.#tellDown(outage),
      up: (recovery) => this.#tellUp(recovery),
    })
    this.#upstream = open({
      deliver: (message, lane, isWanted) => this.#deliver(message, lane, isWanted),
      report: (status) => this.#report(status),
    })
  }

  send(message: Message): Promise<void> {
    if (message.kind === 'request') {
      if (message.method === METHOD.initialize) this.#startAnew(message)
      else if (!SETTING_UP.has(message.method)) this.#hold.release()
      if (message.method !== METHOD.toolsList) return this.#upstream.send(message)
      const done = this.#tools.asked(message)
      const settled = this.#upstream.send(message)
      settled.then(done, done)
      return settled
    }
    if (message.kind === 'notification' && message.method === METHOD.initialized) {
      this.#hold.begin()
      this.#breaks.initialized()
    }
    return this.#upstream.send(message)
  }

  /** Held events go out first, but a client that does not read delays no goodbye; nothing is told any more. */
  async close(deadlineMs: number): Promise<void> {
    const began = this.#options.clock.uptime()
    this.#closing.abort()
    this.#hold.release()
    this.#breaks.close()
    if (this.#lane.busy) await firstOf([this.#lane.run(turn)], deadlineMs / 3)
    this.#filtered.finish()
    this.#ignored.finish()
    this.#held.finish()
    await this.#upstream.close(deadlineMs - (this.#options.clock.uptime() - began))
  }

  /** Events that are held stay so: the client that starts anew hears no better. */
  #startAnew(initialize: Request): void {
    this.#initializing = initialize.id
    this.#active = false
    this.#tools.forget()
    this.#breaks.reset()
    const before = this.#hold
    this.#hold = new Hold(this.#options.holdMs)
    before.release()
  }

  #deliver(message: Message, lane: Lane, isWanted?: () => boolean): Room {
    if (message.kind === 'response' && this.#answered(message)) return undefined
    if (!this.#active || message.kind !== 'notification' || message.method !== METHOD.channel) {
      if (lane === 'answer' || !this.#lane.busy) return this.#outlet.deliver(message, lane)
      return this.#lane.run(() => (isWanted?.() === false ? undefined : this.#outlet.deliver(message, lane)))
    }
    const event = this.#cleaned(message)
    if (event === undefined) return undefined
    if (lane === 'answer' || (this.#hold.over && !this.#lane.busy)) return this.#outlet.deliver(event, lane)
    if (!this.#hold.over) this.#held.count()
    return this.#lane.run(() => this.#say(event, isWanted))
  }

  /** Looks at an answer for what it tells us. True when it was ours. */
  #answered(response: Response): boolean {
    const { id } = response
    if (this.#initializing !== undefined && id !== undefined && sameId(id, this.#initializing)) {
      this.#initializing = undefined
      this.#active = declares(response, 'experimental', 'claude/channel')
      this.#hasTools = declares(response, 'tools')
      return false
    }
    return this.#tools.take(response)
  }

  /** The event as the client gets it; undefined when it is not to get it. */
  #cleaned(message: Notification): Notification | undefined {
    const found = verdict(message)
    if (found === 'ignored') this.#ignored.count()
    const event = found === 'repair' ? repaired(message) : message
    if (passes(event, this.#options.only, this.#options.drop)) return event
    this.#filtered.count()
    return undefined
  }

  /** In its turn on the push lane: once the client hears it. */
  async #say(event: Notification, isWanted = () => true): Promise<void> {
    while (!this.#hold.over) await this.#hold.passed()
    if (isWanted()) await this.#outlet.deliver(event, 'push')
  }

  #report(status: Status): void {
    this.#outlet.report(status)
    if (this.#options.gapNotice) this.#breaks.observe(status)
  }

  /** Takes its place on the lane now, while the stream's first event is still to come. */
  #tellGap(gap: Gap): void {
    const { stream, from, to, breaks } = gap
    const reason = this.#options.redact(gap.reason)
    const draft = async (): Promise<ChannelDraft> => gapNotice({ ...gap, reason }, await this.#catchUp())
    this.#tell(draft, () => {
      const told = { kind: 'gap', from, to, reason, breaks } as const
      this.#outlet.report(stream === undefined ? told : { ...told, stream })
    })
  }

  /** Asks for no tool names: the server is away. */
  #tellDown(outage: Outage): void {
    const reason = this.#options.redact(outage.reason)
    const draft = async (): Promise<ChannelDraft> => downNotice({ ...outage, reason }, this.#tools.catchUp)
    this.#tell(draft, () => {
      const text = `told the client that nothing is heard since ${new Date(outage.since).toISOString()}`
      this.#outlet.report({ kind: 'note', level: 'info', text })
    })
  }

  #tellUp(recovery: Recovery): void {
    const reason = this.#options.redact(recovery.reason)
    const draft = async (): Promise<ChannelDraft> => upNotice({ ...recovery, reason })
    this.#tell(draft, () => {
      const text = 'told the client that it is up again and nothing was missed'
      this.#outlet.report({ kind: 'note', level: 'info', text })
    })
  }

  async #catchUp(): Promise<CatchUp> {
    if (!this.#hasTools) return this.#tools.catchUp
    return await this.#tools.find(this.#options.toolsPatienceMs, this.#closing.signal)
  }

  #tell(draft: () => Promise<ChannelDraft>, told: () => void): void {
    if (!this.#active) return
    const said = this.#lane.run(async () => {
      const notice = channelNotification(await draft())
      if (!this.#active || this.#closing.signal.aborted) return
      await this.#say(notice)
      told()
    })
    // A client that is gone needs no notice; that it is gone is the bridge's to say.
    said.catch(() => undefined)
  }
}

/** Counts what is worth a line at 1, 10, 100 … and at the end. */
class Tally {
  readonly #outlet: Outlet
  readonly #level: Level
  readonly #text: (count: number) => string
  #count = 0
  #told = 0

  constructor(outlet: Outlet, level: Level, text: (count: number) => string) {
    this.#outlet = outlet
    this.#level = level
    this.#text = text
  }

  count(): void {
    this.#count++
    if (this.#told === 0 || this.#count >= this.#told * 10) this.finish()
  }

  finish(): void {
    if (this.#count === this.#told) return
    this.#told = this.#count
    this.#outlet.report({ kind: 'note', level: this.#level, text: this.#text(this.#count) })
  }
}

function events(count: number): string {
  return count === 1 ? '1 channel event' : `${count} channel events`
}

/** Does the answer to `initialize` declare the capability at `path`? */
function declares(response: Response, ...path: readonly string[]): boolean {
  const declared = textMember(response.raw, response.result, 'capabilities', ...path)
  return declared !== undefined && !['null', 'false'].includes(declared)
}

/**
 * Many spaces over one socket: the documented `wss://…/channel`, used only when CONVO_CHANNEL_URL is set.
 *
 * Its frames are documented nowhere; assumed are `{"type":"subscribe","space_id"}` and `unsubscribe` from us,
 * `subscribed`, `error` and the `context_event` of the per-space sockets from the server.
 * Not the way of one space (member.ts). The one rule: one space that is refused or slow holds up no other.
 */
import type { Status } from '../status.ts'
import type { Actor } from './backend.ts'
import type { FeedConfig } from './config.ts'
import type { Connection } from './connection.ts'
import { type Frame, isNews, malformedFrame, readFrame } from './frame.ts'
import { Member, refuses } from './member.ts'
import { type Reply, yes } from './refusal.ts'
import { KeptSocket } from './socket.ts'
import type { Space } from './space.ts'
import { type Subscription, stopped } from './subscription.ts'

export class SharedSocket {
  readonly #config: FeedConfig
  readonly #report: (status: Status) => void
  readonly #over = new AbortController()
  readonly #members = new Map<string, Member>()
  /** All that were asked for on the connection that is open, and not refused. */
  #asked = new Set<string>()
  /** Spaces left before their answer came, each as often as it was: an answer does not say to which question. */
  #unanswered: string[] = []
  readonly #socket: KeptSocket
  #run: Promise<void> | undefined
  /** The connection that is open now; until when. */
  #open: { readonly connection: Connection; readonly signal: AbortSignal } | undefined

  constructor(config: FeedConfig, identity: () => Promise<Reply<Actor>>, report: (status: Status) => void) {
    this.#config = config
    this.#report = report
    this.#socket = new KeptSocket(
      config,
      {
        what: 'open the channel socket',
        proxy: config.channelProxy,
        setting: 'CONVO_CHANNEL_URL',
        url: () => address(config),
      },
      {
        prepare: identity,
        opened: async (connection, signal) => {
          this.#unanswered = []
          this.#asked = new Set()
          this.#open = { connection, signal }
          for (const member of this.#members.values()) member.connected(connection, signal)
          return yes(undefined)
        },
        frame: (frameText) => this.#frame(frameText),
        lost: (ending) => {
          this.#open = undefined
          for (const member of this.#members.values()) member.status.down(ending.reason, ending.since)
        },
        failed: (refusal, delayMs) => {
          this.#open = undefined
          for (const member of this.#members.values()) member.failed(refusal, delayMs)
        },
      },
    )
  }

  follow(space: Space): Subscription {
    const member = new Member(space, this.#config, this.#report, {
      hurry: () => this.#socket.hurry(),
      left: () => this.#left(member),
      mistakable: () => this.#mistakable(space.spaceId),
      asked: () => this.#asked.add(space.spaceId),
      refused: (refusal) => {
        if (refusal.lasting) this.#asked.delete(space.spaceId)
        if (this.#socket.replaced(refusal)) this.#open = undefined
      },
    })
    this.#members.set(space.spaceId, member)
    if (this.#open !== undefined) member.connected(this.#open.connection, this.#open.signal)
    this.#run ??= this.#socket
      .run(this.#over.signal)
      .catch((cause: unknown) => stopped(cause, 'channel', this.#report))
    return member
  }

  async close(): Promise<void> {
    this.#over.abort()
    await this.#run
  }

  #left(member: Member): void {
    this.#members.delete(member.spaceId)
    if (member.unanswered) this.#unanswered.push(member.spaceId)
    this.#open?.connection.send(JSON.stringify({ type: 'unsubscribe', space_id: member.spaceId }))
  }

  /** May what was taken for an answer have been one to a space that left? Once for each of those. */
  #mistakable(spaceId: string): boolean {
    const at = this.#unanswered.indexOf(spaceId)
    if (at !== -1) this.#unanswered.splice(at, 1)
    return at !== -1
  }

  async #frame(frameText: string): Promise<void> {
    const frame = readFrame(frameText)
    if (frame === undefined) return this.#report(malformedFrame(frameText, 'the channel'))
    const { spaceId, type } = frame
    const member = spaceId === undefined ? this.#meant(frame) : this.#members.get(spaceId)
    if (member !== undefined) return member.frame(frame, frameText.length)
    if (spaceId !== undefined) return
    const dropped = (what: string, why: string): void => this.#report({ kind: 'dropped', what, why })
    if (type === 'error') {
      dropped('an error frame from the channel', 'it names no space, and is no answer to a subscription')
    } else if (isNews(frame)) {
      dropped(`a ${type} from the channel`, 'it names no space, and there is more than one')
    }
  }

  /**
   * Who a frame is for that names no space. News: the only one. An answer: the one that waits for it, if there is but
   * one; a late yes, that waited.
   */
  #meant(frame: Frame): Member | undefined {
    const [only, ...others] = this.#asked
    if (isNews(frame)) return others.length === 0 ? this.#members.get(only ?? '') : undefined
    const members = [...this.#members.values()]
    const isYes = frame.type === 'subscribed'
    if (!isYes && !(frame.type === 'error' && refuses(frame))) return undefined
    const asking = members.filter(({ asks }) => asks)
    const possible = isYes && asking.length === 0 ? members.filter(({ unanswered }) => unanswered) : asking
    return possible.length === 1 ? possible[0] : undefined
  }
}

function address(config: FeedConfig): string {
  const url = new URL(config.channelUrl ?? '')
  url.searchParams.set('token', config.apiKey.value)
  return url.href
}

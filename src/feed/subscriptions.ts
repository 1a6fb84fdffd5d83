/**
 * Which spaces are followed, and how that came: asked for, discovered, or set at start.
 *
 * Not a socket, not a tool's wording. The one rule: what the agent said last counts; a space it left is not
 * brought back by discovery, and one it asked for is kept through every failure that time may mend.
 */
import type { ChannelDraft } from '../channel/notification.ts'
import { BridgeError, seconds } from '../errors.ts'
import { Backoff, sleep } from '../retry.ts'
import type { Status } from '../status.ts'
import { type Actor, Backend, type SpaceSummary } from './backend.ts'
import type { FeedConfig } from './config.ts'
import { no, type Refusal, type Reply, yes } from './refusal.ts'
import { SharedSocket } from './shared-socket.ts'
import { Space } from './space.ts'
import { OwnSocket, type Subscription, stopped } from './subscription.ts'

/** How a subscribe went. `kept` is a refusal that time may mend: the subscription stays. */
export type Subscribed =
  | { readonly state: 'new' | 'already' }
  | { readonly state: 'kept' | 'refused'; readonly refusal: Refusal }

/** How a subscribe to all went. */
export interface SubscribedAll {
  readonly added: number
  readonly total: number
  /** Those that are not live yet, and why. */
  readonly waiting: readonly { readonly spaceId: string; readonly problem: string }[]
}

const UNSUBSCRIBED = 'not subscribed any more'

export class Subscriptions {
  readonly #config: FeedConfig
  readonly #push: (draft: ChannelDraft) => Promise<void>
  readonly #report: (status: Status) => void
  readonly #backend: Backend
  readonly #over = new AbortController()
  readonly #followed = new Map<string, Subscription>()
  /** Left by the agent's own word: discovery passes them by. */
  readonly #left = new Set<string>()
  readonly #shared: SharedSocket | undefined
  #discovery: AbortController | undefined
  /** When the spaces were last looked at, by the server's clock: what is new since appeared after that. */
  #lookedAt: number | undefined
  #actor: Actor | undefined
  #asking: Promise<Reply<Actor>> | undefined
  readonly #ending = new Set<Promise<void>>()

  constructor(
    config: FeedConfig,
    push: (draft: ChannelDraft) => Promise<void>,
    report: (status: Status) => void,
  ) {
    this.#config = config
    this.#push = push
    this.#report = report
    this.#backend = new Backend(config)
    this.#shared =
      config.channelUrl === undefined ? undefined : new SharedSocket(config, () => this.identity(), report)
  }

  get actor(): Actor | undefined {
    return this.#actor
  }

  /** Who this key belongs to: asked until answered, then known. */
  identity(): Promise<Reply<Actor>> {
    if (this.#actor !== undefined) return Promise.resolve(yes(this.#actor))
    this.#asking ??= this.#ask()
    return this.#asking
  }

  /** Joins and follows one space; waits for its first attempt, `toolMs` at most. */
  async subscribe(spaceId: string): Promise<Subscribed> {
    this.#left.delete(spaceId)
    const known = this.#followed.get(spaceId)
    const subscription = known ?? this.#follow(spaceId, true)
    if (known !== undefined && known.problem === undefined) return { state: 'already' }
    const reply = await this.#firstAttempt(subscription)
    if (reply.ok) return { state: known === undefined ? 'new' : 'already' }
    // Another call may have ended it meanwhile.
    const kept = this.#followed.get(spaceId) === subscription
    if (kept && (!reply.no.lasting || known !== undefined)) return { state: 'kept', refusal: reply.no }
    if (kept) this.#drop(subscription, UNSUBSCRIBED)
    return { state: 'refused', refusal: reply.no }
  }

  /** Follows `spaceId` from now on, whatever the first attempts say. */
  keep(spaceId: string): void {
    if (!this.#followed.has(spaceId)) this.#follow(spaceId, true)
  }

  /** Follows all active spaces, and from now on looks for new ones. */
  async subscribeAll(): Promise<Reply<SubscribedAll>> {
    this.#left.clear()
    const found = await this.#backend.activeSpaces(this.#over.signal)
    this.discover(!found.ok)
    if (!found.ok) return found
    this.#lookedAt = found.value.at
    const added = this.#add(found.value.spaces)
    await Promise.all(added.map((subscription) => this.#firstAttempt(subscription)))
    const waiting = added.flatMap(({ spaceId, problem }) =>
      problem === undefined ? [] : [{ spaceId, problem }],
    )
    return yes({ added: added.length, total: this.#followed.size, waiting })
  }

  /** Looks for new spaces now and every `discoverMs`, until `unsubscribeAll` or the end. */
  discover(atOnce = false): void {
    if (this.#discovery !== undefined) return
    this.#discovery = new AbortController()
    const signal = AbortSignal.any([this.#discovery.signal, this.#over.signal])
    const looking = this.#look(signal, atOnce)
      .catch((cause: unknown) => stopped(cause, 'discovery', this.#report))
      .finally(() => this.#ending.delete(looking))
    this.#ending.add(looking)
  }

  /** False when it was not followed; it is remembered as left either way. */
  unsubscribe(spaceId: string): boolean {
    this.#left.add(spaceId)
    const subscription = this.#followed.get(spaceId)
    if (subscription === undefined) return false
    this.#drop(subscription, UNSUBSCRIBED)
    return true
  }

  /** Leaves all and looks for no new ones; how many they were. */
  unsubscribeAll(): number {
    this.#discovery?.abort()
    this.#discovery = undefined
    this.#lookedAt = undefined
    const count = this.#followed.size
    for (const [spaceId, subscription] of this.#followed) {
      this.#left.add(spaceId)
      this.#drop(subscription, UNSUBSCRIBED)
    }
    return count
  }

  /** In the order they were subscribed. */
  list(): readonly { readonly spaceId: string; readonly problem: string | undefined }[] {
    return [...this.#followed.values()].map(({ spaceId, problem }) => ({ spaceId, problem }))
  }

  /** Ends everything; resolves when no connection is left. */
  async close(): Promise<void> {
    this.#over.abort()
    for (const subscription of this.#followed.values()) this.#drop(subscription)
    await Promise.all([...this.#ending, this.#shared?.close()])
    await this.#backend.close()
  }

  async #ask(): Promise<Reply<Actor>> {
    const reply = await this.#backend.me(this.#over.signal)
    this.#asking = undefined
    if (reply.ok) {
      this.#actor = reply.value
      const text = `connected to moot as ${reply.value.displayName} (${reply.value.actorId})`
      this.#report({ kind: 'note', level: 'info', text })
    }
    return reply
  }

  #follow(spaceId: string, join: boolean, newsSince?: number): Subscription {
    const { wording, maxText, firehose } = this.#config
    const space = new Space({
      spaceId,
      join,
      newsSince,
      backend: this.#backend,
      identity: () => this.identity(),
      push: this.#push,
      report: this.#report,
      firehose,
      voice: { wording, maxText },
    })
    const subscription = this.#shared?.follow(space) ?? new OwnSocket(space, this.#config, this.#report)
    this.#followed.set(spaceId, subscription)
    return subscription
  }

  #drop(subscription: Subscription, why?: string): void {
    this.#followed.delete(subscription.spaceId)
    const ending = subscription.end(why).finally(() => this.#ending.delete(ending))
    this.#ending.add(ending)
  }

  async #firstAttempt(subscription: Subscription): Promise<Reply<unknown>> {
    const done = new AbortController()
    const given = AbortSignal.any([done.signal, this.#over.signal])
    const { toolMs } = this.#config.limits
    const late = sleep(toolMs, given).then((): Reply<unknown> => no(slow(subscription, toolMs)))
    const reply = await Promise.race([subscription.attempt(), late])
    done.abort()
    return reply
  }

  #add(found: readonly SpaceSummary[], newsSince?: number): Subscription[] {
    const wanted = found.filter(({ spaceId, status }) => status === 'active' && !this.#left.has(spaceId))
    const fresh = wanted.filter(({ spaceId }) => !this.#followed.has(spaceId))
    return fresh.map(({ spaceId }) => this.#follow(spaceId, false, newsSince))
  }

  async #look(signal: AbortSignal, atOnce: boolean): Promise<void> {
    const { limits, backoff: options, random } = this.#config
    const backoff = new Backoff(options, random)
    let told: string | undefined
    for (let waitMs = atOnce ? backoff.next() : limits.discoverMs; ; ) {
      if (waitMs > 0) await sleep(waitMs, signal)
      if (signal.aborted) return
      const found = await this.#backend.activeSpaces(signal)
      if (signal.aborted) return
      if (!found.ok) {
        const { error, lasting, retryAfterMs } = found.no
        if (told !== error.message) this.#report({ kind: 'failed', what: 'looking for spaces', error })
        told = error.message
        waitMs = lasting ? backoff.slow() : backoff.next(0, retryAfterMs)
        continue
      }
      told = undefined
      backoff.reset()
      waitMs = limits.discoverMs
      for (const { spaceId } of this.#add(found.value.spaces, this.#lookedAt)) {
        this.#report({ kind: 'note', level: 'info', text: `subscribed to space ${spaceId}, found by itself` })
      }
      this.#lookedAt = found.value.at
      await this.#compareStatuses(found.value.spaces, signal)
    }
  }

  /** A followed space that is not among the active ones has changed, and one that is among them is active. */
  async #compareStatuses(found: readonly SpaceSummary[], signal: AbortSignal): Promise<void> {
    const active = new Set(found.map(({ spaceId }) => spaceId))
    for (const { space, problem } of this.#followed.values()) {
      if (signal.aborted) return
      if (active.has(space.spaceId)) await space.noticeStatus('active')
      else if (problem === undefined) await space.checkStatus(signal)
    }
  }
}

function slow(subscription: Subscription, waitedMs: number): Refusal {
  const why = subscription.problem ?? 'no answer yet'
  return {
    error: new BridgeError(
      'SERVER_UNREACHABLE',
      `space ${subscription.spaceId} is not connected after ${seconds(waitedMs)}: ${why}`,
    ),
    lasting: false,
  }
}

/**
 * Which spaces are followed, and how that came: asked for, discovered, or set at start.
 *
 * Not a socket, not a tool's wording. The one rule: what the agent said last counts; a space it left is not
 * brought back by discovery, and one it asked for is kept through every failure that time may mend.
 */
import type { ChannelDraft } from '../channel/notification.ts'
import { BridgeError, seconds } from '../errors.ts'
import { Backoff, ENDLESS_MS, firstOf, limit, sleep } from '../retry.ts'
import { ALL_SPACES, type Status } from '../status.ts'
import { type Actor, Backend, type SpaceSummary } from './backend.ts'
import type { FeedConfig } from './config.ts'
import { no, pauseAfter, type Refusal, type Reply, reasonOfRefusal, yes } from './refusal.ts'
import { SharedSocket } from './shared-socket.ts'
import { Space } from './space.ts'
import { StreamStatus } from './stream-status.ts'
import { closing, OwnSocket, type Subscription, stopped } from './subscription.ts'

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

/** Some may not be answered. */
const STATUSES_AT_ONCE = 8

export class Subscriptions {
  readonly #config: FeedConfig
  readonly #push: (draft: ChannelDraft, isWanted: () => boolean) => Promise<void>
  readonly #report: (status: Status) => void
  readonly #backend: Backend
  readonly #over = new AbortController()
  readonly #followed = new Map<string, Subscription>()
  /** Wanted only by calls that still wait, so many: such a one ends with the last of them that is cancelled. */
  readonly #tentative = new Map<Subscription, number>()
  /** Left by the agent's own word: discovery passes them by. */
  readonly #left = new Set<string>()
  /** Left at some time: what was said before they are followed again is no news. */
  readonly #onceLeft = new Set<string>()
  /** The ids of all spaces that were listed or followed. */
  readonly #met = new Set<string>()
  readonly #shared: SharedSocket | undefined
  #discovery: AbortController | undefined
  /** How often all was left: whoever asked for all before that has nothing to ask for any more. */
  #departures = 0
  /** When the spaces were last looked at, by the server's clock: what is new since appeared after that. */
  #lookedAt: number | undefined
  /** Who the key belongs to: another one may be somebody else's. */
  #known: { readonly actor: Actor; readonly key: string } | undefined
  #asking: Promise<Reply<Actor>> | undefined
  readonly #ending = new Set<Promise<void>>()

  constructor(
    config: FeedConfig,
    push: (draft: ChannelDraft, isWanted: () => boolean) => Promise<void>,
    report: (status: Status) => void,
  ) {
    this.#config = config
    this.#push = push
    this.#report = report
    this.#backend = new Backend(config, report)
    this.#shared =
      config.channelUrl === undefined ? undefined : new SharedSocket(config, () => this.identity(), report)
    this.#beside(this.#watchStatuses(), 'the statuses of spaces')
  }

  get actor(): Actor | undefined {
    return this.#known?.actor
  }

  /** Who the key belongs to: asked until answered, then known until there is another key. */
  identity(): Promise<Reply<Actor>> {
    if (this.#known?.key === this.#config.apiKey.value) return Promise.resolve(yes(this.#known.actor))
    this.#asking ??= this.#ask()
    return this.#asking
  }

  /**
   * Joins and follows one space; waits for its first attempt, `toolMs` at most. When it is `cancelled` meanwhile,
   * it is undone, unless somebody else asked for it too.
   */
  async subscribe(spaceId: string, cancelled: AbortSignal): Promise<Subscribed> {
    const known = this.#followed.get(spaceId)
    if (known !== undefined && known.problem === undefined) {
      this.#tentative.delete(known)
      this.#left.delete(spaceId)
      return { state: 'already' }
    }
    const newsSince = this.#met.has(spaceId) ? undefined : this.#watchedSince
    const subscription = known ?? this.#follow(spaceId, true, newsSince)
    const joining = known === undefined || this.#tentative.has(known) ? undefined : known
    joining?.space.joining.again()
    this.#want([subscription], known === undefined)
    const soon = limit(this.#config.limits.toolMs, cancelled, this.#over.signal)
    const attempt = (): Promise<Reply<unknown>> => this.#firstAttempt(subscription, soon.signal)
    // (The one that is under way may have begun before it was to join.)
    const isStale = ({ ok }: Reply<unknown>): boolean =>
      !ok && joining?.over.aborted === false && joining.space.joining.isUntried
    const reply = await attempt()
      .then((first) => (isStale(first) ? attempt() : first))
      .finally(soon.clear)
    if (cancelled.aborted) this.#withdraw([subscription])
    // Another call may have ended it meanwhile.
    const kept = this.#followed.get(spaceId) === subscription
    if (kept && !cancelled.aborted) this.#left.delete(spaceId)
    const tentative = !cancelled.aborted && this.#tentative.delete(subscription)
    if (reply.ok) return { state: known === undefined ? 'new' : 'already' }
    if (kept && (!reply.no.lasting || !tentative)) return { state: 'kept', refusal: reply.no }
    if (kept) this.#drop(subscription, UNSUBSCRIBED)
    return { state: 'refused', refusal: reply.no }
  }

  /** Follows `spaceId` from now on, whatever the first attempts say. */
  keep(spaceId: string): void {
    this.#tentative.delete(this.#followed.get(spaceId) ?? this.#follow(spaceId, true))
  }

  /** Follows all active spaces, and from now on looks for new ones. Waits, and is undone, as `subscribe`. */
  async subscribeAll(cancelled: AbortSignal): Promise<Reply<SubscribedAll>> {
    const { toolMs } = this.#config.limits
    const departures = this.#departures
    const left = [...this.#left]
    this.#left.clear()
    const soon = limit(toolMs, cancelled, this.#over.signal)
    const found = await this.#backend.activeSpaces(soon.signal)
    const stands = (): boolean => departures === this.#departures && !soon.signal.aborted
    const newsSince = this.#watchedSince
    if (found.ok && stands()) this.#lookedAt = found.value.at
    const added = found.ok && stands() ? this.#add(found.value.spaces, newsSince) : []
    this.#want(added, true)
    const others = [...this.#followed.values()].filter((subscription) => !added.includes(subscription))
    this.#want(others, false)
    if (found.ok) await this.#connected(soon.signal)
    const late = soon.signal.aborted
    soon.clear()
    if (this.#over.signal.aborted) return no(closing())
    if (cancelled.aborted) {
      this.#withdraw([...added, ...others])
      for (const spaceId of left) if (!this.#followed.has(spaceId)) this.#left.add(spaceId)
      return no(closing())
    }
    for (const subscription of [...added, ...others]) this.#tentative.delete(subscription)
    if (departures !== this.#departures) return no(allLeft())
    this.discover(!found.ok)
    if (!found.ok) return late ? no(unlisted(toolMs)) : found
    const waiting = this.list().flatMap(({ spaceId, problem }) =>
      problem === undefined ? [] : [{ spaceId, problem }],
    )
    return yes({ added: added.length, total: this.#followed.size, waiting })
  }

  /** Looks for new spaces now and every `discoverMs`, until `unsubscribeAll` or the end. */
  discover(atOnce = false): void {
    if (this.#discovery !== undefined) return
    this.#discovery = new AbortController()
    const signal = limit(ENDLESS_MS, this.#discovery.signal, this.#over.signal).signal
    this.#beside(this.#look(signal, atOnce), 'discovery')
  }

  /** False when it was not followed; it is remembered as left either way. */
  unsubscribe(spaceId: string): boolean {
    this.#leave(spaceId)
    const subscription = this.#followed.get(spaceId)
    if (subscription === undefined) return false
    this.#drop(subscription, UNSUBSCRIBED)
    return true
  }

  /** Leaves all and looks for no new ones; how many they were. */
  unsubscribeAll(): number {
    this.#departures++
    this.#discovery?.abort()
    this.#discovery = undefined
    this.#lookedAt = undefined
    const count = this.#followed.size
    for (const [spaceId, subscription] of this.#followed) {
      this.#leave(spaceId)
      this.#drop(subscription, UNSUBSCRIBED)
    }
    return count
  }

  #leave(spaceId: string): void {
    this.#left.add(spaceId)
    this.#onceLeft.add(spaceId)
  }

  /** What was said since in a space that appears only now is news; undefined while nothing looks for new ones. */
  get #watchedSince(): number | undefined {
    return this.#discovery === undefined ? undefined : this.#lookedAt
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

  #beside(run: Promise<void>, what: string): void {
    const running = run
      .catch((cause: unknown) => stopped(cause, what, this.#report))
      .finally(() => this.#ending.delete(running))
    this.#ending.add(running)
  }

  async #ask(): Promise<Reply<Actor>> {
    const { apiKey } = this.#config
    let key: string
    let reply: Reply<Actor>
    do {
      key = apiKey.value
      reply = await this.#backend.me(this.#over.signal)
      // Another key meanwhile: whose it is was not what was answered, perhaps.
    } while (reply.ok && key !== apiKey.value)
    this.#asking = undefined
    if (reply.ok) {
      this.#known = { actor: reply.value, key }
      const text = `connected to moot as ${reply.value.displayName} (${reply.value.actorId})`
      this.#report({ kind: 'note', level: 'info', text })
    }
    return reply
  }

  #follow(spaceId: string, join: boolean, newsSince?: number): Subscription {
    this.#met.add(spaceId)
    const space: Space = new Space({
      spaceId,
      join,
      newsSince,
      isAnother: (id) => this.#met.has(id),
      backend: this.#backend,
      identity: () => this.identity(),
      push: (draft) => this.#push(draft, () => this.#followed.get(spaceId)?.space === space),
      report: this.#report,
      config: this.#config,
    })
    const subscription = this.#shared?.follow(space) ?? new OwnSocket(space, this.#config, this.#report)
    this.#followed.set(spaceId, subscription)
    return subscription
  }

  #drop(subscription: Subscription, why?: string): void {
    this.#followed.delete(subscription.spaceId)
    this.#tentative.delete(subscription)
    this.#beside(subscription.end(why), `space ${subscription.spaceId}`)
  }

  /** A call wants these; those it just made are wanted by nobody else yet. */
  #want(subscriptions: readonly Subscription[], made: boolean): void {
    for (const subscription of subscriptions) {
      const calls = made ? 0 : this.#tentative.get(subscription)
      if (calls !== undefined) this.#tentative.set(subscription, calls + 1)
    }
  }

  /** A call wants these no more. */
  #withdraw(subscriptions: readonly Subscription[]): void {
    for (const subscription of subscriptions) {
      const calls = this.#tentative.get(subscription)
      if (calls === undefined) continue
      this.#tentative.set(subscription, calls - 1)
      if (calls === 1) this.#drop(subscription, UNSUBSCRIBED)
    }
  }

  /** How the next attempt of it went; by the end of `soon` that there was none. */
  async #firstAttempt(subscription: Subscription, soon: AbortSignal): Promise<Reply<unknown>> {
    const { toolMs } = this.#config.limits
    const first = await firstOf([subscription.attempt()], toolMs, soon)
    return this.#over.signal.aborted ? no(closing()) : (first?.result ?? no(slow(subscription, toolMs)))
  }

  /** Resolves once each that is not live has had an attempt, at the end of `soon` at the latest. */
  async #connected(soon: AbortSignal): Promise<void> {
    const down = [...this.#followed.values()].filter(({ problem }) => problem !== undefined)
    await Promise.all(down.map((subscription) => this.#firstAttempt(subscription, soon)))
  }

  #add(found: readonly SpaceSummary[], newsSince: number | undefined): Subscription[] {
    for (const { spaceId } of found) this.#met.add(spaceId)
    const wanted = found.filter((space) => isActive(space) && !this.#left.has(space.spaceId))
    const fresh = wanted.filter(({ spaceId }) => !this.#followed.has(spaceId))
    return fresh.map(({ spaceId }) =>
      this.#follow(spaceId, false, this.#onceLeft.has(spaceId) ? undefined : newsSince),
    )
  }

  async #look(signal: AbortSignal, atOnce: boolean): Promise<void> {
    const { limits, backoff: options, random } = this.#config
    const backoff = new Backoff(options, random)
    let told: string | undefined
    /** Until it is there, the first list of what is wanted at once is missed like a stream. */
    const first = atOnce
      ? new StreamStatus(ALL_SPACES, this.#report, this.#config.clock, 'looking for spaces')
      : undefined
    for (let waitMs = atOnce ? backoff.next() : limits.discoverMs; ; ) {
      if (waitMs > 0) await sleep(waitMs, signal)
      if (signal.aborted) break
      const answers = new Map([...this.#followed.values()].map(({ space }) => [space, space.status.asked()]))
      const found = await this.#backend.activeSpaces(signal)
      if (signal.aborted) break
      if (!found.ok) {
        const { error } = found.no
        waitMs = pauseAfter(found.no, backoff)
        const reason = reasonOfRefusal(found.no)
        if (first?.isUp === false) first.retrying(found.no, waitMs)
        else if (told !== reason) this.#report({ kind: 'failed', what: 'looking for spaces', error })
        told = reason
        continue
      }
      if (first?.isUp === false) first.up(true)
      told = undefined
      backoff.reset()
      waitMs = limits.discoverMs
      // What a waiting call follows is wanted by discovery too.
      for (const { spaceId } of found.value.spaces.filter(isActive)) {
        const subscription = this.#followed.get(spaceId)
        if (subscription !== undefined && !this.#left.has(spaceId)) this.#tentative.delete(subscription)
      }
      for (const { spaceId } of this.#add(found.value.spaces, this.#lookedAt)) {
        this.#report({ kind: 'note', level: 'info', text: `subscribed to space ${spaceId}, found by itself` })
      }
      this.#lookedAt = found.value.at
      await this.#compareStatuses(found.value.spaces, answers, signal)
    }
    if (!this.#over.signal.aborted) first?.ended(UNSUBSCRIBED)
  }

  /** Discovery sees the statuses too. Where there is none, they are asked for: a backend need not send frames. */
  async #watchStatuses(): Promise<void> {
    const { signal } = this.#over
    for (;;) {
      await sleep(this.#config.limits.discoverMs, signal)
      if (signal.aborted) return
      if (this.#discovery === undefined) await this.#compareStatuses([], new Map(), signal)
    }
  }

  /**
   * A followed space that is listed has the status given there, unless it says otherwise itself; one that is not
   * has perhaps changed.
   */
  async #compareStatuses(
    found: readonly SpaceSummary[],
    answers: ReadonlyMap<Space, (status: string) => Promise<void>>,
    signal: AbortSignal,
  ): Promise<void> {
    const listed = new Map(found.map(({ spaceId, status }) => [spaceId, status]))
    const compare = async ({ space, problem, over }: Subscription): Promise<void> => {
      const status = listed.get(space.spaceId)
      const doubtful = status === undefined ? problem === undefined : status !== space.status.current
      if (doubtful) await space.status.check(signal, over)
      // (Once it has said so itself, this is no news.)
      if (status !== undefined) await answers.get(space)?.(status)
    }
    const left = this.#followed.values()
    const work = async (): Promise<void> => {
      for (const next of left) if (!signal.aborted) await compare(next)
    }
    await Promise.all(Array.from({ length: STATUSES_AT_ONCE }, work))
  }
}

/** A backend that does not heed `?status=active` lists the others too. */
function isActive({ status }: SpaceSummary): boolean {
  return status === 'active'
}

/** For whoever asked for all spaces before all were left. */
function allLeft(): Refusal {
  return { error: new BridgeError('CLOSING', 'all spaces were unsubscribed meanwhile'), lasting: false }
}

/** For whoever waits for a list of spaces that does not come. */
function unlisted(waitedMs: number): Refusal {
  const text = `moot did not list the spaces of this agent within ${seconds(waitedMs)}`
  return { error: new BridgeError('SERVER_UNREACHABLE', text), lasting: false }
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

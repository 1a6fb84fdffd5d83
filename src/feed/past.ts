/**
 * The past of one space: read at the start, continued from after a break, and owed while it is not to be had.
 *
 * Not what an event is worth: each is handed on. Not the pages (history.ts), nor how long one is waited for
 * (patience.ts). The one rule: what is missed is told before what comes then, unless it can't be had in time;
 * then it is owed, and asked for beside what comes until it is had or declined.
 */
import { Backoff, ENDLESS_MS, sleep } from '../retry.ts'
import type { Status } from '../status.ts'
import { type Backend, type EventQuery, PAGE, timeOf } from './backend.ts'
import type { FeedConfig } from './config.ts'
import { type FetchPage, FORGOTTEN, History, MAX_BEHIND, ON_ITS_WAY_MS } from './history.ts'
import { MAX_TRIES, Patience } from './patience.ts'
import { isAbsent, isDeclined, no, type Refusal, type Reply, yes } from './refusal.ts'

export interface PastOptions {
  readonly spaceId: string
  /** What was said since is no past; ms, the server's clock. */
  readonly newsSince?: number | undefined
  readonly backend: Backend
  readonly report: (status: Status) => void
  readonly config: FeedConfig
  /** News: resolves once it is dealt with, and has been remembered or postponed. */
  readonly tell: (event: unknown) => Promise<void>
  /** Past: it is not to be told, but what it says of the agent counts. */
  readonly note: (event: unknown) => void
}

/**
 * The space is followed; `continuous`: nothing was missed since `from` (uptime, ms; undefined: since the stream was up
 * last), or it is told now. If not, `why`.
 */
export type Up = (continuous: boolean, why?: string, from?: number) => void

/** Events kept that may turn out to concern the agent; beyond, they don't. */
const MAX_UNSURE = 1_000

export class Past {
  readonly #options: PastOptions
  readonly #history = new History()
  readonly #patience: Patience
  /** Why there is no past to continue from. */
  #pastless: Refusal | undefined
  /** What was missed is still to be had, beside the frames. */
  #owed = false
  /**
   * What was missed was had, but something may have been said between the server's taking the socket and the first that
   * it sent there: a second look asks again from these ids.
   */
  #unsureFrom: readonly string[] | undefined
  /** So many were told since. */
  #behindUnsure = 0
  /** What came meanwhile and may concern the agent: that is not known yet. */
  #unsure: unknown[] = []
  #catchUps = 0
  #wasUp = false
  /** Uptime at which the past was read: what is said from then on is told, however late the connection comes. */
  #begunAt: number | undefined
  /** What was said before the space appeared is behind us: the rest is news, whatever the clock of the backend says. */
  #isBehind = false

  constructor(options: PastOptions) {
    this.#options = options
    this.#patience = new Patience(options.spaceId, options.backend, options.config)
  }

  /**
   * Reads the past, if it is to be had in time: what is said now is worth more. A refusal means: try again.
   * `unjoined`: why the space could not be joined. Without a past either there is no such space.
   */
  async begin(unjoined: Refusal | undefined, signal: AbortSignal): Promise<Reply<unknown>> {
    const past = await this.#patience.inTurn((fetch) => this.#readPast(fetch), signal)
    if (past.ok) this.#begunAt = this.#options.config.clock.uptime()
    if (past.ok || signal.aborted) return past
    const declined = isDeclined(past.no)
    const noSpace = isAbsent(unjoined?.status) && isAbsent(past.no.status)
    if (unjoined !== undefined && noSpace) return no(unjoined)
    if (!declined && !this.#patience.tiresOf(past.no)) return past
    this.#pastless = past.no
    this.#owed = !declined
    const { message } = past.no.error
    const what = declined
      ? `is not to be had (${message}); breaks can't be filled`
      : `is not to be had yet (${message})`
    const text = `the past of space ${this.#options.spaceId} ${what}`
    this.#options.report({ kind: 'note', level: 'warn', text })
    return yes(undefined)
  }

  /**
   * Gives what was missed. `up` is called once it is known whether the gap closes, before the first event is
   * given. A refusal means: could not be told, try again on a new connection.
   */
  async catchUp(up: Up, signal: AbortSignal): Promise<Reply<unknown>> {
    const wasUp = this.#wasUp
    this.#catchUps++
    const live: Up = (continuous, why) => {
      // There is no asking for more: at the start nothing was missed yet, but for what counts as news.
      if (!wasUp && this.#wasUp && this.#options.newsSince === undefined) return
      this.#wasUp = true
      up(continuous, why, this.#begunAt)
    }
    if (!this.#history.placed) {
      // At the start nothing was missed yet; without a history to come, all is told as it is heard.
      if (!wasUp && this.#owed) live(true)
      else live(false, this.#pastless?.error.message)
      return yes(undefined)
    }
    const caught = await this.#patience.inTurn((fetch) => this.#tellMissed(live, fetch, signal), signal)
    if (caught.ok && this.#pastless === undefined && !signal.aborted) {
      await this.#settled()
      this.#unsureFrom = this.#history.place
      this.#behindUnsure = 0
    }
    if (signal.aborted || caught.ok || !this.#patience.tiresOf(caught.no)) return caught
    live(false, caught.no.error.message)
    this.#history.hold()
    this.#owed = true
    return yes(undefined)
  }

  /** Beside the frames of a connection that caught up: the history, if it could not be had yet, and its last bit. */
  async settle(signal: AbortSignal): Promise<void> {
    const { spaceId, backend, config, report } = this.#options
    const backoff = new Backoff(config.backoff, config.random)
    const fetch = (query: EventQuery): ReturnType<FetchPage> => backend.events(spaceId, query, signal)
    const fill = async (): Promise<Reply<unknown>> => {
      const past = this.#pastless === undefined ? yes(undefined) : await this.#readPast(fetch)
      // That something is missing was told when the connection came up.
      return past.ok ? this.#tellMissed(() => undefined, fetch, signal, !this.#owed) : past
    }
    let retryAfterMs = 0
    let looks = 0
    while ((this.#owed || this.#unsureFrom !== undefined) && !signal.aborted) {
      const wasOwed = this.#owed
      const isFirstLook = !wasOwed && looks++ === 0
      await sleep(isFirstLook ? config.limits.lookAgainMs : Math.max(backoff.slow(), retryAfterMs), signal)
      const caught = await backend.beside.take(fill, ENDLESS_MS, signal)
      if (caught === undefined || signal.aborted) return
      if (caught.ok || isDeclined(caught.no)) await this.#settled()
      else if (looks === MAX_TRIES) this.#unsureFrom = undefined
      retryAfterMs = caught.ok ? 0 : (caught.no.retryAfterMs ?? 0)
      if (!caught.ok || !wasOwed) continue
      const text = `the history of space ${spaceId} is there again; what was missed has been fetched`
      report({ kind: 'note', level: 'info', text })
    }
  }

  /** Was it told, or part of the past? */
  knows(event: unknown): boolean {
    return this.#history.knows(event)
  }

  /** It is dealt with: what is missed from now on comes behind it. */
  remember(event: unknown): void {
    this.#history.remember(event)
    if (++this.#behindUnsure > MAX_BEHIND) this.#unsureFrom = undefined
  }

  /** Is it to wait for the history that is owed, which may make it matter? Then it is given to `tell` again. */
  postpones(event: unknown): boolean {
    if (this.#owed && this.#unsure.length < MAX_UNSURE) this.#unsure.push(event)
    return this.#owed
  }

  /** The history is there, or will never be: what waited for it is looked at again. */
  async #settled(): Promise<void> {
    this.#owed = false
    this.#unsureFrom = undefined
    this.#isBehind = true
    for (const event of this.#unsure.splice(0)) await this.#options.tell(event)
  }

  async #tellMissed(
    up: Up,
    fetch: FetchPage,
    signal: AbortSignal,
    isSecondLook = false,
  ): Promise<Reply<unknown>> {
    let isUp = false
    for await (const page of this.#history.since(fetch, this.#unsureFrom)) {
      if (signal.aborted) return yes(undefined)
      if (!page.ok) {
        if (!isDeclined(page.no) || isUp) return page
        return this.#startOver(up, page.no.error.message, fetch, signal)
      }
      const { missing, events } = page.value
      if (!isUp && missing === FORGOTTEN && events.length === 0) {
        return this.#startOver(up, undefined, fetch, signal)
      }
      if (!isUp || missing !== undefined) up(missing === undefined, missing)
      isUp = true
      // What was said since comes by itself.
      if (isSecondLook && events.every((event) => this.knows(event))) break
      for (const event of events) {
        if (this.#isOld(event)) this.#takeAsPast(event)
        else await this.#options.tell(event)
        if (signal.aborted) return yes(undefined)
      }
    }
    this.#patience.restore()
    return yes(undefined)
  }

  /** The backend does not know where we were: what it has that we do not know is given, and from there we go on. */
  async #startOver(
    up: Up,
    because: string | undefined,
    fetch: FetchPage,
    signal: AbortSignal,
  ): Promise<Reply<unknown>> {
    const now = await fetch({})
    if (!now.ok && !isDeclined(now.no)) return now
    up(false, because === undefined ? FORGOTTEN : now.ok ? `${FORGOTTEN}: ${because}` : because)
    if (!now.ok) {
      this.#history.hold()
      return yes(undefined)
    }
    const behind = new Set(this.#history.behindPlace(now.value))
    for (const event of now.value) {
      if (signal.aborted) return yes(undefined)
      // (Who restores a backup tells nothing new.)
      if (behind.has(event)) await this.#options.tell(event)
      else this.#takeAsPast(event)
    }
    this.#history.restart(now.value)
    this.#patience.restore()
    return yes(undefined)
  }

  async #readPast(fetch: FetchPage): Promise<Reply<unknown>> {
    const past = await fetch({})
    if (!past.ok) return past
    for (const event of past.value) this.#options.note(event)
    const known = this.#beforeNews(past.value)
    if (this.#pastless === undefined) {
      this.#history.seed(known)
    } else {
      // Late, the end of it may be on its way to us; what was missed in a break may be in all of it.
      const latest = timeOf(known.at(-1)) ?? 0
      if (this.#catchUps < 2) {
        this.#history.pass(known.filter((event) => (timeOf(event) ?? latest) < latest - ON_ITS_WAY_MS))
      }
      if (!this.#history.placed || this.#options.newsSince !== undefined) {
        this.#history.restart(known.slice(-1))
        this.#history.hold()
      }
    }
    this.#pastless = undefined
    this.#patience.restore()
    return past
  }

  /** Of the latest events those that are no news. */
  #beforeNews(latest: readonly unknown[]): readonly unknown[] {
    const { newsSince } = this.#options
    if (newsSince === undefined) return latest
    const past = latest.filter((event) => (timeOf(event) ?? 0) < newsSince)
    // A full page of news and nothing older: without a place to begin, begin with the page.
    return past.length === 0 && latest.length >= PAGE ? latest.slice(0, 1) : past
  }

  /** Was it said before this space appeared? The latest events seldom reach back so far. */
  #isOld(event: unknown): boolean {
    const { newsSince = 0 } = this.#options
    return !this.#isBehind && (timeOf(event) ?? newsSince) < newsSince
  }

  #takeAsPast(value: unknown): void {
    this.#options.note(value)
    this.#history.remember(value)
  }
}

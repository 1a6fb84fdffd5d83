/**
 * Breaks of the push streams: which facts amount to "events may have been missed", and when to say so.
 *
 * Not the words (notice.ts) and not the delivery. The one rule: each break in which continuity was not given is
 * told exactly once, the first at once, those within `gapIntervalMs` of a notice together at its end.
 *
 * Each stream is told of by itself. A break the client heard of as `down` ends its deafness with a notice at
 * once, whatever the interval and though nothing was missed: it would go on polling.
 */
import { type Clock, sleep } from '../retry.ts'
import type { PushStatus, SessionStatus, Status } from '../status.ts'

/** One or more breaks. Times in milliseconds since 1970. */
export interface Gap {
  readonly stream: string | undefined
  readonly from: number
  readonly to: number
  /** How long nothing was heard, all breaks together. */
  readonly deafMs: number
  readonly reason: string
  readonly breaks: number
  /** What the renewed session has that the client was told otherwise. */
  readonly changed: string | undefined
}

/** A stream that stays away. */
export interface Outage {
  readonly stream: string | undefined
  readonly since: number
  readonly downMs: number
  readonly reason: string
}

/** The end of an outage in which nothing was missed. */
export interface Recovery extends Outage {
  readonly to: number
}

/** Told as it happens, synchronously from within `observe` for a gap or a recovery announced at once. */
export interface BreakListener {
  gap(gap: Gap): void
  down(outage: Outage): void
  up(recovery: Recovery): void
}

/** All in milliseconds. */
export interface BreaksOptions {
  /** After a gap notice further breaks are gathered for so long. */
  readonly gapIntervalMs: number
  /** A stream down, or a first one awaited, for so long is worth a notice of its own. */
  readonly downAfterMs: number
  /** A first stream that opens later than this after `notifications/initialized` counts as a break. */
  readonly lateFirstMs: number
  readonly clock: Clock
}

/** By both clocks: the wall clock may be set back meanwhile, the other stands still while the machine sleeps. */
interface Moment {
  readonly at: number
  readonly uptime: number
}

interface Down {
  readonly kind: 'down'
  readonly since: Moment
  /** Why it broke, and why it last failed to come back. */
  readonly reason: string | undefined
  latest: string | undefined
  /** It has never been up. */
  readonly first: boolean
  told: boolean
  readonly ended: AbortController
}

interface Stream {
  readonly name: string | undefined
  state: { readonly kind: 'awaited' } | { readonly kind: 'up' } | Down
  /** Breaks that the client has not been told of. */
  pending: Gap | undefined
  /** Uptime until which breaks are gathered. */
  quietUntil: number
  gathering: boolean
}

/** The clocks tick apart, and `at` is a moment old: by more than this the wall clock was set back. */
const CLOCK_SET_MS = 500

/** Watches `Status` facts of all streams. */
export class Breaks {
  readonly #options: BreaksOptions
  readonly #listener: BreakListener
  readonly #streams = new Map<string | undefined, Stream>()
  #initializedAt: Moment | undefined
  /** Uptime since when the one stream of a server is waited for, until it is known that there is none. */
  #awaitedSince: number | undefined
  /** Why the session was lost, until a stream of the next one is up. */
  #loss: string | undefined
  #changed: string | undefined
  /** Ends all waits. */
  #epoch = new AbortController()

  constructor(options: BreaksOptions, listener: BreakListener) {
    this.#options = options
    this.#listener = listener
  }

  /** The client said `notifications/initialized`: from now on it expects to hear. */
  initialized(): void {
    this.#initializedAt = this.#momentOf(this.#options.clock.now())
    this.#awaitedSince = this.#initializedAt.uptime
  }

  /** The client starts anew: what was before is nothing to it. */
  reset(): void {
    this.#epoch.abort()
    this.#epoch = new AbortController()
    this.#streams.clear()
    this.#initializedAt = undefined
    this.#awaitedSince = undefined
    this.#loss = undefined
    this.#changed = undefined
  }

  /** Ends all waits; nothing is told any more. */
  close(): void {
    this.#epoch.abort()
  }

  observe(status: Status): void {
    if (this.#epoch.signal.aborted) return
    if (status.kind === 'session') this.#session(status)
    else if (status.kind === 'push') this.#push(status)
  }

  #session(status: SessionStatus): void {
    if (status.changed !== undefined) this.#changed = status.changed
    if (status.state !== 'lost' && status.state !== 'reopening') return
    this.#loss ??= `the session was lost${status.reason === undefined ? '' : `: ${status.reason}`}`
  }

  #push(status: PushStatus): void {
    const stream = this.#stream(status.stream)
    switch (status.state) {
      case 'down':
      case 'retrying':
        return this.#fell(stream, status)
      case 'not-offered':
        return this.#withdrawn(stream, status)
      case 'up':
        this.#rose(stream, status)
    }
  }

  #stream(name: string | undefined): Stream {
    const known = this.#streams.get(name)
    if (known !== undefined) return known
    const stream: Stream = {
      name,
      state: { kind: 'awaited' },
      pending: undefined,
      quietUntil: Number.NEGATIVE_INFINITY,
      gathering: false,
    }
    this.#streams.set(name, stream)
    return stream
  }

  #fell(stream: Stream, status: PushStatus): void {
    const { state } = stream
    // Only a stream that was up goes down, also one from before the client started anew.
    const wasUp = state.kind === 'up' || status.state === 'down'
    if (state.kind === 'down' && !(state.first && wasUp)) {
      state.latest = status.reason ?? state.latest
      return
    }
    this.#ended(stream)
    const first = !wasUp
    const down: Down = {
      kind: 'down',
      // The one stream of a server is expected from the start, others from when they are first heard of.
      since: (first && stream.name === undefined && this.#initializedAt) || this.#momentOf(status.at),
      reason: status.reason,
      latest: undefined,
      first,
      told: false,
      ended: new AbortController(),
    }
    stream.state = down
    void this.#watch(stream, down, this.#epoch.signal)
  }

  /** A stream with a name is wanted no more; the server's own is missed once it was there. */
  #withdrawn(stream: Stream, status: PushStatus): void {
    const { state } = stream
    const missed = state.kind === 'up' || (state.kind === 'down' && !state.first)
    if (stream.name === undefined && missed) {
      if (state.kind === 'up') this.#fell(stream, status)
      return
    }
    if (stream.name === undefined) this.#awaitedSince = undefined
    this.#ended(stream)
    this.#streams.delete(stream.name)
  }

  async #watch(stream: Stream, down: Down, epoch: AbortSignal): Promise<void> {
    const { downAfterMs, clock } = this.#options
    // (A GET that nobody answers is said to have failed only when it is given up.)
    const awaitedSince = down.first && stream.name === undefined ? this.#awaitedSince : undefined
    const awaitedMs = awaitedSince === undefined ? 0 : clock.uptime() - awaitedSince
    const ended = down.ended.signal
    // (Each by itself: `AbortSignal.any` leaves a trace in the one that lives on, break after break.)
    await sleep(Math.max(0, downAfterMs - awaitedMs), ended, epoch)
    if (ended.aborted || epoch.aborted) return
    down.told = true
    const now = clock.now()
    const downMs = this.#msSince(down.since, now)
    this.#listener.down({
      stream: stream.name,
      since: now - downMs,
      downMs,
      reason: this.#loss ?? down.latest ?? down.reason ?? 'the connection broke',
    })
  }

  #rose(stream: Stream, status: PushStatus): void {
    const before = stream.state
    this.#ended(stream)
    stream.state = { kind: 'up' }
    const gap = this.#gapBefore(stream.name, before, status)
    const loss = this.#loss
    this.#loss = undefined
    if (gap !== undefined) stream.pending = merge(stream.pending, gap)
    const told = before.kind === 'down' && before.told
    if (told && stream.pending === undefined) {
      const { since, reason, latest } = before
      const downMs = this.#msSince(since, status.at)
      const why = loss ?? latest ?? reason ?? 'the connection broke'
      this.#listener.up({
        stream: stream.name,
        since: status.at - downMs,
        to: status.at,
        downMs,
        reason: why,
      })
    } else if (told || this.#options.clock.uptime() >= stream.quietUntil) this.#announce(stream)
  }

  /** The break that ends with `up`, unless nothing can have been missed. */
  #gapBefore(name: string | undefined, before: Stream['state'], up: PushStatus): Gap | undefined {
    if (before.kind === 'awaited' || (before.kind === 'down' && before.first)) {
      const startedMs = this.#initializedAt === undefined ? 0 : this.#msSince(this.#initializedAt, up.at)
      const failingMs = before.kind === 'down' ? this.#msSince(before.since, up.at) : 0
      // A stream with a name was perhaps asked for only now.
      const awaitedMs = name === undefined ? startedMs : (up.awaitedMs ?? failingMs)
      const lateMs = Math.min(awaitedMs, startedMs)
      if (lateMs - (up.coveredMs ?? 0) <= this.#options.lateFirstMs) return undefined
      const why = before.kind === 'down' ? (before.latest ?? before.reason) : undefined
      return this.#gap(name, lateMs, up.at, `the stream opened late${why === undefined ? '' : `: ${why}`}`)
    }
    if (up.continuous === true) return undefined
    const deafMs = before.kind === 'down' ? this.#msSince(before.since, up.at) : (up.downMs ?? 0)
    // Why it broke, and why that can't be made good.
    const causes = [before.kind === 'down' ? before.reason : undefined, up.reason]
    const why = causes.filter((cause) => cause !== undefined).join(', and ') || 'the connection broke'
    return this.#gap(name, deafMs, up.at, why)
  }

  #gap(stream: string | undefined, deafMs: number, to: number, why: string): Gap {
    const changed = this.#changed
    this.#changed = undefined
    return { stream, from: to - deafMs, to, deafMs, reason: this.#loss ?? why, breaks: 1, changed }
  }

  #momentOf(at: number): Moment {
    return { at, uptime: this.#options.clock.uptime() }
  }

  /** Until `at`, which is about now; from one beginning always the same `at` less this, but for a clock that was set. */
  #msSince(moment: Moment, at: number): number {
    const wallMs = Math.max(0, at - moment.at)
    const uptimeMs = Math.floor(this.#options.clock.uptime() - moment.uptime)
    return uptimeMs - wallMs > CLOCK_SET_MS ? uptimeMs : wallMs
  }

  #ended(stream: Stream): void {
    if (stream.state.kind === 'down') stream.state.ended.abort()
  }

  #announce(stream: Stream): void {
    const gap = stream.pending
    if (gap === undefined) return
    stream.pending = undefined
    stream.quietUntil = this.#options.clock.uptime() + this.#options.gapIntervalMs
    this.#listener.gap(gap)
    if (!stream.gathering) void this.#gather(stream, this.#epoch.signal)
  }

  /** Waits for the end of the interval; a stream that is down then is told of when it is up again. */
  async #gather(stream: Stream, signal: AbortSignal): Promise<void> {
    stream.gathering = true
    while (!signal.aborted) {
      const leftMs = stream.quietUntil - this.#options.clock.uptime()
      if (leftMs <= 0) break
      await sleep(leftMs, signal)
    }
    stream.gathering = false
    const current = this.#streams.get(stream.name) === stream
    if (!signal.aborted && current && stream.state.kind === 'up') this.#announce(stream)
  }
}

/** Several breaks as one: from the first to the last, the reasons that differ side by side. */
function merge(earlier: Gap | undefined, later: Gap): Gap {
  if (earlier === undefined) return later
  const known = earlier.reason.split('; ')
  const reasons = known.includes(later.reason) || known.length >= 3 ? known : [...known, later.reason]
  return {
    stream: later.stream,
    from: Math.min(earlier.from, later.from),
    to: Math.max(earlier.to, later.to),
    deafMs: earlier.deafMs + later.deafMs,
    reason: reasons.join('; '),
    breaks: earlier.breaks + later.breaks,
    changed: later.changed ?? earlier.changed,
  }
}

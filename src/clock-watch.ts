/**
 * Looks at the clock every second, and so knows when this process did not run: it was stopped, or the machine slept.
 *
 * No stream, no timer. The one rule: what happened while nobody ran is noticed only afterwards, and dated from before.
 */
import type { Clock } from './retry.ts'

/** Whoever runs looks so often. */
export const LOOK_MS = 1_000
/** After so long without a look we did not run. */
export const STOPPED_MS = 2 * LOOK_MS
/** What happened while we were stopped is noticed within this. */
const NOTICED_MS = 1_000

export class ClockWatch {
  readonly #clock: Clock
  /** Wall time, ms. */
  #lookedAt: number
  /** The last time that we did not run (wall, ms). */
  #stopped: { readonly since: number; readonly until: number } | undefined

  constructor(clock: Clock) {
    this.#clock = clock
    this.#lookedAt = clock.now()
  }

  /** When it was looked at before (wall, ms), and how long ago that is. */
  look(): { readonly before: number; readonly passedMs: number } {
    const now = this.#clock.now()
    const before = this.#lookedAt
    this.#lookedAt = now
    if (now - before >= STOPPED_MS) this.#stopped = { since: before, until: now }
    // (Set back, a clock says nothing of what it said before.)
    if (now < before) this.#stopped = undefined
    return { before, passedMs: now - before }
  }

  /** Since when (wall, ms) what is dated `at` may have happened: we may not have run by then. */
  atTheEarliest(at: number): number {
    // (News may come before the timer that looks.)
    if (this.#clock.now() - this.#lookedAt >= STOPPED_MS) return Math.min(at, this.#lookedAt)
    const stopped = this.#stopped
    return stopped !== undefined && at - stopped.until < NOTICED_MS ? Math.min(at, stopped.since) : at
  }
}

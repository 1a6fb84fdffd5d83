/**
 * Is a quiet stream still alive? Learned from its own cadence of comments and pings.
 *
 * Not a timer: it is told what happened and says how long silence may last from now on.
 * The one rule: events say nothing about a cadence (an agent's day is irregular), keep-alives do.
 */

const INTERVALS_KEPT = 5
const INTERVALS_NEEDED = 3

export class Liveness {
  readonly #minSilenceMs: number
  readonly #intervals: number[] = []
  #lastBeat: number | undefined

  constructor(minSilenceMs: number) {
    this.#minSilenceMs = minSilenceMs
  }

  /** A comment or a ping of the server arrived (uptime, ms). */
  beat(at: number): void {
    if (this.#lastBeat !== undefined) {
      this.#intervals.push(at - this.#lastBeat)
      if (this.#intervals.length > INTERVALS_KEPT) this.#intervals.shift()
    }
    this.#lastBeat = at
  }

  /** We did not read for a while: the interval that this falls into says nothing. */
  interrupt(): void {
    this.#lastBeat = undefined
  }

  /** Milliseconds of silence after which the stream is suspect; undefined while no cadence is known. */
  get allowedSilenceMs(): number | undefined {
    if (this.#intervals.length < INTERVALS_NEEDED) return undefined
    return Math.max(3 * Math.max(...this.#intervals), this.#minSilenceMs)
  }
}

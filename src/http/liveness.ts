/**
 * Is a quiet stream still alive? Learned from its own cadence of comments and pings.
 *
 * Not a timer: it is told what happened and says how long silence may last from now on.
 * The one rule: events say nothing about a cadence (an agent's day is irregular), keep-alives do.
 */

/** Comments closer together are one: a server pads its streams to get through a proxy's buffer. */
const SHORTEST_MS = 20
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
    const interval = this.#lastBeat === undefined ? undefined : at - this.#lastBeat
    this.#lastBeat = at
    if (interval === undefined || interval < SHORTEST_MS) return
    this.#intervals.push(interval)
    if (this.#intervals.length > INTERVALS_KEPT) this.#intervals.shift()
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

/**
 * Is a quiet stream still alive? Learned from the server's cadence of comments and pings, stream after stream.
 *
 * Not a timer: it is told what happened and says how long silence may last from now on.
 * The one rule: events say nothing about a cadence (an agent's day is irregular), keep-alives do.
 */
import { STOPPED_MS } from '../clock-watch.ts'

/** Comments closer together are one: a server pads its streams to get through a proxy's buffer. */
const SHORTEST_MS = 20
const INTERVALS_KEPT = 5
const INTERVALS_NEEDED = 3
/** Streams without the pace, one after the other, until the server is taken for one that has given it up. */
const MOST_DOUBTS = 2
/** A server that begins its streams with a few comments has no cadence of less. */
const UNSURE_SHORTEST_MS = 1_000

export class Liveness {
  readonly #minSilenceMs: number
  readonly #unsureSilenceMs: number
  readonly #intervals: number[] = []
  /** Of those, how many were heard on the stream of now. */
  #heard = 0
  #lastBeat: number | undefined
  #doubts = 0
  #awakeAt: number | undefined

  /** `unsureSilenceMs`: the least that is allowed while fewer than three intervals are known. */
  constructor(minSilenceMs: number, unsureSilenceMs: number) {
    this.#minSilenceMs = minSilenceMs
    this.#unsureSilenceMs = unsureSilenceMs
  }

  /** A new stream of the same server: its pace is likely to be that of the one before, if that had one. */
  begin(): void {
    if (this.#heard < INTERVALS_NEEDED) this.#intervals.splice(this.#intervals.length - this.#heard)
    this.#heard = 0
    this.#lastBeat = undefined
  }

  /** We run (uptime, ms). An interval in which we did not says nothing: what came in it is heard at its end. */
  awake(at: number): void {
    this.#lookBack(at)
    this.#awakeAt = at
  }

  /** A comment or a ping of the server arrived (uptime, ms). */
  beat(at: number): void {
    this.#lookBack(at)
    const interval = this.#lastBeat === undefined ? undefined : at - this.#lastBeat
    this.#lastBeat = at
    if (interval === undefined || interval < SHORTEST_MS) return
    this.#intervals.push(interval)
    if (this.#intervals.length > INTERVALS_KEPT) this.#intervals.shift()
    if (++this.#heard === INTERVALS_NEEDED) this.#doubts = 0
  }

  #lookBack(at: number): void {
    if (this.#awakeAt !== undefined && at - this.#awakeAt > STOPPED_MS) this.interrupt()
  }

  /** We did not read for a while: the interval that this falls into says nothing. */
  interrupt(): void {
    this.#lastBeat = undefined
  }

  /** The stream is given up for its silence. If it never had the pace, the next one is given more time. */
  suspect(): void {
    if (this.#heard < INTERVALS_NEEDED) this.#doubts++
  }

  /** Milliseconds of silence after which the stream is suspect; undefined while no cadence is known. */
  get allowedSilenceMs(): number | undefined {
    if (this.#intervals.length === 0 || this.#doubts === MOST_DOUBTS) return undefined
    const longest = Math.max(...this.#intervals)
    const isSure = this.#intervals.length >= INTERVALS_NEEDED
    if (!isSure && longest < UNSURE_SHORTEST_MS) return undefined
    const ms = isSure
      ? Math.max(3 * longest, this.#minSilenceMs)
      : Math.max(6 * longest, this.#unsureSilenceMs)
    return ms * 2 ** this.#doubts
  }
}

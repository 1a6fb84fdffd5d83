/**
 * The place in the server's events from which the push stream goes on after a break.
 *
 * Not the asking. The one rule: a cursor that the server may not take is tried without, and dropped only when that brings
 * a stream: what it stands for is lost with it.
 */
import type { Clock } from '../retry.ts'
import { isSameEvent, type Known, MAX_KEPT_BYTES } from './events.ts'

/** A cursor that brought nothing so often in a row, and for so long as it is given, may be to blame. */
const DOUBTS = 4

export class Place {
  #cursor: string | undefined
  #last: Known | undefined
  #doubts = 0
  /** Uptime of the first of them. */
  #doubtedSince = 0
  #without = false
  readonly #clock: Clock
  readonly #doubtMs: number

  constructor(clock: Clock, doubtMs: number) {
    this.#clock = clock
    this.#doubtMs = doubtMs
  }

  /** Was the last stream asked for with a cursor? */
  get isAsked(): boolean {
    return this.#cursor !== undefined && !this.#without
  }

  /** What to ask for the next stream with. */
  next(): string | undefined {
    const doubtedMs = this.#clock.uptime() - this.#doubtedSince
    this.#without = this.#cursor !== undefined && this.#doubts >= DOUBTS && doubtedMs >= this.#doubtMs
    return this.#without ? undefined : this.#cursor
  }

  /** Is it the event that the cursor names? */
  isKnown(event: Known): boolean {
    return isSameEvent(event, this.#last)
  }

  /** `event` was delivered; `cursor` names it, or what came before it. */
  moved(cursor: string | undefined, event: Known): void {
    this.#cursor = cursor
    this.#last = event.data.length <= MAX_KEPT_BYTES ? event : undefined
    this.#doubts = 0
    this.#without = false
  }

  /** The stream that was asked for stood. */
  held(): void {
    if (this.#without) this.#cursor = undefined
    this.#doubts = 0
  }

  /** No stream was given, or one that brought nothing, and the cursor may be why. */
  failed(weight = 1): void {
    if (this.#without || this.#cursor === undefined) {
      this.#doubts = 0
      return
    }
    if (this.#doubts === 0) this.#doubtedSince = this.#clock.uptime()
    this.#doubts += weight
  }

  /** It is not why: whoever asks is refused. */
  trust(): void {
    this.#doubts = 0
    this.#without = false
  }

  forget(): void {
    this.#cursor = undefined
    this.#doubts = 0
    this.#without = false
  }
}

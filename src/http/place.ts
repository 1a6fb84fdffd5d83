/**
 * The place in the server's events from which the push stream goes on after a break.
 *
 * Not the asking. The one rule: a cursor that the server may not take is tried without, and dropped only when that brings
 * a stream: what it stands for is lost with it.
 */
import { isSameEvent, type Known, MAX_KEPT_BYTES } from './events.ts'

/** A cursor that brought nothing so often in a row may be to blame. */
const DOUBTS = 4

export class Place {
  #cursor: string | undefined
  #last: Known | undefined
  #doubts = 0
  #without = false

  get hasCursor(): boolean {
    return this.#cursor !== undefined
  }

  /** What to ask for the next stream with. */
  next(): string | undefined {
    this.#without = this.#cursor !== undefined && this.#doubts >= DOUBTS
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
    if (this.#without) this.#doubts = 0
    else if (this.#cursor !== undefined) this.#doubts += weight
  }

  forget(): void {
    this.#cursor = undefined
    this.#doubts = 0
    this.#without = false
  }
}

/**
 * Turns: so many at a time, first come, first served.
 *
 * Not a pool of connections: a turn is over with its task, and after half a second all the same, so that what is slow or
 * hangs holds up nobody for longer. The one rule: who has waited long enough goes away without a turn, and takes none.
 */
import { firstOf, later, type Signal } from '../retry.ts'

const TURN_MS = 500

export class Turns {
  #free: number
  readonly #waiting = new Set<() => void>()

  constructor(atOnce: number) {
    this.#free = atOnce
  }

  /** Does `task` when it is its turn; undefined when that has not come after `ms`, or by the end of `signal`. */
  async take<T>(task: () => Promise<T>, ms: number, signal: Signal): Promise<T | undefined> {
    if (!(await this.#turn(ms, signal))) return undefined
    let isOver = false
    const end = (): void => {
      if (isOver) return
      isOver = true
      this.#next()
    }
    const callOff = later(TURN_MS, end)
    try {
      return await task()
    } finally {
      callOff()
      end()
    }
  }

  #next(): void {
    const [next] = this.#waiting
    if (next === undefined) this.#free++
    else this.#waiting.delete(next)
    next?.()
  }

  async #turn(ms: number, signal: Signal): Promise<boolean> {
    if (signal.aborted) return false
    if (this.#free > 0) {
      this.#free--
      return true
    }
    let call: () => void = () => undefined
    const called = new Promise<void>((resolve) => {
      call = resolve
    })
    this.#waiting.add(call)
    await firstOf([called], ms, signal)
    // (It may be called and late at once: then it is its turn.)
    return !this.#waiting.delete(call)
  }
}

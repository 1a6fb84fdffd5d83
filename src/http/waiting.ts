/**
 * Who waits for a server that is down, and is told when it has served somebody else.
 *
 * Not how long anybody waits. The one rule: some go at once and not all, and not each time: a server that answers one
 * method and refuses another would be asked by every one of them.
 */
import { Abort, type Signal } from '../retry.ts'

/** So many are told at a time, and this often at most. */
const TOLD = 5
const TOLD_AGAIN_MS = 1_000

export class Waiting {
  /** Who has waited longest first. */
  readonly #all = new Set<Abort>()
  /** Wall time at which some of them were told last. */
  #toldAt = 0

  /** Waits with `wait`; `served` ends it early. */
  async with(wait: (served: Signal) => Promise<void>): Promise<void> {
    const served = new Abort()
    this.#all.add(served)
    await wait(served)
    this.#all.delete(served)
  }

  /** `now`: wall time, ms. */
  served(now: number): void {
    if (this.#all.size === 0 || Math.abs(now - this.#toldAt) < TOLD_AGAIN_MS) return
    this.#toldAt = now
    for (const each of [...this.#all].slice(0, TOLD)) each.abort()
  }
}

/**
 * The agent's own interval: a prompt of its own that comes back every so many seconds.
 *
 * One at a time, kept in this process only. The one rule: it never piles up; the next wait begins when the
 * client has taken the prompt.
 */
import { MAX_WAIT_MS, sleep } from '../retry.ts'

export const MIN_INTERVAL_S = 60
export const MAX_PROMPT = 4_096

export class Interval {
  readonly #push: (prompt: string) => Promise<void>
  #current: AbortController | undefined

  constructor(push: (prompt: string) => Promise<void>) {
    this.#push = push
  }

  /** Replaces the one that was set. */
  set(seconds: number, prompt: string): void {
    this.#current?.abort()
    const current = new AbortController()
    this.#current = current
    // The end of the bridge ends it.
    this.#run(seconds * 1_000, prompt, current.signal).catch(() => current.abort())
  }

  /** False when none was set. */
  clear(): boolean {
    const was = this.#current !== undefined
    this.#current?.abort()
    this.#current = undefined
    return was
  }

  async #run(everyMs: number, prompt: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      await longSleep(everyMs, signal)
      if (signal.aborted) return
      await this.#push(prompt)
    }
  }
}

/** Node's timers end at 2^31 - 1 ms and fire at once beyond. */
async function longSleep(ms: number, signal: AbortSignal): Promise<void> {
  for (let left = ms; left > 0 && !signal.aborted; left -= MAX_WAIT_MS) await sleep(left, signal)
}

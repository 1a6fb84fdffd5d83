/**
 * The push lane's two waits: events one behind the other, and the moment in which the client drops them.
 *
 * Not a buffer: whoever delivers waits for the promise and reads no further. The one rule: what entered the
 * lane first leaves it first.
 */
import { Abort, aborted, sleep } from '../retry.ts'
import type { Room } from '../sides.ts'

/** Runs tasks one after the other, in the order of the calls. */
export class Queue {
  #tail: Promise<void> | undefined

  /** True while a task runs or waits: whoever comes now has to queue behind it. */
  get busy(): boolean {
    return this.#tail !== undefined
  }

  /** Settles as `task` does. A task that fails does not stop the ones behind it. */
  run(task: () => Room): Promise<void> {
    const turn = (this.#tail ?? Promise.resolve()).then(task)
    const left = (): void => {
      if (this.#tail === tail) this.#tail = undefined
    }
    const tail: Promise<void> = turn.then(left, left)
    this.#tail = tail
    return turn
  }
}

/**
 * The time from a client's `initialize` until it hears channel events: it registers its handler about 1.4 s
 * after the connection and drops what comes before without a word.
 */
export class Hold {
  readonly #ms: number
  readonly #released = new Abort()

  constructor(ms: number) {
    this.#ms = ms
  }

  get over(): boolean {
    return this.#released.aborted
  }

  /** The client said `notifications/initialized`: from now on it is a matter of time. */
  begin(): void {
    if (this.#ms <= 0) this.release()
    else void sleep(this.#ms, this.#released).then(() => this.release())
  }

  /** Ends it: the client works with the server, or all is over. Idempotent. */
  release(): void {
    this.#released.abort()
  }

  /** Resolves once it is over. */
  passed(): Promise<void> {
    return aborted(this.#released)
  }
}

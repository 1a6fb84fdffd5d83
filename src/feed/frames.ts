/**
 * Frames on their way to the reader: a queue of limited length.
 *
 * Not the socket's life (connection.ts). The one rule: the reader sets the pace; while more waits than the limit,
 * the TCP socket is not read.
 */
import type { Duplex } from 'node:stream'

/** Frames that were taken are cleared away in so many at a time. */
const CLEARED = 1_000

export class Frames implements AsyncIterable<string> {
  readonly #limit: number
  readonly #raw: () => Duplex | undefined
  #queue: string[] = []
  #taken = 0
  #queued = 0
  #ended = false
  #held = false
  /** Grows while the socket is held, so that somebody can tell whether it was meanwhile. */
  holds = 0
  #wake: () => void = () => undefined

  constructor(limit: number, raw: () => Duplex | undefined) {
    this.#limit = limit
    this.#raw = raw
  }

  /** Is the socket not read at the moment? */
  get held(): boolean {
    return this.#held
  }

  push(frame: string): void {
    if (this.#ended) return
    this.#queue.push(frame)
    this.#queued += frame.length
    if (this.#queued > this.#limit) this.#hold()
    this.#wake()
  }

  end(): void {
    this.#ended = true
    this.#wake()
  }

  discard(): void {
    this.end()
    this.#queue = []
    this.#taken = 0
    this.#queued = 0
    this.#release()
  }

  #hold(): void {
    this.#held = true
    this.holds++
    this.#raw()?.pause()
  }

  #release(): void {
    this.#held = false
    this.#raw()?.resume()
  }

  async *[Symbol.asyncIterator](): AsyncIterator<string> {
    for (;;) {
      const frame = this.#queue[this.#taken]
      if (frame === undefined) {
        if (this.#ended) return
        this.#queue = []
        this.#taken = 0
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
        continue
      }
      this.#queue[this.#taken++] = ''
      if (this.#taken === CLEARED) {
        // (Under a flood that never lets up the queue is never empty.)
        this.#queue.splice(0, CLEARED)
        this.#taken = 0
      }
      this.#queued -= frame.length
      if (this.#held && this.#queued <= this.#limit / 2) this.#release()
      yield frame
    }
  }
}

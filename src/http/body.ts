/**
 * The body of one HTTP response: pulled chunk by chunk, or gathered whole.
 *
 * Not a stream of the platform: reading costs one promise per chunk, and none when chunks wait already.
 * The one rule: nobody reads, nothing piles up. Past a small buffer the socket is paused.
 */
import { Gathered } from '../gathered.ts'
import { systemClock } from '../retry.ts'

/** What the body needs of undici's controller. */
export interface Valve {
  pause(): void
  resume(): void
  abort(reason: Error): void
}

const HIGH_WATER_BYTES = 128 * 1024
/** A socket that stood for longer holds up the server. */
const HELD_UP_MS = 100
/** How long it then takes to give what it holds. */
const CATCHING_UP_MS = 1_000
/** A dead path is found out within this: a probe after 15 s without a byte, ten more a second apart (libuv). */
const FOUND_OUT_MS = 30_000
/** A shorter body is put together at its end: that takes less than a tenth of a millisecond. */
const WORTH_EXPECTING_BYTES = 256 * 1024

export class Body {
  readonly #valve: Valve
  #chunks: Buffer[] = []
  #bytes = 0
  #ended = false
  #error: Error | undefined
  #endedAt: number | undefined
  /** When its last byte came (wall, ms). */
  #heardAt = systemClock.now()
  #pausedAt: { readonly wall: number; readonly uptime: number } | undefined
  /** The reader let the socket stand: since when (wall, ms), and until when (uptime) what that held up is on its way. */
  #behind: { readonly since: number; readonly until: number } | undefined
  #reader: { resolve: (chunk: Buffer | undefined) => void; reject: (error: Error) => void } | undefined
  #gathering:
    | { all: Gathered; maxBytes: number; expectedBytes: number; settle: (all: Buffer | Error) => void }
    | undefined

  constructor(valve: Valve) {
    this.#valve = valve
  }

  /** True once the last byte has come, read or not, or the transfer failed: the socket is not in use any more. */
  get over(): boolean {
    return this.#ended || this.#error !== undefined
  }

  /**
   * Wall time (ms) at which it ended: whoever does not read hears of it later. Of one that ended while the reader
   * held it up, since when it did: from then on nobody knows, and what the server could not send is gone. Of one that the
   * system gave up, when it was last heard: that the path is dead (a router forgot it) is found out by the next probe.
   */
  get endedAt(): number | undefined {
    return this.#endedAt
  }

  /** True when the transfer did not come to its end. */
  get failed(): boolean {
    return this.#error !== undefined
  }

  /** What has come since; undefined after a clean end. Rejects when the connection broke or `destroy` was called. */
  read(): Promise<Buffer | undefined> {
    const waiting = this.#waiting()
    if (waiting !== undefined) {
      this.#resume()
      return Promise.resolve(waiting)
    }
    if (this.#error !== undefined) return Promise.reject(this.#error)
    if (this.#ended) return Promise.resolve(undefined)
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject }
    })
  }

  /**
   * The rest of it, once: `settle` is called in the very moment it is whole or can't be any more; with a RangeError past
   * `maxBytes`. `expectedBytes`: what the other side says of its length, 0 for nothing.
   */
  gather(
    { maxBytes, expectedBytes }: { readonly maxBytes: number; readonly expectedBytes: number },
    settle: (all: Buffer | Error) => void,
  ): void {
    this.#gathering = { all: new Gathered(), maxBytes, expectedBytes, settle }
    if (expectedBytes > maxBytes) this.#abort(overLimit(maxBytes))
  }

  /** Ends the transfer; the socket goes with it unless the body was over. Idempotent. */
  destroy(why = 'aborted'): void {
    if (!this.over) this.#abort(new Error(why))
  }

  // What the connection tells.

  push(chunk: Buffer): void {
    if (this.#error !== undefined) return
    this.#heardAt = systemClock.now()
    const gathering = this.#gathering
    if (gathering !== undefined) {
      const { all, maxBytes, expectedBytes } = gathering
      if (all.length + chunk.length > maxBytes) return this.#abort(overLimit(maxBytes))
      if (all.length === 0 && expectedBytes >= WORTH_EXPECTING_BYTES) all.expect(expectedBytes)
      return all.add(chunk)
    }
    const reader = this.#reader
    if (reader !== undefined) {
      this.#reader = undefined
      return reader.resolve(chunk)
    }
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes >= HIGH_WATER_BYTES && this.#pausedAt === undefined) {
      this.#pausedAt = { wall: systemClock.now(), uptime: systemClock.uptime() }
      this.#valve.pause()
    }
  }

  end(): void {
    this.#ended = true
    this.#noteEnd(systemClock.now())
    this.#reader?.resolve(undefined)
    this.#reader = undefined
    const gathering = this.#gathering
    this.#gathering = undefined
    gathering?.settle(gathering.all.take())
  }

  fail(error: Error): void {
    if (this.over) return
    this.#error = error
    const now = systemClock.now()
    this.#noteEnd(isOfSystem(error) ? Math.max(this.#heardAt, now - FOUND_OUT_MS) : now)
    this.#reader?.reject(error)
    this.#reader = undefined
    const gathering = this.#gathering
    this.#gathering = undefined
    gathering?.settle(error)
  }

  #abort(reason: Error): void {
    this.fail(reason)
    this.#chunks = []
    this.#valve.abort(reason)
  }

  /** What nobody has read yet, as one piece. */
  #waiting(): Buffer | undefined {
    const chunks = this.#chunks
    const [first] = chunks
    if (first === undefined) return undefined
    const all = chunks.length === 1 ? first : Buffer.concat(chunks, this.#bytes)
    this.#chunks = []
    this.#bytes = 0
    return all
  }

  #resume(): void {
    if (this.#pausedAt === undefined) return
    this.#noteBehind()
    this.#pausedAt = undefined
    this.#valve.resume()
  }

  /** `at`: when it ended (wall, ms), had the reader taken what there was. */
  #noteEnd(at: number): void {
    this.#noteBehind()
    const behind = this.#behind
    const isBehind = behind !== undefined && systemClock.uptime() < behind.until
    this.#endedAt = isBehind ? Math.min(behind.since, at) : at
  }

  #noteBehind(): void {
    const [paused, now] = [this.#pausedAt, systemClock.uptime()]
    if (paused === undefined || now - paused.uptime < HELD_UP_MS) return
    const before = this.#behind
    const since = before !== undefined && paused.uptime < before.until ? before.since : paused.wall
    this.#behind = { since, until: now + CATCHING_UP_MS }
  }
}

/** "read ETIMEDOUT", "read ECONNRESET": not an end that the other side wrote behind all it had to say. */
function isOfSystem(error: Error): boolean {
  return (error as NodeJS.ErrnoException).syscall !== undefined
}

function overLimit(maxBytes: number): RangeError {
  return new RangeError(`the body is over the limit of ${maxBytes} bytes`)
}

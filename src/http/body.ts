/**
 * The body of one HTTP response: pulled chunk by chunk, or gathered whole.
 *
 * Not a stream of the platform: reading costs one promise per chunk, and none when chunks wait already.
 * The one rule: nobody reads, nothing piles up. Past a small buffer the socket is paused.
 */
import { Gathered } from '../gathered.ts'

/** What the body needs of undici's controller. */
export interface Valve {
  pause(): void
  resume(): void
  abort(reason: Error): void
}

const HIGH_WATER_BYTES = 128 * 1024
/** A shorter body comes in one piece or two. */
const WORTH_EXPECTING_BYTES = 256 * 1024

export class Body {
  readonly #valve: Valve
  #chunks: Buffer[] = []
  #bytes = 0
  #paused = false
  #ended = false
  #error: Error | undefined
  /** Runs out on a transfer of which nothing more is wanted. */
  #patience: NodeJS.Timeout | undefined
  #reader: { resolve: (chunk: Buffer | undefined) => void; reject: (error: Error) => void } | undefined
  #gathering: { all: Gathered; maxBytes: number; settle: (all: Buffer | Error) => void } | undefined

  constructor(valve: Valve) {
    this.#valve = valve
  }

  /** True once the last byte has been read, or the transfer failed: the socket is not in use any more. */
  get over(): boolean {
    return this.#ended || this.#error !== undefined
  }

  /** True when the transfer did not come to its end. */
  get failed(): boolean {
    return this.#error !== undefined
  }

  /** The next chunk; undefined after a clean end. Rejects when the connection broke or `destroy` was called. */
  read(): Promise<Buffer | undefined> {
    const chunk = this.#chunks.shift()
    if (chunk !== undefined) {
      this.#bytes -= chunk.length
      // Only once all is read: undici puts back what it had when it was paused, and copies it at each resume.
      if (this.#bytes === 0) this.#resume()
      return Promise.resolve(chunk)
    }
    if (this.#error !== undefined) return Promise.reject(this.#error)
    if (this.#ended) return Promise.resolve(undefined)
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject }
    })
  }

  /** The rest of it, once. Rejects when the connection breaks, and with a RangeError past `maxBytes`. */
  readAll(maxBytes: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.gather(maxBytes, (all) => (all instanceof Error ? reject(all) : resolve(all)))
    })
  }

  /**
   * The same without a promise: `settle` is called once, in the very moment it is whole or can't be any more.
   * `expectedBytes`: what the other side said of its length.
   */
  gather(maxBytes: number, settle: (all: Buffer | Error) => void, expectedBytes = 0): void {
    if (this.#error !== undefined) return settle(this.#error)
    const chunks = this.#chunks
    this.#chunks = []
    this.#bytes = 0
    const all = new Gathered()
    if (expectedBytes >= WORTH_EXPECTING_BYTES && expectedBytes <= maxBytes) all.expect(expectedBytes)
    this.#gathering = { all, maxBytes, settle }
    for (const chunk of chunks) this.push(chunk)
    if (this.#ended) this.end()
    else this.#resume()
  }

  /** Nothing more is wanted: what still comes is dropped, and cut off unless it ends within `ms`. */
  discard(ms: number): void {
    if (this.over || this.#patience !== undefined) return
    this.#patience = setTimeout(() => this.destroy(), ms)
    this.#chunks = []
    this.#bytes = 0
    this.#resume()
  }

  /** Ends the transfer; the socket goes with it unless the body was over. Idempotent. */
  destroy(): void {
    if (!this.over) this.#abort(new Error('aborted'))
  }

  // What the connection tells.

  push(chunk: Buffer): void {
    if (this.#patience !== undefined || this.#error !== undefined) return
    const gathering = this.#gathering
    if (gathering !== undefined) {
      const { all, maxBytes } = gathering
      if (all.length + chunk.length <= maxBytes) return all.add(chunk)
      return this.#abort(new RangeError(`the body is over the limit of ${maxBytes} bytes`))
    }
    const reader = this.#reader
    if (reader !== undefined) {
      this.#reader = undefined
      return reader.resolve(chunk)
    }
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes >= HIGH_WATER_BYTES && !this.#paused) {
      this.#paused = true
      this.#valve.pause()
    }
  }

  end(): void {
    clearTimeout(this.#patience)
    this.#ended = true
    this.#reader?.resolve(undefined)
    this.#reader = undefined
    const gathering = this.#gathering
    this.#gathering = undefined
    gathering?.settle(gathering.all.take())
  }

  fail(error: Error): void {
    clearTimeout(this.#patience)
    this.#error ??= error
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

  #resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#valve.resume()
  }
}

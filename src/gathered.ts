/**
 * Pieces that come one after the other, as one buffer.
 *
 * Not a stream, and it knows no limit: whoever adds looks at the length first.
 * The one rule: linear whatever the pieces. A single one is handed out as it is; more are copied into a buffer
 * that doubles, each as it comes, so that nothing is left to do when the last is there.
 */

const NOTHING = Buffer.alloc(0)
/** What is worth a buffer of its own. */
const LEAST_BYTES = 4 * 1024

export class Gathered {
  #bytes: Buffer = NOTHING
  #length = 0
  /** False while `#bytes` is the first piece itself. */
  #own = false

  get length(): number {
    return this.#length
  }

  add(piece: Buffer): void {
    if (this.#length === 0) {
      this.#bytes = piece
      this.#length = piece.length
      return
    }
    const length = this.#length + piece.length
    if (!this.#own || length > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(LEAST_BYTES, 2 * this.#length, length))
      this.#bytes.copy(grown, 0, 0, this.#length)
      this.#bytes = grown
      this.#own = true
    }
    piece.copy(this.#bytes, this.#length)
    this.#length = length
  }

  /** All of it; the next piece is a first one again. */
  take(): Buffer {
    const all = this.#own ? this.#bytes.subarray(0, this.#length) : this.#bytes
    this.#bytes = NOTHING
    this.#length = 0
    this.#own = false
    return all
  }
}

/**
 * Pieces that come one after the other, as one buffer.
 *
 * Not a stream, and it knows no limit: whoever adds looks at the length first.
 * The one rule: linear in time and memory whatever the pieces. A single one is handed out as it is; of more, large ones
 * are copied once, small ones don't keep alive what they are cut from, and of very many each is copied as it comes.
 */

import { collectYoung } from './garbage.ts'

const NOTHING = Buffer.alloc(0)
/** From here on a piece is worth keeping as it is. */
const LARGE_BYTES = 16 * 1024
const LEAST_BLOCK_BYTES = 2 * 1024
const MOST_BLOCK_BYTES = 64 * 1024
/**
 * From here on all of it stands in one block, far larger than what is there: what is not touched of it costs nothing,
 * and what was copied out of the network's memory is written over by what comes next.
 */
const HUGE_BYTES = 1024 * 1024
const LEAST_WHOLE_BYTES = 16 * HUGE_BYTES
const ROOM = 4

export class Gathered {
  /** The first piece, while it is the only one. */
  #only: Buffer | undefined
  #pieces: Buffer[] = []
  #length = 0
  /** Where pieces are copied to; its first `#used` bytes are taken. */
  #block: Buffer = NOTHING
  #used = 0
  /** The block is for all of it. */
  #whole = false

  get length(): number {
    return this.#length
  }

  /** What comes is about this long: its bytes are copied as they come, and nothing is left to do at the end. */
  expect(bytes: number): void {
    this.#closeBlock()
    if (bytes >= HUGE_BYTES) collectYoung()
    this.#block = Buffer.allocUnsafe(bytes)
    this.#whole = true
  }

  add(piece: Buffer): void {
    if (this.#length === 0 && !this.#whole) {
      this.#only = piece
    } else {
      if (this.#only !== undefined) this.#keep(this.#only)
      this.#only = undefined
      this.#keep(piece)
    }
    this.#length += piece.length
  }

  /** All of it; the next piece is a first one again. */
  take(): Buffer {
    this.#closeBlock()
    const pieces = this.#pieces
    const [first = NOTHING] = pieces
    const all = this.#only ?? (pieces.length <= 1 ? first : Buffer.concat(pieces, this.#length))
    this.#only = undefined
    if (pieces.length > 0) this.#pieces = []
    this.#length = 0
    return all
  }

  #keep(piece: Buffer): void {
    if (this.#length >= HUGE_BYTES && !this.#fits(piece)) this.#makeRoom(piece.length)
    const fits = this.#fits(piece)
    if (piece.length >= LARGE_BYTES && !(fits && this.#whole)) {
      this.#closeBlock()
      this.#pieces.push(piece)
      return
    }
    if (!fits) {
      this.#closeBlock()
      const size = Math.min(Math.max(this.#length, LEAST_BLOCK_BYTES), MOST_BLOCK_BYTES)
      this.#block = Buffer.allocUnsafe(Math.max(size, piece.length))
    }
    this.#used += piece.copy(this.#block, this.#used)
  }

  #fits(piece: Buffer): boolean {
    return piece.length <= this.#block.length - this.#used
  }

  /** Moves all there is into one block, with room for much more, and for `bytes`. */
  #makeRoom(bytes: number): void {
    this.#closeBlock()
    collectYoung()
    const block = Buffer.allocUnsafe(Math.max(LEAST_WHOLE_BYTES, ROOM * this.#length) + bytes)
    for (const piece of this.#pieces) this.#used += piece.copy(block, this.#used)
    this.#pieces = []
    this.#block = block
    this.#whole = true
  }

  #closeBlock(): void {
    if (this.#used > 0) this.#pieces.push(this.#block.subarray(0, this.#used))
    this.#block = NOTHING
    this.#used = 0
    this.#whole = false
  }
}

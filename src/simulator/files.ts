/**
 * Files that travel with messages: uploaded through a pre-signed address, given by URL or inline, served by link.
 *
 * Not a disk: everything is in memory and bounded. The one rule: an address is good for one upload or one file,
 * and is not guessable.
 */
import { randomBytes } from 'node:crypto'
import { ASSUMED } from './assumptions.ts'
import type { Attachment } from './events.ts'

interface Stored {
  readonly name: string
  readonly mime: string
  readonly bytes: Buffer
}

/** Room for a pre-signed upload. */
interface Slot {
  readonly name: string
  readonly mime: string
  readonly until: number
}

const KEEPS_BYTES = 128 * 1024 * 1024

export class Files {
  readonly #origin: () => string
  readonly #slots = new Map<string, Slot>()
  readonly #stored = new Map<string, Stored>()
  #bytes = 0

  constructor(origin: () => string) {
    this.#origin = origin
  }

  /** Opens an upload address; the file has its id before it has its bytes. */
  offer(
    name: string,
    mime: string,
  ): { readonly fileId: string; readonly url: string; readonly expiresMs: number } {
    const fileId = `file_${randomBytes(12).toString('hex')}`
    for (const [id, slot] of this.#slots) if (slot.until < Date.now()) this.#slots.delete(id)
    this.#slots.set(fileId, { name, mime, until: Date.now() + ASSUMED.uploadMs })
    return { fileId, url: `${this.#origin()}/files/${fileId}`, expiresMs: ASSUMED.uploadMs }
  }

  /** Takes the bytes of an open upload. */
  fill(fileId: string, bytes: Buffer): 'stored' | 'unknown' {
    const slot = this.#slots.get(fileId)
    if (slot === undefined || slot.until < Date.now()) return 'unknown'
    this.#slots.delete(fileId)
    this.#keep(fileId, { name: slot.name, mime: slot.mime, bytes })
    return 'stored'
  }

  /** Keeps bytes at once, and links to them. */
  add(name: string, mime: string, bytes: Buffer): Attachment {
    const fileId = `file_${randomBytes(12).toString('hex')}`
    this.#keep(fileId, { name, mime, bytes })
    return this.#attached(fileId, { name, mime, bytes })
  }

  get(fileId: string): Stored | undefined {
    return this.#stored.get(fileId)
  }

  attachment(fileId: string): Attachment | undefined {
    const file = this.#stored.get(fileId)
    return file && this.#attached(fileId, file)
  }

  #attached(fileId: string, { name, mime, bytes }: Stored): Attachment {
    return { name, mime, size: bytes.length, url: `${this.#origin()}/files/${fileId}` }
  }

  #keep(fileId: string, file: Stored): void {
    this.#stored.set(fileId, file)
    this.#bytes += file.bytes.length
    for (const [id, old] of this.#stored) {
      if (this.#bytes <= KEEPS_BYTES) break
      this.#stored.delete(id)
      this.#bytes -= old.bytes.length
    }
  }
}

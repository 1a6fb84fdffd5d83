/**
 * The agent's key: the one that was set, or what its file holds.
 *
 * Not how it is sent. The one rule: a file is read again when its key is refused, so that a key can be replaced under
 * a running feed.
 */
import type { Clean, Refusal } from './refusal.ts'

export class FeedKey {
  #value: string
  /** Cuts every key that was ever used out of a text. */
  readonly clean: Clean
  readonly #read: (() => string) | undefined

  /** `read` gives what the file holds now, and throws if that is no key; undefined: the key never changes. */
  constructor(value: string, clean: Clean, read?: () => string) {
    this.#value = value
    this.clean = clean
    this.#read = read
  }

  get value(): string {
    return this.#value
  }

  /** `used` was refused: is there another one by now? */
  renew(used: string, { status }: Refusal): boolean {
    if (status !== 401 && status !== 403) return false
    if (used === this.#value && this.#read !== undefined) {
      try {
        this.#value = this.#read()
      } catch {
        return false // Being replaced just now: the refusal stands, the next one looks again.
      }
    }
    return used !== this.#value
  }
}

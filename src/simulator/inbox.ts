/**
 * One agent's inbox and hub: every event once into the list, once to each listener, and a wake-up for who waits.
 *
 * Not a queue with acknowledgements: what nobody listened to is found by reading. The one rule: append, notify and
 * wake happen in one turn, so no event can fall between a read and the wait after it.
 */
import { ASSUMED } from './assumptions.ts'
import type { Draft, InboxEvent } from './events.ts'

/** Takes one event; gives the name of the stream it went to, or undefined if it went nowhere. */
export type Listener = (event: InboxEvent) => string | undefined

/** What `chamade_inbox` sees. */
export interface Page {
  readonly events: readonly InboxEvent[]
  readonly cursor: string
}

export class Inbox {
  readonly #prefix: string
  readonly #listeners = new Set<Listener>()
  readonly #waiting = new Set<() => void>()
  #events: InboxEvent[] = []
  #last = 0
  #read = 0

  /** `prefix` makes event ids of different agents differ. */
  constructor(prefix: string) {
    this.#prefix = prefix
  }

  /** Readers that wait right now. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** Adds an event; `routes` names the streams it was pushed to. */
  append(draft: Draft): { readonly event: InboxEvent; readonly routes: readonly string[] } {
    const sequence = ++this.#last
    const at = Date.now()
    const id = `evt_${this.#prefix}${String(sequence).padStart(6, '0')}`
    const ts = new Date(at).toISOString()
    const meta = { event_type: draft.type, event_id: id, ts, ...draft.meta }
    const event: InboxEvent = { type: draft.type, content: draft.content, meta, id, sequence, at }
    this.#events.push(event)
    // Cut in blocks: a shift for every event would move the whole list each time.
    if (this.#events.length > 2 * ASSUMED.inboxKeeps) this.#events = this.#events.slice(-ASSUMED.inboxKeeps)
    const routes: string[] = []
    for (const listener of this.#listeners) {
      const route = listener(event)
      if (route !== undefined) routes.push(route)
    }
    for (const wake of [...this.#waiting]) wake()
    return { event, routes }
  }

  /** Hears every event from now on, until the returned function is called. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Events after `cursor`; without one, those that no reading without a cursor has given before. */
  read(cursor: string | undefined, limit: number): Page {
    const from = cursor === undefined ? this.#read : sequenceOf(cursor)
    const events = this.#events.filter((event) => event.sequence > from).slice(0, limit)
    const last = events.at(-1)?.sequence ?? Math.max(from, 0)
    if (cursor === undefined) this.#read = last
    return { events, cursor: `c${last}` }
  }

  /** Like `read`, but waits up to `ms` for something to give. Gives nothing, and consumes nothing, once aborted. */
  async readOrWait(
    cursor: string | undefined,
    limit: number,
    ms: number,
    signal: AbortSignal,
  ): Promise<Page> {
    const from = cursor === undefined ? this.#read : sequenceOf(cursor)
    if (this.#last <= from && ms > 0 && !signal.aborted) await this.#nextEvent(ms, signal)
    return signal.aborted ? { events: [], cursor: `c${from}` } : this.read(cursor, limit)
  }

  #nextEvent(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        this.#waiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal.addEventListener('abort', done, { once: true })
      this.#waiting.add(done)
    })
  }
}

/** True for text that `read` gave out as a cursor. */
export function isCursor(text: string): boolean {
  return /^c\d{1,15}$/.test(text)
}

function sequenceOf(cursor: string): number {
  return isCursor(cursor) ? Number(cursor.slice(1)) : 0
}

/**
 * What the simulator saw, in order: the one record that the console, scenarios and tests read.
 *
 * Not a log for people: entries are data. The one rule: it is bounded; old entries go, counters stay.
 */
import type { InboxEvent } from './events.ts'

export type EntryBody =
  /** An event was published; `routes` are the sessions whose streams took it. */
  | {
      readonly kind: 'event'
      readonly agent: string
      readonly event: InboxEvent
      readonly routes: readonly string[]
    }
  /** A tool call ended. `answers` is the event it answers, `afterMs` the time from that event to this call. */
  | {
      readonly kind: 'tool'
      readonly agent: string
      readonly session: string
      readonly tool: string
      readonly args: Readonly<Record<string, unknown>>
      readonly ok: boolean
      readonly text: string
      readonly tookMs: number
      readonly answers?: string
      readonly afterMs?: number
    }
  | {
      readonly kind: 'session'
      readonly agent: string
      readonly session: string
      readonly state: 'opened' | 'closed' | 'forgotten'
      readonly client: string
    }
  | {
      readonly kind: 'stream'
      readonly agent: string
      readonly session: string
      readonly state: 'open' | 'closed' | 'refused'
    }
  | { readonly kind: 'call'; readonly agent: string; readonly callId: string; readonly state: string }
  | { readonly kind: 'fault'; readonly text: string }

export type Entry = EntryBody & { readonly seq: number; readonly at: number }

const KEEPS = 2_000

export class Journal {
  readonly #readers = new Set<(entry: Entry) => void>()
  #entries: Entry[] = []
  #seq = 0

  /** The latest entries, oldest first. */
  get entries(): readonly Entry[] {
    return this.#entries
  }

  /** Number of the latest entry. */
  get seq(): number {
    return this.#seq
  }

  record(body: EntryBody): Entry {
    const entry: Entry = { ...body, seq: ++this.#seq, at: Date.now() }
    this.#entries.push(entry)
    if (this.#entries.length > 2 * KEEPS) this.#entries = this.#entries.slice(-KEEPS)
    for (const reader of [...this.#readers]) reader(entry)
    return entry
  }

  /** Hears every entry from now on, until the returned function is called. */
  follow(reader: (entry: Entry) => void): () => void {
    this.#readers.add(reader)
    return () => this.#readers.delete(reader)
  }
}

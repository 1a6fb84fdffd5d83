/**
 * What of a space has been seen, and how to fetch what has not.
 *
 * No delivery, no filter. The one rule: an event the backend still has is given exactly once, in the backend's
 * order, whatever breaks in between.
 *
 * `GET …/events?since=ID` is documented as "events after this", with at most 200 a page. Whether a full page is
 * the oldest or the newest of them is not, so both are coped with: `before=` fetches what may lie in the middle.
 */
import type { EventQuery } from './backend.ts'
import { isRecord, text } from './filter.ts'
import { no, type Reply, yes } from './refusal.ts'

/** Fetches one page, oldest first. */
export type FetchPage = (query: EventQuery) => Promise<Reply<readonly unknown[]>>

const PAGE = 200
/** Ask from this many events before the last one: several writers may not have been stored in the order sent. */
const OVERLAP = 20
/** Stands in the list of ids for the beginning of the space. */
const BEGINNING = ''
/** Ids remembered to know an event again. */
const REMEMBERED = 10_000
/** Pages of a middle that are held at once; beyond, what is missing is given up. */
const MAX_MIDDLE = 50

export class History {
  /** Ids in the order seen; the oldest is forgotten first. */
  readonly #seen = new Set<string>()
  #recent: string[] = []
  #seeded = false

  /** Is it known from where to continue? */
  get seeded(): boolean {
    return this.#seeded
  }

  /** Takes `events` as the past: not to be given, and the place to continue from. */
  seed(events: readonly unknown[]): void {
    this.restart(events)
    for (const event of events) this.#see(idOf(event))
  }

  /** Continues from `events`, whatever was before; which of them are known stays as it is. */
  restart(events: readonly unknown[]): void {
    const ids = events.map(idOf).filter((id) => id !== '')
    this.#recent = ids.length === 0 ? [BEGINNING] : ids.slice(-OVERLAP)
    this.#seeded = true
  }

  /** Was this event given, or part of the past? One without an id never was. */
  knows(eventId: string): boolean {
    return this.#seen.has(eventId)
  }

  /** Call once an event is dealt with: what comes next continues behind it. */
  remember(eventId: string): void {
    if (eventId === '' || this.#seen.has(eventId)) return
    this.#see(eventId)
    this.#recent.push(eventId)
    if (this.#recent.length > 2 * OVERLAP) this.#recent = this.#recent.slice(-OVERLAP)
  }

  /**
   * Pages of what came since, oldest first, until there is no more. A refusal ends it; see `placeIsLost`.
   */
  async *since(fetch: FetchPage): AsyncGenerator<Reply<Missed>> {
    const place = this.#recent.slice(-OVERLAP)[0]
    let since = place === BEGINNING ? undefined : place
    for (;;) {
      const page = await fetch({ since, limit: PAGE })
      if (!page.ok) {
        yield page
        return
      }
      // A server that knows no `since` gives the newest: all behind it is what we want.
      const at = since === undefined ? -1 : page.value.findIndex((event) => idOf(event) === since)
      if (page.value.length < PAGE || at !== -1) {
        const events = page.value.slice(at + 1)
        yield yes({ events, complete: since !== undefined || this.#holdsOurs(events) })
        return
      }
      const middle = await before(page.value, since, fetch)
      const events = middle.ok ? [...middle.value.events, ...page.value] : []
      const whole = since !== undefined || this.#holdsOurs(events)
      yield middle.ok ? yes({ events, complete: middle.value.complete && whole }) : middle
      const last = idOf(page.value.at(-1))
      if (!middle.ok || last === '' || last === since) return
      since = last
    }
  }

  /** A space told from its beginning must hold what we know of it; or it was wiped, and who knows what else. */
  #holdsOurs(events: readonly unknown[]): boolean {
    return this.#recent.every((id) => id === BEGINNING) || events.some((event) => this.#seen.has(idOf(event)))
  }

  #see(eventId: string): void {
    if (eventId === '') return
    this.#seen.add(eventId)
    if (this.#seen.size <= REMEMBERED) return
    const [oldest] = this.#seen
    if (oldest !== undefined) this.#seen.delete(oldest)
  }
}

/** A piece of what was missed. */
export interface Missed {
  readonly events: readonly unknown[]
  /** False when something before it had to be given up. */
  readonly complete: boolean
}

/** True for a status that says: the place to continue from is unknown, or history is not given out. */
export function placeIsLost(status: number | undefined): boolean {
  return status === 400 || status === 404 || status === 410 || status === 422
}

export function idOf(event: unknown): string {
  return isRecord(event) ? (text(event.event_id) ?? '') : ''
}

/** What lies between `since` and the first event of a full page: nothing, if pages begin with the oldest. */
async function before(
  page: readonly unknown[],
  since: string | undefined,
  fetch: FetchPage,
): Promise<Reply<Missed>> {
  const known = new Set(page.map(idOf))
  let events: readonly unknown[] = []
  let first = idOf(page[0])
  for (let pages = 0; pages < MAX_MIDDLE && first !== ''; pages++) {
    const older = await fetch({ since, before: first, limit: PAGE })
    if (!older.ok) return placeIsLost(older.no.status) ? yes({ events, complete: false }) : no(older.no)
    const at = since === undefined ? -1 : older.value.findIndex((event) => idOf(event) === since)
    const fresh = older.value.slice(at + 1).filter((event) => !known.has(idOf(event)))
    if (fresh.length === 0) return yes({ events, complete: true })
    for (const event of fresh) known.add(idOf(event))
    events = [...fresh, ...events]
    if (at !== -1 || older.value.length < PAGE) return yes({ events, complete: true })
    first = idOf(fresh[0])
  }
  return yes({ events, complete: false })
}

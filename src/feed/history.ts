/**
 * What of a space has been seen, and how to fetch what has not.
 *
 * No delivery, no filter. The one rule: an event the backend still has is given exactly once, in the backend's
 * order, whatever breaks in between.
 *
 * `GET …/events?since=ID` is documented as "events after this", with at most 200 a page. Whether a page is the
 * oldest or the newest of them, whether it holds ID itself, and how many a server really gives at once is not.
 * So no length of a page says that it was the last: `before=` fetches what may lie in the middle, and pages are
 * asked for until one brings nothing new.
 */
import { createHash } from 'node:crypto'
import { direction, type EventQuery, PAGE, timeOf } from './backend.ts'
import { isRecord, readEvent, text } from './filter.ts'
import { isAbsent, isDeclined, no, type Reply, yes } from './refusal.ts'

/** Fetches one page, oldest first. */
export type FetchPage = (query: EventQuery) => Promise<Reply<readonly unknown[]>>

/** What a page holds where the limit is not heeded. One of neither length was hardly cut short. */
const DEFAULT_PAGE = 50
/** Ask from this many events before the last one: several writers may not have been stored in the order sent. */
const OVERLAP = 20
/** Stands in the list of ids for the beginning of the space. */
const BEGINNING = ''
/** Events remembered to know them again. */
const REMEMBERED = 10_000
/** Behind so many that were told since, a place is no more asked from: they would not all be known again. */
export const MAX_BEHIND = REMEMBERED / 2
/** Pages of a middle that are held at once; beyond, what is missing is given up. */
const MAX_MIDDLE = 50
/** Pages one after the other; a server that has still more by then may be making them up. */
const MAX_PAGES = 1_000

/** So long after it was stored an event may still come over the socket. */
export const ON_ITS_WAY_MS = 10_000

export class History {
  /** Identities in the order seen; the oldest is forgotten first. */
  readonly #seen = new Set<string>()
  /** The places to continue from. */
  #recent: string[] = []
  /** When the latest of them was said, the server's clock; 0: who knows. */
  #placedAt = 0
  /** What would be such, but for something missing before it. */
  #held: string[] | undefined

  /** Is it known from where to continue? */
  get placed(): boolean {
    return this.#recent.length > 0
  }

  /** The places to continue from, the oldest first: more than one, as several writers may not have been stored in the order sent. */
  get place(): readonly string[] {
    return this.#recent
  }

  /** Which of `page`, the oldest first, came behind the place: by their order, or if that is not in it, by their times. */
  behindPlace(page: readonly unknown[]): readonly unknown[] {
    const place = new Set(this.place)
    const at = page.findLastIndex((event) => place.has(idOf(event)))
    // (Several writers may not have been stored in the order sent.)
    const begin = this.#placedAt - ON_ITS_WAY_MS
    return page.filter((event, i) => (at >= 0 && i > at) || (timeOf(event) ?? begin) >= begin)
  }

  /** Takes `events` as the past: not to be given, and the place to continue from. */
  seed(events: readonly unknown[]): void {
    this.restart(events)
    this.pass(events)
  }

  /** Takes `events` as not to be given; the place stays as it is. */
  pass(events: readonly unknown[]): void {
    for (const event of events) this.#see(identityOf(event))
  }

  /** Continues from `events`, whatever was before; which of them are known stays as it is. */
  restart(events: readonly unknown[]): void {
    const ids = events.map(idOf).filter((id) => id !== '')
    this.#recent = ids.length === 0 ? [BEGINNING] : ids.slice(-OVERLAP)
    this.#placedAt = latestOf(events)
    this.#held = undefined
  }

  /** What was missed could not be had: until `since` has given it, it is asked for from here. */
  hold(): void {
    if (this.placed) this.#held ??= []
  }

  /** Was this event given, or part of the past? */
  knows(event: unknown): boolean {
    return this.#seen.has(identityOf(event))
  }

  /** Call once an event is dealt with: what comes next continues behind it. */
  remember(event: unknown): void {
    const [identity, id] = [identityOf(event), idOf(event)]
    if (this.#seen.has(identity)) return
    this.#see(identity)
    if (id === '') return
    if (this.#held !== undefined) {
      this.#held.push(id)
      if (this.#held.length > MAX_BEHIND) this.#release([])
      return
    }
    this.#placedAt = Math.max(this.#placedAt, latestOf([event]))
    this.#recent = [...this.#recent, id].slice(-OVERLAP)
  }

  /**
   * Pages of what came since the place, or an `earlier` one, oldest first, until there is no more; at least one. A
   * refusal ends it; one that `isDeclined` says that the place is unknown, or that no history is given out.
   */
  async *since(ask: FetchPage, earlier: readonly string[] = []): AsyncGenerator<Reply<Missed>> {
    const fetch: FetchPage = async (query) => {
      const page = await ask(query)
      return page.ok ? yes(this.#oldestFirst(page.value)) : page
    }
    const [place, ...behind] = new Set([...earlier, ...this.place])
    const [next] = behind
    const given = new Set<string>()
    /** Its pages begin with the oldest: each joins the one before. */
    let oldest = false
    let since = place === BEGINNING ? undefined : place
    for (let pages = 0; pages < MAX_PAGES; pages++) {
      const page = await fetch({ since })
      if (!page.ok) {
        const { status, error } = page.no
        const missing = isAbsent(status) ? FORGOTTEN : error.message
        yield pages > 0 && isDeclined(page.no) ? yes({ events: [], missing }) : page
        return
      }
      // Of a server that knows no `since`, or counts it in, all behind it is what we want.
      const at = since === undefined ? -1 : page.value.findIndex((event) => idOf(event) === since)
      const fresh = page.value.slice(at + 1).filter((event) => !given.has(idOf(event)))
      const first = idOf(fresh[0])
      const isNext = pages === 0 && first !== '' && first === next
      // A page that holds all there was begins there whatever others begin with.
      oldest ||= isNext && !holdsAll(page.value)
      const joined = at !== -1 || fresh.length === 0 || isNext || oldest
      const middle = joined ? NOTHING : await before(fresh, since, fetch)
      if (!middle.ok) {
        yield middle
        return
      }
      const events = [...middle.value.events, ...fresh]
      const ids = events.map(idOf).filter((id) => id !== '')
      if (pages > 0 && ids.length === 0) {
        this.#release(given)
        return
      }
      // What we know behind the place must be there too; or the space was wiped, and who knows what else.
      const ours = pages > 0 || behind.length === 0 || events.some((event) => behind.includes(idOf(event)))
      yield yes({ events, missing: middle.value.missing ?? (ours ? undefined : FORGOTTEN) })
      since = ids.at(-1)
      // Without an id there is no asking for more.
      if (since === undefined && events.length < PAGE) {
        this.#release(given)
        return
      }
      if (since === undefined) break
      for (const id of ids) given.add(id)
    }
    this.#release(given)
    yield yes({ events: [], missing: TOO_MUCH })
  }

  /** Where times say nothing: what we know was said before what we don't. */
  #oldestFirst(page: readonly unknown[]): readonly unknown[] {
    const knowsLast = this.knows(page.at(-1)) && !this.knows(page[0])
    return knowsLast && this.#held === undefined && direction(page) === 0 ? page.toReversed() : page
  }

  /** Nothing is missing any more: continues behind `given`, and behind what was told before it. */
  #release(given: Iterable<string>): void {
    if (this.#held === undefined) return
    this.#recent = [...new Set([...this.#recent, ...given, ...this.#held])].slice(-OVERLAP)
    this.#held = undefined
  }

  #see(identity: string): void {
    this.#seen.add(identity)
    if (this.#seen.size <= REMEMBERED) return
    const [oldest] = this.#seen
    if (oldest !== undefined) this.#seen.delete(oldest)
  }
}

/** A piece of what was missed. */
export interface Missed {
  readonly events: readonly unknown[]
  /** Why something before it had to be given up, one clause; undefined when nothing had. */
  readonly missing: string | undefined
}

const NOTHING: Reply<Missed> = yes({ events: [], missing: undefined })

const TOO_MUCH = 'more was missed than can be fetched'
export const FORGOTTEN = 'moot does not know the last event we had any more'

export function idOf(event: unknown): string {
  return isRecord(event) ? (text(event.event_id) ?? '') : ''
}

function latestOf(events: readonly unknown[]): number {
  return events.reduce<number>((latest, event) => Math.max(latest, timeOf(event) ?? 0), 0)
}

/**
 * What an event is known again by: its id, or where it has none all of it that is read (no more: what is nested
 * too deep can't be written down). No place to continue from.
 */
function identityOf(event: unknown): string {
  const id = idOf(event)
  if (id !== '') return id
  const said = JSON.stringify([timeOf(event), readEvent(event, '')])
  return createHash('sha256').update(said).digest('base64')
}

/** Was this page hardly cut short? */
function holdsAll(page: readonly unknown[]): boolean {
  return page.length !== DEFAULT_PAGE && page.length < PAGE
}

/** What lies between `since` and the first event of a page: nothing, if pages begin with the oldest. */
async function before(
  page: readonly unknown[],
  since: string | undefined,
  fetch: FetchPage,
): Promise<Reply<Missed>> {
  const known = new Set(page.map(idOf))
  let events: readonly unknown[] = []
  let first = page.map(idOf).find((id) => id !== '')
  if (first === undefined) return yes({ events, missing: page.length < PAGE ? undefined : TOO_MUCH })
  for (let pages = 0; pages < MAX_MIDDLE; pages++) {
    const older = await fetch({ since, before: first })
    if (!older.ok) return isDeclined(older.no) ? yes({ events, missing: TOO_MUCH }) : no(older.no)
    const ids = older.value.map(idOf)
    const at = since === undefined ? -1 : ids.indexOf(since)
    // (What stands behind `first` was said meanwhile, to a server that knows no `before`.)
    const end = ids.indexOf(first)
    const asked = older.value.slice(at + 1, end === -1 ? undefined : end)
    const fresh = asked.filter((event) => !known.has(idOf(event)))
    const heeded = !ids.some((id) => id !== '' && id !== first && known.has(id))
    const next = fresh.map(idOf).find((id) => id !== '')
    // A server that knows no `before` gives what is known already, and tells nothing of the middle.
    const whole = heeded || at !== -1 || holdsAll(page)
    if (next === undefined) return yes({ events, missing: whole ? undefined : TOO_MUCH })
    for (const event of fresh) known.add(idOf(event))
    events = [...fresh, ...events]
    if (at !== -1) return yes({ events, missing: undefined })
    first = next
  }
  return yes({ events, missing: TOO_MUCH })
}

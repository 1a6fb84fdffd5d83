/**
 * Which of the server's tools can catch up on missed events: names from the last `tools/list` that passed by,
 * or from one of our own.
 *
 * Not a filter: the client's lists pass untouched. The one rule: a request of ours has an id that the client
 * cannot have used, and its answer goes no further.
 */
import { composeRequest, METHOD, member, type Request, type Response, valueAt } from '../protocol.ts'
import { firstOf } from '../retry.ts'

/** Where an agent can look for what it was not told. */
export interface CatchUp {
  /** The server's tools for it, best first. */
  readonly tools: readonly string[]
  /** What the server names for it that is not its own. */
  readonly elsewhere: string | undefined
}

/**
 * Stands in `_meta` of a tool of a server whose own tools show no events: what does, as the object of "call":
 * `get_mentions of the other server`.
 */
export const CATCH_UP_ELSEWHERE = 'io.chamade/catch-up'

/** A page of the list: what we know of it. */
interface Listed {
  readonly names: readonly string[]
  readonly elsewhere: string | undefined
  readonly nextCursor: string | undefined
}

/** Most pages of a list that we ask for ourselves. */
const MAX_PAGES = 20

/** Remembers the server's tool names; asks for them when the client never did. */
export class Tools {
  readonly #send: (message: Request) => Promise<void>
  readonly #prefix = `chamade-mcp-${Math.random().toString(36).slice(2)}`
  /** The client's open `tools/list` requests, by raw id; true: the first page. */
  readonly #open = new Map<string, boolean>()
  /** Our own open ones, by raw id, and what they were answered. */
  readonly #own = new Map<string, Listed | undefined>()
  #names: readonly string[] | undefined
  #elsewhere: string | undefined
  #asking: Promise<void> | undefined
  #count = 0

  constructor(send: (message: Request) => Promise<void>) {
    this.#send = send
  }

  /** By the lists seen so far. */
  get catchUp(): CatchUp {
    return { tools: catchUpTools(this.#names ?? []), elsewhere: this.#elsewhere }
  }

  /** Another server may answer from now on. */
  forget(): void {
    this.#names = undefined
    this.#elsewhere = undefined
    this.#open.clear()
  }

  /** The client is about to send `request`, a `tools/list`. Call what is returned once its fate is settled. */
  asked(request: Request): () => void {
    const { id } = request
    this.#open.set(id, member(request.raw, request.params, 'cursor') === undefined)
    return () => {
      this.#open.delete(id)
    }
  }

  /** Looks at an answer. True when it was ours: it goes no further. */
  take(response: Response): boolean {
    const { id } = response
    if (id === undefined || (this.#own.size === 0 && this.#open.size === 0)) return false
    if (this.#own.has(id)) {
      this.#own.set(id, listed(response))
      return true
    }
    const first = this.#open.get(id)
    if (first === undefined) return false
    const page = listed(response)
    if (page === undefined) return false
    this.#names = first ? page.names : [...(this.#names ?? []), ...page.names]
    this.#elsewhere = page.elsewhere ?? (first ? undefined : this.#elsewhere)
    return false
  }

  /** Asks for a list when none was seen; after `patienceMs` (or when `signal` ends it) what there is. */
  async find(patienceMs: number, signal: AbortSignal): Promise<CatchUp> {
    if (this.#names !== undefined || signal.aborted) return this.catchUp
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined
    })
    await firstOf([this.#asking], patienceMs, signal)
    return this.catchUp
  }

  /** Never rejects: a notice without tool names is better than none. */
  async #ask(): Promise<void> {
    const names: string[] = []
    let elsewhere: string | undefined
    let cursor: string | undefined
    for (let page = 0; page < MAX_PAGES; page++) {
      const answer = await this.#request(cursor)
      if (answer === undefined) break
      names.push(...answer.names)
      elsewhere ??= answer.elsewhere
      cursor = answer.nextCursor
      if (cursor === undefined) break
    }
    // What the client was told in the meantime is newer.
    if (names.length === 0 || this.#names !== undefined) return
    this.#names = names
    this.#elsewhere = elsewhere
  }

  async #request(cursor: string | undefined): Promise<Listed | undefined> {
    const params = cursor === undefined ? undefined : { cursor }
    const request = composeRequest(`${this.#prefix}-${++this.#count}`, METHOD.toolsList, params)
    this.#own.set(request.id, undefined)
    try {
      await this.#send(request)
      return this.#own.get(request.id)
    } catch {
      return undefined
    } finally {
      this.#own.delete(request.id)
    }
  }
}

/** Words of a tool's name that tell of reading what came in, the most telling first. */
const READS = ['inbox', 'unread', 'missed', 'mentions', 'recent', 'activity', 'history', 'events', 'messages']
const STATES = ['status', 'transcript', 'calls']
const CHANGES =
  /^(send|set|update|delete|remove|create|add|clear|post|write|mark|cancel|subscribe|unsubscribe|reply|link)$/

/**
 * Of a server's tools the few that look like catching up, best first, by the words of their names:
 * `chamade_inbox`, `chamade_call_status`, `get_recent_context`. Names that change something are none, and a list
 * is one only of calls: of what came in, not of what was set (`list_subscriptions`).
 */
function catchUpTools(names: readonly string[]): readonly string[] {
  const scored = names
    .filter((name) => /^[A-Za-z0-9_./-]{1,128}$/.test(name))
    .map((name) => ({ name, rank: rankOf(name) }))
    .filter(({ rank }) => rank !== Number.POSITIVE_INFINITY)
  return scored
    .sort((a, b) => a.rank - b.rank)
    .slice(0, 4)
    .map(({ name }) => name)
}

function rankOf(name: string): number {
  const words = name
    .replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .split(/[^a-z0-9]+/)
  if (words.some((word) => CHANGES.test(word))) return Number.POSITIVE_INFINITY
  if (words.includes('list') && words.includes('call')) words.push('calls')
  const ranks = words.map((word) => [...READS, ...STATES].indexOf(word)).filter((rank) => rank >= 0)
  return Math.min(...ranks)
}

/** The names in a `tools/list` result; undefined for an error or something else. */
function listed(response: Response): Listed | undefined {
  if (response.result === undefined) return undefined
  const result = valueAt(response.raw, response.result)
  if (!isRecord(result) || !Array.isArray(result.tools)) return undefined
  const tools = result.tools.filter(isRecord)
  const hints = tools.map(({ _meta }) => (isRecord(_meta) ? _meta[CATCH_UP_ELSEWHERE] : undefined))
  return {
    names: tools.map(({ name }) => name).filter((name) => typeof name === 'string'),
    elsewhere: hints.find((hint) => typeof hint === 'string'),
    nextCursor: typeof result.nextCursor === 'string' ? result.nextCursor : undefined,
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

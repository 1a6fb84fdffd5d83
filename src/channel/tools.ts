/**
 * Which of the server's tools can catch up on missed events: names from the last `tools/list` that passed by,
 * or from one of our own.
 *
 * Not a filter: the client's lists pass untouched. The one rule: a request of ours has an id that the client
 * cannot have used, and its answer goes no further.
 */
import { compose, METHOD, member, type Request, type Response, valueAt } from '../protocol.ts'
import { sleep } from '../retry.ts'

/** One entry in the list: what we know of it. */
interface Listed {
  readonly names: readonly string[]
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
  #asking: Promise<void> | undefined
  #count = 0

  constructor(send: (message: Request) => Promise<void>) {
    this.#send = send
  }

  /** Names seen so far; empty when there was no list. */
  get names(): readonly string[] {
    return this.#names ?? []
  }

  /** Another server may answer from now on. */
  forget(): void {
    this.#names = undefined
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
    if (page !== undefined) this.#names = first ? page.names : [...this.names, ...page.names]
    return false
  }

  /** The names, asked for when they are not known; after `patienceMs` (or when `signal` ends it) what there is. */
  async find(patienceMs: number, signal: AbortSignal): Promise<readonly string[]> {
    if (this.#names !== undefined || signal.aborted) return this.names
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined
    })
    const enough = new AbortController()
    await Promise.race([this.#asking, sleep(patienceMs, signal, enough.signal)])
    enough.abort()
    return this.names
  }

  /** Never rejects: a notice without tool names is better than none. */
  async #ask(): Promise<void> {
    const names: string[] = []
    let cursor: string | undefined
    for (let page = 0; page < MAX_PAGES; page++) {
      const answer = await this.#request(cursor)
      if (answer === undefined) break
      names.push(...answer.names)
      cursor = answer.nextCursor
      if (cursor === undefined) break
    }
    // What the client was told in the meantime is newer.
    if (names.length > 0) this.#names ??= names
  }

  async #request(cursor: string | undefined): Promise<Listed | undefined> {
    const params = cursor === undefined ? {} : { params: { cursor } }
    const id = `${this.#prefix}-${++this.#count}`
    const request = compose({ jsonrpc: '2.0', id, method: METHOD.toolsList, ...params })
    if (request.kind !== 'request') throw new TypeError('tools/list became something else')
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
const STATES = ['status', 'transcript', 'list', 'calls']
const CHANGES =
  /^(send|set|update|delete|remove|create|add|clear|post|write|mark|cancel|subscribe|unsubscribe|reply|link)$/

/**
 * Of a server's tools the few that look like catching up, best first, by the words of their names:
 * `chamade_inbox`, `chamade_call_status`, `get_recent_context`. Names that change something are none.
 */
export function catchUpTools(names: readonly string[]): readonly string[] {
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
  const ranks = words.map((word) => [...READS, ...STATES].indexOf(word)).filter((rank) => rank >= 0)
  return Math.min(...ranks)
}

/** The names in a `tools/list` result; undefined for an error or something else. */
function listed(response: Response): Listed | undefined {
  if (response.result === undefined) return undefined
  const result = valueAt(response.raw, response.result)
  if (!isRecord(result) || !Array.isArray(result.tools)) return undefined
  const names = result.tools.map((tool: unknown) => (isRecord(tool) ? tool.name : undefined))
  return {
    names: names.filter((name) => typeof name === 'string'),
    nextCursor: typeof result.nextCursor === 'string' ? result.nextCursor : undefined,
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

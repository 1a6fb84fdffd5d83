/**
 * What the server asked the client (sampling, elicitation, roots, ping), so that each reply finds its way back.
 *
 * Not a store of messages: ids and generations only.
 * The one rule: a reply goes to the session that asked, or nowhere.
 */
import {
  cancelled,
  cancelledId,
  type Message,
  member,
  type Notification,
  type Request,
  type Response,
  sameId,
  withId,
  withSpan,
} from '../protocol.ts'

interface Open {
  readonly generation: number
  /** The id token the server used. */
  readonly serverId: string
}

/** Abandoned ids that are remembered. A client that replies later than this many requests is not waited for. */
const MAX_ABANDONED = 1_000

export class AskedByServer {
  /** By the id token the client sees. */
  readonly #open = new Map<string, Open>()
  /**
   * Of those the ones that nobody waits for any more, the oldest first. The id stays taken: a late reply must not answer
   * another request.
   */
  readonly #abandoned = new Set<string>()
  #privateIds = 0

  /** Notes a request of the server; under a private id if the client still has one open with this id. */
  ask(request: Request, generation: number): Request {
    let { id } = request
    while (this.#open.has(id)) id = `"chamade-mcp-ask-${++this.#privateIds}"`
    const asked = id === request.id ? request : withId(request, id)
    this.#open.set(asked.id, { generation, serverId: request.id })
    return asked
  }

  /** Does the server still wait for the reply to `asked`? */
  isOpen(asked: Request): boolean {
    return this.#open.has(asked.id) && !this.#abandoned.has(asked.id)
  }

  /**
   * The reply under the server's own id and the generation it belongs to; undefined when nobody asked, or has been
   * replied to.
   */
  reply(
    response: Response,
  ): { readonly response: Response; readonly generation: number } | 'abandoned' | undefined {
    const key = this.#keyOf(response.id)
    const open = key === undefined ? undefined : this.#open.get(key)
    if (key === undefined || open === undefined) return undefined
    this.#open.delete(key)
    if (this.#abandoned.delete(key)) return 'abandoned'
    const restored = response.id === open.serverId ? response : withId(response, open.serverId)
    return { response: restored, generation: open.generation }
  }

  /** The server takes a request back: the notification with the id the client knows. */
  cancel(notification: Notification, generation: number): Notification {
    const serverId = cancelledId(notification)
    for (const [clientId, open] of this.#open) {
      if (open.serverId !== serverId || open.generation !== generation || this.#abandoned.has(clientId))
        continue
      this.#abandon(clientId)
      if (clientId === serverId) return notification
      const span = member(notification.raw, notification.params, 'requestId')
      return span === undefined ? notification : withSpan(notification, span, clientId)
    }
    return notification
  }

  /** The session is gone: what to tell the client of each request that nobody waits for any more. */
  abandon(generation: number): Message[] {
    const notices: Message[] = []
    for (const [clientId, open] of this.#open) {
      if (open.generation !== generation || this.#abandoned.has(clientId)) continue
      this.#abandon(clientId)
      notices.push(cancelled(clientId, 'the server lost the session'))
    }
    return notices
  }

  #abandon(clientId: string): void {
    this.#abandoned.add(clientId)
    const [oldest] = this.#abandoned
    if (this.#abandoned.size <= MAX_ABANDONED || oldest === undefined) return
    this.#abandoned.delete(oldest)
    this.#open.delete(oldest)
  }

  /** Clients that re-serialize may write the id in other words. */
  #keyOf(id: string | undefined): string | undefined {
    if (id === undefined || this.#open.has(id)) return id
    for (const key of this.#open.keys()) if (sameId(key, id)) return key
    return undefined
  }
}

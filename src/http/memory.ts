/**
 * What the client was told and what it has set, so that a new session can be made like the one before.
 *
 * Not a cache of answers: the capabilities it saw, one log level, and the resources it watches.
 * The one rule: only what succeeded is remembered.
 */
import { isDeepStrictEqual } from 'node:util'
import { isString, stringAt, textAt } from '../json.ts'
import {
  composeNotification,
  METHOD,
  type Message,
  member,
  type Request,
  type Response,
  stringMember,
  valueAt,
} from '../protocol.ts'

/** The part of an `initialize` result that must stay the same for the client. */
export interface Seen {
  readonly protocolVersion: string
  readonly capabilities: unknown
}

/** A request that sets something; `params` is JSON text. */
export interface Setting {
  readonly method: string
  readonly params: Buffer
}

/** `generation`: of the session it was said in. */
interface Kept extends Setting {
  readonly generation: number
}

export class Memory {
  #level: Kept | undefined
  readonly #subscriptions = new Map<string, Kept>()

  /**
   * A request of the client succeeded in the session `generation`. Gives what it set; undefined when the client has
   * set the same in a later session since.
   */
  remember(request: Request, generation: number): Setting | undefined {
    if (request.params === undefined) return undefined
    const { method } = request
    const kept = { method, params: Buffer.from(textAt(request.raw, request.params)), generation }
    if (method === METHOD.setLevel) {
      if (isOlder(kept, this.#level)) return undefined
      this.#level = kept
      return kept
    }
    const uri = member(request.raw, request.params, 'uri')
    if (uri === undefined || !isString(request.raw, uri)) return undefined
    const key = stringAt(request.raw, uri)
    if (isOlder(kept, this.#subscriptions.get(key))) return undefined
    if (method === METHOD.subscribe) this.#subscriptions.set(key, kept)
    else this.#subscriptions.delete(key)
    return kept
  }

  /** The client starts anew. */
  forget(): void {
    this.#level = undefined
    this.#subscriptions.clear()
  }

  /** What sets the same again. */
  toRestore(): Setting[] {
    return [...(this.#level === undefined ? [] : [this.#level]), ...this.#subscriptions.values()]
  }

  /** What the client may have missed meanwhile: lists that can have changed, resources that it watches. */
  toTell(seen: Seen | undefined): Message[] {
    const lists = ['tools', 'prompts', 'resources'].filter((list) =>
      declares(seen?.capabilities, list, 'listChanged'),
    )
    return [
      ...lists.map((list) => composeNotification(`notifications/${list}/list_changed`)),
      ...[...this.#subscriptions.keys()].map((uri) => composeNotification(METHOD.resourceUpdated, { uri })),
    ]
  }
}

/** What a client is told by this `initialize` result. */
export function seenIn(response: Response): Seen {
  const result = response.result
  const capabilities = member(response.raw, result, 'capabilities')
  return {
    protocolVersion: stringMember(response.raw, result, 'protocolVersion') ?? '',
    capabilities: capabilities === undefined ? {} : valueAt(response.raw, capabilities),
  }
}

/** What is different for the client, as a clause; undefined when nothing is. */
export function difference(seen: Seen | undefined, now: Seen): string | undefined {
  if (seen === undefined) return undefined
  const parts: string[] = []
  if (seen.protocolVersion !== now.protocolVersion) {
    parts.push(`the server now speaks ${now.protocolVersion}, not ${seen.protocolVersion}`)
  }
  if (!isDeepStrictEqual(seen.capabilities, now.capabilities)) {
    parts.push('the server now declares other capabilities')
  }
  return parts.length === 0 ? undefined : parts.join(' and ')
}

function isOlder(kept: Kept, other: Kept | undefined): boolean {
  return other !== undefined && other.generation > kept.generation
}

function declares(capabilities: unknown, ...path: readonly string[]): boolean {
  let at = capabilities
  for (const key of path) {
    if (typeof at !== 'object' || at === null) return false
    at = (at as Record<string, unknown>)[key]
  }
  return at === true
}

/**
 * What the client was told and what it has set, so that a new session can be made like the one before.
 *
 * Not a cache of answers: the capabilities it saw, one log level, and the resources it watches.
 * The one rule: only what succeeded is remembered.
 */
import { isString, stringAt, textAt } from '../json.ts'
import {
  compose,
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
  readonly capabilitiesText: string
}

export class Memory {
  #level: Buffer | undefined
  readonly #subscriptions = new Map<string, Buffer>()

  /** A request of the client succeeded. */
  remember(request: Request): void {
    const params = request.params === undefined ? undefined : textAt(request.raw, request.params)
    if (params === undefined) return
    if (request.method === METHOD.setLevel) {
      this.#level = Buffer.from(params)
      return
    }
    const uri = member(request.raw, request.params, 'uri')
    if (uri === undefined || !isString(request.raw, uri)) return
    const key = stringAt(request.raw, uri)
    if (request.method === METHOD.subscribe) this.#subscriptions.set(key, Buffer.from(params))
    if (request.method === METHOD.unsubscribe) this.#subscriptions.delete(key)
  }

  /** The client starts anew. */
  forget(): void {
    this.#level = undefined
    this.#subscriptions.clear()
  }

  /** Method and `params` (JSON text) of each request that sets the same again. */
  toRestore(): { readonly method: string; readonly params: Buffer }[] {
    const level = this.#level === undefined ? [] : [{ method: METHOD.setLevel, params: this.#level }]
    return [
      ...level,
      ...[...this.#subscriptions.values()].map((params) => ({ method: METHOD.subscribe, params })),
    ]
  }

  /** What the client may have missed meanwhile: lists that can have changed, resources that it watches. */
  toTell(seen: Seen | undefined): Message[] {
    const lists = ['tools', 'prompts', 'resources'].filter((list) =>
      declares(seen?.capabilities, list, 'listChanged'),
    )
    return [
      ...lists.map((list) => compose({ jsonrpc: '2.0', method: `notifications/${list}/list_changed` })),
      ...[...this.#subscriptions.keys()].map((uri) =>
        compose({ jsonrpc: '2.0', method: METHOD.resourceUpdated, params: { uri } }),
      ),
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
    capabilitiesText: capabilities === undefined ? '' : textAt(response.raw, capabilities),
  }
}

/** What is different for the client, as a clause; undefined when nothing is. */
export function difference(seen: Seen | undefined, now: Seen): string | undefined {
  if (seen === undefined) return undefined
  const parts: string[] = []
  if (seen.protocolVersion !== now.protocolVersion) {
    parts.push(`the server now speaks ${now.protocolVersion}, not ${seen.protocolVersion}`)
  }
  if (seen.capabilitiesText !== now.capabilitiesText) parts.push('the server now declares other capabilities')
  return parts.length === 0 ? undefined : parts.join(' and ')
}

function declares(capabilities: unknown, ...path: readonly string[]): boolean {
  let at = capabilities
  for (const key of path) {
    if (typeof at !== 'object' || at === null) return false
    at = (at as Record<string, unknown>)[key]
  }
  return at === true
}

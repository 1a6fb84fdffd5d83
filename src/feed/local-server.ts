/**
 * The MCP server that the client speaks to: four methods, answered on this machine.
 *
 * Not what a tool does (tools.ts), not what is pushed. The one rule: the client's id comes back byte for byte, with
 * exactly one answer, or none once the request is cancelled.
 */
import type { CallToolResult, Tool } from '@modelcontextprotocol/sdk/types.js'
import {
  cancelledId,
  failure,
  LATEST_LEGACY_VERSION,
  METHOD,
  type Message,
  type Request,
  type Response,
  RPC,
  success,
  valueAt,
} from '../protocol.ts'
import type { Deliver } from '../sides.ts'
import { isRecord } from './filter.ts'

export interface Served {
  /** The result of `initialize`, but for the version. */
  readonly about: object
  readonly tools: readonly Tool[]
  /** Never rejects. `cancelled`: aborted when nobody waits for the answer any more. */
  readonly call: (name: string, args: unknown, cancelled: AbortSignal) => Promise<CallToolResult>
}

const VERSIONS: readonly unknown[] = [
  LATEST_LEGACY_VERSION,
  '2025-06-18',
  '2025-03-26',
  '2024-11-05',
  '2024-10-07',
]

/** What is read of the params of each method; a `?` ends what may be left out. */
const PARAMS: Readonly<
  Record<string, Readonly<Record<string, 'string' | 'string?' | 'object' | 'object?'>>>
> = {
  [METHOD.initialize]: { protocolVersion: 'string', capabilities: 'object' },
  [METHOD.ping]: {},
  [METHOD.toolsList]: { cursor: 'string?' },
  [METHOD.toolsCall]: { name: 'string', arguments: 'object?' },
}

export class LocalServer {
  readonly #served: Served
  readonly #deliver: Deliver
  /** By raw id. */
  readonly #open = new Map<string, AbortController>()

  constructor(served: Served, deliver: Deliver) {
    this.#served = served
    this.#deliver = deliver
  }

  /** Resolves once nothing more comes of it. */
  async receive(message: Message): Promise<void> {
    if (message.kind === 'request') return this.#request(message)
    if (message.kind === 'notification' && message.method === METHOD.cancelled) {
      this.#open.get(cancelledId(message) ?? '')?.abort()
    }
  }

  async #request(request: Request): Promise<void> {
    const cancelled = new AbortController()
    this.#open.set(request.id, cancelled)
    const answer = await this.#answer(request, cancelled.signal)
    if (this.#open.get(request.id) === cancelled) this.#open.delete(request.id)
    if (!cancelled.signal.aborted) await this.#deliver(answer, 'answer')
  }

  async #answer({ id, method, raw, params }: Request, cancelled: AbortSignal): Promise<Response> {
    // `null` is how some clients write that there are none.
    const given: unknown = (params === undefined ? undefined : valueAt(raw, params)) ?? {}
    const wrong = wrongWith(method, given)
    if (wrong !== undefined) return failure(id, RPC.invalidParams, `Invalid params of ${method}: ${wrong}`)
    const result = await this.#result(method, given as Readonly<Record<string, unknown>>, cancelled)
    return result === undefined
      ? failure(id, RPC.methodNotFound, 'Method not found')
      : success(id, JSON.stringify(result))
  }

  async #result(
    method: string,
    params: Readonly<Record<string, unknown>>,
    cancelled: AbortSignal,
  ): Promise<object | undefined> {
    const { about, tools, call } = this.#served
    switch (method) {
      case METHOD.initialize: {
        const wanted = params.protocolVersion
        return { protocolVersion: VERSIONS.includes(wanted) ? wanted : LATEST_LEGACY_VERSION, ...about }
      }
      case METHOD.ping:
        return {}
      case METHOD.toolsList:
        return { tools }
      case METHOD.toolsCall:
        return call(String(params.name), params.arguments, cancelled)
      default:
        return undefined
    }
  }
}

/** One sentence; undefined for params that are fine, and for a method that is unknown. */
function wrongWith(method: string, params: unknown): string | undefined {
  const shape = Object.hasOwn(PARAMS, method) ? PARAMS[method] : undefined
  if (shape === undefined) return undefined
  if (!isRecord(params)) return 'params must be an object'
  for (const [name, kind] of Object.entries({ ...shape, _meta: 'object?' })) {
    const value = params[name]
    const isObject = kind.startsWith('object')
    if (value === undefined && kind.endsWith('?')) continue
    if (value === undefined) return `params.${name} is missing`
    if (isObject ? !isRecord(value) : typeof value !== 'string') {
      return `params.${name} must be ${isObject ? 'an object' : 'a string'}`
    }
  }
  return undefined
}

/**
 * The SDK's Server on one side, Messages on the other, nothing in between but memory.
 *
 * No MCP method is known here. The one rule: the client's id comes back byte for byte, with exactly one answer;
 * the SDK, which parses ids, only ever sees numbers of ours, and only requests that it answers.
 */
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import type { JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js'
import { errors } from '../errors.ts'
import {
  cancelledId,
  compose,
  failure,
  METHOD,
  type Message,
  type Notification,
  type Request,
  valueAt,
  withId,
} from '../protocol.ts'
import type { Deliver } from '../sides.ts'
import { isRecord } from './filter.ts'

/** What is wrong with a request that must not reach the SDK; its error is the answer. */
export type Check = (method: string, params: unknown) => { code: number; message: string } | undefined

interface Open {
  /** The client's id, raw. */
  readonly id: string
  readonly settle: (error?: Error) => void
}

export class MemoryTransport implements Transport {
  readonly #deliver: Deliver
  readonly #check: Check
  readonly #open = new Map<number, Open>()
  #lastId = 0
  onmessage: NonNullable<Transport['onmessage']> = () => undefined
  onclose: NonNullable<Transport['onclose']> = () => undefined

  constructor(deliver: Deliver, check: Check) {
    this.#deliver = deliver
    this.#check = check
  }

  start(): Promise<void> {
    return Promise.resolve()
  }

  /** From the client. Resolves as `Upstream.send` does. */
  receive(message: Message): Promise<void> {
    switch (message.kind) {
      case 'request':
        return this.#request(message)
      case 'notification':
        if (message.method === METHOD.cancelled) this.#cancelled(message)
        else this.onmessage({ jsonrpc: '2.0', method: message.method, ...given(paramsOf(message)) })
        return Promise.resolve()
      case 'response':
        return Promise.resolve()
      default:
        return message satisfies never
    }
  }

  /** From the SDK. */
  async send(message: JSONRPCMessage): Promise<void> {
    if ('method' in message) return this.#deliver(compose(message), 'push')
    const ours = message.id
    const open = typeof ours === 'number' ? this.#open.get(ours) : undefined
    if (typeof ours !== 'number' || open === undefined) return
    this.#open.delete(ours)
    const answer = compose(message)
    if (answer.kind !== 'response') return
    try {
      await this.#deliver(withId(answer, open.id), 'answer')
      open.settle()
    } catch (error) {
      open.settle(error instanceof Error ? error : new Error(String(error)))
    }
  }

  close(): Promise<void> {
    for (const open of this.#open.values()) open.settle(errors.closing())
    this.#open.clear()
    this.onclose()
    return Promise.resolve()
  }

  async #request(message: Request): Promise<void> {
    const params = paramsOf(message)
    const wrong = this.#check(message.method, params)
    if (wrong !== undefined) {
      return this.#deliver(failure(message.id, wrong.code, wrong.message), 'answer')
    }
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      this.#open.set(id, {
        id: message.id,
        settle: (error) => (error === undefined ? resolve() : reject(error)),
      })
      this.onmessage({ jsonrpc: '2.0', id, method: message.method, ...given(params) })
    })
  }

  /** A cancelled request is answered no more: it ends here. */
  #cancelled(message: Notification): void {
    const wanted = cancelledId(message)
    for (const [id, open] of this.#open) {
      if (open.id !== wanted) continue
      this.#open.delete(id)
      this.onmessage({ jsonrpc: '2.0', method: METHOD.cancelled, params: { requestId: id } })
      open.settle()
    }
  }
}

/** As they were sent; `null` is how some clients write that there are none. */
function paramsOf(message: Request | Notification): unknown {
  return message.params === undefined ? undefined : (valueAt(message.raw, message.params) ?? undefined)
}

/** What is no object is no params of MCP; of a request the check has said so. */
function given(params: unknown): { params?: Record<string, unknown> } {
  return isRecord(params) ? { params: { ...params } } : {}
}

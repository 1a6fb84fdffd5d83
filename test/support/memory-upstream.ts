/**
 * A far side without a server, and a near side without a client: for what is about time and luck, where a socket
 * would only add noise.
 *
 * Not a server and not a mock of one: it says what the test says, in the test's order. The one rule: a delivered
 * message is a real `Message`, parsed from text, and a request is settled as sides.ts promises.
 */
import { errors } from '../../src/errors.ts'
import { compose, type Message, type Request, success } from '../../src/protocol.ts'
import type { Lane, OpenUpstream, Outlet, Upstream } from '../../src/sides.ts'
import type { Status } from '../../src/status.ts'

/** JSON text of the result to answer with at once; undefined leaves the request open. */
export type Answerer = (request: Request) => string | undefined

/** The far side. */
export class MemoryUpstream implements Upstream {
  /** What it was sent, in order. */
  readonly sent: Message[] = []
  closed = false
  /** Leaves every request open. */
  hush = false
  readonly #open = new Map<string, { resolve: () => void; reject: (error: Error) => void }>()
  readonly #answerer: Answerer
  #outlet: Outlet | undefined

  constructor(answerer: Answerer = () => undefined) {
    this.#answerer = answerer
  }

  readonly open: OpenUpstream = (outlet) => {
    this.#outlet = outlet
    return this
  }

  get outlet(): Outlet {
    if (this.#outlet === undefined) throw new Error('the memory upstream was not opened')
    return this.#outlet
  }

  async send(message: Message): Promise<void> {
    this.sent.push(message)
    if (message.kind !== 'request') return
    const result = this.hush ? undefined : this.#answerer(message)
    if (result !== undefined) return await this.outlet.deliver(success(message.id, result), 'answer')
    await new Promise<void>((resolve, reject) => this.#open.set(message.id, { resolve, reject }))
  }

  /** Answers a request left open. `id`: its raw token; `result`: JSON text. */
  async answer(id: string, result: string): Promise<void> {
    const request = this.#open.get(id)
    if (request === undefined) throw new Error(`no request ${id} is open`)
    this.#open.delete(id)
    await this.outlet.deliver(success(id, result), 'answer')
    request.resolve()
  }

  /** Says something: a plain value, or a message as it is. */
  async say(value: object, lane: Lane = 'push'): Promise<void> {
    await this.outlet.deliver('raw' in value ? (value as Message) : compose(value), lane)
  }

  report(status: Status): void {
    this.outlet.report(status)
  }

  async close(): Promise<void> {
    this.closed = true
    for (const request of this.#open.values()) request.reject(errors.closing())
    this.#open.clear()
  }
}

/** The near side: what came out, in order. */
export class Recorder implements Outlet {
  readonly delivered: { readonly message: Message; readonly lane: Lane }[] = []
  readonly statuses: Status[] = []
  /** Messages and statuses in the order in which they came. */
  readonly order: (Message | Status)[] = []

  readonly deliver = async (message: Message, lane: Lane): Promise<void> => {
    this.delivered.push({ message, lane })
    this.order.push(message)
  }

  readonly report = (status: Status): void => {
    this.statuses.push(status)
    this.order.push(status)
  }

  /** The texts of the messages. */
  get texts(): string[] {
    return this.delivered.map(({ message }) => message.raw.toString())
  }
}

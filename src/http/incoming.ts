/**
 * What the server says, on its way to the client: answers, and all that it says by itself on whatever stream.
 *
 * Not a reader of streams. The one rule: a response reaches the client only as the answer of the request that it was
 * read for, under the id token the client used.
 */
import { impossible } from '../errors.ts'
import { type Malformed, METHOD, type Message, type Request, type Response, withId } from '../protocol.ts'
import type { Lane, Outlet, Room } from '../sides.ts'
import type { AskedByServer } from './asked.ts'
import type { SessionLife } from './session.ts'
import type { Live } from './session-state.ts'

const STATE_METHODS: ReadonlySet<string> = new Set([METHOD.setLevel, METHOD.subscribe, METHOD.unsubscribe])

export class Incoming {
  readonly #life: SessionLife
  readonly #asked: AskedByServer
  readonly #outlet: Outlet

  constructor(life: SessionLife, asked: AskedByServer, outlet: Outlet) {
    this.#life = life
    this.#asked = asked
    this.#outlet = outlet
  }

  /** The answer of `request`, asked in the session `live`, as the client is to have it. */
  answer(response: Response, request: Request, live: Live): Room {
    if (response.result !== undefined && STATE_METHODS.has(request.method)) this.#life.keep(request, live)
    const own = response.id === request.id ? response : withId(response, request.id)
    return this.#outlet.deliver(own, 'answer')
  }

  /** What arrives on any stream of the server, other than the answer that stream is for. */
  receive(message: Message | Malformed, live: Live, lane: Lane): Room {
    switch (message.kind) {
      case 'malformed':
        return this.dropped('a message of the server', message.detail)
      case 'response':
        return this.dropped(
          `a response with id ${message.id ?? 'null'}`,
          'it came on a stream that is not its own',
        )
      case 'request': {
        if (this.#life.live?.generation !== live.generation) {
          return this.dropped(`${message.method} of the server`, 'its session is gone')
        }
        const asked = this.#asked.ask(message, live.generation)
        return this.#outlet.deliver(asked, lane, () => this.#asked.isOpen(asked))
      }
      case 'notification': {
        const known =
          message.method === METHOD.cancelled ? this.#asked.cancel(message, live.generation) : message
        return this.#outlet.deliver(known, lane)
      }
      default:
        return impossible(message)
    }
  }

  /** `what` reaches nobody. */
  dropped(what: string, why: string): undefined {
    this.#outlet.report({ kind: 'dropped', what, why })
  }
}

/**
 * The two seams. Everything between an MCP client and a remote server is one of these four shapes.
 *
 *   client <-> Port <-> bridge <-> Upstream <-> server
 *
 * A Port is the near side: lines in, lines out. An Upstream is the far side: an HTTP endpoint, a moot feed, a
 * fake in a test, or a decorator around another Upstream. Neither knows the other.
 * The one rule: sockets, sessions, retries and credentials never show here; what can be seen of them is a Status.
 */
import type { Malformed, Message } from './protocol.ts'
import type { Status } from './status.ts'

/** The near side. */
export interface Port {
  /**
   * Messages in the order they came, those that arrived together in one piece. Ends at EOF, and with an error
   * only if reading failed.
   */
  readonly incoming: AsyncIterable<readonly (Message | Malformed)[]>
  /** Writes one message as one line, in the order of the calls. The promise rejects once the reader is gone. */
  write(message: Message): Room
  /** Resolves when all that was written has left, or can't any more. */
  flush(): Promise<void>
  /** Resolves once the reader is gone. */
  readonly broken: Promise<void>
}

/** The far side. */
export interface Upstream {
  /**
   * Takes one message of the client. Call in the order the client wrote; do not wait in between.
   *
   * Resolves when nothing more will come of it: for a request after its response was delivered (or after it was
   * withdrawn by `notifications/cancelled`), for anything else once the server has it.
   * Rejects with a BridgeError only when the message's fate is final; the bridge answers a request with it.
   */
  send(message: Message): Promise<void>
  /** Says goodbye to the server within `deadlineMs`, then drops everything: pending `send`s reject. Idempotent. */
  close(deadlineMs: number): Promise<void>
}

/**
 * Where a message came from. `answer`: the exchange of a request of the client (it may be waited for).
 * `push`: the server's own stream (it may be held).
 */
export type Lane = 'answer' | 'push'

/** Back-pressure: undefined when there is room for the next message, else a promise to wait for first. */
export type Room = Promise<void> | undefined

/**
 * How the far side speaks. Read no further on that lane until there is room. What has to wait, and is not
 * `isWanted` any more by then, is left out.
 */
export type Deliver = (message: Message, lane: Lane, isWanted?: () => boolean) => Room

/** What the far side is given. */
export interface Outlet {
  readonly deliver: Deliver
  readonly report: (status: Status) => void
}

/** What http, feed, fakes and decorators all are. Opening connects to nothing: the first message does. */
export type OpenUpstream = (outlet: Outlet) => Upstream

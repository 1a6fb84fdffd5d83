/**
 * Event ids and what was sent under them, for one session: the memory behind `Last-Event-ID`.
 *
 * Not on by default: the documented server replays nothing. The one rule: bounded; a cursor that fell out is refused.
 */
import type { EventStore } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js'

interface Kept {
  readonly id: string
  readonly streamId: string
  readonly message: JSONRPCMessage
}

const KEEPS = 1_000
/** What the SDK calls the stream of a GET. */
const PUSH_STREAM = '_GET_stream'

export class ReplayStore implements EventStore {
  readonly #prefix: string
  #kept: Kept[] = []
  #count = 0

  constructor(prefix: string) {
    this.#prefix = prefix
  }

  storeEvent(streamId: string, message: JSONRPCMessage): Promise<string> {
    const id = `${this.#prefix}-${++this.#count}`
    this.#kept.push({ id, streamId, message })
    if (this.#kept.length > 2 * KEEPS) this.#kept = this.#kept.slice(-KEEPS)
    return Promise.resolve(id)
  }

  /** Is this the cursor of an answer's stream, and not of the push stream? */
  isOfAnswer(eventId: string): boolean {
    const found = this.#kept.find((each) => each.id === eventId)
    return found !== undefined && found.streamId !== PUSH_STREAM
  }

  getStreamIdForEventId(eventId: string): Promise<string | undefined> {
    return Promise.resolve(this.#kept.find((each) => each.id === eventId)?.streamId)
  }

  async replayEventsAfter(
    lastEventId: string,
    { send }: { send: (eventId: string, message: JSONRPCMessage) => Promise<void> },
  ): Promise<string> {
    const at = this.#kept.findIndex((each) => each.id === lastEventId)
    const streamId = this.#kept[at]?.streamId ?? ''
    const missed = this.#kept.slice(at + 1).filter((each) => each.streamId === streamId)
    // An empty message primes a stream with an id; it says nothing and is not repeated.
    for (const each of missed) if ('jsonrpc' in each.message) await send(each.id, each.message)
    return streamId
  }
}

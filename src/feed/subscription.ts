/**
 * A subscription: one space, followed over a socket of its own or over the shared one.
 *
 * Not the list of them (subscriptions.ts). The one rule: it heals until it is ended; `attempt` tells how the next
 * attempt goes, to whoever asked for it.
 */
import { BridgeError, errors } from '../errors.ts'
import type { Status } from '../status.ts'
import type { FeedConfig } from './config.ts'
import { malformedFrame, readFrame } from './frame.ts'
import { no, type Refusal, type Reply, yes } from './refusal.ts'
import { KeptSocket } from './socket.ts'
import type { Space } from './space.ts'
import { StreamStatus } from './stream-status.ts'

export interface Subscription {
  readonly spaceId: string
  readonly space: Space
  /** Why nothing comes at the moment; undefined while it is live. */
  readonly problem: string | undefined
  /** Aborted once it is ended. */
  readonly over: AbortSignal
  /** How the next attempt goes, or went if it is live: asks for one now. */
  attempt(): Promise<Reply<unknown>>
  /** Ends it, and says why unless all ends; resolves when its connection is gone. */
  end(why?: string): Promise<void>
}

/** Told to everyone who waits for an attempt. */
export class Attempts {
  #waiting: ((reply: Reply<unknown>) => void)[] = []

  next(): Promise<Reply<unknown>> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  tell(reply: Reply<unknown>): void {
    for (const resolve of this.#waiting.splice(0)) resolve(reply)
  }
}

/** A space over its own socket, `{api}/api/spaces/{id}/ws?token=…`. */
export class OwnSocket implements Subscription {
  readonly space: Space
  readonly #report: (status: Status) => void
  readonly #status: StreamStatus
  readonly #over = new AbortController()
  readonly #attempts = new Attempts()
  readonly #socket: KeptSocket
  readonly #run: Promise<void>
  #settling: Promise<void> = Promise.resolve()

  constructor(space: Space, config: FeedConfig, report: (status: Status) => void) {
    this.space = space
    this.#report = report
    this.#status = new StreamStatus(space.spaceId, report, config.clock)
    this.#socket = new KeptSocket(
      config,
      {
        what: `follow space ${space.spaceId}`,
        proxy: config.proxy,
        url: () => socketAddress(config, space.spaceId),
      },
      {
        prepare: (signal) => space.prepare(signal),
        opened: async (connection, signal) => {
          const caught = await space.catchUp((...up) => {
            this.#status.up(...up)
            // Closed meanwhile: whoever waits is told why, or of the next attempt.
            if (connection.isOver) return
            space.joining.entered()
            this.#attempts.tell(yes(undefined))
          }, signal)
          if (!caught.ok) return caught
          this.#status.mended()
          // Beside the frames, which need not wait for it.
          this.#settling = space.settle(signal).catch(() => undefined)
          return caught
        },
        frame: (text) => this.#frame(text),
        lost: (ending) => this.#status.down(ending.reason, ending.since),
        failed: (refusal, delayMs) => {
          this.#status.retrying(refusal, delayMs)
          this.#attempts.tell(no(refusal))
          this.#settling = space.refused(refusal, this.#over.signal).catch(() => undefined)
        },
      },
    )
    this.#run = this.#socket
      .run(this.#over.signal)
      .catch((cause: unknown) => stopped(cause, space.spaceId, report))
  }

  get spaceId(): string {
    return this.space.spaceId
  }

  get problem(): string | undefined {
    return this.#status.problem
  }

  get over(): AbortSignal {
    return this.#over.signal
  }

  attempt(): Promise<Reply<unknown>> {
    if (this.#status.isUp) return Promise.resolve(yes(undefined))
    const next = this.#attempts.next()
    this.#socket.hurry()
    return next
  }

  async end(why?: string): Promise<void> {
    this.#over.abort()
    if (why !== undefined) this.#status.ended(why)
    this.#attempts.tell(no(why === undefined ? closing() : unsubscribed(this.spaceId)))
    await Promise.all([this.#run, this.#settling])
  }

  async #frame(text: string): Promise<void> {
    const frame = readFrame(text)
    if (frame !== undefined) return this.space.frame(frame)
    this.#report(malformedFrame(text, `space ${this.spaceId}`))
  }
}

/** For whoever waits for the first attempt of a subscription that was ended meanwhile. */
export function unsubscribed(spaceId: string): Refusal {
  return { error: new BridgeError('CLOSING', `space ${spaceId} was unsubscribed meanwhile`), lasting: false }
}

/** For whoever waits for anything when all ends. */
export function closing(): Refusal {
  return { error: errors.closing(), lasting: false }
}

/** All ends, or we have a bug: the stream can't go on. */
export function stopped(cause: unknown, what: string, report: (status: Status) => void): void {
  const why = cause instanceof Error ? cause.message : String(cause)
  report({ kind: 'dropped', what: `what was to come of ${what}`, why })
}

/** [mootup adapter] the API address as ws(s), the token in the query because the server wants it there. */
function socketAddress(config: FeedConfig, spaceId: string): string {
  const base = config.apiUrl.replace(/^http/, 'ws')
  return `${base}/api/spaces/${encodeURIComponent(spaceId)}/ws?token=${encodeURIComponent(config.apiKey.value)}`
}

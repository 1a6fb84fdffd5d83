/**
 * Server-sent events: bytes of one response become events.
 *
 * Not a client: no connection, no retry loop. The parser is eventsource-parser, fed with each byte as one
 * character, so that the bytes of `data` come out as they went in and no character is ever cut in two.
 * The one rule: the cursor names an event only after that event has been handed out.
 *
 * [WHATWG HTML §9.2.6] interpreting an event stream.
 */
import { createParser } from 'eventsource-parser'
import { systemClock } from '../retry.ts'
import type { Body } from './body.ts'

/** `message`: the bytes of `data`, empty for a priming event. `comment`: a sign of life and nothing more. */
export type ServerEvent = { readonly kind: 'message'; readonly data: Buffer } | { readonly kind: 'comment' }

interface Parsed {
  readonly id: string | undefined
  readonly event: ServerEvent
}

/** As single bytes. */
const BYTE_ORDER_MARK = '\u00ef\u00bb\u00bf'
const COMMENT: Parsed = { id: undefined, event: { kind: 'comment' } }

export class EventReader {
  readonly #body: Body
  readonly #ready: Parsed[] = []
  #next = 0
  #cursor: string | undefined
  #retryMs: number | undefined
  #failure: Error | undefined
  #quietSince: number | undefined
  #chunks = 0
  /** What may be the start of a byte order mark; undefined once that is decided. */
  #start: string | undefined = ''
  #afterCr = false
  readonly #parser

  /** `maxBytes` bounds one event; beyond it reading rejects with a RangeError. */
  constructor(body: Body, maxBytes: number) {
    this.#body = body
    this.#parser = createParser({
      maxBufferSize: maxBytes,
      onEvent: ({ id, event, data }) => {
        // [WHATWG] an event without a type is a "message"; MCP knows no other.
        if (event !== undefined && event !== 'message') return
        this.#ready.push({ id, event: { kind: 'message', data: Buffer.from(data, 'latin1') } })
      },
      onComment: () => this.#ready.push(COMMENT),
      onRetry: (retryMs) => {
        this.#retryMs = retryMs
      },
      onError: (error) => {
        if (error.type === 'max-buffer-size-exceeded') {
          this.#failure = new RangeError(`an event is over the limit of ${maxBytes} bytes`)
        }
      },
    })
  }

  /** `id` of the last event handed out that had one; to be sent as `Last-Event-ID`. */
  get cursor(): string | undefined {
    return this.#cursor
  }

  /** The server's `retry`, milliseconds. */
  get retryMs(): number | undefined {
    return this.#retryMs
  }

  /** Since when a reader waits for the next byte (uptime, ms); undefined while nobody reads. */
  get quietSince(): number | undefined {
    return this.#quietSince
  }

  /** True when the connection broke; false after an end that the server meant. */
  get broken(): boolean {
    return this.#body.failed
  }

  /** How many pieces have been read: has anything been heard? */
  get chunks(): number {
    return this.#chunks
  }

  /** The next event; undefined after a clean end. Rejects when the connection broke or an event is too long. */
  async next(): Promise<ServerEvent | undefined> {
    while (this.#next >= this.#ready.length) {
      this.#ready.length = 0
      this.#next = 0
      if (this.#failure !== undefined) {
        this.#body.destroy()
        throw this.#failure
      }
      this.#quietSince = systemClock.uptime()
      const chunk = await this.#body.read()
      this.#quietSince = undefined
      this.#chunks++
      if (chunk === undefined) return undefined
      this.#feed(chunk)
    }
    return this.#take()
  }

  /** The next event if it has arrived already. */
  take(): ServerEvent | undefined {
    return this.#next < this.#ready.length ? this.#take() : undefined
  }

  /** Nothing more is wanted: waits a moment for the server to end it, so that the connection can be kept. */
  async linger(ms: number): Promise<void> {
    const limit = setTimeout(() => this.destroy(), ms)
    try {
      while ((await this.next()) !== undefined);
    } catch {
      this.destroy()
    } finally {
      clearTimeout(limit)
    }
  }

  /** Ends the transfer. */
  destroy(): void {
    this.#body.destroy()
  }

  #feed(chunk: Buffer): void {
    let text = chunk.toString('latin1')
    if (this.#start !== undefined) {
      // [WHATWG] one byte order mark before the stream is skipped, however it is cut.
      text = this.#start + text
      this.#start = BYTE_ORDER_MARK.startsWith(text) ? text : undefined
      if (this.#start !== undefined) return
    }
    if (this.#afterCr && text.startsWith('\n')) text = text.slice(1)
    this.#afterCr = text.endsWith('\r')
    // [WHATWG] CR alone ends a line; the parser would wait for the byte behind it, which may never come.
    this.#parser.feed(this.#afterCr ? `${text}\n` : text)
  }

  #take(): ServerEvent | undefined {
    const parsed = this.#ready[this.#next++]
    if (parsed?.id !== undefined) this.#cursor = isHeaderValue(parsed.id) ? parsed.id : undefined
    return parsed?.event
  }
}

/** A cursor that cannot stand in a header is none. The empty id means that there is none either. */
function isHeaderValue(id: string): boolean {
  return /^[\t\x20-\x7e\x80-\xff]+$/.test(id)
}

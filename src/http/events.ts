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
import { Gathered } from '../gathered.ts'
import { systemClock } from '../retry.ts'
import type { Body } from './body.ts'

/** `message`: the bytes of `data`, empty for a priming event. `comment`: a sign of life and nothing more. */
export type ServerEvent =
  | { readonly kind: 'message'; readonly id: string | undefined; readonly data: Buffer }
  | { readonly kind: 'comment' }

/** An event to be known again: a server may begin a resumed stream with the very one that was named. */
export interface Known {
  readonly id: string | undefined
  readonly data: Buffer
}

/** Up to here an event is worth keeping for that. */
export const MAX_KEPT_BYTES = 64 * 1024
/** A server that asks for more patience than this would make the client deaf. */
export const MAX_RETRY_MS = 10 * 60_000

const LF = 0x0a
const CR = 0x0d
const SPACE = 0x20
const NOTHING = Buffer.alloc(0)
const DATA = Buffer.from('data:')
/** What may stand around the data of an event, half read: names of fields, an id, a type. */
const AROUND_BYTES = 1024
/** A `data` line that the network cut, longer than this, goes around the parser: as text it would be copied three times. */
const LONG_BYTES = 16 * 1024
/** What the parser sees in its place. JSON holds no NUL, so no server says it. */
const TOKEN = '\0long'
/**
 * [WHATWG] an event with an id and no data moves the cursor, but the parser drops it: the line of an id that data
 * does not follow gets a line of data of ours, which is taken out again.
 */
const LONELY_ID = /(?<=^|[\r\n])id(?::[^\r\n]*)?(?:\r\n|\r(?!\n)|\n)(?!data)/g
const MARK = '\0id'
/** As single bytes. */
const BYTE_ORDER_MARK = '\u00ef\u00bb\u00bf'
const COMMENT: ServerEvent = { kind: 'comment' }

export class EventReader {
  readonly #body: Body
  readonly #ready: ServerEvent[] = []
  #next = 0
  #cursor: string | undefined
  #retryMs: number | undefined
  #failure: Error | undefined
  #quietSince: number | undefined
  #chunks = 0
  #messages = 0
  /** What may be the start of a byte order mark; undefined once that is decided. */
  #start: string | undefined = ''
  #afterCr = false
  readonly #parser
  readonly #maxBytes: number
  /** A line that has not ended yet, and the long lines of the event at hand. */
  readonly #line = new Gathered()
  #longLines: Buffer[] = []
  /** Of the long lines, each with the line end that joins it to the next. */
  #longBytes = 0

  /**
   * `maxBytes` bounds the data of one event; where one is longer reading rejects with a RangeError. `cursor`: the one
   * that the stream was asked for with.
   */
  constructor(body: Body, maxBytes: number, cursor?: string) {
    this.#body = body
    this.#cursor = cursor
    this.#maxBytes = maxBytes
    this.#parser = createParser({
      maxBufferSize: maxBytes + AROUND_BYTES,
      onEvent: ({ id, event, data }) => {
        // [WHATWG] an event without a type is a "message"; MCP knows no other.
        const text = data.includes(MARK) ? unmarked(data) : data
        const bytes = this.#longLines.length === 0 ? Buffer.from(text, 'latin1') : this.#whole(text)
        if (bytes.length > maxBytes) this.#fail()
        else if (event === undefined || event === 'message') this.#add({ kind: 'message', id, data: bytes })
        else if (id !== undefined) this.#add({ kind: 'message', id, data: NOTHING })
      },
      onComment: () => this.#add(COMMENT),
      onRetry: (retryMs) => {
        this.#retryMs = Math.min(retryMs, MAX_RETRY_MS)
      },
      onError: (error) => {
        if (error.type === 'max-buffer-size-exceeded') this.#fail()
      },
    })
  }

  /** `id` of the last event handed out that had one, else what it began with; to be sent as `Last-Event-ID`. */
  get cursor(): string | undefined {
    return this.#cursor
  }

  /** The server's `retry`, milliseconds; ten minutes at most. */
  get retryMs(): number | undefined {
    return this.#retryMs
  }

  /** Since when a reader waits for the next byte (uptime, ms); undefined while nobody reads. */
  get quietSince(): number | undefined {
    return this.#quietSince
  }

  /** True once nothing more will come. */
  get over(): boolean {
    return this.#body.over
  }

  /** Wall time (ms) from which on nothing of it was heard; see `Body.endedAt`. */
  get endedAt(): number | undefined {
    return this.#body.endedAt
  }

  /** True when the connection broke; false after an end that the server meant. */
  get broken(): boolean {
    return this.#body.failed
  }

  /** How many pieces have been read: has anything been heard? */
  get chunks(): number {
    return this.#chunks
  }

  /** How many events, not comments, have been handed out. */
  get messages(): number {
    return this.#messages
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
      if (chunk === undefined) return undefined
      this.#chunks++
      this.#feedLines(chunk)
    }
    return this.#take()
  }

  /** The next event if it has arrived already. */
  take(): ServerEvent | undefined {
    return this.#next < this.#ready.length ? this.#take() : undefined
  }

  /** Ends the transfer; `why` is what a reader is told. */
  destroy(why?: string): void {
    this.#body.destroy(why)
  }

  /** Gives the parser whole lines; the start of one that has not ended is kept. */
  #feedLines(chunk: Buffer): void {
    let start = 0
    let text = ''
    if (this.#line.length > 0) {
      start = lineEnd(chunk)
      this.#keep(start < 0 ? chunk : chunk.subarray(0, start))
      if (start < 0 || this.#failure !== undefined) return
      const line = this.#line.take()
      if (line.length > LONG_BYTES && line.subarray(0, DATA.length).equals(DATA)) {
        const long = line.subarray(line[DATA.length] === SPACE ? DATA.length + 1 : DATA.length)
        this.#longLines.push(long)
        this.#longBytes += long.length + 1
        text = `data:${TOKEN}`
      } else {
        text = line.toString('latin1')
      }
    }
    const end = Math.max(chunk.lastIndexOf(LF), chunk.lastIndexOf(CR)) + 1
    if (end > start) this.#feed(text + chunk.toString('latin1', start, end))
    if (end < chunk.length) this.#keep(chunk.subarray(end))
  }

  #keep(piece: Buffer): void {
    const bytes = this.#longBytes + this.#line.length + piece.length
    if (bytes <= this.#maxBytes + AROUND_BYTES) this.#line.add(piece)
    else this.#fail()
  }

  #add(event: ServerEvent): void {
    if (this.#failure === undefined) this.#ready.push(event)
  }

  /** Nothing of what follows is looked at: the rest of an event cut in two would be another event. */
  #fail(): void {
    this.#failure ??= new RangeError(`an event is over the limit of ${this.#maxBytes} bytes`)
    this.#line.take()
    this.#longLines = []
  }

  /** The event's data with its long lines back in their places. */
  #whole(text: string): Buffer {
    const lines = this.#longLines
    this.#longLines = []
    this.#longBytes = 0
    const [only] = lines
    if (text === TOKEN && only !== undefined) return only
    return Buffer.concat(
      text.split(TOKEN).flatMap((part, i) => [Buffer.from(part, 'latin1'), lines[i] ?? NOTHING]),
    )
  }

  #feed(bytes: string): void {
    if (this.#failure !== undefined) return
    let text = bytes
    if (this.#start !== undefined) {
      // [WHATWG] one byte order mark before the stream is skipped, however it is cut.
      text = this.#start + text
      this.#start = BYTE_ORDER_MARK.startsWith(text) ? text : undefined
      if (this.#start !== undefined) return
      if (text.startsWith(BYTE_ORDER_MARK)) text = text.slice(BYTE_ORDER_MARK.length)
    }
    if (this.#afterCr && text.startsWith('\n')) text = text.slice(1)
    this.#afterCr = text.endsWith('\r')
    // [WHATWG] CR alone ends a line; the parser would wait for the byte behind it, which may never come.
    if (this.#afterCr) text = `${text}\n`
    if (text.startsWith('id') || text.includes('\nid') || text.includes('\rid')) {
      text = text.replace(LONELY_ID, `$&data:${MARK}\n`)
    }
    this.#parser.feed(text)
  }

  #take(): ServerEvent | undefined {
    const event = this.#ready[this.#next++]
    if (event?.kind !== 'message') return event
    this.#messages++
    if (event.id !== undefined) this.#cursor = isHeaderValue(event.id) ? event.id : undefined
    return event
  }
}

/** Is it the event that was delivered before, under its own id? */
export function isSameEvent(event: Known, before: Known | undefined): boolean {
  return event.id !== undefined && event.id === before?.id && event.data.equals(before.data)
}

function unmarked(data: string): string {
  return data
    .split('\n')
    .filter((line) => line !== MARK)
    .join('\n')
}

/** A cursor that cannot stand in a header is none. The empty id means that there is none either. */
function isHeaderValue(id: string): boolean {
  return /^[\t\x20-\x7e\x80-\xff]+$/.test(id)
}

/** Where the line that `chunk` goes on with ends, or -1. */
function lineEnd(chunk: Buffer): number {
  const lf = chunk.indexOf(LF)
  const cr = chunk.indexOf(CR)
  return lf < 0 || (cr >= 0 && cr < lf) ? cr : lf
}

/**
 * Server-sent events: bytes of one response become events.
 *
 * Not a client: no connection, no retry loop. Lines are read as bytes: the bytes of `data` come out as they went in,
 * a view of what the network gave where a line came in one piece, and no character is ever cut in two.
 * The one rule: the cursor names an event only after that event has been handed out.
 *
 * [WHATWG HTML §9.2.6] interpreting an event stream.
 */
import { Gathered } from '../gathered.ts'
import { spells, withoutByteOrderMark } from '../json.ts'
import { systemClock } from '../retry.ts'
import type { Body } from './body.ts'

/**
 * `message`: the bytes of `data`, empty for a priming event. `comment`: a sign of life and nothing more. `too-long`: an
 * event is over the limit, said where that is noticed; at its end it is an event without data.
 */
export type ServerEvent =
  | { readonly kind: 'message'; readonly id: string | undefined; readonly data: Buffer }
  | { readonly kind: 'comment' }
  | { readonly kind: 'too-long'; readonly why: string }

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
const COLON = 0x3a
const LINE_END = Buffer.from('\n')
const COMMENT_START = Buffer.from(':')
const NOTHING = Buffer.alloc(0)
/** What may stand around the data of an event, half read: names of fields, an id, a type. */
const AROUND_BYTES = 1024
/** So much of what the network gave an event may keep for as long as nothing follows it. */
const MOST_KEPT_WITH_BYTES = 8 * 1024
/** One of this length has most of what it stands in: the network gives 64 KiB at once. */
const MOSTLY_ITS_OWN_BYTES = 32 * 1024
const COMMENT: ServerEvent = { kind: 'comment' }

export class EventReader {
  readonly #body: Body
  readonly #ready: ServerEvent[] = []
  #next = 0
  #cursor: string | undefined
  #retryMs: number | undefined
  #quietSince: number | undefined
  #chunks = 0
  #messages = 0
  readonly #maxBytes: number
  #atStart = true
  #afterCr = false
  /** A line that has not ended yet. */
  #line = new Gathered()
  /** What is left of it is not looked at. */
  #isSkipped = false
  // The event at hand.
  #data = new Gathered()
  #dataLines = 0
  #isTooLong = false
  #id: string | undefined
  #type = ''

  /** `maxBytes` bounds the data of one event. `cursor`: the one that the stream was asked for with. */
  constructor(body: Body, maxBytes: number, cursor?: string) {
    this.#body = body
    this.#cursor = cursor
    this.#maxBytes = maxBytes
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

  /** True once the transfer is over; what has come may still be unread. */
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

  /** The next event; undefined after a clean end. Rejects when the connection broke. */
  async next(): Promise<ServerEvent | undefined> {
    while (this.#next >= this.#ready.length) {
      this.#ready.length = 0
      this.#next = 0
      this.#quietSince = systemClock.uptime()
      const chunk = await this.#body.read()
      this.#quietSince = undefined
      if (chunk === undefined) return undefined
      this.#chunks++
      this.#feed(chunk)
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

  /** Takes the lines that end in `chunk`; the start of one that has not ended is kept. */
  #feed(chunk: Buffer): void {
    // [WHATWG] CR LF, however it is cut, LF alone or CR alone end a line.
    let start = this.#afterCr && chunk[0] === LF ? 1 : 0
    this.#afterCr = chunk[chunk.length - 1] === CR
    let lf = chunk.indexOf(LF, start)
    let cr = chunk.indexOf(CR, start)
    while (lf >= 0 || cr >= 0) {
      const isCr = cr >= 0 && (lf < 0 || cr < lf)
      const end = isCr ? cr : lf
      if (this.#line.length === 0) {
        this.#takeLine(chunk, start, end)
      } else {
        this.#keep(chunk.subarray(start, end))
        const line = this.#line.take()
        this.#takeLine(line, 0, line.length)
      }
      start = isCr && lf === end + 1 ? lf + 1 : end + 1
      if (lf >= 0 && lf < start) lf = chunk.indexOf(LF, start)
      if (isCr) cr = chunk.indexOf(CR, start)
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start))
    this.#detachLast()
  }

  /** The last event is held until the next one comes, by its reader and as the place to go on from. */
  #detachLast(): void {
    const at = this.#ready.findLastIndex(({ kind }) => kind === 'message')
    const last = this.#ready[at]
    if (last?.kind !== 'message') return
    const { data } = last
    if (data.length >= MOSTLY_ITS_OWN_BYTES) return
    if (data.buffer.byteLength <= Math.max(2 * data.length, MOST_KEPT_WITH_BYTES)) return
    this.#ready[at] = { ...last, data: Buffer.from(data) }
  }

  #keep(piece: Buffer): void {
    // Of a comment it is enough to know that it is one: a server pads its streams to get through a proxy's buffer.
    const isFirst = this.#line.length === 0
    if (isFirst) this.#isSkipped = piece[0] === COLON
    if (this.#isSkipped) return isFirst ? this.#line.add(COMMENT_START) : undefined
    const bytes = this.#data.length + this.#line.length + piece.length
    if (bytes <= this.#maxBytes + AROUND_BYTES) return this.#line.add(piece)
    this.#tooLong()
    this.#line = new Gathered()
    this.#line.add(COMMENT_START)
    this.#isSkipped = true
  }

  /** One line of `text`, without its end. */
  #takeLine(text: Buffer, begin: number, end: number): void {
    let start = begin
    if (this.#atStart) {
      // [WHATWG] one byte order mark before the stream is skipped.
      start = end - withoutByteOrderMark(text.subarray(begin, end)).length
      this.#atStart = false
    }
    if (start === end) return this.#dispatch()
    if (text[start] === COLON) return void this.#ready.push(COMMENT)
    let colon = start
    while (colon < end && text[colon] !== COLON) colon++
    let value = Math.min(colon + 1, end)
    if (text[value] === SPACE && value < end) value++
    if (spells(text, start, colon, 'data')) {
      if (this.#isTooLong) return
      if (this.#dataLines++ > 0) this.#data.add(LINE_END)
      this.#data.add(text.subarray(value, end))
      if (this.#data.length > this.#maxBytes) this.#tooLong()
    } else if (spells(text, start, colon, 'id')) {
      // [WHATWG] an id that holds a NUL is ignored.
      if (!text.subarray(value, end).includes(0)) this.#id = text.toString('latin1', value, end)
    } else if (spells(text, start, colon, 'event')) {
      this.#type = text.toString('latin1', value, end)
    } else if (spells(text, start, colon, 'retry')) {
      const retry = text.toString('latin1', value, end)
      if (/^\d+$/.test(retry)) this.#retryMs = Math.min(Number(retry), MAX_RETRY_MS)
    }
  }

  /** A blank line: the event is whole. */
  #dispatch(): void {
    const id = this.#id
    const data = this.#data.take()
    // [WHATWG] an event without a type is a "message"; MCP knows no other.
    const isMessage =
      this.#dataLines > 0 && !this.#isTooLong && (this.#type === '' || this.#type === 'message')
    // (A priming event is kept as `{}` by the event stores of the SDK, and comes so when it is replayed.)
    const isEmpty = spells(data, 0, data.length, '{}')
    if (isMessage) this.#ready.push({ kind: 'message', id, data: isEmpty ? NOTHING : data })
    // [WHATWG] an id moves the cursor whatever it is the id of.
    else if (id !== undefined || this.#isTooLong) this.#ready.push({ kind: 'message', id, data: NOTHING })
    this.#dataLines = 0
    this.#isTooLong = false
    this.#id = undefined
    this.#type = ''
  }

  /** The event at hand: no more of its data is taken. */
  #tooLong(): void {
    if (this.#isTooLong) return
    this.#isTooLong = true
    this.#data = new Gathered()
    this.#ready.push({ kind: 'too-long', why: `an event is over the limit of ${this.#maxBytes} bytes` })
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

/** A cursor that cannot stand in a header is none. The empty id means that there is none either. */
function isHeaderValue(id: string): boolean {
  return /^[\t\x20-\x7e\x80-\xff]+$/.test(id)
}

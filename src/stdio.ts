/**
 * The near side: bytes on two streams become messages, and messages become lines.
 *
 * Not a client or a server: what a message means is the bridge's business.
 * The one rule: stdout carries one JSON-RPC message a line and nothing else, in the order of the writes.
 *
 * [MCP 2025-11-25 transports, stdio] messages are delimited by newlines and contain none.
 */
import type { Readable, Writable } from 'node:stream'
import { Gathered } from './gathered.ts'
import { withoutByteOrderMark } from './json.ts'
import { idInHead, idInTail, type Malformed, type Message, parse } from './protocol.ts'
import type { Port, Room } from './sides.ts'

export interface StdioOptions {
  /** Longest line accepted, bytes. A longer one is reported under its id if that can be found, then skipped. */
  readonly maxLineBytes: number
}

const LF = 0x0a
const CR = 0x0d
const NEWLINE = Buffer.from('\n')
const NOTHING = Buffer.alloc(0)
/** An id is looked for in this much of the start and of the end of a line too long. */
const EDGE_BYTES = 64 * 1024
/** Up to here lines and their newlines are copied together; a longer one is written as it is, in one system call. */
const COPY_BYTES = 64 * 1024
/** Gathered lines leave when they are this many bytes. */
const BATCH_BYTES = 32 * 1024

/** A Port on two streams. */
export function openStdio(input: Readable, output: Writable, options: StdioOptions): Port {
  const writer = new LineWriter(output)
  return {
    incoming: readMessages(input, options),
    write: (message) => writer.write(message),
    flush: () => writer.flush(),
    broken: writer.broken,
  }
}

async function* readMessages(
  input: Readable,
  options: StdioOptions,
): AsyncGenerator<readonly (Message | Malformed)[]> {
  const splitter = new LineSplitter(options.maxLineBytes)
  for await (const chunk of input as AsyncIterable<Buffer>) {
    const lines = splitter.push(chunk)
    if (lines.length > 0) yield lines.flatMap(read)
  }
  const last = splitter.end()
  if (last !== undefined) yield read(last)
}

function read(line: Buffer | Malformed): readonly (Message | Malformed)[] {
  if (!Buffer.isBuffer(line)) return [line]
  return isBlank(line) ? [] : parse(line)
}

/**
 * Cuts a byte stream into lines. Linear whatever the chunks: a line within one chunk is a view of it, a longer
 * one is gathered.
 */
class LineSplitter {
  readonly #maxBytes: number
  readonly #gathered = new Gathered()
  #tooLong: LongLine | undefined
  #atStart = true

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** The lines that end in `chunk`. */
  push(chunk: Buffer): (Buffer | Malformed)[] {
    const lines: (Buffer | Malformed)[] = []
    let start = 0
    for (let at = chunk.indexOf(LF); at !== -1; at = chunk.indexOf(LF, start)) {
      const piece = chunk.subarray(start, at)
      start = at + 1
      lines.push(this.#finish(piece))
    }
    if (start < chunk.length) this.#gather(chunk.subarray(start))
    return lines
  }

  /** The last line, if the stream ended without a newline. */
  end(): Buffer | Malformed | undefined {
    return this.#gathered.length > 0 || this.#tooLong !== undefined ? this.#finish(NOTHING) : undefined
  }

  #finish(piece: Buffer): Buffer | Malformed {
    let line = piece
    if (this.#gathered.length > 0 || this.#tooLong !== undefined || piece.length > this.#maxBytes) {
      this.#gather(piece)
      line = this.#gathered.take()
    }
    const tooLong = this.#tooLong
    this.#tooLong = undefined
    if (tooLong !== undefined) return tooLong.report(this.#maxBytes)
    if (this.#atStart) line = withoutByteOrderMark(line)
    this.#atStart = false
    return line
  }

  #gather(piece: Buffer): void {
    if (this.#tooLong !== undefined) {
      this.#tooLong.add(piece)
      return
    }
    if (this.#gathered.length + piece.length <= this.#maxBytes) return this.#gathered.add(piece)
    this.#tooLong = new LongLine(this.#gathered.take())
    this.#tooLong.add(piece)
  }
}

/** Both edges of a line that is too long to keep. */
class LongLine {
  #head: Buffer
  #tail = Buffer.allocUnsafe(2 * EDGE_BYTES)
  #tailLength = 0
  #bytes = 0

  constructor(start: Buffer) {
    this.#head = Buffer.from(start.subarray(0, EDGE_BYTES))
    this.#keepTail(start)
    this.#bytes = start.length
  }

  add(piece: Buffer): void {
    const room = EDGE_BYTES - this.#head.length
    if (room > 0) this.#head = Buffer.concat([this.#head, piece.subarray(0, room)])
    this.#keepTail(piece)
    this.#bytes += piece.length
  }

  report(limit: number): Malformed {
    const id =
      idInHead(this.#head) ?? idInTail(this.#tail.subarray(0, this.#tailLength).subarray(-EDGE_BYTES))
    const detail = `a line of ${this.#bytes} bytes is over the limit of ${limit} bytes (--max-message)`
    return { kind: 'malformed', reason: 'too-long', detail, ...(id === undefined ? {} : { id }) }
  }

  #keepTail(piece: Buffer): void {
    const added = piece.subarray(-EDGE_BYTES)
    if (this.#tailLength + added.length > this.#tail.length) {
      this.#tail.copy(this.#tail, 0, this.#tailLength - EDGE_BYTES, this.#tailLength)
      this.#tailLength = EDGE_BYTES
    }
    added.copy(this.#tail, this.#tailLength)
    this.#tailLength += added.length
  }
}

/**
 * Writes lines. The first of a tick leaves at once (a push must not wait); the rest of the tick is gathered and
 * leaves as one piece when the tick is over, or when enough has come together.
 */
class LineWriter {
  readonly #output: Writable
  #gathered: Buffer[] = []
  #gatheredBytes = 0
  /** Lines of this tick so far, and whether the last tick had more than one: then the first waits for the rest. */
  #lines = 0
  #busy = false
  #room: Promise<void> | undefined
  #broken: Error | undefined

  /** Resolves once nothing can be written any more. */
  readonly broken: Promise<void>

  constructor(output: Writable) {
    this.#output = output
    this.broken = new Promise((resolve) => {
      const end = (error = new Error('stdout was closed')): void => {
        this.#broken ??= error
        resolve()
      }
      output.on('error', end)
      output.on('close', () => end())
    })
  }

  write({ raw, isOneLine }: Message): Room {
    if (this.#broken !== undefined) return Promise.reject(this.#broken)
    this.#gathered.push(isOneLine ? raw : onOneLine(raw))
    this.#gatheredBytes += raw.length + 1
    const first = this.#lines++ === 0
    if (first) {
      setImmediate(() => {
        this.#busy = this.#lines > 1
        this.#lines = 0
        this.#send()
      })
    }
    const waits = (!first || this.#busy) && this.#gatheredBytes < BATCH_BYTES
    if (!waits) this.#send()
    return this.#output.writableNeedDrain ? this.#untilRoom() : undefined
  }

  flush(): Promise<void> {
    if (this.#broken !== undefined) return Promise.resolve()
    this.#send()
    return new Promise((resolve) => {
      this.#output.write('', () => resolve())
      this.#output.once('close', resolve)
    })
  }

  #send(): void {
    const lines = this.#gathered
    const bytes = this.#gatheredBytes
    if (lines.length === 0) return
    this.#gathered = []
    this.#gatheredBytes = 0
    if (bytes <= COPY_BYTES) {
      this.#output.write(joined(lines, bytes))
      return
    }
    this.#output.cork()
    let short: Buffer[] = []
    for (const line of lines) {
      if (line.length < COPY_BYTES) {
        short.push(line)
        continue
      }
      if (short.length > 0) this.#output.write(joined(short))
      short = []
      this.#output.write(line)
      this.#output.write(NEWLINE)
    }
    if (short.length > 0) this.#output.write(joined(short))
    this.#output.uncork()
  }

  /** One promise for all who wait: resolves on drain, rejects when the reader is gone. */
  #untilRoom(): Promise<void> {
    this.#room ??= new Promise<void>((resolve, reject) => {
      const settle = (): void => {
        this.#room = undefined
        this.#output.off('drain', settle)
        this.#output.off('error', settle)
        this.#output.off('close', settle)
        if (this.#broken === undefined) resolve()
        else reject(this.#broken)
      }
      this.#output.on('drain', settle)
      this.#output.on('error', settle)
      this.#output.on('close', settle)
    })
    return this.#room
  }
}

/** Each with its newline, as one piece. */
function joined(
  lines: readonly Buffer[],
  bytes = lines.reduce((sum, line) => sum + line.length + 1, 0),
): Buffer {
  const piece = Buffer.allocUnsafe(bytes)
  let at = 0
  for (const line of lines) {
    at += line.copy(piece, at)
    piece[at++] = LF
  }
  return piece
}

/** CR and LF can stand only between tokens (a JSON string holds none raw), so a space changes nothing. */
function onOneLine(raw: Buffer): Buffer {
  const copy = Buffer.from(raw)
  for (let i = 0; i < copy.length; i++) if (copy[i] === LF || copy[i] === CR) copy[i] = 0x20
  return copy
}

function isBlank(line: Buffer): boolean {
  for (const c of line) if (c !== 0x20 && c !== CR && c !== 0x09) return false
  return true
}

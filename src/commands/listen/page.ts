/**
 * What `listen` prints: an event read for people, and the two ways to show it.
 *
 * The one rule: one line an event, whatever is in it, and nothing in it steers the terminal.
 */
import { channelEvent } from '../../channel/notification.ts'
import { seconds } from '../../errors.ts'
import { type Notification, valueAt } from '../../protocol.ts'
import type { Io } from '../command.ts'
import { harmless, type Paint, type Palette, palette, wantsColour } from '../terminal.ts'

/** A channel event as `listen` tells it. */
export interface Heard {
  readonly at: number
  /** `meta.event_type`, or `event`. */
  readonly kind: string
  /** Whose doing it is, when the meta says so. */
  readonly sender: string | undefined
  /** From the event's own time stamp to its arrival here; two clocks, so it may be off, but never below 0. */
  readonly latencyMs: number | undefined
  readonly content: string
  readonly meta: Readonly<Record<string, string>>
  /** The line of JSON. */
  readonly json: object
}

export interface Page {
  event(event: Heard): Promise<void>
  /** A notice that events may have been missed. */
  gap(event: Heard): Promise<void>
  other(notification: Notification): Promise<void>
  status(level: 'info' | 'warn', line: string): void
}

const SENDER_KEYS = [
  'sender_name',
  'sender',
  'speaker_name',
  'speaker',
  'caller',
  'from_name',
  'author',
  'user',
  'from',
]
const TIME_KEYS = ['ts', 'timestamp', 'time', 'sent_at', 'created_at']
/** A stamp further away than this is no time of sending. */
const MOST_LATENCY_MS = 24 * 3_600_000

/** The event in a notification; undefined when it is none. */
export function heard(notification: Notification, at: number): Heard | undefined {
  const event = channelEvent(notification)
  if (event === undefined) return undefined
  const { content, meta } = event
  const kind = meta.event_type ?? 'event'
  const isGap = kind === 'channel_gap' || kind === 'channel_down'
  const sender = isGap
    ? undefined
    : SENDER_KEYS.map((key) => meta[key]).find((value) => value !== undefined && value !== '')
  const latencyMs = isGap ? undefined : latencyOf(meta, at)
  const json = {
    type: isGap ? 'gap' : 'event',
    at: new Date(at).toISOString(),
    kind,
    ...(sender === undefined ? {} : { sender }),
    ...(latencyMs === undefined ? {} : { latency_ms: latencyMs }),
    content,
    meta,
  }
  return { at, kind, sender, latencyMs, content, meta, json }
}

export function pageFor(io: Io, json: boolean): Page {
  return io.stdout.isTTY === true && !json ? new Terminal(io) : new JsonLines(io)
}

/** One object a line, for programs. */
class JsonLines implements Page {
  readonly #io: Io

  constructor(io: Io) {
    this.#io = io
  }

  event(event: Heard): Promise<void> {
    return write(this.#io.stdout, `${JSON.stringify(event.json)}\n`)
  }

  gap(event: Heard): Promise<void> {
    return this.event(event)
  }

  other(notification: Notification): Promise<void> {
    const { method } = notification
    const line = { type: 'other', at: new Date().toISOString(), method, params: paramsOf(notification) }
    return write(this.#io.stdout, `${JSON.stringify(line)}\n`)
  }

  status(level: 'info' | 'warn', text: string): void {
    this.#io.stdout.write(
      `${JSON.stringify({ type: 'status', at: new Date().toISOString(), level, text })}\n`,
    )
  }
}

/** Columns and colours, for people. */
class Terminal implements Page {
  readonly #io: Io
  readonly #paint: Palette

  constructor(io: Io) {
    this.#io = io
    this.#paint = palette(wantsColour(io.stdout, io.env))
  }

  event(event: Heard): Promise<void> {
    const { dim, bold } = this.#paint
    const latency = event.latencyMs === undefined ? '' : `+${shortTime(event.latencyMs)}`
    return this.#line(event.at, [
      column(event.kind, 15, this.#colourOf(event.kind)),
      column(event.sender ?? '', 14, bold),
      dim(latency.padStart(7)),
      shown(event.content),
    ])
  }

  gap(event: Heard): Promise<void> {
    const { yellow } = this.#paint
    const { duration_ms: lastedMs, reason } = event.meta
    const lasted =
      lastedMs === undefined || Number.isNaN(Number(lastedMs)) ? '' : ` for ${seconds(Number(lastedMs))}`
    const why = reason === undefined ? '' : `: ${reason}`
    // The notice itself speaks to an agent, at length.
    const text = event.kind === 'channel_gap' ? `events may have been missed${lasted}${why}` : event.content
    return this.#line(event.at, [yellow(column(event.kind, 15, (each) => each)), yellow(shown(text))])
  }

  other(notification: Notification): Promise<void> {
    const params = paramsOf(notification)
    const body = params === null ? '' : JSON.stringify(params)
    return this.#line(Date.now(), [this.#paint.dim(`${notification.method} ${shown(body)}`)])
  }

  status(level: 'info' | 'warn', text: string): void {
    const { dim, yellow } = this.#paint
    void this.#line(Date.now(), [level === 'warn' ? yellow(`! ${shown(text)}`) : dim(`· ${shown(text)}`)])
  }

  #line(at: number, parts: readonly string[]): Promise<void> {
    return write(this.#io.stdout, `${this.#paint.dim(clockTime(at))}  ${parts.join('  ')}\n`)
  }

  /** The same kind, the same colour. */
  #colourOf(kind: string): Paint {
    const { cyan, green, magenta, blue, yellow } = this.#paint
    if (kind.startsWith('dm')) return cyan
    if (kind.startsWith('call_transcript')) return green
    if (kind.startsWith('call')) return magenta
    if (kind === 'mention' || kind === 'decision') return yellow
    return blue
  }
}

function paramsOf({ raw, params }: Notification): unknown {
  return params === undefined ? null : valueAt(raw, params)
}

/** Waits for room, so that a slow reader slows the stream and nothing piles up. A reader that left is no error here. */
async function write(stream: NodeJS.WriteStream, text: string): Promise<void> {
  if (stream.destroyed || stream.write(text)) return
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stream.off('drain', done)
      stream.off('close', done)
      resolve()
    }
    stream.once('drain', done)
    stream.once('close', done)
  })
}

function latencyOf(meta: Readonly<Record<string, string>>, at: number): number | undefined {
  for (const key of TIME_KEYS) {
    const value = meta[key]
    if (value === undefined) continue
    const number = Number(value)
    const sent = Number.isNaN(number) ? Date.parse(value) : number > 1e11 ? number : number * 1_000
    if (!Number.isNaN(sent) && Math.abs(at - sent) < MOST_LATENCY_MS)
      return Math.max(0, Math.round(at - sent))
  }
  return undefined
}

function shortTime(ms: number): string {
  if (ms < 1_000) return `${ms}ms`
  return ms < 60_000 ? `${(ms / 1_000).toFixed(1)}s` : `${Math.round(ms / 60_000)}min`
}

function clockTime(at: number): string {
  const date = new Date(at)
  const two = (n: number): string => String(n).padStart(2, '0')
  const ms = String(date.getMilliseconds()).padStart(3, '0')
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`
}

/** At least `width` wide; what is longer is cut. */
function column(text: string, width: number, paint: Paint): string {
  const clean = shown(text)
  const cut = clean.length > width ? `${clean.slice(0, width - 1)}…` : clean
  return `${paint(cut)}${' '.repeat(width - cut.length)}`
}

function shown(text: string): string {
  return harmless(text).replaceAll(/\s*\n\s*/g, ' ⏎ ')
}

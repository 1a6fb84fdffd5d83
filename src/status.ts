/**
 * What can be seen of the far side, as data: facts, their one-line rendering, and the sink that writes them.
 *
 * Not a logger for narration: a Status exists only where something changed or was lost. The engine emits,
 * the log, `listen`, `doctor` and the tests are sinks.
 * The one rule: no secret passes the sink; what is registered with `redactor` is cut out of every line.
 */
import { type BridgeError, impossible, reasonOf, seconds } from './errors.ts'

export type Level = 'error' | 'warn' | 'info' | 'debug'
export const LEVELS: readonly Level[] = ['error', 'warn', 'info', 'debug']

/** A session of the far side changed its state. */
export interface SessionStatus {
  readonly kind: 'session'
  readonly state: 'opening' | 'live' | 'reopening' | 'lost'
  /** Counts sessions of this process from 1. */
  readonly generation: number
  /** Why it changed, one clause, or why it is `opening` still. Absent when all went as planned. */
  readonly reason?: string
  /** `live` only: what differs from what the client was told at its `initialize`, one clause. */
  readonly changed?: string
  /** `live` after a loss: milliseconds since the loss was noticed. */
  readonly afterMs?: number
}

/**
 * Stands as a stream for the list of spaces that is awaited: nothing is heard on it. No space is called so: an id has no
 * white space.
 */
export const ALL_SPACES = 'all spaces'

/** A push stream changed its state. */
export interface PushStatus {
  readonly kind: 'push'
  /** `not-offered`: the server has none. `retrying`: an attempt failed, another comes in `delayMs`. */
  readonly state: 'up' | 'down' | 'retrying' | 'not-offered'
  /** Which stream, where an Upstream has several (moot: the space, or `ALL_SPACES`). */
  readonly stream?: string
  /** Milliseconds since 1970 at which the fact became true; `down`: from which on something may have been missed. */
  readonly at: number
  readonly generation: number
  /** `up`: true when nothing can have been missed (same session, 200 to our cursor; or the very first stream). */
  readonly continuous?: boolean
  /** `up` after `down`: for how long there was no stream, or none of use; and the attempts it took. */
  readonly downMs?: number
  readonly attempts?: number
  /** The first `up` of a stream with a name: for how long it was asked for. */
  readonly awaitedMs?: number
  /** The last part of that, in which nothing can have been missed. */
  readonly coveredMs?: number
  readonly reason?: string
  readonly delayMs?: number
  /** True when a person should look at it: the server refuses in a way that waiting seldom mends, or it lasts. */
  readonly severe?: boolean
}

/** A message that reached nobody. */
export interface DroppedStatus {
  readonly kind: 'dropped'
  /** What it was: "notifications/progress to the server". */
  readonly what: string
  readonly why: string
}

/** A request, or the program, failed for good. */
export interface FailedStatus {
  readonly kind: 'failed'
  /** What failed: "tools/call", "initialize". */
  readonly what: string
  readonly error: BridgeError
}

/** Continuity was lost between two moments (milliseconds since 1970); written when the client was told. */
export interface GapStatus {
  readonly kind: 'gap'
  readonly from: number
  readonly to: number
  readonly reason: string
  readonly breaks: number
  readonly stream?: string
}

/** Something a person may want to know that is none of the above: a setting that has no effect, a key withheld. */
export interface NoteStatus {
  readonly kind: 'note'
  readonly level: Level
  readonly text: string
  readonly hint?: string
}

export type Status = SessionStatus | PushStatus | DroppedStatus | FailedStatus | GapStatus | NoteStatus

/** How much it matters. */
export function levelOf(status: Status): Level {
  switch (status.kind) {
    case 'session':
      if (status.changed !== undefined) return 'warn'
      if (status.state === 'opening' && status.reason !== undefined) return 'warn'
      return status.state === 'lost' ? 'warn' : 'info'
    case 'push':
      if (status.severe === true) return 'warn'
      return status.state === 'retrying' ? 'debug' : 'info'
    case 'dropped':
      return 'warn'
    case 'failed':
      return 'warn'
    case 'gap':
      return 'info'
    case 'note':
      return status.level
    default:
      return impossible(status)
  }
}

/** One line for people, without time or level. */
export function render(status: Status): string {
  switch (status.kind) {
    case 'session':
      return renderSession(status)
    case 'push':
      return renderPush(status)
    case 'dropped':
      return `dropped ${status.what}: ${status.why}`
    case 'failed':
      return `${status.what} failed: ${status.error.message}${hintOf(status.error.hint)}`
    case 'gap':
      return `told the client that events may have been missed for ${seconds(status.to - status.from)}: ${status.reason}`
    case 'note':
      return `${status.text}${hintOf(status.hint)}`
    default:
      return impossible(status)
  }
}

function renderSession(status: SessionStatus): string {
  const why = status.reason === undefined ? '' : `: ${status.reason}`
  const after = status.afterMs === undefined ? '' : ` after ${seconds(status.afterMs)}`
  const changed = status.changed === undefined ? '' : `; ${status.changed}`
  return `session ${status.generation} ${status.state}${after}${why}${changed}`
}

function renderPush(status: PushStatus): string {
  const name = status.stream === undefined ? 'push stream' : `push stream ${status.stream}`
  const why = status.reason === undefined ? '' : `: ${status.reason}`
  switch (status.state) {
    case 'up': {
      const after =
        status.downMs === undefined
          ? ''
          : ` again after ${seconds(status.downMs)}, ${status.attempts ?? 1} attempt${status.attempts === 1 ? '' : 's'}`
      return `${name} up${after}${status.continuous === false ? '; events may have been missed' : ''}`
    }
    case 'down':
      return `${name} down${why}; trying again`
    case 'retrying':
      return `${name} still down${why}; trying again in ${seconds(status.delayMs ?? 0)}`
    case 'not-offered':
      return status.stream === undefined ? `the server offers no push stream${why}` : `${name} ended${why}`
    default:
      return impossible(status.state)
  }
}

function hintOf(hint: string | undefined): string {
  return hint === undefined ? '' : ` (try: ${hint})`
}

/** Cuts secrets out of texts, by value. Values shorter than 4 characters are left alone. */
export interface Redactor {
  /** From now on `secret` never appears in a text. */
  add(secret: string): void
  /** The same for the id of a session, of which the last SESSIONS_KNOWN are known: a server may name ever new ones. */
  addSession(id: string): void
  (text: string): string
}

export const SESSIONS_KNOWN = 64

export function redactor(): Redactor {
  const lasting = new Set<string>()
  /** The last named at the end. */
  const sessions = new Set<string>()
  /** All of them, the longest first: one that begins another must not leave the rest of it standing. */
  let known: RegExp | undefined
  const redact = (text: string): string => {
    known ??= new RegExp(
      [...lasting, ...sessions]
        .filter((secret) => secret.length >= 4)
        .sort((a, b) => b.length - a.length)
        .map((secret) => Array.from(secret, spellings).join(''))
        .join('|') || '(?!)',
      'giu',
    )
    return text.replaceAll(known, '[redacted]')
  }
  return Object.assign(redact, {
    add(secret: string): void {
      lasting.add(secret)
      known = undefined
    },
    addSession(id: string): void {
      if (!sessions.delete(id)) known = undefined
      sessions.add(id)
      const [oldest] = sessions
      if (sessions.size > SESSIONS_KNOWN && oldest !== undefined) sessions.delete(oldest)
    },
  })
}

/** A pattern: the character as it is, or as JSON, a URL or a page may spell it. */
function spellings(character: string): string {
  if (/\w/.test(character)) return character
  const code = character.codePointAt(0) ?? 0
  const hex = code.toString(16)
  const inUrl =
    character === ' ' ? '\\+|%20' : Buffer.from(character).toString('hex').replaceAll(/../g, '%$&')
  const inPage = `&(?:#0*${code}|#x0*${hex}|${PAGE_NAMES[character] ?? ''});`
  return `(?:\\\\u0*${hex}|${inUrl}|${inPage}|\\\\?\\u{${hex}})`
}

const PAGE_NAMES: Readonly<Record<string, string>> = {
  '&': 'amp',
  '<': 'lt',
  '>': 'gt',
  '"': 'quot',
  "'": 'apos',
}

export interface SinkOptions {
  readonly write: (line: string) => void
  readonly level: Level
  readonly format: 'text' | 'json'
  readonly redact: (text: string) => string
}

/** Of a text in the log; a server may say much. */
const MOST_CHARACTERS = 2_000
/** What would begin another line, or steer the terminal of whoever reads the log. */
const UNPRINTABLE = /\s*[\p{Cc}\p{Bidi_C}\u2028\u2029]+\s*/gu

/**
 * A sink that writes one line per fact; while a stream stays down: the first failure, then at growing intervals. Who
 * was warned that it is down, or that there is no session, reads that this is over.
 */
export function statusLog(options: SinkOptions): (status: Status) => void {
  const limit = LEVELS.indexOf(options.level)
  const shown = (text: string): string => options.redact(text).slice(0, MOST_CHARACTERS)
  let nextReminder = 0
  let reminders = 0
  /** Streams of which an attempt failed, or worse, and that are not up since. */
  const failing = new Set<string>()
  /** What a warning said to be down: streams by name, or the session. */
  const warnedOf = new Set<string>()
  return (status) => {
    let level = levelOf(status)
    if (status.kind === 'push') {
      const name = nameOf(status)
      const over = status.state === 'up' || status.state === 'not-offered'
      // One that comes and goes is no reason to say anew what another has failed of all along.
      if (status.state === 'retrying' || status.severe === true) failing.add(name)
      else if (over && failing.delete(name) && failing.size === 0) reminders = 0
    }
    if (status.kind === 'push' && (status.state === 'retrying' || status.severe === true)) {
      // The first failure, the first that is a warning, then after 10 s, 20 s, 40 s … 10 min.
      const isNew = reminders === 0 || (level === 'warn' && !warnedOf.has(nameOf(status)))
      if (isNew || performance.now() >= nextReminder) {
        nextReminder = performance.now() + Math.min(10_000 * 2 ** reminders++, 600_000)
        if (level === 'debug') level = 'info'
      } else {
        level = 'debug'
      }
    }
    if (status.kind === 'push' || status.kind === 'session') {
      const name = nameOf(status)
      if (status.state !== 'up' && status.state !== 'live') {
        if (level === 'warn') warnedOf.add(name)
      } else if (warnedOf.delete(name)) level = 'warn'
    }
    if (LEVELS.indexOf(level) > limit) return
    const at = new Date().toISOString()
    const text = shown(render(status))
    const line =
      options.format === 'text'
        ? `${at} ${level} ${text.replaceAll(UNPRINTABLE, ' ')}\n`
        : `${JSON.stringify({ at, level, text, ...plain(status) }, (_key, value: unknown) =>
            typeof value === 'string' ? shown(value) : value,
          )}\n`
    options.write(line)
  }
}

/** Of what is down or lost. */
function nameOf(status: PushStatus | SessionStatus): string {
  return status.kind === 'push' ? `push ${status.stream ?? ''}` : status.kind
}

/** The facts themselves, beside the line's own `at`. */
function plain(status: Status): object {
  if (status.kind === 'push') {
    const { at: since, ...facts } = status
    return { ...facts, since }
  }
  if (status.kind !== 'failed') return status
  const { error } = status
  return { kind: 'failed', what: status.what, code: error.code, cause: error.cause && reasonOf(error.cause) }
}

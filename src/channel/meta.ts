/**
 * Meta repair: a channel event whose `meta` the client would lose, made one that it keeps.
 *
 * Not a schema: what keys and values say is nobody's business here. The one rule: only the text of `meta` is
 * replaced, and only when something would be lost; an event that is fine is the same message afterwards.
 *
 * Keys are renamed by the rule in notification.ts; a value that is no string becomes a string of its JSON text
 * (12345678901234567890 keeps its digits, null becomes "null"). A `meta` that is no object would cost the whole
 * event: null becomes `{}`, anything else the value of a key `meta`. A `content` that is no string is left
 * alone, because the server meant it so: clients ignore such an event, which the verdict tells.
 */
import { isString, members, type Span, textAt } from '../json.ts'
import { type Message, member, type Notification, parse, replaceSpan } from '../protocol.ts'
import { usableKeys } from './notification.ts'

/**
 * `fine`: the client keeps all of it. `repair`: `repaired` helps. `ignored`: there is no content that a client
 * would show.
 */
export type Verdict = 'fine' | 'repair' | 'ignored'

const QUOTE = 0x22
const COMMA = 0x2c
const BACKSLASH = 0x5c
const OPEN_LIST = 0x5b
const CLOSE_LIST = 0x5d
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
const CONTENT = Buffer.from('content"')
const META = Buffer.from('meta"')

/** What the client would make of a channel event. One pass over the bytes; nothing is built. */
export function verdict(message: Notification): Verdict {
  const { raw, params } = message
  if (params === undefined || raw[params.start] !== OPEN_OBJECT) return 'ignored'
  let shown = false
  let at = skipSpace(raw, params.start + 1)
  while (raw[at] === QUOTE) {
    const key = at + 1
    at = stringEnd(raw, at)
    // A name spelt with escapes may be `meta`: the slow way decodes it.
    if (at - key <= 64 && hasEscape(raw, key, at)) return 'repair'
    const value = skipSpace(raw, skipSpace(raw, at) + 1)
    if (startsWith(raw, key, META)) {
      at = fineEnd(raw, value)
      if (at < 0) return 'repair'
    } else {
      if (startsWith(raw, key, CONTENT)) shown = raw[value] === QUOTE
      at = valueEnd(raw, value)
    }
    at = skipSpace(raw, at)
    if (raw[at] === COMMA) at = skipSpace(raw, at + 1)
  }
  return shown ? 'fine' : 'ignored'
}

/** The same event with a `meta` that the client keeps; the same message when nothing was to be mended. */
export function repaired(message: Notification): Notification {
  const meta = member(message.raw, message.params, 'meta')
  if (meta === undefined || fineEnd(message.raw, meta.start) >= 0) return message
  const [edited] = parse(replaceSpan(message.raw, meta, repairedText(message.raw, meta)))
  if (!isNotification(edited)) throw new TypeError('a repaired channel event became something else')
  return edited
}

function repairedText(raw: Buffer, meta: Span): string {
  const found = members(raw, meta)
  if (found === undefined) {
    return textAt(raw, meta) === 'null' ? '{}' : `{"meta":${stringText(raw, meta)}}`
  }
  const names = usableKeys([...found.keys()])
  const pairs = [...found.values()].map((at, i) => `${JSON.stringify(names[i])}:${stringText(raw, at)}`)
  return `{${pairs.join(',')}}`
}

/** The value as JSON text of a string: strings byte for byte, others as their own text in quotes. */
function stringText(raw: Buffer, at: Span): string {
  return isString(raw, at) ? textAt(raw, at) : JSON.stringify(textAt(raw, at))
}

function isNotification(message: Message | { kind: 'malformed' } | undefined): message is Notification {
  return message?.kind === 'notification'
}

// The scan below reads text that is known to be valid JSON: it only has to find where things end.

/** Index behind the object at `at` when it is one of usable keys and string values, else -1. */
function fineEnd(raw: Buffer, start: number): number {
  if (raw[start] !== OPEN_OBJECT) return -1
  let at = skipSpace(raw, start + 1)
  while (raw[at] === QUOTE) {
    at = usableKeyEnd(raw, at)
    if (at < 0) return -1
    at = skipSpace(raw, skipSpace(raw, at) + 1)
    if (raw[at] !== QUOTE) return -1
    at = skipSpace(raw, stringEnd(raw, at))
    if (raw[at] === COMMA) at = skipSpace(raw, at + 1)
  }
  return at + 1
}

/** Index behind the key whose quote is at `at` when it matches `[A-Za-z_][A-Za-z0-9_]*`, else -1. */
function usableKeyEnd(raw: Buffer, at: number): number {
  let i = at + 1
  let c = raw[i] as number
  if (c >= 0x30 && c <= 0x39) return -1
  while (isWord(c)) c = raw[++i] as number
  return c === QUOTE && i > at + 1 ? i + 1 : -1
}

function valueEnd(raw: Buffer, start: number): number {
  if (raw[start] === QUOTE) return stringEnd(raw, start)
  let depth = 0
  let at = start
  while (at < raw.length) {
    const c = raw[at]
    if (c === QUOTE) {
      at = stringEnd(raw, at)
      continue
    }
    if (c === OPEN_OBJECT || c === OPEN_LIST) depth++
    // A scalar ends where the object around it does, or before a comma.
    if (depth === 0 && (c === CLOSE_OBJECT || c === COMMA)) return at
    if ((c === CLOSE_OBJECT || c === CLOSE_LIST) && --depth === 0) return at + 1
    at++
  }
  return at
}

function stringEnd(raw: Buffer, at: number): number {
  let i = at + 1
  while (i < raw.length) {
    const c = raw[i]
    if (c === QUOTE) return i + 1
    i += c === BACKSLASH ? 2 : 1
  }
  return i
}

function hasEscape(raw: Buffer, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (raw[i] === BACKSLASH) return true
  return false
}

function startsWith(raw: Buffer, at: number, name: Buffer): boolean {
  for (let i = 0; i < name.length; i++) if (raw[at + i] !== name[i]) return false
  return true
}

function skipSpace(raw: Buffer, start: number): number {
  let at = start
  for (;;) {
    const c = raw[at]
    if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return at
    at++
  }
}

function isWord(c: number): boolean {
  return (c >= 0x61 && c <= 0x7a) || c === 0x5f || (c >= 0x41 && c <= 0x5a) || (c >= 0x30 && c <= 0x39)
}

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
import { isString, keyAmong, type MemberReader, members, readMembers, type Span, textAt } from '../json.ts'
import { member, type Notification, withSpan } from '../protocol.ts'
import { usableKeys } from './notification.ts'

/**
 * `fine`: the client keeps all of it. `repair`: `repaired` helps. `ignored`: there is no content that a client
 * would show.
 */
export type Verdict = 'fine' | 'repair' | 'ignored'

const QUOTE = 0x22
const MEMBERS = ['content', 'meta'] as const

/** What the client would make of a channel event. Nothing is built. */
export function verdict(message: Notification): Verdict {
  const { raw, params } = message
  const event = new ParamsReader()
  if (params === undefined || !readMembers(raw, params, event)) return 'ignored'
  if (!event.kept) return 'repair'
  return event.shown ? 'fine' : 'ignored'
}

/** The same event with a `meta` that the client keeps; the same message when nothing was to be mended. */
export function repaired(message: Notification): Notification {
  const meta = member(message.raw, message.params, 'meta')
  if (meta === undefined || isKept(message.raw, meta)) return message
  return withSpan(message, meta, repairedText(message.raw, meta))
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

/** Reads the `params` of an event. */
class ParamsReader implements MemberReader {
  /** There is a text. */
  shown = false
  /** The client loses nothing of `meta`. */
  kept = true

  member(text: Buffer, key: number, keyEnd: number, start: number, end: number): void {
    const name = keyAmong(text, key, keyEnd, MEMBERS)
    if (name === 'content') this.shown = text[start] === QUOTE
    else if (name === 'meta') this.kept = isKept(text, { start, end })
  }
}

/** Reads a `meta`. */
class MetaReader implements MemberReader {
  kept = true

  member(text: Buffer, key: number, keyEnd: number, start: number): void {
    this.kept &&= text[start] === QUOTE && isUsable(text, key + 1, keyEnd - 1)
  }
}

function isKept(raw: Buffer, meta: Span): boolean {
  const reader = new MetaReader()
  return readMembers(raw, meta, reader) && reader.kept
}

/** Do the bytes match `[A-Za-z_][A-Za-z0-9_]*`? */
function isUsable(raw: Buffer, start: number, end: number): boolean {
  for (let i = start; i < end; i++) {
    const c = raw[i] as number
    const letter = (c >= 0x61 && c <= 0x7a) || c === 0x5f || (c >= 0x41 && c <= 0x5a)
    if (!letter && (i === start || c < 0x30 || c > 0x39)) return false
  }
  return end > start
}

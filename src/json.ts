/**
 * JSON as bytes: is it valid, and where do its parts stand?
 *
 * Not a parser: no value is built, so numbers keep their digits and a 10 MB answer costs no second copy.
 * The one rule: a span is only ever handed out for a value that is valid JSON from its first to its last byte.
 *
 * [RFC 8259] the grammar; [RFC 8259 §8.1] UTF-8 without a byte order mark.
 */

import { skipPlain } from './long-string.ts'

/** Half-open byte range `[start, end)` in a buffer. */
export interface Span {
  readonly start: number
  readonly end: number
}

/** The value that a text consists of. */
export interface Root extends Span {
  /** White space between its tokens holds LF or CR. (Strings hold neither.) */
  readonly hasLineBreaks: boolean
}

const LF = 0x0a
const CR = 0x0d
const QUOTE = 0x22
const COMMA = 0x2c
const MINUS = 0x2d
const DOT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const OPEN_LIST = 0x5b
const BACKSLASH = 0x5c
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d

/** The one value that fills `text` but for white space around it, or undefined when `text` is not valid JSON. */
export function rootSpan(text: Buffer): Span | undefined {
  const start = skipSpace(text, 0)
  const end = skipValue(text, start)
  return end >= 0 && skipSpace(text, end) === text.length ? { start, end } : undefined
}

/** Is told the members of an object as they are read; numbers are indices in `text`, quotes of the key included. */
export interface MemberReader {
  member(text: Buffer, key: number, keyEnd: number, start: number, end: number): void
}

/** Tells `reader` the members of the object at `span`; false when the value is no object. */
export function readMembers(text: Buffer, span: Span, reader: MemberReader): boolean {
  return readObject(text, span.start, span.end, reader) !== NO_OBJECT
}

class MembersByName implements MemberReader {
  readonly found = new Map<string, Span>()

  member(text: Buffer, key: number, keyEnd: number, start: number, end: number): void {
    this.found.set(stringAt(text, { start: key, end: keyEnd }), { start, end })
  }
}

/**
 * Members of the object at `span`, last one of a name winning as in `JSON.parse`.
 * Undefined when the value is no object. `text` may be cut off: members that stand whole before the cut are given.
 */
export function members(text: Buffer, span: Span): Map<string, Span> | undefined {
  const reader = new MembersByName()
  return readMembers(text, span, reader) ? reader.found : undefined
}

/**
 * Reads the object that fills `text` but for white space around it, in one pass. Where it stands; undefined when
 * `text` is not valid JSON, or no object: then what `reader` was told says nothing.
 */
export function readRoot(text: Buffer, reader: MemberReader): Root | undefined {
  const start = skipSpace(text, 0)
  sawLineBreak = false
  const end = readObject(text, start, text.length, reader)
  const hasLineBreaks = sawLineBreak
  return end >= 0 && skipSpace(text, end) === text.length ? { start, end, hasLineBreaks } : undefined
}

const NO_OBJECT = -2
const CUT_OFF = -1

/** Tells the members; gives the index behind the object, CUT_OFF where it is not whole, or NO_OBJECT. */
function readObject(text: Buffer, begin: number, limit: number, reader: MemberReader): number {
  let at = skipSpace(text, begin)
  if (text[at] !== OPEN_OBJECT) return NO_OBJECT
  at = skipSpace(text, at + 1)
  if (text[at] === CLOSE_OBJECT) return at + 1
  while (at < limit && text[at] === QUOTE) {
    const key = at
    const keyEnd = skipString(text, at)
    if (keyEnd < 0) break
    at = skipSpace(text, keyEnd)
    if (text[at] !== COLON) break
    const start = skipSpace(text, at + 1)
    const end = skipValue(text, start)
    if (end < 0 || end > limit) break
    // A value that ends with the text may have been cut short (a number): it is not taken for whole.
    if (end === text.length) break
    reader.member(text, key, keyEnd, start, end)
    at = skipSpace(text, end)
    if (text[at] === CLOSE_OBJECT) return at + 1
    if (text[at] !== COMMA) break
    at = skipSpace(text, at + 1)
  }
  return CUT_OFF
}

/** Elements of the array at `span`; undefined when the value is no array. `text` must be valid. */
export function elements(text: Buffer, span: Span): Span[] | undefined {
  if (text[span.start] !== OPEN_LIST) return undefined
  const found: Span[] = []
  let at = skipSpace(text, span.start + 1)
  while (at < span.end - 1) {
    const end = skipValue(text, at)
    if (end < 0) break
    found.push({ start: at, end })
    at = skipSpace(text, end)
    if (text[at] !== COMMA) break
    at = skipSpace(text, at + 1)
  }
  return found
}

/** The string at `span` (quotes included in the span), decoded. */
export function stringAt(text: Buffer, span: Span): string {
  const inner = text.toString('utf8', span.start + 1, span.end - 1)
  return inner.includes('\\') ? (JSON.parse(`"${inner}"`) as string) : inner
}

/** What stands at `span`, as text. */
export function textAt(text: Buffer, span: Span): string {
  return text.toString('utf8', span.start, span.end)
}

/** Do the bytes from `start` to `end` spell `ascii`? */
export function spells(text: Buffer, start: number, end: number, ascii: string): boolean {
  if (end - start !== ascii.length) return false
  for (let i = 0; i < ascii.length; i++) if (text[start + i] !== ascii.charCodeAt(i)) return false
  return true
}

/** Which of `names` is the key from `key` to `keyEnd`, quotes included? Compared as bytes; escapes are decoded. */
export function keyAmong<Name extends string>(
  text: Buffer,
  key: number,
  keyEnd: number,
  names: readonly Name[],
): Name | undefined {
  for (const name of names) if (spells(text, key + 1, keyEnd - 1, name)) return name
  for (let i = key; i < keyEnd; i++) {
    if (text[i] !== BACKSLASH) continue
    const decoded = stringAt(text, { start: key, end: keyEnd })
    return names.find((name) => name === decoded)
  }
  return undefined
}

/** True when the value at `span` is a string. */
export function isString(text: Buffer, span: Span): boolean {
  return text[span.start] === QUOTE
}

/** True when the value at `span` is a number. */
export function isNumber(text: Buffer, span: Span): boolean {
  const first = text[span.start]
  return first === MINUS || isDigit(first)
}

/** True when the value at `span` is an object. */
export function isObject(text: Buffer, span: Span): boolean {
  return text[span.start] === OPEN_OBJECT
}

/** What closes the values that are open, outermost first; a deeper text than this takes one of its own. */
const shallow = new Uint8Array(32)

/** Index behind the value that starts at `at`, or -1. Iterative: nesting costs memory, never the stack. */
function skipValue(text: Buffer, at: number): number {
  const first = text[at]
  if (first !== OPEN_OBJECT && first !== OPEN_LIST) return skipScalar(text, at)
  let closers = shallow
  let depth = 0
  let i = at
  for (;;) {
    const c = text[i]
    if (c === OPEN_OBJECT || c === OPEN_LIST) {
      const closer = c + 2
      i = skipSpace(text, i + 1)
      if (text[i] !== closer) {
        if (depth === closers.length) closers = doubled(closers)
        closers[depth++] = closer
        if (closer === CLOSE_OBJECT) i = skipKey(text, i)
        if (i < 0) return -1
        continue
      }
      i++
    } else {
      i = skipScalar(text, i)
      if (i < 0) return -1
    }
    // A value ended at i: close what closes, then on to the next value.
    for (;;) {
      if (depth === 0) return i
      const closer = closers[depth - 1] as number
      i = skipSpace(text, i)
      const next = text[i]
      if (next === closer) {
        depth--
        i++
        continue
      }
      if (next !== COMMA) return -1
      i = skipSpace(text, i + 1)
      if (closer === CLOSE_OBJECT) i = skipKey(text, i)
      if (i < 0) return -1
      break
    }
  }
}

function doubled(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const grown = new Uint8Array(bytes.length * 2)
  grown.set(bytes)
  return grown
}

/** Index of the value behind the key that starts at `at`, or -1. */
function skipKey(text: Buffer, at: number): number {
  if (text[at] !== QUOTE) return -1
  const end = skipString(text, at)
  if (end < 0) return -1
  const colon = skipSpace(text, end)
  return text[colon] === COLON ? skipSpace(text, colon + 1) : -1
}

function skipScalar(text: Buffer, at: number): number {
  switch (text[at]) {
    case QUOTE:
      return skipString(text, at)
    case 0x74:
      return skipWord(text, at, 'true')
    case 0x66:
      return skipWord(text, at, 'false')
    case 0x6e:
      return skipWord(text, at, 'null')
    default:
      return skipNumber(text, at)
  }
}

function skipWord(text: Buffer, at: number, word: string): number {
  for (let i = 0; i < word.length; i++) if (text[at + i] !== word.charCodeAt(i)) return -1
  return at + word.length
}

function skipNumber(text: Buffer, at: number): number {
  let i = text[at] === MINUS ? at + 1 : at
  if (text[i] === ZERO) i++
  else if (isDigit(text[i])) i = skipDigits(text, i)
  else return -1
  if (text[i] === DOT) {
    if (!isDigit(text[i + 1])) return -1
    i = skipDigits(text, i + 1)
  }
  const e = text[i]
  if (e === 0x65 || e === 0x45) {
    const sign = text[i + 1]
    i += sign === 0x2b || sign === MINUS ? 2 : 1
    if (!isDigit(text[i])) return -1
    i = skipDigits(text, i)
  }
  return i
}

function skipString(text: Buffer, at: number): number {
  return skipInside(text, at + 1, Math.min(text.length, at + LONG_BYTES))
}

/** Index behind the string in which `from` stands, or -1. A byte at a time up to `near`. */
function skipInside(text: Buffer, from: number, near: number): number {
  let i = from
  while (i < near) {
    const c = text[i] as number
    if (c === QUOTE) return i + 1
    if (c < 0x20) return -1
    if (c !== BACKSLASH) {
      i++
      continue
    }
    i = skipEscape(text, i)
    if (i < 0) return -1
  }
  if (i >= text.length) return -1
  const end = skipPlain(text, i)
  if (end === undefined) return skipInside(text, i, text.length)
  return text[end] === QUOTE ? end + 1 : -1
}

function skipEscape(text: Buffer, at: number): number {
  const escaped = text[at + 1]
  if (escaped === 0x75) {
    for (let k = 2; k < 6; k++) if (!isHex(text[at + k])) return -1
    return at + 6
  }
  return escaped !== undefined && isEscape(escaped) ? at + 2 : -1
}

/** Up to here a byte at a time is as quick as any preparation. */
const LONG_BYTES = 4096

/** White space that was skipped held LF or CR. */
let sawLineBreak = false

function skipSpace(text: Buffer, at: number): number {
  let i = at
  for (;;) {
    const c = text[i]
    if (c !== 0x20 && c !== LF && c !== CR && c !== 0x09) return i
    if (c === LF || c === CR) sawLineBreak = true
    i++
  }
}

function skipDigits(text: Buffer, at: number): number {
  let i = at
  while (isDigit(text[i])) i++
  return i
}

function isDigit(c: number | undefined): boolean {
  return c !== undefined && c >= ZERO && c <= NINE
}

function isHex(c: number | undefined): boolean {
  return c !== undefined && ((c >= ZERO && c <= NINE) || (c >= 0x41 && c <= 0x46) || (c >= 0x61 && c <= 0x66))
}

/** One of `" \ / b f n r t`. */
function isEscape(c: number): boolean {
  return (
    c === QUOTE ||
    c === BACKSLASH ||
    c === 0x2f ||
    c === 0x62 ||
    c === 0x66 ||
    c === 0x6e ||
    c === 0x72 ||
    c === 0x74
  )
}

/** [RFC 8259 §8.1] a parser may ignore a byte order mark; .NET programs write one. */
export function withoutByteOrderMark(text: Buffer): Buffer {
  return text[0] === 0xef && text[1] === 0xbb && text[2] === 0xbf ? text.subarray(3) : text
}

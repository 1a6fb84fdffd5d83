/**
 * The vocabulary: a JSON-RPC message as the bytes that were sent plus the few facts a bridge needs of it.
 *
 * Not a schema: what stands in `params` and `result` is nobody's business here.
 * The one rule: the raw text travels. Unknown members, `12345678901234567890` and `1.0` arrive as they were
 * sent; an edit replaces one span and leaves every other byte alone.
 *
 * [JSON-RPC 2.0 §4, §5] requests, notifications, responses; [MCP 2025-11-25 basic] ids are strings or numbers.
 */
import { isUtf8 } from 'node:buffer'
import {
  elements,
  isNumber,
  isObject,
  isString,
  keyAmong,
  type MemberReader,
  members,
  readRoot,
  rootSpan,
  type Span,
  spells,
  stringAt,
  textAt,
} from './json.ts'

/** The text of a message. */
interface Written {
  readonly raw: Buffer
  /** Nothing has to be done to it to stand on a line: no LF or CR between its tokens. */
  readonly isOneLine: boolean
}

/** A request: wants exactly one answer. `id` is the raw JSON token: `1`, `"1"` and `1.0` are three ids. */
export interface Request extends Written {
  readonly kind: 'request'
  readonly method: string
  readonly id: string
  readonly idSpan: Span
  readonly params: Span | undefined
}

/** A notification: wants none. */
export interface Notification extends Written {
  readonly kind: 'notification'
  readonly method: string
  readonly params: Span | undefined
}

/** A response; `result` or `error` says where its body stands. `id` is undefined when it is `null`. */
export interface Response extends Written {
  readonly kind: 'response'
  readonly id: string | undefined
  readonly idSpan: Span
  readonly result: Span | undefined
  readonly error: Span | undefined
}

export type Message = Request | Notification | Response

/** What came instead of a message: `not-json` earns -32700, `not-rpc` -32600, `too-long` the limit's error. */
export interface Malformed {
  readonly kind: 'malformed'
  readonly reason: 'not-json' | 'not-rpc' | 'empty-batch' | 'too-long'
  /** One clause for people: what is wrong with it. Never quotes more than a few characters of it. */
  readonly detail: string
  /** The id it carried, when that can be told (only `too-long`). */
  readonly id?: string
}

export const METHOD = {
  initialize: 'initialize',
  initialized: 'notifications/initialized',
  cancelled: 'notifications/cancelled',
  channel: 'notifications/claude/channel',
  discover: 'server/discover',
  ping: 'ping',
  setLevel: 'logging/setLevel',
  subscribe: 'resources/subscribe',
  unsubscribe: 'resources/unsubscribe',
  resourceUpdated: 'notifications/resources/updated',
  toolsList: 'tools/list',
  toolsCall: 'tools/call',
} as const

export const HEADER = {
  session: 'mcp-session-id',
  protocol: 'mcp-protocol-version',
  cursor: 'last-event-id',
} as const

/** The protocol version we offer when we speak for ourselves; servers answer with the one they prefer. */
export const LATEST_LEGACY_VERSION = '2025-11-25'

/** JSON-RPC error codes, [JSON-RPC 2.0 §5.1]; `bridge` is the range left to implementations. */
export const RPC = {
  parse: -32700,
  invalidRequest: -32600,
  methodNotFound: -32601,
  invalidParams: -32602,
  bridge: -32000,
} as const

/**
 * Reads one JSON text: a message, or an array of them (a batch, [MCP 2025-03-26]), each element as if it stood
 * alone. Never throws; what cannot be understood comes back as `Malformed` in its place.
 */
export function parse(text: Buffer): readonly (Message | Malformed)[] {
  if (!isUtf8(text)) return [{ kind: 'malformed', reason: 'not-json', detail: 'it is not UTF-8' }]
  const envelope = new Envelope()
  const object = readRoot(text, envelope)
  if (object !== undefined) {
    const { start, end, hasLineBreaks } = object
    if (start > 0) return [classify(text.subarray(start, end))]
    return [understand(end === text.length ? text : text.subarray(0, end), envelope, !hasLineBreaks)]
  }
  const root = rootSpan(text)
  if (root === undefined) return [{ kind: 'malformed', reason: 'not-json', detail: 'it is not JSON' }]
  const batch = elements(text, root)
  if (batch === undefined) return [classify(text.subarray(root.start, root.end))]
  if (batch.length === 0) return [{ kind: 'malformed', reason: 'empty-batch', detail: 'an empty batch' }]
  return batch.map((span) => classify(text.subarray(span.start, span.end)))
}

/** A message written by us, from a plain value. Throws on a value that is no message: that would be our bug. */
export function compose(value: object): Message {
  return composed(Buffer.from(JSON.stringify(value)))
}

/** `params`: JSON text stays as it is written. */
export function composeRequest(id: string | number, method: string, params?: object | string): Request {
  const head = JSON.stringify({ jsonrpc: '2.0', id, method }).slice(0, -1)
  const text = typeof params === 'string' ? params : JSON.stringify(params)
  return composed(Buffer.from(text === undefined ? `${head}}` : `${head},"params":${text}}`)) as Request
}

export function composeNotification(method: string, params?: object): Notification {
  return compose({ jsonrpc: '2.0', method, params }) as Notification
}

/** The error response for `id` (a raw token), or for nobody in particular with `null`. */
export function failure(id: string | null, code: number, message: string): Response {
  return errorResponse(id, JSON.stringify({ code, message }))
}

/** The error response for `id` with a ready `error` member (JSON text): a server's own, or a BridgeError's. */
export function errorResponse(id: string | null, error: string): Response {
  return respond(id, 'error', error)
}

/** The result response for `id`; `result` is JSON text. */
export function success(id: string, result: string): Response {
  return respond(id, 'result', result)
}

/** `notifications/cancelled` for the request `id` (a raw token). */
export function cancelled(id: string, reason: string): Notification {
  const params = `{"requestId":${id},"reason":${JSON.stringify(reason)}}`
  return composed(
    Buffer.from(`{"jsonrpc":"2.0","method":"${METHOD.cancelled}","params":${params}}`),
  ) as Notification
}

/** The same message under another id token. */
export function withId<M extends Request | Response>(message: M, id: string): M {
  return withSpan(message, message.idSpan, id)
}

/** The same message with the value at `span` replaced (JSON text); every other byte stays as it was. */
export function withSpan<M extends Message>(message: M, { start, end }: Span, text: string): M {
  const { raw } = message
  return composed(Buffer.concat([raw.subarray(0, start), Buffer.from(text), raw.subarray(end)])) as M
}

/**
 * Where the value at `path` stands inside the value at `span`, or undefined.
 * `member(m.raw, m.params, 'requestId')`
 */
export function member(raw: Buffer, span: Span | undefined, ...path: readonly string[]): Span | undefined {
  let at = span
  for (const key of path) {
    if (at === undefined) return undefined
    at = members(raw, at)?.get(key)
  }
  return at
}

/** The elements of the array at `span`, each as JSON text; none where there is no array. */
export function elementTexts(raw: Buffer, span: Span | undefined): string[] {
  const all = span === undefined ? undefined : elements(raw, span)
  return all?.map((each) => textAt(raw, each)) ?? []
}

/** The JSON text of the value at `path`, or undefined when there is none. */
export function textMember(
  raw: Buffer,
  span: Span | undefined,
  ...path: readonly string[]
): string | undefined {
  const at = member(raw, span, ...path)
  return at === undefined ? undefined : textAt(raw, at)
}

/** The string at `path`, or undefined when there is none or it is no string. */
export function stringMember(
  raw: Buffer,
  span: Span | undefined,
  ...path: readonly string[]
): string | undefined {
  const at = member(raw, span, ...path)
  return at !== undefined && isString(raw, at) ? stringAt(raw, at) : undefined
}

/** Raw id token at `params.requestId` of a `notifications/cancelled`. */
export function cancelledId(message: Notification): string | undefined {
  return textMember(message.raw, message.params, 'requestId')
}

/** The value at `span`, parsed. For the few bodies we read (an initialize result, a tool list), never on the hot path. */
export function valueAt(raw: Buffer, span: Span): unknown {
  return JSON.parse(textAt(raw, span))
}

/**
 * Do two id tokens name the same id for a peer that re-serializes? `"\u00e9"` and `"é"`, `1.0` and `1`,
 * 12345678901234567890 and what a double makes of it, `"7"` and `7`. Used only within one exchange, where one id is open.
 */
export function sameId(a: string, b: string): boolean {
  return a === b || String(JSON.parse(a)) === String(JSON.parse(b))
}

/** The id in a piece cut from the start of a message too long to read, if it stands whole in it. */
export function idInHead(head: Buffer): string | undefined {
  const found = members(head, { start: 0, end: head.length })?.get('id')
  return found === undefined ? undefined : usableId(head, found)
}

/**
 * The id in a piece cut from the end of a message too long to read. Read backwards: outside a string every
 * unescaped quote is a delimiter, so members of the outermost object can be told from those further in.
 */
export function idInTail(tail: Buffer): string | undefined {
  const text = tail.toString('latin1').trimEnd()
  let depth = 0
  let inString = false
  let end = text.length - 1
  for (let i = text.length - 1; i >= 0; i--) {
    const c = text[i]
    if (c === '"' && !isEscaped(text, i)) inString = !inString
    if (inString) continue
    if (c === '}' || c === ']') depth++
    else if (c === '{' || c === '[') depth--
    if (depth === 0 || (depth === 1 && c === ',')) {
      const found = /^\s*"id"\s*:([\s\S]*)$/.exec(text.slice(i + 1, end))?.[1]
      const bytes = Buffer.from(`${found ?? ''} `, 'latin1')
      const span = found === undefined ? undefined : rootSpan(bytes)
      if (span !== undefined) return usableId(bytes, span)
      end = i
    }
    if (depth === 0) return undefined
  }
  return undefined
}

function isEscaped(text: string, at: number): boolean {
  let backslashes = 0
  while (text[at - 1 - backslashes] === '\\') backslashes++
  return backslashes % 2 === 1
}

/** The members that make a message, as they stand in it; of a name that comes twice the last, as in `JSON.parse`. */
class Envelope implements MemberReader {
  jsonrpc: Span | undefined
  id: Span | undefined
  method: Span | undefined
  params: Span | undefined
  result: Span | undefined
  error: Span | undefined

  member(text: Buffer, key: number, keyEnd: number, start: number, end: number): void {
    const name = keyAmong(text, key, keyEnd, MEMBER_NAMES)
    if (name !== undefined) this[name] = { start, end }
  }
}

const MEMBER_NAMES = ['jsonrpc', 'id', 'method', 'params', 'result', 'error'] as const

function classify(raw: Buffer): Message | Malformed {
  const envelope = new Envelope()
  const object = readRoot(raw, envelope)
  return object === undefined
    ? notRpc('it is not an object')
    : understand(raw, envelope, !object.hasLineBreaks)
}

function understand(raw: Buffer, envelope: Envelope, isOneLine: boolean): Message | Malformed {
  const { jsonrpc, id, method, params, result, error } = envelope
  if (jsonrpc === undefined || !isVersion2(raw, jsonrpc)) return notRpc('"jsonrpc" is not "2.0"')
  if (method !== undefined) {
    if (!isString(raw, method)) return notRpc('"method" is not a string')
    const name = methodAt(raw, method)
    if (id === undefined) return { kind: 'notification', raw, isOneLine, method: name, params }
    const token = usableId(raw, id)
    if (token === undefined) return notRpc('"id" is neither a string nor a number')
    return { kind: 'request', raw, isOneLine, method: name, id: token, idSpan: id, params }
  }
  if (id !== undefined && result !== undefined && error !== undefined) {
    // JSON-RPC 1.0 writes both members, one of them null; clients of 2.0 would not take it for a response.
    const isNull = ({ start, end }: Span): boolean => spells(raw, start, end, 'null')
    if (isNull(error)) return classify(responseText(textAt(raw, id), 'result', textAt(raw, result)))
    if (isNull(result)) return classify(responseText(textAt(raw, id), 'error', textAt(raw, error)))
  }
  if (id === undefined && result === undefined && error !== undefined && isObject(raw, error)) {
    // An error that names no request may have no id at all [2025-11-25, JSONRPCErrorResponse].
    return classify(responseText('null', 'error', textAt(raw, error)))
  }
  if (id === undefined || (result === undefined) === (error === undefined)) {
    return notRpc('it has no "method", and is no response')
  }
  if (error !== undefined && !isObject(raw, error)) return notRpc('"error" is not an object')
  const token = usableId(raw, id)
  if (token === undefined && textAt(raw, id) !== 'null')
    return notRpc('"id" is neither a string nor a number')
  return { kind: 'response', raw, isOneLine, id: token, idSpan: id, result, error }
}

function isVersion2(raw: Buffer, span: Span): boolean {
  return spells(raw, span.start, span.end, '"2.0"') || (isString(raw, span) && stringAt(raw, span) === '2.0')
}

/** The frequent methods are not read out of the bytes each time. */
const FREQUENT = [
  METHOD.channel,
  METHOD.toolsCall,
  'notifications/progress',
  'notifications/message',
] as const

function methodAt(raw: Buffer, span: Span): string {
  for (const name of FREQUENT) if (spells(raw, span.start + 1, span.end - 1, name)) return name
  return stringAt(raw, span)
}

function notRpc(detail: string): Malformed {
  return { kind: 'malformed', reason: 'not-rpc', detail }
}

function usableId(text: Buffer, span: Span): string | undefined {
  return isString(text, span) || isNumber(text, span) ? textAt(text, span) : undefined
}

function respond(id: string | null, member: 'result' | 'error', body: string): Response {
  return composed(responseText(id ?? 'null', member, body)) as Response
}

function responseText(id: string, member: 'result' | 'error', body: string): Buffer {
  return Buffer.from(`{"jsonrpc":"2.0","id":${id},"${member}":${body}}`)
}

/** `raw` as we have written or edited it. */
function composed(raw: Buffer): Message {
  const message = classify(raw)
  if (message.kind === 'malformed') throw new TypeError(`composed an invalid message: ${message.detail}`)
  return message
}

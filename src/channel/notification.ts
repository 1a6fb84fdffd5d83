/**
 * One channel event, `notifications/claude/channel`: built and read.
 *
 * Not the decorator, and no opinion on what an event says. The one rule: what the client would lose without a
 * word never leaves here, so keys match `[A-Za-z_][A-Za-z0-9_]*`, each once, and values are strings.
 * (Claude Code drops other keys silently; one value that is no string costs it the whole event. A key `source`
 * stands there beside the client's own attribute of that name; it is kept, because servers send it.)
 */
import { isString, members, stringAt, textAt } from '../json.ts'
import { composeNotification, METHOD, member, type Notification } from '../protocol.ts'

/** What the client is shown: the text, and the attributes beside it. */
export interface ChannelEvent {
  readonly content: string
  readonly meta: Readonly<Record<string, string>>
}

/** An event to be built. Values that are null or undefined are left out, others that are no string become JSON. */
export interface ChannelDraft {
  readonly content: string
  readonly meta?: Readonly<Record<string, unknown>>
}

const USABLE_KEY = /^[A-Za-z_][A-Za-z0-9_]*$/

/** The message that carries `draft`. Without meta there is no `meta` member. */
export function channelNotification(draft: ChannelDraft): Notification {
  const params = draft.meta === undefined ? {} : { meta: usableMeta(draft.meta) }
  return composeNotification(METHOD.channel, { content: draft.content, ...params })
}

/** The event in a channel notification; undefined when `message` is none or its content is no string. */
export function channelEvent(message: Notification): ChannelEvent | undefined {
  if (message.method !== METHOD.channel) return undefined
  const { raw } = message
  const content = member(raw, message.params, 'content')
  if (content === undefined || !isString(raw, content)) return undefined
  const meta = member(raw, message.params, 'meta')
  const found = meta === undefined ? undefined : members(raw, meta)
  const entries = [...(found ?? [])].map(([key, at]): [string, string] => [
    key,
    isString(raw, at) ? stringAt(raw, at) : textAt(raw, at),
  ])
  return { content: stringAt(raw, content), meta: Object.fromEntries(entries) }
}

/** Does the client keep a meta key of this name? */
export function isUsableKey(key: string): boolean {
  return USABLE_KEY.test(key)
}

/**
 * A usable name for each of `keys`, in their order: usable ones keep theirs, in the others each character that
 * may not stand becomes `_` (`space-id` -> `space_id`, `2nd` -> `_2nd`). A name that is taken gets a number
 * (`space_id_2`), so no value is lost.
 */
export function usableKeys(keys: readonly string[]): readonly string[] {
  const taken = new Set(keys.filter(isUsableKey))
  const numbers = new Map<string, number>()
  return keys.map((key) => {
    if (isUsableKey(key)) return key
    const base = key.replaceAll(/[^A-Za-z0-9_]/gu, '_').replace(/^(?=[0-9]|$)/, '_')
    let name = base
    let number = numbers.get(base) ?? 1
    while (taken.has(name)) name = `${base}_${++number}`
    numbers.set(base, number)
    taken.add(name)
    return name
  })
}

function usableMeta(meta: Readonly<Record<string, unknown>>): Record<string, string> {
  const present = Object.entries(meta).filter(([, value]) => value !== null && value !== undefined)
  const names = usableKeys(present.map(([key]) => key))
  const entries = present.map(([key, value], i): [string, string] => [
    names[i] ?? key,
    typeof value === 'string' ? value : JSON.stringify(value),
  ])
  return Object.fromEntries(entries)
}

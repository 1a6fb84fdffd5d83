/**
 * Which channel events the client gets: rules like `event_type=call_transcript`, for `--only` and `--drop`.
 *
 * Not for our own notices: they pass, whatever the rules say. The one rule: a `--drop` that matches wins over
 * any `--only`.
 *
 * A rule names a meta key, as the client is shown it, and a glob for its value: `*` stands for any characters,
 * `?` for one, case counts. An event without the key matches no rule for it. With `--only` an event passes when
 * at least one of its rules matches. Several rules may stand in one text, separated by commas.
 */
import { type BridgeError, invalid } from '../errors.ts'
import { globMatcher } from '../glob.ts'
import { isString, members, stringAt } from '../json.ts'
import { member, type Notification } from '../protocol.ts'
import { isUsableKey } from './notification.ts'

/** `key=glob`, understood. */
export interface FilterRule {
  readonly key: string
  readonly value: (text: string) => boolean
}

/**
 * Reads the rules of one option; `option` is its name for the error text (`--drop`).
 * Throws CONFIG_INVALID on a rule that could never match.
 */
export function parseFilter(texts: readonly string[], option: string): readonly FilterRule[] {
  return texts
    .flatMap((text) => text.split(','))
    .map((text) => text.trim())
    .filter((text) => text !== '')
    .map((text) => parseRule(text, option))
}

/** Does an event pass? Its meta must have been repaired before. */
export function passes(
  message: Notification,
  only: readonly FilterRule[],
  drop: readonly FilterRule[],
): boolean {
  if (only.length === 0 && drop.length === 0) return true
  const { raw } = message
  const meta = member(raw, message.params, 'meta')
  const found = meta === undefined ? undefined : members(raw, meta)
  const matches = (rule: FilterRule): boolean => {
    const at = found?.get(rule.key)
    return at !== undefined && isString(raw, at) && rule.value(stringAt(raw, at))
  }
  return !drop.some(matches) && (only.length === 0 || only.some(matches))
}

function parseRule(text: string, option: string): FilterRule {
  const equals = text.indexOf('=')
  if (equals < 0) throw noRule(option, text, 'has no "="')
  const key = text.slice(0, equals).trim()
  if (!isUsableKey(key)) {
    throw noRule(option, text, `names no meta key: ${JSON.stringify(key)} is not letters, digits and "_"`)
  }
  return { key, value: globMatcher(text.slice(equals + 1).trim()) }
}

function noRule(option: string, text: string, why: string): BridgeError {
  return invalid(
    `${option} ${JSON.stringify(text)} ${why}`,
    `write KEY=VALUE, for example ${option} event_type=call_transcript or ${option} 'platform=whats*'`,
  )
}

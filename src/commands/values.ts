/**
 * Reading option values: what `cli.ts` hands over is text, a switch or a list.
 *
 * The one rule: a value that cannot be meant is an error that names the flag.
 */
import { BridgeError } from '../errors.ts'
import type { OptionValues } from './command.ts'

export function textValue(values: OptionValues, name: string): string | undefined {
  const value = values[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

export function listValue(values: OptionValues, name: string): readonly string[] {
  const value = values[name]
  if (typeof value === 'string') return [value]
  return Array.isArray(value) ? (value as readonly string[]) : []
}

export function switchValue(values: OptionValues, name: string): boolean {
  return values[name] === true
}

/** Milliseconds of "500ms", "30s", "10m", "2h"; a bare number means seconds. */
export function durationValue(values: OptionValues, name: string, flag: string): number | undefined {
  const text = textValue(values, name)
  if (text === undefined) return undefined
  const [, amount, unit = 's'] = /^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)?$/.exec(text) ?? []
  const scale = { ms: 1, s: 1_000, m: 60_000, min: 60_000, h: 3_600_000 }[unit]
  if (amount === undefined || scale === undefined || Number(amount) === 0) {
    throw invalid(`${flag} ${text} is no duration`, 'write it like 500ms, 30s, 10m or 2h')
  }
  return Math.round(Number(amount) * scale)
}

/** A whole number of at least 1. */
export function countValue(values: OptionValues, name: string, flag: string): number | undefined {
  const text = textValue(values, name)
  if (text === undefined) return undefined
  if (!/^[1-9]\d{0,8}$/.test(text)) throw invalid(`${flag} ${text} is no count`, 'give a whole number from 1')
  return Number(text)
}

/** An http or https URL, as it was written. */
export function urlValue(values: OptionValues, name: string, flag: string): string | undefined {
  const text = textValue(values, name)
  if (text === undefined) return undefined
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw invalid(`${flag} ${text} is no http(s) URL`, 'write it like https://mcp.chamade.io/mcp/')
  }
  return text
}

export function invalid(message: string, hint: string): BridgeError {
  return new BridgeError('CONFIG_INVALID', message, { hint })
}

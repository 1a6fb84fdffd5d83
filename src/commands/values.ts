/**
 * Reading the option values that only the commands for people have; the rest is in `config.ts`.
 *
 * The one rule: a value that cannot be meant is an error that names the flag, or the variable.
 */
import { duration, invalid, text } from '../config.ts'
import { asGiven } from '../options.ts'
import type { OptionValues } from './command.ts'

/** Milliseconds, more than none. */
export function lengthOf(values: OptionValues, name: string): number | undefined {
  const ms = duration(values, name)
  if (ms !== undefined && ms <= 0)
    throw invalid(`${asGiven(values, name)} is no time`, 'write 30s, 10m or 1h')
  return ms
}

/** A whole number of at least 1. */
export function count(values: OptionValues, name: string): number | undefined {
  const given = text(values[name])
  if (given === undefined) return undefined
  if (!/^[1-9]\d{0,8}$/.test(given))
    throw invalid(`${asGiven(values, name)} is no count`, 'give a whole number from 1')
  return Number(given)
}

/** An http or https URL, as it was written. */
export function webAddress(values: OptionValues, name: string): string | undefined {
  const given = text(values[name])
  if (given === undefined) return undefined
  if (!URL.canParse(given) || !/^https?:$/.test(new URL(given).protocol)) {
    throw invalid(`${asGiven(values, name)} is no http(s) URL`, 'write it whole: https://mcp.chamade.io/mcp/')
  }
  return given
}

/** Reading the option values of `simulate` and `emit`. The one rule: a mistake names the flag, or the variable. */
import { invalid } from '../errors.ts'
import { asGiven } from '../options.ts'
import type { OptionValues } from './command.ts'

export function textOf(values: OptionValues, name: string): string | undefined {
  const value = values[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

export function listOf(values: OptionValues, name: string): readonly string[] {
  const value = values[name]
  if (typeof value === 'string') return [value]
  return Array.isArray(value) ? (value as readonly string[]) : []
}

/** A number from 0. */
export function numberOf(values: OptionValues, name: string): number | undefined {
  const text = textOf(values, name)
  if (text === undefined) return undefined
  const number = Number(text)
  if (Number.isFinite(number) && number >= 0) return number
  throw invalid(`${asGiven(values, name)} is no number from 0`, `write it like --${name} 5`)
}

export function portOf(values: OptionValues, fallback: number): number {
  const text = textOf(values, 'port')
  if (text === undefined) return fallback
  if (/^\d+$/.test(text) && Number(text) < 65_536) return Number(text)
  throw invalid(`${asGiven(values, 'port')} is no port`, 'give a number from 0 to 65535')
}

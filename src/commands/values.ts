/**
 * Reading the option values that only the commands for people have; the rest is in `config.ts`.
 *
 * The one rule: a value that cannot be meant is an error that names the flag, or the variable.
 */
import { refuseLogin, refusePlain, text } from '../config.ts'
import { type BridgeError, invalid } from '../errors.ts'
import { asGiven, type OptionValues, shown } from '../options.ts'

/** A number from 0. */
export function numberOf(values: OptionValues, name: string): number | undefined {
  const given = text(values[name])
  if (given === undefined) return undefined
  const number = Number(given)
  if (Number.isFinite(number) && number >= 0) return number
  throw invalid(`${asGiven(values, name)} is no number from 0`, `write it like --${name} 5`)
}

export function portOf(values: OptionValues, fallback: number): number {
  const given = text(values.port)
  if (given === undefined) return fallback
  if (/^\d+$/.test(given) && Number(given) < 65_536) return Number(given)
  throw invalid(`${asGiven(values, 'port')} is no port`, 'give a number from 0 to 65535')
}

/** A whole number of at least 1. */
export function count(values: OptionValues, name: string): number | undefined {
  const given = text(values[name])
  if (given === undefined) return undefined
  if (!/^[1-9]\d{0,8}$/.test(given))
    throw invalid(`${asGiven(values, name)} is no count`, 'give a whole number from 1')
  return Number(given)
}

/** An http or https URL to which the bridge would send a key, as it was written. */
export function webAddress(values: OptionValues, name: string): string | undefined {
  const given = text(values[name])
  if (given === undefined) return undefined
  const url = URL.canParse(given) ? new URL(given) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    const said = asGiven({ ...values, [name]: shown(given) }, name)
    throw invalid(`${said} is no http(s) URL`, 'write it whole: https://mcp.chamade.io/mcp/')
  }
  refuseLogin(url, 'leave it out; a key goes into its variable, or a file')
  refusePlain(url, values)
  return given
}

/** Only a moot has spaces. */
export function spaceWithoutMoot(): BridgeError {
  return invalid('--space goes with --moot', 'add --moot, or leave --space away')
}

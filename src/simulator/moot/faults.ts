/**
 * What can be broken in the simulated moot from outside, by name.
 *
 * Not the breaking: `simulator.ts` and `weather.ts` do that. The one rule: the words are those of the help text.
 */
export const MOOT_FAULTS = {
  drop: 'every socket is cut',
  close: 'every socket is closed, as at a redeploy (1012)',
  freeze: 'sockets stay open and say nothing any more',
  restart: 'a redeploy: everything is cut, the spaces stay as they are',
  'bad-key': 'every key is refused with 401, until clear',
  suspend: 'everything is refused with 403, until clear',
  clear: 'keys and calls are accepted again',
} as const satisfies Readonly<Record<string, string>>

/** What can be said of a fault; of most there is nothing. */
export const MOOT_FAULT_FIELDS: Readonly<Partial<Record<MootFault, readonly string[]>>> = {
  drop: ['space_id'],
  close: ['space_id', 'code'],
}

export type MootFault = keyof typeof MOOT_FAULTS

export function isMootFault(name: unknown): name is MootFault {
  return typeof name === 'string' && Object.hasOwn(MOOT_FAULTS, name)
}

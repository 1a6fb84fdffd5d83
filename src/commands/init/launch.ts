/**
 * Claude Code's launch line: which entries of a configuration push events, and the flag that lets them in.
 *
 * The flag belongs to every single launch; it is no setting. The one rule: the name behind `server:` is the
 * entry's key, letter for letter.
 */

import { switchOf } from '../../options.ts'

export const CHANNEL_FLAG = '--dangerously-load-development-channels'

type Plain = Readonly<Record<string, unknown>>

/** Does this entry start our program, in whatever way it is written? */
export function isOurs(entry: Plain): boolean {
  return words(entry).some(isProgram)
}

/** Whether a word of a command line names our program or its package. */
export function isProgram(word: string): boolean {
  return /(?:^|[\\/])(?:@chamade[\\/]mcp-server(?:@[^\\/]*)?|chamade-mcp(?:\.(?:js|cmd))?)$/.test(word)
}

/** Names of the entries that push channel events: ours with a session, moot's adapter, Chamade over HTTP. */
export function channelEntries(entries: ReadonlyMap<string, Plain>): readonly string[] {
  return [...entries].filter(([, entry]) => pushes(entry)).map(([name]) => name)
}

/** The ways to start Claude Code so that it listens: plain, resumed, unattended. */
export function launchLines(
  names: readonly string[],
): readonly { readonly when: string; readonly line: string }[] {
  const flag = `${CHANNEL_FLAG} ${names.map((name) => `server:${name}`).join(' ')}`
  return [
    { when: 'start', line: `claude ${flag}` },
    { when: 'resume', line: `claude ${flag} --continue` },
    { when: 'unattended', line: `claude --dangerously-skip-permissions ${flag}` },
  ]
}

function pushes(entry: Plain): boolean {
  const env = typeof entry.env === 'object' && entry.env !== null ? (entry.env as Plain) : {}
  const all = words(entry)
  if (isOurs(entry)) {
    const stateful = switchOf(String(env.CHAMADE_STATEFUL)) === true
    return stateful || all.some((word) => word === '--stateful' || word === 'moot' || hasStatefulKey(word))
  }
  if (all.some((word) => word.endsWith('channel_runner'))) return true
  return typeof entry.url === 'string' && hasStatefulKey(entry.url)
}

function hasStatefulKey(text: string): boolean {
  // (Not parsed: a variable may stand where the host will be.)
  return /^[^?#]*:[^?#]*\?(?:[^#]*&)?stateful(?:[=&#]|$)/.test(text)
}

/** The command line of an entry. */
export function words(entry: Plain): string[] {
  const args = Array.isArray(entry.args) ? (entry.args as unknown[]) : []
  return [entry.command, ...args].filter((each): each is string => typeof each === 'string')
}

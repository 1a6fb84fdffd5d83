/**
 * The bridge's advice, put for who runs a command in a shell.
 *
 * A bridge speaks through its client, to who can change that client's entry and connect again; a command has the
 * variables of its shell, and ends. The one rule: what happened stays as it was said, only what to do changes.
 */
import { BridgeError } from '../errors.ts'

/** What is said for a client, and what helps here. (The tests hold it against the errors themselves.) */
const INSTEAD: readonly (readonly [RegExp, string])[] = [
  [
    /in the "env" of the (?:server's entry in your MCP config|entry)/g,
    'in this shell or the entry that --entry names',
  ],
  [/where you start the client, then start it again/g, 'in this shell'],
  [/, then restart the client/g, ''],
  [/, the next request tries again/g, ''],
]

export function inShell(advice: string): string {
  return INSTEAD.reduce((text, [said, instead]) => text.replaceAll(said, instead), advice)
}

/** Throws what a command failed of. */
export function throwInShell(error: unknown): never {
  if (!(error instanceof BridgeError) || error.hint === undefined) throw error
  throw new BridgeError(error.code, error.message, {
    ...error,
    hint: inShell(error.hint),
    cause: error.cause,
  })
}

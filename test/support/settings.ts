/**
 * The bridge's durations and limits as arguments, in the units of tests. The one place that knows their flags.
 */

/** For whom push is the point. */
export const stateful = { args: ['--stateful'] }

/** Longest line, bytes. */
export function maxMessage(bytes: number): string[] {
  return ['--max-message', String(bytes)]
}

/** How long `initialize`, or a request while the server is down, waits for the server. */
export function patience(ms: number): string[] {
  return ['--patience', `${ms / 1_000}`]
}

/** How long open requests may take after EOF. */
export function drain(ms: number): string[] {
  return ['--drain', `${ms / 1_000}`]
}

/** How long early pushes are held. */
export function hold(ms: number): string[] {
  return ['--hold', `${ms / 1_000}`]
}

/** Gap notices within this are merged. */
export function gapInterval(ms: number): string[] {
  return ['--gap-interval', `${ms / 1_000}`]
}

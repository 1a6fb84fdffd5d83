/**
 * Waiting for a condition instead of for time.
 *
 * Not a sleep: it ends the moment the condition holds, and says what it waited for when it never did.
 */

/** Polls `probe` until it gives something other than undefined or false; what it throws counts as "not yet". */
export async function eventually<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  withinMs = 5_000,
): Promise<T> {
  const end = performance.now() + withinMs
  let last: unknown
  for (;;) {
    try {
      const found = await probe()
      if (found !== undefined && found !== false) return found
      last = undefined
    } catch (error) {
      last = error
    }
    if (performance.now() > end) {
      throw new Error(`not within ${withinMs} ms: ${what}${last === undefined ? '' : ` (${String(last)})`}`, {
        cause: last,
      })
    }
    await pause(5)
  }
}

/** For the few places where nothing is to happen for a while, and time is what is tested. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}

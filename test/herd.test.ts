/**
 * A fleet that lost the same server at the same moment, on the real Backoff: how do its bridges come back?
 *
 * A discrete-event simulation, so that a million bridges cost a second. The one rule: only time and luck are
 * simulated; every delay is drawn by the Backoff the bridge uses.
 */
import { describe, expect, test } from 'vitest'
import { Backoff, DEFAULT_BACKOFF } from '../src/retry.ts'
import { seeded } from './support/seeded.ts'

/** Milliseconds after the server's return at which each bridge is back. */
function comeBack(bridges: number, outageMs: number, random: () => number): Float64Array {
  const back = new Float64Array(bridges)
  for (let i = 0; i < bridges; i++) {
    const backoff = new Backoff(DEFAULT_BACKOFF, random)
    // The stream breaks for all at 0; an attempt before the server's return fails at once.
    let at = 0
    do at += backoff.next(at)
    while (at < outageMs)
    back[i] = at - outageMs
  }
  return back
}

/** Largest share of the fleet that arrives within any `windowMs`. */
function peak(back: Float64Array, windowMs: number): number {
  const sorted = back.slice().sort()
  let most = 0
  let first = 0
  for (let last = 0; last < sorted.length; last++) {
    while ((sorted[last] ?? 0) - (sorted[first] ?? 0) >= windowMs) first++
    most = Math.max(most, last - first + 1)
  }
  return most / sorted.length
}

function quantile(back: Float64Array, q: number): number {
  return back.slice().sort()[Math.floor(q * (back.length - 1))] ?? Number.NaN
}

describe('a fleet comes back', () => {
  const seed = Number(process.env.HERD_SEED ?? 20_261_121)

  test.each([20_000, 30_000, 60_000, 300_000])(
    '10,000 bridges after an outage of %d ms: under 4 %% of them in any 100 ms, half of them back within 2 s',
    (outageMs) => {
      const back = comeBack(10_000, outageMs, seeded(seed + outageMs))
      expect(peak(back, 100), `seed ${seed}`).toBeLessThan(0.04)
      expect(quantile(back, 0.5), `seed ${seed}`).toBeLessThan(2_000)
      expect(quantile(back, 1)).toBeLessThanOrEqual(DEFAULT_BACKOFF.capMs)
    },
  )

  test('1,000,000 bridges after 20 s: the same', () => {
    const back = comeBack(1_000_000, 20_000, seeded(seed))
    const share = peak(back, 100)
    const median = quantile(back, 0.5)
    console.log(
      `herd: peak ${(share * 100).toFixed(2)} % per 100 ms, median ${Math.round(median)} ms, ` +
        `last ${Math.round(quantile(back, 1))} ms`,
    )
    expect(share).toBeLessThan(0.04)
    expect(median).toBeLessThan(2_000)
  })

  test('after a short outage of up to 2 s half of them are back within 1 s', () => {
    for (const outageMs of [100, 500, 1_000, 2_000]) {
      const back = comeBack(10_000, outageMs, seeded(seed + outageMs))
      expect(quantile(back, 0.5), `outage ${outageMs} ms, seed ${seed}`).toBeLessThan(1_000)
    }
  })

  test('without jitter the fleet would come back at once: the measure can fail', () => {
    const back = comeBack(10_000, 20_000, () => 0.5)
    expect(peak(back, 100)).toBe(1)
  })
})

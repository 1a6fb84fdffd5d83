import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Breaks, type Gap } from '../../src/channel/breaks.ts'
import { systemClock } from '../../src/retry.ts'
import type { PushStatus } from '../../src/status.ts'
import { eventually } from '../support/eventually.ts'

const fact = fc.record({
  stream: fc.constantFrom('a', 'b'),
  state: fc.constantFrom<PushStatus['state'][]>('up', 'up', 'down', 'retrying'),
  continuous: fc.boolean(),
  /** Lets the gathering of breaks come to its end in the middle. */
  restMs: fc.constantFrom(0, 0, 0, 4),
})

describe('whatever the order of facts', () => {
  it('each break without continuity is told exactly once, in order and without overlap', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fact, { maxLength: 30 }), async (facts) => {
        const told: Gap[] = []
        const breaks = new Breaks(
          { gapIntervalMs: 3, downAfterMs: 60_000, lateFirstMs: 60_000, clock: systemClock },
          { gap: (gap) => told.push(gap), down: () => undefined, up: () => undefined },
        )
        breaks.initialized()
        const seen = new Set<string>()
        let expected = 0
        let at = Date.now()
        const say = (stream: string, state: PushStatus['state'], continuous: boolean): void => {
          at += 10
          if (state === 'up' && !continuous && seen.has(stream)) expected++
          if (state !== 'retrying') seen.add(stream)
          breaks.observe({ kind: 'push', state, stream, at, generation: 1, continuous })
        }
        for (const { stream, state, continuous, restMs } of facts) {
          say(stream, state, continuous)
          if (restMs > 0) await new Promise((resolve) => setTimeout(resolve, restMs))
        }
        for (const stream of ['a', 'b']) say(stream, 'up', true)
        const count = (): number => told.reduce((sum, gap) => sum + gap.breaks, 0)
        await eventually('all breaks told', () => count() >= expected)
        breaks.close()
        expect(count()).toBe(expected)
        for (const name of ['a', 'b']) {
          const gaps = told.filter(({ stream }) => stream === name)
          expect(gaps.every(({ from, to }) => from <= to)).toBe(true)
          expect(gaps.every(({ to }, i) => to <= (gaps[i + 1]?.from ?? Number.POSITIVE_INFINITY))).toBe(true)
        }
      }),
      { numRuns: 60 },
    )
  })
})

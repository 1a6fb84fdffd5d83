import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Breaks, type Gap, type Outage } from '../../src/channel/breaks.ts'
import { systemClock } from '../../src/retry.ts'
import type { PushStatus } from '../../src/status.ts'
import { eventually } from '../support/eventually.ts'
import { heapUsed } from '../support/heap.ts'

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

describe('a wall clock that is set back by an hour meanwhile', () => {
  /** Says facts of one stream, the clocks moving on as told. */
  function told(
    ...facts: readonly [PushStatus['state'], { passed: number; setBack?: true; apart?: number }][]
  ) {
    const said: (Gap | Outage)[] = []
    let [wall, uptime] = [Date.UTC(2026, 10, 22, 12), 5_000]
    const listener = { gap: (gap: Gap) => said.push(gap), down: () => undefined, up: () => undefined }
    const breaks = new Breaks(
      {
        gapIntervalMs: 60_000,
        downAfterMs: 60_000,
        lateFirstMs: 5_000,
        clock: { now: () => wall, uptime: () => uptime },
      },
      listener,
    )
    breaks.initialized()
    for (const [state, { passed, setBack, apart = 0 }] of facts) {
      wall += passed - (setBack === true ? 3_600_000 : 0)
      uptime += passed + apart
      breaks.observe({ kind: 'push', state, at: wall, generation: 1, continuous: false })
    }
    breaks.close()
    return { said, now: wall }
  }

  it('does not shorten a break', () => {
    const { said, now } = told(
      ['up', { passed: 100 }],
      ['down', { passed: 9_000 }],
      ['up', { passed: 20_000, setBack: true }],
    )
    expect(said).toMatchObject([{ from: now - 20_000, to: now, deafMs: 20_000, breaks: 1 }])
  })

  it('is no clock that ticks a millisecond later', () => {
    const { said, now } = told(
      ['up', { passed: 100 }],
      ['down', { passed: 9_000 }],
      ['up', { passed: 20_000, apart: 1 }],
    )
    expect(said).toMatchObject([{ from: now - 20_000, to: now, deafMs: 20_000 }])
  })

  it('between two breaks told together leaves neither out', () => {
    const { said, now } = told(
      ['up', { passed: 1_000 }],
      ['down', { passed: 1_000 }],
      ['up', { passed: 2_000 }],
      ['down', { passed: 1_000 }],
      ['up', { passed: 2_000 }],
      ['down', { passed: 1_000, setBack: true }],
      ['up', { passed: 60_000 }],
    )
    expect(said).toMatchObject([
      { breaks: 1 },
      { from: now - 60_000, to: now + 3_600_000 - 61_000, deafMs: 62_000, breaks: 2 },
    ])
  })

  it.each<PushStatus['state']>(['retrying', 'up'])(
    'does not hide a first stream that is late (%s)',
    (first) => {
      const { said, now } = told([first, { passed: 10_000, setBack: true }], ['up', { passed: 2_000 }])
      const lateMs = first === 'up' ? 10_000 : 12_000
      const to = first === 'up' ? now - 2_000 : now
      expect(said[0]).toMatchObject({ from: to - lateMs, to, deafMs: lateMs })
    },
  )
})

it('leaves nothing behind of a break that is over', async () => {
  const nothing = () => undefined
  const breaks = new Breaks(
    { gapIntervalMs: 60_000, downAfterMs: 60_000, lateFirstMs: 60_000, clock: systemClock },
    { gap: nothing, down: nothing, up: nothing },
  )
  const pass = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const fact = { kind: 'push', at: Date.now(), generation: 1, continuous: true } as const
      breaks.observe({ ...fact, state: 'down' })
      breaks.observe({ ...fact, state: 'up' })
      if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
  }
  breaks.initialized()
  await pass(5_000)
  const before = await heapUsed()
  await pass(40_000)
  const grown = (await heapUsed()) - before
  breaks.close()
  // Fifty bytes each had been two megabytes.
  expect(grown).toBeLessThan(1e6)
})

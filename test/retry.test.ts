/** Backoff is arithmetic on luck; sleep is a timer that can be ended. */
import { getEventListeners } from 'node:events'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Backoff, DEFAULT_BACKOFF, ENDLESS_MS, limit, sleep } from '../src/retry.ts'

const always = (value: number) => () => value

describe('Backoff', () => {
  test('the first retry comes at once', () => {
    expect(new Backoff(DEFAULT_BACKOFF, always(0.999)).next()).toBe(0)
  })

  test('ceilings double from the base up to the cap and stay there', () => {
    const backoff = new Backoff(DEFAULT_BACKOFF, always(1))
    const delays = [...Array(9).keys()].map(() => backoff.next())
    expect(delays).toEqual([0, 250, 500, 1_000, 2_000, 4_000, 6_500, 6_500, 6_500])
  })

  test('after a quarter of an hour the ceiling is the slow cap', () => {
    const backoff = new Backoff(DEFAULT_BACKOFF, always(1))
    for (let i = 0; i < 200; i++) backoff.next()
    expect(backoff.next(15 * 60_000 - 1)).toBe(6_500)
    expect(backoff.next(15 * 60_000)).toBe(30_000)
  })

  test('no delay leaves [floor, max(floor, ceiling)], whatever the luck', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), {
          minLength: 1,
          maxLength: 60,
        }),
        fc.nat(20_000),
        fc.nat(2_000_000),
        (luck, floorMs, failingForMs) => {
          let i = 0
          const backoff = new Backoff(DEFAULT_BACKOFF, () => luck[i++ % luck.length] ?? 0)
          for (let attempt = 0; attempt < luck.length; attempt++) {
            const cap = failingForMs >= DEFAULT_BACKOFF.slowAfterMs ? 30_000 : 6_500
            const delay = backoff.next(failingForMs, floorMs)
            expect(delay).toBeGreaterThanOrEqual(floorMs)
            const ceiling = attempt === 0 ? 0 : Math.min(250 * 2 ** (attempt - 1), cap)
            expect(delay).toBeLessThanOrEqual(Math.max(floorMs, ceiling))
          }
        },
      ),
    )
  })

  test('attempts are forgotten only after a connection that lasted', () => {
    const backoff = new Backoff(DEFAULT_BACKOFF, always(1))
    for (let i = 0; i < 4; i++) backoff.next()
    backoff.settled(DEFAULT_BACKOFF.stableAfterMs - 1)
    expect(backoff.next()).toBe(2_000)
    backoff.settled(DEFAULT_BACKOFF.stableAfterMs)
    expect(backoff.attempts).toBe(0)
    expect(backoff.next()).toBe(0)
  })

  test('slow retries lie between half the slow cap and the slow cap', () => {
    expect(new Backoff(DEFAULT_BACKOFF, always(0)).slow()).toBe(15_000)
    expect(new Backoff(DEFAULT_BACKOFF, always(1)).slow()).toBe(30_000)
  })
})

describe('sleep', () => {
  test('ends when its signal is aborted, and leaves no timer behind', async () => {
    const before = process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length
    const controller = new AbortController()
    const asleep = sleep(60_000, controller.signal)
    controller.abort()
    await asleep
    expect(process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length).toBe(before)
  })

  test('does not begin under an aborted signal', async () => {
    const started = performance.now()
    await sleep(60_000, AbortSignal.abort())
    expect(performance.now() - started).toBeLessThan(1_000)
  })

  test('lasts as long as it was told', async () => {
    const started = performance.now()
    await sleep(30)
    expect(performance.now() - started).toBeGreaterThanOrEqual(29)
  })
})

describe('limit', () => {
  const timers = (): number => process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length

  test('without an end of its own is that of the others, holds no timer, and lets go of those that live on', () => {
    const before = timers()
    const [long, short] = [new AbortController(), new AbortController()]
    const { signal } = limit(ENDLESS_MS, long.signal, short.signal)
    expect(timers()).toBe(before)
    expect(getEventListeners(long.signal, 'abort')).toHaveLength(1)
    short.abort('enough')
    expect(signal.reason).toBe('enough')
    expect(getEventListeners(long.signal, 'abort')).toEqual([])
  })

  test('that is over from the start holds no timer, and has let go of the others', () => {
    const before = timers()
    const [long, over] = [new AbortController(), new AbortController()]
    over.abort('enough')
    expect(limit(60_000, long.signal, over.signal).signal.reason).toBe('enough')
    expect(timers()).toBe(before)
    expect(getEventListeners(long.signal, 'abort')).toEqual([])
  })
})

/** The arithmetic of the benchmark: medians, ratios inside rounds, verdicts, the README's marks. */
import { expect, test } from 'vitest'
import type { Found } from './figures.ts'
import { growthTable } from './growth.ts'
import {
  END_MARK,
  median,
  quantile,
  ratio,
  replaceBetweenMarks,
  START_MARK,
  table,
  verdicts,
} from './results.ts'

test('the median is the middle value, or the mean of the two in the middle', () => {
  expect(median([9, 1, 5])).toBe(5)
  expect(median([9, 1, 5, 7])).toBe(6)
  expect(median([])).toBeNaN()
  expect(quantile([0, 10], 0.99)).toBeCloseTo(9.9)
})

test('a round in which the machine was slow for all does not change a ratio', () => {
  const samples = {
    ours: [{ 'json.p50': 1 }, { 'json.p50': 10 }, { 'json.p50': 1 }],
    floor: [{ 'json.p50': 2 }, { 'json.p50': 20 }, { 'json.p50': 2 }],
  }
  expect(ratio(samples, 'ours', 'floor', 'json.p50')).toBe(0.5)
})

test('a round that only one of two finished counts for neither', () => {
  const samples = { ours: [{ 'json.p50': 8 }, { 'json.p50': 1 }], floor: [{}, { 'json.p50': 2 }] }
  expect(ratio(samples, 'ours', 'floor', 'json.p50')).toBe(0.5)
  expect(ratio(samples, 'ours', 'nobody', 'json.p50')).toBeUndefined()
})

test('a bound from above, a bound from below and an absolute bound are judged', () => {
  const one = (found: Found): Found[] => [found]
  const samples = {
    ours: one({ 'json.p50': 1.2, 'load.rate': 300, 'rss.idle': 51 }),
    floor: one({ 'json.p50': 1, 'load.rate': 100, 'rss.idle': 40 }),
  }
  expect(verdicts(samples).map(({ figure, met }) => [figure, met])).toEqual([
    ['json.p50', false],
    ['load.rate', true],
    ['rss.idle', true],
  ])
  expect(table(samples)).toMatch(
    /\| call, JSON answer, p50, ms +\| +1\.20 \| +1\.00 \|.*\*\*missed\*\* \(1\.20×\)/,
  )
})

test('growth that costs a unit twice as much at each doubling is called what it is', () => {
  const step = (units: number, ms: number) => ({ units, ms, peakMb: undefined })
  const steps = [1, 2, 4, 8]
  const linear = { title: 'a', per: '1,000', steps: steps.map((n) => step(n * 1_000, n * 5)) }
  const quadratic = { title: 'b', per: '1,000', steps: steps.map((n) => step(n * 1_000, n * n * 5)) }
  const [, , first, second] = growthTable([linear, quadratic]).split('\n')
  expect(first).toMatch(/\| +linear \|$/)
  expect(second).toMatch(/\*\*not linear: 4\.0×\*\* \|$/)
})

test('only what stands between the marks is replaced, and a README without them is refused', () => {
  expect(replaceBetweenMarks(`a\n${START_MARK}\nold\n${END_MARK}\nb`, 'new')).toBe(
    `a\n${START_MARK}\nnew\n${END_MARK}\nb`,
  )
  expect(() => replaceBetweenMarks('a', 'new')).toThrow(/bench:start/)
})

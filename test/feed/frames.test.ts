/** The queue between a socket and its reader. */
import { expect, test } from 'vitest'
import { Frames } from '../../src/feed/frames.ts'
import { heapUsed } from '../support/heap.ts'

test('a flood that never lets up leaves nothing behind of the frames that were taken', async () => {
  const frames = new Frames(1_000_000, () => undefined)
  const reader = frames[Symbol.asyncIterator]()
  let last = 0
  const pass = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      frames.push(`${++last}`)
      const { value } = await reader.next()
      if (value !== `${last - 10}`) throw new Error(`${value} came, not ${last - 10}`)
    }
  }
  for (; last < 10; ) frames.push(`${++last}`)
  await pass(10_000)
  const before = await heapUsed()
  await pass(1_000_000)
  // Eight bytes each had been eight megabytes.
  expect((await heapUsed()) - before).toBeLessThan(4e6)
})

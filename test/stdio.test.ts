/** Lines of every length, written in every rhythm, come out whole and in order. */
import { PassThrough, Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { compose } from '../src/protocol.ts'
import { openStdio } from '../src/stdio.ts'

const length = fc.oneof(fc.nat(200), fc.integer({ min: 30_000, max: 70_000 }), fc.nat(200_000))

test('what is written is one line each, in order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(length, { maxLength: 6 }), { maxLength: 6 }), async (ticks) => {
      const output = new PassThrough({ highWaterMark: 1 << 30 })
      const port = openStdio(Readable.from([]), output, { maxLineBytes: 1 << 30 })
      const written: string[] = []
      for (const lengths of ticks) {
        for (const size of lengths) {
          const message = compose({ jsonrpc: '2.0', method: 'm', params: { text: 'x'.repeat(size) } })
          written.push(`${message.raw.toString()}\n`)
          void port.write(message)
        }
        await new Promise((resolve) => setImmediate(resolve))
      }
      await port.flush()
      output.end()
      expect(await text(output)).toBe(written.join(''))
    }),
    { numRuns: 60 },
  )
})

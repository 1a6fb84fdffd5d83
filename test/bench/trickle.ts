/**
 * One very long line in pieces of one byte, fed to the framing of `src/stdio.ts`: `tsx trickle.ts BYTES`.
 *
 * A process of its own, so that its peak of memory is its own. Prints one JSON object.
 */
import { PassThrough, type Readable } from 'node:stream'
import { openStdio } from '../../src/stdio.ts'
import { memoryOf } from './process-usage.ts'

const bytes = Number(process.argv[2])
const HEAD = Buffer.from('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"text":"')
const LETTER = Buffer.from('x')
const TAIL = Buffer.from('"}}\n')

/** Only what the framing reads of a stream: a real one would cost more per byte than the framing does. */
const input = {
  [Symbol.asyncIterator]() {
    let at = -1
    const letter = Promise.resolve({ done: false, value: LETTER })
    return {
      next() {
        at++
        if (at === 0) return Promise.resolve({ done: false, value: HEAD })
        if (at <= bytes) return letter
        return Promise.resolve(
          at === bytes + 1 ? { done: false, value: TAIL } : { done: true, value: undefined },
        )
      },
    }
  },
} as unknown as Readable

const port = openStdio(input, new PassThrough(), { maxLineBytes: 2 * bytes + 1_024 })
const startedAt = performance.now()
let length = 0
for await (const [message] of port.incoming) {
  if (message?.kind !== 'request') throw new Error(`the line came back as ${message?.kind}`)
  length = message.raw.length
}
const ms = performance.now() - startedAt
if (length !== HEAD.length + bytes + TAIL.length - 1) throw new Error(`${length} bytes of it came back`)
process.stdout.write(JSON.stringify({ ms, peakMb: memoryOf(process.pid)?.peakMb }))

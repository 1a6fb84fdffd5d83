/** However the network cuts a stream, its events are the ones of the whole stream. */
import { createParser } from 'eventsource-parser'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Body } from '../../src/http/body.ts'
import { EventReader } from '../../src/http/events.ts'

const VALVE = { pause: () => undefined, resume: () => undefined, abort: () => undefined }

async function readAll(pieces: readonly Buffer[], maxBytes = 1 << 30): Promise<string[]> {
  const body = new Body(VALVE)
  for (const piece of pieces) body.push(piece)
  body.end()
  const reader = new EventReader(body, maxBytes)
  const found: string[] = []
  for (let event = await reader.next(); event !== undefined; event = await reader.next()) {
    found.push(event.kind === 'comment' ? ':' : `${reader.cursor ?? ''}=${event.data.toString('latin1')}`)
  }
  return found
}

/** The judge: the parser on the whole text, with LF for every line end. */
function expected(text: string): string[] {
  const found: string[] = []
  let cursor = ''
  const parser = createParser({
    onComment: () => found.push(':'),
    onEvent: ({ id, event, data }) => {
      if (event !== undefined && event !== 'message') return
      cursor = id ?? cursor
      found.push(`${cursor}=${data}`)
    },
  })
  parser.feed(
    text
      .replace(/^\u00ef\u00bb\u00bf/, '')
      .replaceAll('\r\n', '\n')
      .replaceAll('\r', '\n'),
  )
  return found
}

const line = fc.oneof(
  fc.constantFrom(': alive', 'event: message', 'event: other', 'retry: 5', 'nonsense', 'data', 'data:'),
  fc.nat(99).map((n) => `id: ${n}`),
  fc
    .tuple(fc.boolean(), fc.oneof(fc.nat(40), fc.integer({ min: 15_000, max: 40_000 })))
    .map(
      ([space, length]) =>
        `data:${space ? ' ' : ''}${'\u00e9{"x":1}'.repeat(length / 8 + 1).slice(0, length)}`,
    ),
)
const stream = fc
  .tuple(
    fc.constantFrom('', '\u00ef\u00bb\u00bf'),
    fc.constantFrom('\n', '\r\n', '\r'),
    fc.array(fc.array(line, { maxLength: 4 }), { minLength: 1, maxLength: 5 }),
  )
  .map(([mark, end, blocks]) => mark + blocks.map((lines) => [...lines, '', ''].join(end)).join(''))

test('any stream, cut anywhere, gives the events of the whole', async () => {
  await fc.assert(
    fc.asyncProperty(
      stream,
      fc.array(fc.nat(30_000), { maxLength: 12 }),
      fc.boolean(),
      async (text, cuts, bytes) => {
        const whole = Buffer.from(text, 'latin1')
        const sizes = bytes && whole.length < 400 ? Array.from(whole, () => 1) : cuts.map((cut) => cut + 1)
        const pieces: Buffer[] = []
        let at = 0
        for (const size of sizes) {
          pieces.push(whole.subarray(at, at + size))
          at += size
        }
        pieces.push(whole.subarray(at))
        expect(await readAll(pieces.filter((piece) => piece.length > 0))).toEqual(expected(text))
      },
    ),
    { numRuns: 400 },
  )
})

test('an event over the limit ends the reading, in one piece or in many', async () => {
  const big = Buffer.from(`data: ${'x'.repeat(50_000)}\n\n`)
  const many = [big.subarray(0, 20_000), big.subarray(20_000, 45_000), big.subarray(45_000)]
  await expect(readAll(many, 30_000)).rejects.toThrow(RangeError)
  await expect(readAll([big.subarray(0, 40_000), big.subarray(40_000)], 30_000)).rejects.toThrow(RangeError)
})

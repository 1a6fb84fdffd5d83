/** However the network cuts a stream, its events are the ones of the whole stream. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Body } from '../../src/http/body.ts'
import { EventReader } from '../../src/http/events.ts'
import { turn } from '../../src/retry.ts'

const OVER = 'over the limit'
const VALVE = { pause: () => undefined, resume: () => undefined, abort: () => undefined }

async function readAll(pieces: readonly Buffer[], maxBytes = 1 << 30): Promise<string[]> {
  const body = new Body(VALVE)
  const found: string[] = []
  const reading = read(new EventReader(body, maxBytes), found)
  // (One by one: what waits is read as one piece.)
  for (const piece of pieces) {
    body.push(piece)
    await turn()
  }
  body.end()
  await reading
  return found
}

async function read(reader: EventReader, found: string[]): Promise<void> {
  for (let event = await reader.next(); event !== undefined; event = await reader.next()) {
    if (event.kind === 'comment') found.push(':')
    else if (event.kind === 'too-long') found.push(OVER)
    else found.push(`${reader.cursor ?? ''}=${event.data.toString('latin1')}`)
  }
}

/**
 * The judge: [WHATWG HTML §9.2.6] line by line on the whole text. An event of another type, or without data, is one
 * without data, if it has an id. So is each over the limit, behind the word that it is.
 */
function expected(text: string, maxBytes = 1 << 30): string[] {
  const found: string[] = []
  let cursor = ''
  let event: { id?: string; type: string; data: string[] } = { type: '', data: [] }
  // (What stands behind the last line end is no line.)
  const lines = text.replace(/^\u00ef\u00bb\u00bf/, '').split(/\r\n|\r|\n/)
  for (const line of lines.slice(0, -1)) {
    const [, name, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? []
    if (line === '') {
      const { id, type, data } = event
      event = { type: '', data: [] }
      cursor = id ?? cursor
      const isOver = data.join('\n').length > maxBytes
      if (isOver) found.push(OVER)
      const isMessage = !isOver && data.length > 0 && ['', 'message'].includes(type)
      if (isMessage || id !== undefined || isOver) found.push(`${cursor}=${isMessage ? data.join('\n') : ''}`)
    } else if (name === '') found.push(':')
    else if (name === 'data') event.data.push(value)
    else if (name === 'id' && !value.includes('\0')) event.id = value
    else if (name === 'event') event.type = value
  }
  // (Over the limit it is before its end.)
  return event.data.join('\n').length > maxBytes ? [...found, OVER] : found
}

const line = fc.oneof(
  fc.constantFrom(
    ': alive',
    'event: message',
    'event: other',
    'retry: 5',
    'nonsense',
    'data',
    'data:',
    'dat: a',
  ),
  fc.constantFrom(
    'id',
    'id:',
    'id: a\0b',
    'id:  b',
    'idea: c',
    'event:',
    'event',
    'data:   x',
    ':',
    ':data: y',
  ),
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
    fc.array(fc.constantFrom('\n', '\r\n', '\r'), { minLength: 1, maxLength: 3 }),
    fc.array(fc.array(line, { maxLength: 4 }), { minLength: 1, maxLength: 5 }),
  )
  .map(([mark, ends, blocks]) => {
    const lines = blocks.flatMap((block) => [...block, ''])
    return mark + lines.map((text, i) => text + ends[i % ends.length]).join('')
  })

test('any stream, cut anywhere, gives the events of the whole, but for what is over the limit', async () => {
  await fc.assert(
    fc.asyncProperty(
      stream,
      fc.array(fc.nat(30_000), { maxLength: 12 }),
      fc.boolean(),
      fc.option(fc.integer({ min: 20, max: 60_000 }), { nil: undefined }),
      async (text, cuts, bytes, maxBytes) => {
        const whole = Buffer.from(text, 'latin1')
        const sizes = bytes && whole.length < 400 ? Array.from(whole, () => 1) : cuts.map((cut) => cut + 1)
        const pieces: Buffer[] = []
        let at = 0
        for (const size of sizes) {
          pieces.push(whole.subarray(at, at + size))
          at += size
        }
        pieces.push(whole.subarray(at))
        const found = await readAll(
          pieces.filter((piece) => piece.length > 0),
          maxBytes,
        )
        const judged = expected(text, maxBytes)
        // (What is left of a line too long is read as a comment.)
        const said = (all: readonly string[]) =>
          judged.includes(OVER) ? all.filter((one) => one !== ':') : all
        expect(said(found)).toEqual(said(judged))
      },
    ),
    { numRuns: 600 },
  )
})

test('a comment is one, however long and in however many pieces', async () => {
  const whole = Buffer.from(`: ${' '.repeat(5_000)}\n\ndata: x\n\n`)
  const pieces = [whole.subarray(0, 1), whole.subarray(1, 2_000), whole.subarray(2_000)]
  expect(await readAll(pieces, 20)).toEqual([':', '=x'])
})

test('a priming event is one, also where it is replayed as an empty object', async () => {
  const primed = await readAll([Buffer.from('id: 7\ndata:\n\ndata: x\n\n')])
  expect(await readAll([Buffer.from('id: 7\ndata: {}\n\ndata: x\n\n')])).toEqual(primed)
})

test('an event that nothing follows does not keep what it came with', async () => {
  const body = new Body(VALVE)
  const reader = new EventReader(body, 1 << 20)
  body.push(
    Buffer.from(`:${' '.repeat(60_000)}\n\ndata: first\n\nid: 1\ndata: last\n\n: behind\n\ndata: half`),
  )
  for (const text of ['first', 'last']) {
    let event = await reader.next()
    while (event?.kind === 'comment') event = await reader.next()
    if (event?.kind !== 'message') throw new Error(`no message, but ${event?.kind}`)
    expect(event.data.toString()).toBe(text)
    if (text === 'last') expect(event.data.buffer.byteLength).toBeLessThan(16_000)
  }
})

test('an event over the limit is told of, and of it there is but its id, in one piece or in many', async () => {
  const big = Buffer.from(`data: ${'x'.repeat(50_000)}\ndata: more\nid: 7\n\nid: 8\ndata: y\n\n`)
  const many = [big.subarray(0, 20_000), big.subarray(20_000, 45_000), big.subarray(45_000)]
  const behind = ['7=', '8=y']
  expect(await readAll(many, 30_000)).toEqual([OVER, ':', ...behind])
  expect(await readAll([big.subarray(0, 40_000), big.subarray(40_000)], 30_000)).toEqual([
    OVER,
    ':',
    ...behind,
  ])
  expect(await readAll([big], 30_000)).toEqual([OVER, ...behind])
})

/** The inside of long strings, which WebAssembly reads, against the one authority on what JSON is: `JSON.parse`. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import wabt from 'wabt'
import { rootSpan } from '../src/json.ts'
import { MODULE, skipPlain } from '../src/long-string.ts'

/** Pieces are looked at of 4, 16, 64 and again 64 KiB; json.ts reads the first 4 KiB by itself. */
const CUTS = [4, 8, 24, 88, 152].map((kibibytes) => kibibytes * 1024)

function expectVerdictOfParse(text: string): void {
  let valid = true
  try {
    JSON.parse(text)
  } catch {
    valid = false
  }
  const bytes = Buffer.from(text)
  expect(rootSpan(bytes)).toEqual(valid ? { start: 0, end: bytes.length } : undefined)
}

test('what runs is long-string.wat, assembled', async () => {
  const source = readFileSync(join(import.meta.dirname, '..', 'src', 'long-string.wat'), 'utf8')
  const { parseWat } = await wabt()
  const { buffer } = parseWat('long-string.wat', source).toBinary({})
  expect(MODULE).toBe(Buffer.from(buffer).toString('base64'))
})

test('it is what reads them here', () => {
  expect(skipPlain(Buffer.from(`${'a'.repeat(100)}"`), 0)).toBe(100)
})

describe('a string that is long', () => {
  test.each(CUTS)('is valid or not as JSON.parse has it, whatever stands around byte %i', (cut) => {
    const items = [
      '\\n',
      '\\"',
      '\\\\',
      '\\u00e9',
      '\\uD83D\\ude00',
      '\\u00g9',
      '\\x',
      '\\',
      '"',
      '\n',
      '\u0001',
      'é',
    ]
    for (const item of items)
      for (let at = cut - 20; at <= cut + 4; at++)
        for (const behind of ['', 'a', 'a'.repeat(20), 'a'.repeat(30_000)])
          expectVerdictOfParse(`"${'a'.repeat(at)}${item}${behind}"`)
  })

  test('may hold any byte but a quote, a backslash and control characters, and the eight escapes', () => {
    for (let code = 0; code < 0x80; code++) {
      const char = String.fromCharCode(code)
      for (const item of [
        char,
        `\\${char}`,
        `\\u${char}bcd`,
        `\\ua${char}cd`,
        `\\uab${char}d`,
        `\\uabc${char}`,
      ])
        expectVerdictOfParse(`"${'a'.repeat(5_000)}${item}${'b'.repeat(100)}"`)
    }
  })

  test('that is cut off is none', () => {
    for (const end of ['', '\\', '\\u', '\\u0', '\\u00', '\\u00e', '\\u00e9', '\\n'])
      for (const length of [5_000, ...CUTS]) expectVerdictOfParse(`"${'a'.repeat(length - end.length)}${end}`)
  })

  test('and those behind it', () => {
    const item = fc.oneof(
      fc.string({ unit: 'binary', minLength: 1 }),
      fc.constantFrom('\n', '"', '\\', 'plain text').map((text) => text.repeat(500)),
    )
    fc.assert(
      fc.property(fc.array(fc.tuple(item, fc.nat(2_000)), { minLength: 1, maxLength: 5 }), (items) => {
        const strings = items.map(([text, times]) =>
          text.repeat(Math.min(times, Math.ceil(200_000 / text.length))),
        )
        expectVerdictOfParse(JSON.stringify(strings))
        expectVerdictOfParse(JSON.stringify(strings).slice(0, -2))
      }),
      { numRuns: 50 },
    )
  })
})

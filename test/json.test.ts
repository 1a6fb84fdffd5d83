/** The byte reader against the one authority on what JSON is: `JSON.parse`. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { elements, members, rootSpan, stringAt, textAt } from '../src/json.ts'

/** JSON text with white space wherever the grammar allows it. */
const spaced = fc
  .tuple(fc.json({ maxDepth: 4 }), fc.constantFrom('', ' ', '\n', '\r\n\t', '  '), fc.nat(6))
  .map(([json, space, indent]) => `${space}${JSON.stringify(JSON.parse(json), null, indent)}${space}`)

/** Texts near JSON: a valid one with a byte taken, doubled or replaced, so that both verdicts occur. */
const near = fc
  .tuple(
    spaced,
    fc.nat(),
    fc.constantFrom(...'{}[]",:0123456789eE+-.truefalsn\\/bu \u0001\u007f\u00e9'),
    fc.nat(2),
  )
  .map(([json, at, char, kind]) => {
    const i = json.length === 0 ? 0 : at % json.length
    return json.slice(0, i) + (kind === 0 ? '' : char) + json.slice(kind === 1 ? i : i + 1)
  })

function accepts(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

describe('rootSpan', () => {
  test('accepts exactly what JSON.parse accepts', () => {
    let valid = 0
    let invalid = 0
    fc.assert(
      fc.property(fc.oneof(spaced, near, fc.string()), (text) => {
        const verdict = accepts(text)
        if (verdict) valid++
        else invalid++
        expect(rootSpan(Buffer.from(text)) !== undefined).toBe(verdict)
      }),
      { numRuns: 3_000 },
    )
    expect(valid).toBeGreaterThan(200)
    expect(invalid).toBeGreaterThan(200)
  })

  test.each([
    '01',
    '-',
    '1.',
    '.5',
    '1e',
    '+1',
    '1e+',
    '"\\x"',
    '"\\u12g4"',
    '"\t"',
    '"a',
    "'a'",
    '{"a":1,}',
    '[1,]',
    '[,1]',
    '{a:1}',
    '{"a"}',
    '{"a":}',
    '[1 2]',
    'nul',
    'nulll',
    'NaN',
    'Infinity',
    '',
    ' ',
    '1 1',
    '[1]]',
    '\u00a01',
    '\ufeff1',
    '[[',
    '{"a":[}',
  ])('refuses %j', (text) => {
    expect(accepts(text)).toBe(false)
    expect(rootSpan(Buffer.from(text))).toBeUndefined()
  })

  test.each([
    '-0',
    '1.0',
    '12345678901234567890',
    '1e400',
    '"\\u0000"',
    '"\\ud800"',
    '"\u007f"',
    '"😀"',
    '{"":0}',
  ])('accepts %s', (text) => {
    expect(rootSpan(Buffer.from(text))).toEqual({ start: 0, end: Buffer.byteLength(text) })
  })

  test('the span is the value without the white space around it', () => {
    fc.assert(
      fc.property(spaced, (text) => {
        const bytes = Buffer.from(text)
        const span = rootSpan(bytes)
        expect(span && textAt(bytes, span)).toBe(text.trim())
      }),
    )
  })

  test('a hundred thousand open brackets cost no stack', () => {
    const depth = 100_000
    expect(rootSpan(Buffer.from('['.repeat(depth) + ']'.repeat(depth)))).toBeDefined()
    expect(rootSpan(Buffer.from('['.repeat(depth)))).toBeUndefined()
  })
})

describe('members', () => {
  test('gives each member of the object the bytes of its value, the last of a name winning', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.string({ unit: 'binary' }), fc.json())),
        fc.nat(4),
        (pairs, spaces) => {
          const s = ' '.repeat(spaces)
          const text = `{${s}${pairs.map(([k, v]) => `${JSON.stringify(k)}${s}:${s}${v}`).join(`${s},${s}`)}${s}}`
          const bytes = Buffer.from(text)
          // A lone surrogate cannot be written as UTF-8: compare with what the bytes say.
          const parsed = JSON.parse(bytes.toString()) as Record<string, unknown>
          const found = members(bytes, { start: 0, end: bytes.length })
          expect(
            found && Object.fromEntries([...found].map(([k, v]) => [k, JSON.parse(textAt(bytes, v))])),
          ).toEqual(Object.fromEntries(Object.entries(parsed)))
        },
      ),
    )
  })

  test('reads keys through their escapes', () => {
    const bytes = Buffer.from('{"\\u0069d":1,"m\\/x":2}')
    const found = members(bytes, { start: 0, end: bytes.length })
    expect([...(found?.keys() ?? [])]).toEqual(['id', 'm/x'])
  })

  test('of a text that was cut off, gives only members that stand whole before the cut', () => {
    const text = '{"a":12,"b":{"c":[1,2]},"d":"x","e":345}'
    const whole = new Map(Object.entries(JSON.parse(text) as object))
    for (let cut = 1; cut < text.length; cut++) {
      const bytes = Buffer.from(text.slice(0, cut))
      const found = members(bytes, { start: 0, end: bytes.length }) ?? new Map()
      for (const [key, span] of found) expect(JSON.parse(textAt(bytes, span))).toEqual(whole.get(key))
    }
  })

  test('is undefined for anything but an object', () => {
    for (const text of ['[1]', '"a"', '1', 'null']) {
      expect(members(Buffer.from(text), { start: 0, end: text.length })).toBeUndefined()
    }
  })
})

test('elements are the raw texts of an array, in order', () => {
  fc.assert(
    fc.property(fc.array(fc.json()), fc.constantFrom('', ' ', '\n '), (values, s) => {
      const bytes = Buffer.from(`[${s}${values.map((v) => `${v}${s}`).join(`,${s}`)}]`)
      const root = rootSpan(bytes)
      const found = root && elements(bytes, root)
      expect(found?.map((span) => textAt(bytes, span))).toEqual(values.map((v) => v.trim()))
    }),
  )
})

test('stringAt decodes what JSON.parse decodes', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.boolean(), (value, escapeAll) => {
      const plain = JSON.stringify(value)
      const token = escapeAll
        ? `"${[...Array(value.length).keys()].map((i) => `\\u${value.charCodeAt(i).toString(16).padStart(4, '0')}`).join('')}"`
        : plain
      const bytes = Buffer.from(token)
      expect(stringAt(bytes, { start: 0, end: bytes.length })).toBe(JSON.parse(bytes.toString()))
    }),
  )
})

test('reads long strings, four bytes at a time, exactly as JSON.parse does', () => {
  const odd = ['"', '\\', '\\n', '\\u00e9', '\\x', '\u0001', '\u001f', '\u007f', 'é', '€', '\t', '\\"', '']
  fc.assert(
    fc.property(
      fc.nat(9),
      fc.array(fc.tuple(fc.nat(9_000), fc.constantFrom(...odd)), { maxLength: 4 }),
      fc.constantFrom('"', '"}', ''),
      (shift, inserts, close) => {
        let inner = 'x'.repeat(9_000)
        for (const [at, what] of inserts) inner = inner.slice(0, at) + what + inner.slice(at)
        const text = `${' '.repeat(shift)}["${inner}${close === '' ? '' : '"]'}`
        // A buffer within a larger one: words are counted from the start of the memory, not of the text.
        const bytes = Buffer.from(`${'"'.repeat(shift)}${text}""""`).subarray(shift, -4)
        let valid = true
        try {
          JSON.parse(text)
        } catch {
          valid = false
        }
        expect(rootSpan(bytes) !== undefined).toBe(valid)
      },
    ),
    { numRuns: 300 },
  )
})

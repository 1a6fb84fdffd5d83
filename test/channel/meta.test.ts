import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { repaired, verdict } from '../../src/channel/meta.ts'
import { type Notification, parse } from '../../src/protocol.ts'

/** What Claude Code accepts; keys of another shape it drops without a word. */
const Accepted = z.object({ content: z.string(), meta: z.record(z.string()).optional() })
const USABLE = /^[A-Za-z_][A-Za-z0-9_]*$/

function event(params: string | undefined): Notification {
  const tail = params === undefined ? '' : `,"params":${params}`
  const [message] = parse(Buffer.from(`{"jsonrpc":"2.0","method":"notifications/claude/channel"${tail}}`))
  if (message?.kind !== 'notification') throw new Error(`no notification: ${params}`)
  return message
}

function paramsText(message: Notification): string {
  if (message.params === undefined) throw new Error('no params')
  return message.raw.toString('utf8', message.params.start, message.params.end)
}

describe('meta that the client keeps', () => {
  it.each([
    '{"content":"x"}',
    '{"content":"x","meta":{}}',
    '{"content":"x","meta":{ }}',
    '{"meta":{"source":"convo","a":"b"},"content":"x"}',
    ' { "content" : "a \\" } , \\\\" , "meta" : { "a" : "\\"" , "_B9" : "\\\\" } , "more" : [ { "meta": 1 } ] } ',
    '{"content":"x","metadata":{"a-b":1},"meta":{"a":"\\u00e9"}}',
    '{"nested":{"meta":{"a-b":1}},"content":"x"}',
    '{"n":-1.5e3,"content":"x","t":true}',
  ])('is passed on as the same message: %s', (params) => {
    const message = event(params)
    expect(verdict(message)).toBe('fine')
    expect(repaired(message)).toBe(message)
  })
})

describe('meta that the client would lose', () => {
  it.each([
    ['a number, digit for digit', '{"a":12345678901234567890}', '{"a":"12345678901234567890"}'],
    ['1.0', '{"a":1.0}', '{"a":"1.0"}'],
    ['true', '{"a":true}', '{"a":"true"}'],
    ['null', '{"a":null}', '{"a":"null"}'],
    ['an object', '{"a":{"b": [1,"2"]}}', '{"a":"{\\"b\\": [1,\\"2\\"]}"}'],
    ['a key with a hyphen', '{"space-id":"s","é":"t"}', '{"space_id":"s","_":"t"}'],
    ['keys that collide', '{"a-b":"1","a_b":"2","a.b":"3"}', '{"a_b_2":"1","a_b":"2","a_b_3":"3"}'],
    ['a key that starts with a digit', '{"2nd":"x"}', '{"_2nd":"x"}'],
    ['an empty key', '{"":"x"}', '{"_":"x"}'],
    ['a value spelt with escapes, as it was', '{"a-b":"\\u00e9\\/"}', '{"a_b":"\\u00e9\\/"}'],
    ['null instead of an object', 'null', '{}'],
    ['a list instead of an object', '["a", 1]', '{"meta":"[\\"a\\", 1]"}'],
    ['a string instead of an object', '"s\\n"', '{"meta":"s\\n"}'],
    ['a number instead of an object', '7', '{"meta":"7"}'],
  ])('is repaired: %s', (_, meta, mended) => {
    const before = `{"content":"x","meta": ${meta} , "big":12345678901234567890 }`
    const message = event(before)
    expect(verdict(message)).toBe('repair')
    expect(paramsText(repaired(message))).toBe(
      `{"content":"x","meta": ${mended} , "big":12345678901234567890 }`,
    )
  })

  it('is found under a name spelt with escapes', () => {
    const message = event('{"content":"x","m\\u0065ta":{"a":1}}')
    expect(verdict(message)).toBe('repair')
    expect(paramsText(repaired(message))).toBe('{"content":"x","m\\u0065ta":{"a":"1"}}')
  })
})

describe('an event without a text', () => {
  it.each([undefined, '[]', '{}', '{"content":1,"meta":{"a":"b"}}', '{"content":null}', '{"contents":"x"}'])(
    'is told from others, and not altered: %s',
    (params) => {
      const message = event(params)
      expect(verdict(message)).toBe('ignored')
      expect(repaired(message)).toBe(message)
    },
  )
})

/** JSON text of a value, with white space between its tokens. */
function spaced(value: unknown): string {
  return JSON.stringify(value, null, 1)
}

describe('for every meta', () => {
  const key = fc.oneof(fc.string(), fc.constantFrom('a', 'a_', 'a-', 'a.', '_', '', 'meta', '1', '__proto__'))
  const value = fc.oneof(fc.string(), fc.jsonValue())
  const meta = fc.oneof(
    { weight: 4, arbitrary: fc.dictionary(key, value, { noNullPrototype: true }) },
    fc.dictionary(fc.constantFrom('a', 'b_1', 'C'), fc.string(), { noNullPrototype: true }),
    fc.jsonValue(),
  )
  const params = fc.record({ content: fc.string(), meta, extra: fc.jsonValue() })

  it('the client accepts the event, keeps every value, and what was fine is untouched', () => {
    fc.assert(
      fc.property(params, fc.constantFrom(JSON.stringify, spaced), (before, write) => {
        const text = write(before)
        const message = event(text)
        const result = repaired(message)
        const after: unknown = JSON.parse(paramsText(result))
        Accepted.parse(after)
        const mended = (after as { meta: Record<string, string> }).meta
        const original: unknown = (JSON.parse(text) as typeof before).meta
        const fine =
          Accepted.safeParse({ content: '', meta: original }).success &&
          Object.keys(original as object).every((name) => USABLE.test(name))
        expect(result === message).toBe(fine)
        expect(verdict(message)).toBe(fine ? 'fine' : 'repair')
        expect({ ...(after as typeof before), meta: 0 }).toEqual({ ...JSON.parse(text), meta: 0 })
        const names = Object.keys(mended)
        expect(names.every((name) => USABLE.test(name))).toBe(true)
        if (typeof original === 'object' && original !== null && !Array.isArray(original)) {
          const values = Object.values(original).map((v) => (typeof v === 'string' ? v : JSON.stringify(v)))
          const kept = Object.values(mended)
          const normal = kept.map((v) => (values.includes(v) ? v : JSON.stringify(JSON.parse(v))))
          expect(normal.sort()).toEqual(values.sort())
        }
      }),
      { numRuns: 400 },
    )
  })
})

/** The raw text travels: what is read of a message is right, and what is not edited is not touched. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  cancelledId,
  compose,
  failure,
  idInHead,
  idInTail,
  member,
  parse,
  sameId,
  stringMember,
  success,
  withId,
  withSpan,
} from '../src/protocol.ts'

const ids = ['0', '-1', '""', '"1"', '1', '1.0', '1e3', '12345678901234567890', '"\\u00e9"', '"é"', '" "']

const idToken = fc.oneof(
  fc.constantFrom(...ids),
  fc.string().map((s) => JSON.stringify(s)),
  fc.integer().map(String),
)

function one(text: string | Buffer) {
  const found = parse(Buffer.isBuffer(text) ? text : Buffer.from(text))
  expect(found).toHaveLength(1)
  const [message] = found
  if (message === undefined) throw new Error('nothing parsed')
  return message
}

describe('parse', () => {
  test.each(ids)('keeps the id token %s as it was sent', (id) => {
    const message = one(`{"jsonrpc":"2.0","id":${id},"method":"m"}`)
    expect(message).toMatchObject({ kind: 'request', id, method: 'm' })
  })

  test('a message is its bytes, without the white space around them', () => {
    fc.assert(
      fc.property(idToken, fc.json(), fc.json(), (id, params, extra) => {
        const raw = `{ "x":${extra},"id" : ${id}, "jsonrpc":"2.0","params":${params} ,"method":"tools\\/call"}`
        const message = one(` \r${raw}\t`)
        if (message.kind !== 'request') throw new Error(message.kind)
        expect(message.raw.toString()).toBe(raw)
        expect(message.id).toBe(id)
        expect(message.method).toBe('tools/call')
        const at = message.params
        expect(at && message.raw.toString('utf8', at.start, at.end)).toBe(params)
      }),
    )
  })

  test('knows of each message whether it stands on one line, wherever a line breaks', () => {
    const tokens = [
      '{',
      '"jsonrpc"',
      ':',
      '"2.0"',
      ',',
      '"id"',
      ':',
      '1',
      ',',
      '"result"',
      ':',
      '[',
      '{',
      '}',
      ']',
      '}',
    ]
    for (const lineBreak of ['\n', '\r', '\t\r\n '])
      for (let at = 0; at <= tokens.length; at++) {
        const text = tokens.toSpliced(at, 0, lineBreak).join('')
        for (const message of [
          ...parse(Buffer.from(text)),
          ...parse(Buffer.from(`[\n${text},\n${text}\n]`)),
        ]) {
          if (message.kind !== 'response') throw new Error(message.kind)
          const isOneLine = at === 0 || at === tokens.length
          expect(message.isOneLine).toBe(isOneLine)
          expect(/[\r\n]/.test(message.raw.toString())).toBe(!isOneLine)
          expect(withId(message, '2').isOneLine).toBe(isOneLine)
          if (message.result !== undefined)
            expect(withSpan(message, message.result, '[\n]').isOneLine).toBe(false)
        }
      }
  })

  test.each([
    ['{"jsonrpc":"2.0","method":"m"}', 'notification'],
    ['{"jsonrpc":"2\\u002e0","method":"m"}', 'notification'],
    ['{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}', 'response'],
    ['{"jsonrpc":"2.0","id":1,"result":null}', 'response'],
    ['{"jsonrpc":"2.0","id":1,"result":{},"method":"m"}', 'request'],
  ])('%s is a %s', (text, kind) => {
    expect(one(text).kind).toBe(kind)
  })

  test.each([
    '{}',
    '1',
    '"text"',
    'null',
    '{"jsonrpc":"1.0","id":1,"method":"m"}',
    '{"id":1,"method":"m"}',
    '{"jsonrpc":"2.0","id":1}',
    '{"jsonrpc":"2.0","id":{},"method":"m"}',
    '{"jsonrpc":"2.0","id":null,"method":"m"}',
    '{"jsonrpc":"2.0","id":true,"result":1}',
    '{"jsonrpc":"2.0","id":1,"method":7}',
    '{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":""}}',
    '{"jsonrpc":"2.0","id":1,"error":"text"}',
    '{"jsonrpc":"2.0","result":1}',
  ])('%s is JSON but no message', (text) => {
    expect(one(text)).toMatchObject({ kind: 'malformed', reason: 'not-rpc' })
  })

  test.each([
    [
      '{"jsonrpc":"2.0","id":1,"result":{"n":1.0},"error":null}',
      '{"jsonrpc":"2.0","id":1,"result":{"n":1.0}}',
    ],
    [
      '{"jsonrpc":"2.0","result":null,"error":{"code":1,"message":"m"},"id":"a"}',
      '{"jsonrpc":"2.0","id":"a","error":{"code":1,"message":"m"}}',
    ],
  ])('a response with a null beside what it says is one without it: %s', (text, plain) => {
    expect(
      parse(Buffer.from(text)).map((message) => message.kind === 'response' && message.raw.toString()),
    ).toEqual([plain])
  })

  test.each(['{}', 'null,"x":1', '[]'])('a null beside a result saves no message with the id %s', (id) => {
    const [message] = parse(Buffer.from(`{"jsonrpc":"2.0","id":${id},"result":null,"error":null}`))
    expect(['malformed', 'response']).toContain(message?.kind)
  })

  test('what is no JSON, or no UTF-8, is not-json', () => {
    expect(one('{"jsonrpc"')).toMatchObject({ kind: 'malformed', reason: 'not-json' })
    const bad = Buffer.from('{"jsonrpc":"2.0","method":"m?"}')
    bad[bad.indexOf('?')] = 0xff
    expect(one(bad)).toMatchObject({ kind: 'malformed', reason: 'not-json' })
  })

  test('a batch is split into its elements, the bad ones in their places', () => {
    const batch = '[ {"jsonrpc":"2.0","method":"a"} ,7, {"jsonrpc":"2.0","id":1.0,"result":[]},[]]'
    expect(parse(Buffer.from(batch)).map((m) => m.kind)).toEqual([
      'notification',
      'malformed',
      'response',
      'malformed',
    ])
    expect(one('[]')).toMatchObject({ kind: 'malformed', reason: 'empty-batch' })
  })
})

describe('edits', () => {
  test('withId and withSpan replace one span and leave every other byte alone', () => {
    fc.assert(
      fc.property(idToken, idToken, fc.json(), fc.json(), (before, after, params, other) => {
        const text = (id: string, p: string) =>
          `{"jsonrpc":"2.0", "\\u0069\\u0064x":1,"id": ${id} ,"method":"m","params": ${p},"z":[1.0]}`
        const message = one(text(before, params))
        if (message.kind !== 'request') throw new Error(message.kind)
        const edited = withId(message, after)
        expect(edited.raw.toString()).toBe(text(after, params))
        expect(edited.id).toBe(after)
        if (edited.params === undefined) throw new Error('no params')
        expect(withSpan(edited, edited.params, other).raw.toString()).toBe(text(after, other))
      }),
    )
  })

  test('failure and success put the raw id token in its place', () => {
    for (const id of ids) {
      expect(failure(id, -32000, 'x "y"').raw.toString()).toContain(`"id":${id},`)
      expect(success(id, '{"n":1.0}').raw.toString()).toBe(`{"jsonrpc":"2.0","id":${id},"result":{"n":1.0}}`)
    }
    expect(JSON.parse(failure(null, -32700, 'm').raw.toString())).toEqual({
      jsonrpc: '2.0',
      id: null,
      error: { code: -32700, message: 'm' },
    })
  })

  test('compose throws on what is no message', () => {
    expect(compose({ jsonrpc: '2.0', method: 'm' }).kind).toBe('notification')
    expect(() => compose({ jsonrpc: '2.0' })).toThrow(TypeError)
  })

  test('member and stringMember find what is there and nothing else', () => {
    const message = one(
      '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1.0,"a":{"b":"c"}}}',
    )
    if (message.kind !== 'notification') throw new Error(message.kind)
    expect(cancelledId(message)).toBe('1.0')
    expect(stringMember(message.raw, message.params, 'a', 'b')).toBe('c')
    expect(stringMember(message.raw, message.params, 'requestId')).toBeUndefined()
    expect(member(message.raw, message.params, 'a', 'x', 'y')).toBeUndefined()
    expect(member(message.raw, undefined, 'a')).toBeUndefined()
  })
})

describe('ids of messages too long to read', () => {
  const noise = fc.json({ maxDepth: 3 })

  test('idInHead finds an id that stands whole in the head, and never a wrong one', () => {
    fc.assert(
      fc.property(idToken, noise, noise, fc.nat(), (id, a, b, at) => {
        const text = Buffer.from(`{"jsonrpc":"2.0","a":${a},"id":${id},"params":{"id":99,"b":${b}},"c":"`)
        const cut = at % text.length
        const idEnd = text.indexOf(`"id":${id},"params"`) + Buffer.byteLength(`"id":${id}`)
        const found = idInHead(text.subarray(0, cut))
        if (cut > idEnd) expect(found).toBe(id)
        else expect(found).toBeUndefined()
      }),
      { numRuns: 1_000 },
    )
  })

  test('idInTail finds an id among the last members, whatever the cut, and never one further in', () => {
    fc.assert(
      fc.property(idToken, noise, noise, fc.nat(), (id, a, b, at) => {
        const lead = `{"jsonrpc":"2.0","id":98,"x":{"id":97,"y":[${a}]}`
        const text = Buffer.from(`${lead},"id" : ${id} ,"params":{"id":99,"b":${b}},"c":[{"id":96}]} \r`)
        const idStart = text.lastIndexOf(`,"id" : ${id} ,"params"`)
        const cut = at % text.length
        const found = idInTail(text.subarray(cut))
        if (cut <= idStart) expect(found).toBe(id)
        else if (found !== undefined) expect(found).toBe(id)
      }),
      { numRuns: 1_000 },
    )
  })

  test('idInTail is not fooled by quotes and braces in strings', () => {
    const tail = Buffer.from('xx"}]\\\\",{"id":5}],"id":"a\\"}{,\\\\","z":"\\",\\"id\\":7}"}')
    expect(idInTail(tail)).toBe('"a\\"}{,\\\\"')
  })

  test('without an id of the outermost object there is none', () => {
    expect(idInTail(Buffer.from('"method":"m","params":{"id":1}}'))).toBeUndefined()
    expect(idInHead(Buffer.from('{"method":"m","params":{"id":1},"x'))).toBeUndefined()
    expect(idInTail(Buffer.from('"id":null}'))).toBeUndefined()
  })
})

test('sameId tolerates a peer that re-serializes, and one that makes a string of a number', () => {
  expect(sameId('"\\u00e9"', '"é"')).toBe(true)
  expect(sameId('1.0', '1')).toBe(true)
  expect(sameId('12345678901234567890', '12345678901234567000')).toBe(true)
  expect(sameId('1', '"1"')).toBe(true)
  expect(sameId('1', '2')).toBe(false)
})

/** What a failure is called in one line. */
import { expect, test } from 'vitest'
import { gist, reasonOf } from '../src/errors.ts'

test.each([
  [new DOMException('it took too long', 'TimeoutError'), 'it took too long'],
  [
    Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:9'), { code: 'ECONNREFUSED' }),
    'connect ECONNREFUSED 127.0.0.1:9',
  ],
  [Object.assign(new Error(''), { code: 'ECONNRESET' }), 'ECONNRESET'],
  [
    Object.assign(new Error('C0F:error:0A00010B:SSL routines\n'), {
      code: 'ERR_SSL_X',
      reason: 'wrong version number',
    }),
    'wrong version number (ERR_SSL_X)',
  ],
  [
    Object.assign(new Error('connect EMFILE 1.2.3.4:443 - Local (undefined:undefined)'), { code: 'EMFILE' }),
    'no more files can be opened (EMFILE; see ulimit -n)',
  ],
  [new AggregateError([new Error('first'), new Error('second')]), 'first'],
  ['a word', 'a word'],
])('the reason of %s is %s', (error, reason) => {
  expect(reasonOf(error)).toBe(reason)
})

test('the gist of a text is had of a word of any length', () => {
  expect(gist('request 17 of a-3f at 12:00:01 failed')).toBe('request # of # at # failed')
  const word = 'a'.repeat(2_000_000)
  expect(gist(word)).toBe(word)
})

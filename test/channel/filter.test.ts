import { describe, expect, it } from 'vitest'
import { parseFilter, passes } from '../../src/channel/filter.ts'
import { channelNotification } from '../../src/channel/notification.ts'
import { BridgeError } from '../../src/errors.ts'

function passing(meta: Record<string, string> | undefined, only: string[], drop: string[]): boolean {
  const message = channelNotification(meta === undefined ? { content: 'x' } : { content: 'x', meta })
  return passes(message, parseFilter(only, '--only'), parseFilter(drop, '--drop'))
}

describe('filters', () => {
  it.each([
    ['everything passes without rules', { a: 'b' }, [], [], true],
    [
      '--drop takes what it names',
      { event_type: 'call_transcript' },
      [],
      ['event_type=call_transcript'],
      false,
    ],
    ['--drop leaves the rest', { event_type: 'dm_chat' }, [], ['event_type=call_transcript'], true],
    ['--only leaves what it names', { event_type: 'dm_chat' }, ['event_type=dm_chat'], [], true],
    ['--only takes the rest', { event_type: 'dm_chats' }, ['event_type=dm_chat'], [], false],
    ['one of several --only is enough', { a: '2' }, ['a=1', 'a=2'], [], true],
    ['commas separate rules', { a: '2' }, ['b=1, a=2'], [], true],
    ['--drop wins', { event_type: 'dm_chat', platform: 'sip' }, ['event_type=*'], ['platform=sip'], false],
    ['* is any characters', { event_type: 'call_state' }, ['event_type=call_*'], [], true],
    ['* is none too', { a: 'xy' }, ['a=x*y'], [], true],
    ['* goes over line ends', { a: 'x\ny' }, ['a=x*y'], [], true],
    ['? is one character', { a: 'x\ud83d\ude00y' }, ['a=x?y'], [], true],
    ['? is not none', { a: 'xy' }, ['a=x?y'], [], false],
    ['other characters are themselves', { a: 'a+b(c)[d].{e}^$|\\' }, ['a=a+b(c)[d].{e}^$|\\'], [], true],
    ['a dot is a dot', { a: 'axb' }, ['a=a.b'], [], false],
    ['case counts', { a: 'X' }, ['a=x'], [], false],
    ['an equals sign may stand in the value', { a: 'b=c' }, ['a=b=c'], [], true],
    ['a missing key matches nothing', { b: '1' }, [], ['a=*'], true],
    ['no meta at all matches nothing', undefined, ['a=*'], [], false],
    ['an empty value is a value', { a: '' }, ['a='], [], true],
  ])('%s', (_, meta, only, drop, expected) => {
    expect(passing(meta, only, drop)).toBe(expected)
  })

  it.each(['event_type', '=x', 'a-b=x', 'a=1,b'])('refuse %s, saying what to write', (text) => {
    try {
      parseFilter([text], '--drop')
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(BridgeError)
      expect(error).toMatchObject({ code: 'CONFIG_INVALID', hint: expect.stringContaining('KEY=VALUE') })
      expect(String(error)).toContain('--drop')
    }
  })

  it('take no time over a value made to be tried again and again', () => {
    const started = performance.now()
    expect(passing({ a: 'a'.repeat(20_000) }, ['a=***a***b'], [])).toBe(false)
    expect(performance.now() - started).toBeLessThan(2_000)
  })
})

import { describe, expect, it } from 'vitest'
import { channelEvent, channelNotification, usableKeys } from '../../src/channel/notification.ts'
import { compose, type Message, type Notification } from '../../src/protocol.ts'

function asNotification(message: Message): Notification {
  if (message.kind !== 'notification') throw new Error('no notification')
  return message
}

describe('a channel event', () => {
  it('is built as the notification that Claude Code reads', () => {
    const message = channelNotification({ content: 'hello\n"you"', meta: { event_type: 'dm_chat' } })
    expect(message.method).toBe('notifications/claude/channel')
    expect(JSON.parse(message.raw.toString())).toEqual({
      jsonrpc: '2.0',
      method: 'notifications/claude/channel',
      params: { content: 'hello\n"you"', meta: { event_type: 'dm_chat' } },
    })
  })

  it('without meta has no meta member', () => {
    expect(channelNotification({ content: 'x' }).raw.toString()).not.toContain('meta')
  })

  it('leaves out values that are absent and writes others as JSON text', () => {
    const meta = { none: null, gone: undefined, count: 3, on: true, ids: ['a', 1], text: '3' }
    const event = channelEvent(channelNotification({ content: 'x', meta }))
    expect(event?.meta).toEqual({ count: '3', on: 'true', ids: '["a",1]', text: '3' })
  })

  it('keeps a key source, which servers send', () => {
    const event = channelEvent(channelNotification({ content: 'x', meta: { source: 'convo' } }))
    expect(event?.meta).toEqual({ source: 'convo' })
  })

  it('is read back as it was built', () => {
    const draft = { content: 'é \u2028 \ud83d\ude00', meta: { a: 'b', __proto__x: 'y' } }
    expect(channelEvent(channelNotification(draft))).toEqual(draft)
  })

  it('is none when the method differs or the content is no string', () => {
    const permission = {
      jsonrpc: '2.0',
      method: 'notifications/claude/channel/permission',
      params: { content: '' },
    }
    const number = { jsonrpc: '2.0', method: 'notifications/claude/channel', params: { content: 1 } }
    expect(channelEvent(asNotification(compose(permission)))).toBeUndefined()
    expect(channelEvent(asNotification(compose(number)))).toBeUndefined()
  })
})

describe('meta keys', () => {
  it.each([
    [
      ['a_b', 'A9'],
      ['a_b', 'A9'],
    ],
    [
      ['space-id', 'a.b', 'é'],
      ['space_id', 'a_b', '_'],
    ],
    [
      ['2nd', ''],
      ['_2nd', '_'],
    ],
    [
      ['a-b', 'a_b', 'a.b'],
      ['a_b_2', 'a_b', 'a_b_3'],
    ],
    [
      ['a-b', 'a_b', 'a_b_2', 'a b'],
      ['a_b_3', 'a_b', 'a_b_2', 'a_b_4'],
    ],
    [['\ud83d\ude00'], ['_']],
    [['a\n'], ['a_']],
  ])('%j become %j', (keys, names) => {
    expect(usableKeys(keys)).toEqual(names)
  })

  it('stay distinct and cheap when ten thousand collide', () => {
    const keys = Array.from({ length: 10_000 }, (_, i) => String.fromCodePoint(0x4e00 + i))
    const started = performance.now()
    expect(new Set(usableKeys(keys)).size).toBe(10_000)
    expect(performance.now() - started).toBeLessThan(1_000)
  })
})

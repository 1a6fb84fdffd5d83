/** Which event matters, as tables: the order of reasons, and a name in a text. */
import { describe, expect, test } from 'vitest'
import { namesIn, type Relevance, readEvent, relevance, type SpaceEvent } from '../../src/feed/filter.ts'

const ME = 'agt_me'
const listener = { actorId: ME, displayName: 'MyAgent', threads: new Set(['thr_1']), firehose: false }

function event(changes: Partial<SpaceEvent>): SpaceEvent {
  const plain = readEvent(
    { event_id: 'evt_1', speaker_id: 'usr_alice', speaker_name: 'Alice', text: 'hello' },
    's',
  )
  if (plain === undefined) throw new Error('no event')
  return { ...plain, ...changes }
}

const byId = { mentions: [ME] }
const byName = { text: 'hi @MyAgent' }
const inThread = { threadId: 'thr_1' }
const decision = { text: '[DECISION proposed] ship it' }

const table: readonly (readonly [string, Partial<SpaceEvent>, Relevance | 'own' | undefined])[] = [
  ['nothing of these', {}, undefined],
  ['its id among the mentions', byId, 'mention'],
  ['another id among the mentions', { mentions: ['agt_other'] }, undefined],
  ['its name in the text', byName, 'mention'],
  ['a thread it took part in', inThread, 'thread_reply'],
  ['another thread', { threadId: 'thr_2' }, undefined],
  ['a text that begins with [DECISION', decision, 'decision'],
  ['[DECISION further inside', { text: 'see [DECISION proposed]' }, undefined],
  ['message_type decision', { messageType: 'decision' }, 'decision'],
  ['message_type decision_propagated', { messageType: 'decision_propagated' }, undefined],
  ['its own words', { speakerId: ME }, 'own'],
  ['its own words, though they mention it', { speakerId: ME, ...byId }, 'own'],
  ['a mention in its thread', { ...byId, ...inThread }, 'mention'],
  ['a mention in a decision', { ...decision, ...byId }, 'mention'],
  ['a decision in its thread', { ...decision, ...inThread }, 'thread_reply'],
]

describe('an event with', () => {
  for (const [what, changes, expected] of table) {
    test(`${what}: ${expected ?? 'not told'}`, () =>
      expect(relevance(event(changes), listener)).toBe(expected))
    const loud = expected ?? 'firehose'
    test(`${what}, with the firehose on: ${loud}`, () =>
      expect(relevance(event(changes), { ...listener, firehose: true })).toBe(loud))
  }
})

const names: readonly (readonly [string, string, boolean])[] = [
  ['@Ann please', 'Ann', true],
  ['hello @ann.', 'Ann', true],
  ['(@ANN)', 'Ann', true],
  ["@Ann's turn", 'Ann', true],
  ['@Ann', 'Ann', true],
  ['@Anna please', 'Ann', true],
  ['@Anna and @Ann', 'Ann', true],
  ['@Ann_bot', 'Ann', true],
  ['@impl-2 go', 'impl', true],
  ['@impl - go', 'impl', true],
  ['@impl, go', 'impl', true],
  ['@Élise2', 'Élise', true],
  ['@アンさん', 'アン', true],
  ['@My Agent do', 'My Agent', true],
  ['MyAgent without at', 'MyAgent', false],
  ['@ nobody', '', false],
  ['a@Ann', 'Ann', true],
]

describe('a name in a text', () => {
  for (const [text, name, expected] of names) {
    test(`"${text}" ${expected ? 'names' : 'does not name'} "${name}"`, () =>
      expect(namesIn(text, name)).toBe(expected))
  }
})

describe('reading an event', () => {
  const strange: readonly (readonly [string, unknown])[] = [
    ['null', null],
    ['a list', []],
    ['a text', 'x'],
  ]
  for (const [what, value] of strange) {
    test(`${what} is none`, () => expect(readEvent(value, 's')).toBeUndefined())
  }

  test('missing fields take their defaults, as in the shipped adapter', () => {
    expect(readEvent({}, 'the-space')).toEqual({
      eventId: '',
      spaceId: 'the-space',
      speakerId: '',
      speakerName: '?',
      speakerType: '?',
      text: '',
      threadId: undefined,
      mentions: [],
      messageType: undefined,
    })
  })

  test('fields of a wrong type do no harm', () => {
    const read = readEvent({ event_id: 7, metadata: 'x', mentions: 3, thread_id: null, text: {} }, 's')
    expect(read).toMatchObject({ eventId: '7', mentions: [], threadId: undefined, text: '' })
    expect(readEvent({ metadata: { mentions: [1, 'a', null] } }, 's')?.mentions).toEqual(['1', 'a'])
  })

  test('an agent without a known id is not mentioned by everybody who names nobody', () => {
    expect(relevance(event({ speakerId: '' }), { ...listener, displayName: '' })).toBeUndefined()
  })
})

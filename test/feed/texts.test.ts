/** The words the agent reads, in both wordings, and where they are cut. */
import { describe, expect, test } from 'vitest'
import { channelEvent, channelNotification } from '../../src/channel/notification.ts'
import { type Relevance, readEvent } from '../../src/feed/filter.ts'
import { cut, eventDraft, intervalDraft, statusDraft, type Voice } from '../../src/feed/texts.ts'

const docs: Voice = { wording: 'docs', displayName: 'MyAgent', maxText: 2_000 }
const source: Voice = { wording: 'source', displayName: 'MyAgent', maxText: 500 }
const event = readEvent(
  {
    event_id: 'event-uuid',
    space_id: 'sprint-planning',
    speaker_id: 'alice-actor-id',
    speaker_name: 'Alice',
    speaker_type: 'human',
    text: 'Can you review this PR?',
  },
  'sprint-planning',
)
if (event === undefined) throw new Error('no event')
const said = event

const headings: readonly (readonly [Relevance, string, string])[] = [
  ['mention', '@MyAgent mentioned by Alice:', '@you mentioned by Alice:'],
  ['thread_reply', 'Thread reply from Alice:', 'Thread reply from Alice:'],
  ['decision', 'Decision event from Alice:', 'Decision event from Alice:'],
  ['firehose', 'Alice (human):', 'Alice (human):'],
]

describe('the notification of a', () => {
  for (const [why, inDocs, inSource] of headings) {
    test(`${why} in the words of the documentation`, () => {
      expect(channelEvent(channelNotification(eventDraft(said, why, docs)))).toEqual({
        content: `${inDocs}\nCan you review this PR?`,
        meta: {
          source: 'convo-channel',
          space_id: 'sprint-planning',
          event_type: why,
          event_id: 'event-uuid',
          speaker: 'alice-actor-id',
        },
      })
    })
    test(`${why} in the words of the package`, () => {
      const draft = eventDraft(said, why, source)
      expect(draft.content).toBe(`${inSource}\nCan you review this PR?`)
      expect(draft.meta).toMatchObject({ source: 'convo', event_type: why })
    })
  }

  test('status change names the space, the new and the old status', () => {
    const draft = statusDraft({ spaceId: 's', status: 'paused', before: 'active' }, 'docs')
    expect(draft.content).toBe('Space s is now paused (was active)')
    expect(channelEvent(channelNotification(draft))?.meta).toEqual({
      source: 'convo-channel',
      space_id: 's',
      event_type: 'status_change',
      status: 'paused',
    })
  })

  test('interval carries the prompt, as the package does', () => {
    expect(intervalDraft('look around', 'agt_1', 'source')).toEqual({
      content: 'look around',
      meta: { source: 'convo', event_type: 'agent_interval', agent_id: 'agt_1' },
    })
  })

  test('event without an id or a speaker has no such keys', () => {
    const bare = readEvent({ text: 'x' }, 's')
    if (bare === undefined) throw new Error('no event')
    const meta = channelEvent(channelNotification(eventDraft(bare, 'mention', docs)))?.meta
    expect(meta).toEqual({ source: 'convo-channel', space_id: 's', event_type: 'mention' })
  })
})

describe('a long text', () => {
  const pointer = '... [truncated, use get_recent_context for full]'

  test('of exactly the limit stays', () => expect(cut('x'.repeat(500), 500)).toBe('x'.repeat(500)))

  test('of one more ends at the limit, with a pointer to the rest', () =>
    expect(cut('x'.repeat(501), 500)).toBe(`${'x'.repeat(500)}${pointer}`))

  test('is never cut through a character', () => {
    const text = `${'x'.repeat(499)}👍 and more`
    expect(cut(text, 499)).toBe(`${'x'.repeat(499)}${pointer}`)
    expect(cut(text, 500)).toBe(`${'x'.repeat(499)}👍${pointer}`)
    expect(cut(`${'👍'.repeat(500)}`, 500)).toBe('👍'.repeat(500))
  })
})

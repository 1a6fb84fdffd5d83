/** Scenario files: read strictly, run unattended, and the three examples with an agent behind the real bridge. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { runScenario } from '../../src/simulator/scenario/run.ts'
import { readScenario } from '../../src/simulator/scenario/scenario.ts'
import { open, resultOf } from './agent.ts'
import { agentBehindBridge, done, home, introduced, type Reaction, run } from './program.ts'
import { simulators } from './world.ts'

const start = simulators()

describe('reading', () => {
  it.each([
    ['steps: []', 'needs "steps"'],
    ['steps: [{ dm: { from: Alice } }]', 'step 1: "dm" needs "text"'],
    ['steps: [{ wait: 1 }, { dance: {} }]', 'step 2: there is no step "dance"'],
    ['steps: [{ fault: earthquake }]', 'there is no fault "earthquake"'],
    ['steps: [{ expect: { stream: sideways } }]', 'never "sideways"'],
    ['steps: [{ expect: { tool: chamade_inbox, args: { text: "/(/" } } }]', 'is no pattern'],
    ['steps: [{ expect: { tool: chamade_inbox, args: { files: [{ name: "/(/" }] } } }]', 'is no pattern'],
    ['steps: [{ expect: { tool: chamade_inbox, colour: red } }]', 'has no "colour"'],
    ['steps: [{ expect: { tool: chamade_inbox, ok: no } }]', '"ok" must be true or false'],
    [
      'steps: [{ never: { tool: [chamade_inbox, chamade_inbx], for: 1s } }]',
      'there is no tool "chamade_inbx"; there are chamade_',
    ],
    ['{ replay: yes, steps: [{ wait: 1 }] }', '"replay" must be true or false'],
    ['{ legacyPush: on, steps: [{ wait: 1 }] }', '"legacyPush" must be true or false'],
    [
      'steps: [{ fault: { fault: down, second: 2 } }]',
      'step 1: fault "down" has no "second"; it has fault, seconds',
    ],
    ['steps: [{ wait: soon }]', 'must be a duration'],
    ['steps: [{ wait: 1, fault: drop }]', 'exactly one key'],
    ['steps: {', 'neither YAML nor JSON'],
  ])('%s is refused', (text, sentence) => {
    expect(() => readScenario(text)).toThrow(sentence)
  })

  it('takes JSON too, and a fault that YAML reads as a number', () => {
    const { steps } = readScenario('{"steps":[{"fault":503},{"wait":"20ms"}]}')
    expect(steps).toMatchObject([
      { kind: 'fault', name: '503' },
      { kind: 'wait', ms: 20 },
    ])
  })
})

describe('running', () => {
  type Agent = Awaited<ReturnType<typeof open>>

  async function play(text: string, react: (agent: Agent) => Promise<unknown>) {
    const simulator = await start()
    const agent = await open(simulator)
    agent.client.fallbackNotificationHandler = () => {
      // The scenario may end before the answer is read.
      react(agent).catch(() => undefined)
      return Promise.resolve()
    }
    const told: string[] = []
    const scenario = readScenario(text)
    const ok = await runScenario(
      simulator,
      scenario,
      (step) => told.push(`${step.ok} ${step.text}`),
      new AbortController().signal,
    )
    await agent.close()
    return { ok, told }
  }

  const ASK = `
patience: 10s
steps:
  - dm: { from: Alice, text: hello }
  - expect: { tool: chamade_dm_chat, args: { text: /^hi/ } }
`

  it('passes when the agent answers as expected', async () => {
    const { ok, told } = await play(ASK, (agent) =>
      agent.call('chamade_dm_chat', { conversation_id: 'discord:alice', text: 'hi there' }),
    )
    expect(told).toHaveLength(2)
    expect(ok).toBe(true)
  })

  it('fails when it answers otherwise, and says what was seen instead', async () => {
    const { ok, told } = await play(ASK.replace('10s', '300ms'), (agent) =>
      agent.call('chamade_dm_chat', { conversation_id: 'discord:alice', text: 'go away' }),
    )
    expect(ok).toBe(false)
    expect(told.at(-1)).toContain('go away')
  })

  it('one call satisfies one expectation only', async () => {
    const twice = `${ASK.replace('10s', '300ms')}  - expect: { tool: chamade_dm_chat }\n`
    let calls = 0
    const { ok } = await play(twice, async (agent) => {
      if (calls++ === 0) await agent.call('chamade_dm_chat', { conversation_id: 'discord:alice', text: 'hi' })
    })
    expect(ok).toBe(false)
  })

  it('what it has seen of the agent is answered before it breaks anything', async () => {
    const answers: unknown[] = []
    const { ok } = await play(`${ASK}  - fault: restart\n  - wait: 300ms\n`, async (agent) => {
      const call = agent.call('chamade_dm_chat', { conversation_id: 'discord:alice', text: 'hi there' })
      answers.push(await call.catch((error: unknown) => error))
    })
    expect(ok).toBe(true)
    expect(answers).toEqual([expect.objectContaining({ content: expect.anything() as unknown })])
  })

  it('"never" fails when it happens', async () => {
    const text = `
steps:
  - dm: { from: Alice, text: hello }
  - never: { tool: chamade_inbox, for: 10s }
`
    const { ok } = await play(text, (agent) => agent.call('chamade_inbox', {}))
    expect(ok).toBe(false)
  })
})

const assistant: Reaction = async ({ content, meta }, call) => {
  const { conversation_id, call_id } = meta
  switch (meta.event_type) {
    case 'dm_chat': {
      const url = /https:\S+(?=")/.exec(content)?.[0]
      if (url !== undefined) await call('chamade_call_join', { platform: 'teams', meeting_url: url })
      else await call('chamade_dm_chat', { conversation_id, text: 'All 42 tests passing.' })
      break
    }
    case 'call_invite':
      await call('chamade_call_accept', { call_id })
      break
    case 'call_transcript':
      if (content.endsWith('?'))
        await call('chamade_call_say', { call_id, text: 'The auth migration is done; open on Sunday.' })
      break
    case 'channel_gap': {
      const { events } = resultOf(await call('chamade_inbox', {})) as {
        events: { conversation_id: string }[]
      }
      for (const { conversation_id: missed } of events.slice(-1))
        await call('chamade_dm_chat', { conversation_id: missed, text: 'I was away, now I am here.' })
      break
    }
    default:
  }
}

describe('the examples, with an agent behind the real bridge', () => {
  it.each(['standup-meeting', 'inbound-call', 'redeploy'])(
    '%s passes',
    async (name) => {
      const at = await home()
      const file = join('examples', 'scenarios', `${name}.yaml`)
      const simulator = run(at, ['simulate', '--port', '0', '--scenario', file])
      const { mcpUrl, key } = await introduced(simulator)
      await agentBehindBridge(mcpUrl, key, assistant)
      const code = await simulator.exited
      expect(simulator.output()).toMatch(/passed\n$/)
      expect(code).toBe(0)
    },
    90_000,
  )

  it('exits 1 when nobody answers, 2 when the file is wrong', async () => {
    const at = await home()
    const file = join(at, 'short.yaml')
    await writeFile(file, 'steps: [{ expect: { stream: open, within: 50ms } }]')
    const failed = await done(at, ['simulate', '--port', '0', '--scenario', file])
    expect(failed.code).toBe(1)
    expect(failed.output).toContain('\nstep 1 waits for your agent, 50 ms at most')
    expect(failed.output).toContain('FAIL  1  no stream open within 50 ms')
    await writeFile(file, 'steps: 7')
    expect((await done(at, ['simulate', '--port', '0', '--scenario', file])).code).toBe(2)
  })
})

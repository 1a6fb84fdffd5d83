/** Every tool and every documented wording, through the SDK's client. */
import { expect, it } from 'vitest'
import { agentOf, eventually, open, refusalOf, resultOf } from './agent.ts'
import { simulators } from './world.ts'

const start = simulators()

it('offers the fifteen tools, each with a schema', async () => {
  const agent = await agentOf(await start())
  const { tools } = await agent.client.listTools()
  expect(tools.map((tool) => tool.name).sort()).toEqual([
    'chamade_account',
    'chamade_call_accept',
    'chamade_call_chat',
    'chamade_call_join',
    'chamade_call_leave',
    'chamade_call_list',
    'chamade_call_refuse',
    'chamade_call_say',
    'chamade_call_status',
    'chamade_call_stop_speaking',
    'chamade_call_typing',
    'chamade_dm_chat',
    'chamade_dm_typing',
    'chamade_file_upload_url',
    'chamade_inbox',
  ])
  for (const tool of tools) expect(tool.inputSchema.type).toBe('object')
  await agent.close()
})

it('calls somebody who writes as they call themselves, however the agent spelt it before', async () => {
  const simulator = await start()
  const agent = await open(simulator)
  const sent = resultOf(await agent.call('chamade_dm_chat', { platform: 'discord', to: 'alice', text: 'hi' }))
  simulator.publish({ type: 'dm', from: 'Alice', text: 'yes?' })
  await eventually(() => agent.events.length === 1)
  expect(agent.events[0]?.content).toBe('New message from Alice on Discord: "yes?"')
  expect(agent.events[0]?.meta.conversation_id).toBe(sent.conversation_id)
  await agent.call('chamade_dm_chat', { platform: 'discord', to: 'ALICE', text: 'well' })
  simulator.publish({ type: 'dm', from: 'Alice', text: 'fine' })
  await eventually(() => agent.events.length === 2)
  expect(agent.events[1]?.content).toContain('from Alice on')
  await agent.close()
})

it('takes the sender_id and the conversation_id of a message for who wrote it, also as "to"', async () => {
  const simulator = await start()
  const agent = await open(simulator)
  simulator.publish({ type: 'dm', from: 'Alice', platform: 'telegram', text: 'here?' })
  await eventually(() => agent.events.length === 1)
  const { conversation_id, sender_id } = agent.events[0]?.meta ?? {}
  for (const to of [sender_id, conversation_id]) {
    const target = { platform: 'telegram', to, text: 'yes' }
    expect(resultOf(await agent.call('chamade_dm_chat', target)).conversation_id).toBe(conversation_id)
  }
  await agent.close()
})

it('joins a meeting: connecting, active, lines with since, chat, say, stop, leave', async () => {
  const simulator = await start({ speed: 8 })
  const agent = await open(simulator)
  const joined = resultOf(
    await agent.call('chamade_call_join', { platform: 'teams', meeting_url: 'https://teams.example/l/1' }),
  )
  expect(joined).toMatchObject({ state: 'connecting', platform: 'teams', agent_name: 'AI Agent' })
  expect(joined.capabilities).toContain('hosted_tts')
  const { call_id } = joined
  const tooEarly = await agent.call('chamade_call_say', { call_id, text: 'hi' })
  expect(refusalOf(tooEarly)).toContain('"connecting"')
  await eventually(() => agent.events.some((event) => event.meta.state === 'active'))

  simulator.publish({ type: 'transcript', speaker: 'Alice', text: "OK let's start the sprint review." })
  simulator.publish({ type: 'transcript', speaker: 'Bob', text: 'I finished the auth migration yesterday.' })
  await eventually(() => agent.events.length === 3)
  expect(agent.events[1]?.content).toBe("Transcript: [Alice] OK let's start the sprint review.")
  const status = resultOf(await agent.call('chamade_call_status', { call_id, since: 1 }))
  expect(status).toMatchObject({ state: 'active', transcript_length: 2 })
  expect(status.transcript).toMatchObject([{ index: 1, speaker: 'Bob' }])

  await agent.call('chamade_call_typing', { call_id })
  await agent.call('chamade_call_chat', { call_id, text: 'noted' })
  const long = 'Got it, I am noting that the auth migration is complete. '.repeat(40)
  expect(resultOf(await agent.call('chamade_call_say', { call_id, text: long })).status).toBe('speaking')
  const stopped = resultOf(await agent.call('chamade_call_stop_speaking', { call_id }))
  expect(stopped.status).toBe('stopped')
  expect(long.startsWith(stopped.spoken)).toBe(true)
  expect(resultOf(await agent.call('chamade_call_leave', { call_id })).state).toBe('ended')
  expect(refusalOf(await agent.call('chamade_call_leave', { call_id }))).toContain('"ended"')
  await eventually(() => agent.events.at(-1)?.meta.state === 'ended')
  await agent.close()
})

it('rings with the documented words; accept makes it active, a second accept is refused', async () => {
  const simulator = await start()
  const agent = await open(simulator)
  simulator.publish({ type: 'call', from: '+33 1 23 45 67 89' })
  await eventually(() => agent.events.length === 1)
  expect(agent.events[0]?.content).toBe('Incoming call: SIP +33 1 23 45 67 89, state: "ringing"')
  const call_id = agent.events[0]?.meta.call_id ?? ''
  const { calls } = resultOf(await agent.call('chamade_call_list', {}))
  expect(calls).toMatchObject([{ call_id, state: 'ringing', caller: '+33 1 23 45 67 89' }])
  expect(resultOf(await agent.call('chamade_call_accept', { call_id })).state).toBe('active')
  expect(refusalOf(await agent.call('chamade_call_accept', { call_id }))).toBe(
    `call ${call_id} is "active", not ringing`,
  )
  simulator.happen({ type: 'hangup' })
  await eventually(() => agent.events.at(-1)?.meta.state === 'ended')
  await agent.close()
})

it('refuses a ringing call, and misses one nobody answers within a minute of its clock', async () => {
  const simulator = await start({ speed: 2_000 })
  const agent = await open(simulator)
  simulator.publish({ type: 'call', from: '+1 555 0100' })
  await eventually(() => agent.events.some((event) => event.meta.state === 'missed'))
  const slow = await start()
  const other = await open(slow)
  slow.publish({ type: 'call', from: '+1 555 0100' })
  await eventually(() => other.events.length === 1)
  const refused = await other.call('chamade_call_refuse', { call_id: other.events[0]?.meta.call_id })
  expect(resultOf(refused).state).toBe('refused')
  await agent.close()
  await other.close()
})

it.each([
  ['discord', 'Discord'],
  ['telegram', 'Telegram'],
  ['teams', 'Teams'],
  ['whatsapp', 'WhatsApp'],
  ['slack', 'Slack'],
  ['nctalk', 'NC Talk'],
])('a message on %s reads as documented', async (platform, name) => {
  const simulator = await start()
  const { event } = simulator.publish({ type: 'dm', from: 'Alice', platform, text: 'Hello "you"' })
  expect(event.content).toBe(`New message from Alice on ${name}: "Hello "you""`)
  expect(Object.values(event.meta).every((value) => typeof value === 'string')).toBe(true)
})

it('queues on WhatsApp outside the window and delivers the batch when they write again', async () => {
  const simulator = await start()
  const agent = await open(simulator)
  const target = { platform: 'whatsapp', to: 'Alice' }
  const first = resultOf(await agent.call('chamade_dm_chat', { ...target, text: 'one' }))
  expect(first).toMatchObject({
    status: 'queued',
    reason: 'outside_24h_window',
    template_sent: true,
    queue_position: 1,
  })
  const second = resultOf(await agent.call('chamade_dm_chat', { ...target, text: 'two' }))
  expect(second).toMatchObject({ template_sent: false, queue_position: 2 })
  simulator.publish({ type: 'dm', from: 'Alice', platform: 'whatsapp', text: 'I am back' })
  await eventually(() => agent.events.length === 2)
  expect(agent.events[1]?.meta).toMatchObject({
    event_type: 'dm_delivered',
    count: '2',
    message_ids: `${first.message_id},${second.message_id}`,
  })
  expect(resultOf(await agent.call('chamade_dm_chat', { ...target, text: 'three' })).status).toBe('sent')
  simulator.happen({ type: 'window-closed', from: 'Alice' })
  expect(resultOf(await agent.call('chamade_dm_chat', { ...target, text: 'four' })).status).toBe('queued')
  await agent.close()
})

it('refuses what a platform would refuse, naming the cap', async () => {
  const agent = await agentOf(await start())
  const text = 'x'.repeat(2_001)
  const refusal = refusalOf(await agent.call('chamade_dm_chat', { platform: 'discord', to: 'Alice', text }))
  expect(refusal).toContain('2000')
  expect(
    resultOf(await agent.call('chamade_dm_chat', { platform: 'telegram', to: 'Alice', text })).status,
  ).toBe('sent')
  expect(
    refusalOf(await agent.call('chamade_dm_chat', { platform: 'fax', to: 'Alice', text: 'a' })),
  ).toContain('must be one of')
  expect(refusalOf(await agent.call('chamade_dm_chat', { conversation_id: 'nobody', text: 'a' }))).toContain(
    'nobody',
  )
  expect(refusalOf(await agent.call('chamade_call_say', { call_id: 'x' }))).toContain('"text" is missing')
  await agent.close()
})

it('reads the inbox by cursor without consuming, without a cursor once', async () => {
  const simulator = await start()
  const agent = await agentOf(simulator)
  for (const text of ['one', 'two', 'three']) simulator.publish({ type: 'dm', from: 'Alice', text })
  const page = resultOf(await agent.call('chamade_inbox', { cursor: 'c0', limit: 2 }))
  expect(page.events).toHaveLength(2)
  const rest = resultOf(await agent.call('chamade_inbox', { cursor: page.cursor }))
  expect(rest.events).toMatchObject([{ content: 'New message from Alice on Discord: "three"' }])
  expect(resultOf(await agent.call('chamade_inbox', {})).events).toHaveLength(3)
  expect(resultOf(await agent.call('chamade_inbox', {})).events).toHaveLength(0)
  expect(refusalOf(await agent.call('chamade_inbox', { cursor: '../../etc' }))).toContain('no cursor')
  await agent.close()
})

it('frees a cancelled long poll and keeps what it would have read', async () => {
  const simulator = await start()
  const agent = await agentOf(simulator)
  const cancel = new AbortController()
  const waiting = agent.client.callTool({ name: 'chamade_inbox', arguments: { wait: 55 } }, undefined, {
    signal: cancel.signal,
  })
  await eventually(() => simulator.agents[0]?.inbox.waiting === 1)
  cancel.abort()
  await expect(waiting).rejects.toThrow()
  await eventually(() => simulator.agents[0]?.inbox.waiting === 0)
  simulator.publish({ type: 'dm', from: 'Alice', text: 'not lost' })
  expect(resultOf(await agent.call('chamade_inbox', {})).events).toHaveLength(1)
  await agent.close()
})

it('takes files by upload, by URL and inline, and serves them by link', async () => {
  const simulator = await start()
  const agent = await agentOf(simulator)
  const offer = resultOf(await agent.call('chamade_file_upload_url', { name: 'a.txt', mime: 'text/plain' }))
  const target = { platform: 'telegram', to: 'Alice', text: 'see' }
  const early = await agent.call('chamade_dm_chat', { ...target, attachments: [{ file_id: offer.file_id }] })
  expect(refusalOf(early)).toContain('nothing was uploaded')
  const put = await fetch(offer.upload_url, { method: 'PUT', body: 'hello' })
  expect(put.status).toBe(201)
  const twice = await fetch(offer.upload_url, { method: 'PUT', body: 'hello' })
  expect(twice.status).toBe(404)
  const inline = { bytes_b64: Buffer.from('inline').toString('base64'), name: 'b.html', mime: 'text/html' }
  const attachments = [{ file_id: offer.file_id }, { url: 'https://files.example/c.png' }, inline]
  expect(resultOf(await agent.call('chamade_dm_chat', { ...target, attachments })).status).toBe('sent')
  const line = simulator.agents[0]?.conversations.get('telegram:alice')?.lines[0]
  expect(line?.attachments).toHaveLength(3)
  const [uploaded, , page] = line?.attachments ?? []
  expect(await (await fetch(uploaded?.url ?? '')).text()).toBe('hello')
  const served = await fetch(page?.url ?? '')
  expect(served.headers.get('content-disposition')).toMatch(/^attachment/)
  await served.text()
  await agent.close()
})

it('shows typing but not on Slack', async () => {
  const simulator = await start()
  const agent = await agentOf(simulator)
  await agent.call('chamade_dm_typing', { platform: 'discord', to: 'Alice' })
  await agent.call('chamade_dm_typing', { platform: 'slack', to: 'Alice' })
  const conversations = simulator.agents[0]?.conversations
  expect(conversations?.get('discord:alice')?.typingUntil).toBeGreaterThan(Date.now())
  expect(conversations?.get('slack:alice')?.typingUntil).toBe(0)
  await agent.close()
})

it('tells two agents apart', async () => {
  const simulator = await start({ keys: ['chmd_a', 'chmd_b'] })
  const second = await agentOf(simulator, { key: 'chmd_b' })
  expect(resultOf(await second.call('chamade_account', {})).agent).toBe('agent-2')
  await second.close()
})

it('shows calls and conversations as resources too', async () => {
  const simulator = await start()
  const agent = await agentOf(simulator)
  simulator.publish({ type: 'call', from: '+1 555 0100' })
  const { resources } = await agent.client.listResources()
  expect(resources.map((each) => each.uri)).toEqual(['chamade://calls', 'chamade://conversations'])
  const { contents } = await agent.client.readResource({ uri: 'chamade://calls' })
  expect(JSON.stringify(contents)).toContain('ringing')
  await expect(agent.client.readResource({ uri: 'chamade://secrets' })).rejects.toThrow('no resource')
  await agent.close()
})

it('refuses to speak, and transcribes nothing, without the hosted voice', async () => {
  const simulator = await start({ hostedVoice: false })
  const agent = await agentOf(simulator)
  const { callId: call_id } = simulator.happen({ type: 'call', from: '+1 555 0100' })
  const accepted = resultOf(await agent.call('chamade_call_accept', { call_id }))
  expect(accepted.capabilities).not.toContain('hosted_tts')
  expect(refusalOf(await agent.call('chamade_call_say', { call_id, text: 'hi' }))).toContain(
    'no hosted voice',
  )
  expect(() => simulator.happen({ type: 'transcript', speaker: 'Bob', text: 'hi' })).toThrow(
    'nothing is transcribed',
  )
  await agent.close()
})

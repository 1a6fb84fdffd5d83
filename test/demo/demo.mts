/**
 * `npm run demo`: the main job, with real parts, told as a timeline.
 *
 * A local Chamade, the bridge as an MCP host starts it, and the SDK's own client in front of it. Exits with 0
 * only if each step was seen.
 */
import { fileURLToPath } from 'node:url'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { z } from 'zod'
import { startSimulator } from '../../src/simulator/simulator.ts'

const BRIDGE = fileURLToPath(new URL('../../bin/chamade-mcp.js', import.meta.url))
const STEP_LIMIT_MS = 10_000

const ChannelEvent = z.object({
  method: z.literal('notifications/claude/channel'),
  params: z.object({ content: z.string(), meta: z.record(z.string()).optional() }),
})
type Params = z.infer<typeof ChannelEvent>['params']

const startedAt = performance.now()
const tell = (who: string, what: string): void => {
  const at = ((performance.now() - startedAt) / 1_000).toFixed(2).padStart(6)
  console.log(`${at} s  ${who.padEnd(9)} ${what}`)
}

const simulator = await startSimulator({})
tell('chamade', `a local Chamade listens at ${simulator.mcpUrl}`)

const arrived: Params[] = []
const transport = new StdioClientTransport({
  command: process.execPath,
  args: [BRIDGE, '--stateful', '--url', simulator.mcpUrl],
  env: { CHAMADE_API_KEY: simulator.key },
})
const agent = new Client({ name: 'demo', version: '1.0.0' })
agent.setNotificationHandler(ChannelEvent, ({ params }) => {
  arrived.push(params)
  tell('pushed', params.content)
})

try {
  await agent.connect(transport)
  const channel = agent.getServerCapabilities()?.experimental?.['claude/channel'] !== undefined
  tell(
    'agent',
    `connected to ${agent.getServerVersion()?.title ?? 'the server'}, channel declared: ${channel}`,
  )
  if (!channel) throw new Error('the server did not declare claude/channel')

  const { tools } = await agent.listTools()
  tell(
    'agent',
    `sees ${tools.length} tools: ${tools
      .map((tool) => tool.name)
      .slice(0, 4)
      .join(', ')} …`,
  )

  await until('the push stream is open', () => simulator.sessions.some((session) => session.streamOpen))
  simulator.publish({
    type: 'dm',
    from: 'Alice',
    platform: 'discord',
    text: 'Can you check the test results?',
  })
  const first = await event('a message from Alice', (params) => params.content.includes('Alice'))

  const answer = await agent.callTool({
    name: 'chamade_dm_chat',
    arguments: { conversation_id: first.meta?.conversation_id ?? '', text: 'All tests passing.' },
  })
  if (answer.isError === true) throw new Error(`chamade_dm_chat failed: ${JSON.stringify(answer.content)}`)
  tell('agent', 'answered with chamade_dm_chat: "All tests passing."')

  const [before] = simulator.sessions
  simulator.restart()
  tell('chamade', 'redeployed: every session is gone. The agent does nothing.')
  await until('the session is made anew', () =>
    simulator.sessions.some((session) => session.name !== before?.name && session.streamOpen),
  )
  tell('bridge', 'has a new session and a new push stream, by itself')
  await event('a word about the gap', (params) => params.meta?.event_type === 'channel_gap')

  simulator.publish({ type: 'dm', from: 'Bob', platform: 'telegram', text: 'Are you still there?' })
  await event('a message from Bob', (params) => params.content.includes('Bob'))

  await agent.close()
  await until('the session is deleted', () => simulator.sessions.length === 0)
  tell('bridge', 'said goodbye: the server holds no session any more')
  tell('demo', 'every step was seen')
} catch (error) {
  tell('demo', `FAILED: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
  await agent.close().catch(() => undefined)
} finally {
  await simulator.close()
}

async function event(what: string, wanted: (params: Params) => boolean): Promise<Params> {
  await until(what, () => arrived.some(wanted))
  const found = arrived.find(wanted)
  if (found === undefined) throw new Error(`${what} did not come`)
  return found
}

async function until(what: string, seen: () => boolean): Promise<void> {
  const limit = performance.now() + STEP_LIMIT_MS
  while (!seen()) {
    if (performance.now() > limit) throw new Error(`${what}: not seen within ${STEP_LIMIT_MS / 1_000} s`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** An agent for these tests: the SDK's client over real HTTP, keeping what is pushed to it. */
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Simulator } from '../../src/simulator/simulator.ts'

export interface ChannelMessage {
  readonly content: string
  readonly meta: Readonly<Record<string, string>>
}

export interface TestAgent {
  readonly client: Client
  readonly events: ChannelMessage[]
  readonly sessionId: string
  call(tool: string, args: Record<string, unknown>): Promise<unknown>
  goodbye(): Promise<void>
  close(): Promise<void>
}

/** Connects with a session, and waits until its push stream is open. */
export async function open(simulator: Simulator, options: { key?: string } = {}): Promise<TestAgent> {
  const before = simulator.sessions.filter((session) => session.streamOpen).length
  const agent = await agentOf(simulator, options)
  await eventually(() => simulator.sessions.filter((session) => session.streamOpen).length > before)
  return agent
}

export async function agentOf(simulator: Simulator, options: { key?: string } = {}): Promise<TestAgent> {
  const client = new Client({ name: 'test-agent', version: '1.0.0' })
  const events: ChannelMessage[] = []
  client.fallbackNotificationHandler = (note) => {
    if (note.method === 'notifications/claude/channel') events.push(note.params as unknown as ChannelMessage)
    return Promise.resolve()
  }
  const transport = new StreamableHTTPClientTransport(new URL(`${simulator.mcpUrl}?stateful`), {
    requestInit: { headers: { authorization: `Bearer ${options.key ?? simulator.key}` } },
  })
  await client.connect(transport as Parameters<Client['connect']>[0])
  return {
    client,
    events,
    sessionId: transport.sessionId ?? '',
    call: (name, args) => client.callTool({ name, arguments: args }),
    goodbye: () => transport.terminateSession(),
    close: () => client.close(),
  }
}

/** The JSON in a tool result; the result must not be an error. */
// biome-ignore lint/suspicious/noExplicitAny: results of fifteen tools, read by tests only
export function resultOf(result: unknown): any {
  const { content, isError } = result as { content: readonly { text: string }[]; isError?: boolean }
  if (isError === true) throw new Error(`the tool refused: ${content[0]?.text}`)
  return JSON.parse(content[0]?.text ?? '')
}

/** The sentence of a refused call. */
export function refusalOf(result: unknown): string {
  const { content, isError } = result as { content: readonly { text: string }[]; isError?: boolean }
  if (isError !== true) throw new Error(`the tool did not refuse: ${content[0]?.text}`)
  return content[0]?.text ?? ''
}

export async function eventually(holds: () => boolean, withinMs = 10_000): Promise<void> {
  const until = performance.now() + withinMs
  while (!holds()) {
    if (performance.now() > until) throw new Error(`did not happen within ${withinMs} ms: ${String(holds)}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

export function rawInitialize(): unknown {
  return {
    jsonrpc: '2.0',
    id: 0,
    method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'raw', version: '1' } },
  }
}

/**
 * The simulated product as an MCP server: the tools of one agent behind the SDK's protocol handling.
 *
 * Not HTTP; `endpoint.ts` puts it on the wire. The one rule: every tool call is journalled with what it answered.
 */
import { Server } from '@modelcontextprotocol/sdk/server/index.js'
import {
  CallToolRequestSchema,
  ErrorCode,
  ListResourcesRequestSchema,
  ListToolsRequestSchema,
  McpError,
  ReadResourceRequestSchema,
} from '@modelcontextprotocol/sdk/types.js'
import type { Agent } from './agent.ts'
import type { Files } from './files.ts'
import type { Journal } from './journal.ts'
import { listResources, readResource } from './resources.ts'
import { TOOLS } from './tools/index.ts'
import { type Arguments, problemOf, type Tool, ToolError, type ToolResult } from './tools/tool.ts'

export interface ServerOptions {
  readonly agent: Agent
  readonly files: Files
  readonly journal: Journal
  /** Name of the session in the journal; `stateless` for a server that lives for one request. */
  readonly session: string
  /** Declares the channel; then events may be pushed. */
  readonly channel: boolean
}

const CHANNEL_INSTRUCTIONS = `Chamade events (direct messages, incoming calls, call states, transcript lines) arrive as channel messages; do not poll for them.
Answer a direct message with chamade_dm_chat and the conversation_id of the event; a ringing call with chamade_call_accept or chamade_call_refuse and its call_id; speak in a call with chamade_call_say.
After a gap, catch up with chamade_inbox and chamade_call_status.`

const POLLING_INSTRUCTIONS = `This connection has no push. Call chamade_inbox with wait=55 in a loop to receive direct messages and call events; chamade_call_list shows ringing calls, chamade_call_status with "since" the transcript.
Answer a direct message with chamade_dm_chat and its conversation_id.`

/** A server that has not been connected to a transport yet. */
export function openServer(options: ServerOptions): Server {
  const always = { tools: {}, resources: {} }
  const capabilities = options.channel ? { ...always, experimental: { 'claude/channel': {} } } : always
  const instructions = options.channel ? CHANNEL_INSTRUCTIONS : POLLING_INSTRUCTIONS
  const server = new Server(
    { name: 'chamade', title: 'Chamade (local simulator)', version: '0.0.0-simulator' },
    { capabilities, instructions },
  )
  server.setRequestHandler(ListToolsRequestSchema, () => ({
    tools: TOOLS.map(({ name, description, inputSchema }) => ({
      name,
      description,
      inputSchema: {
        type: 'object' as const,
        properties: { ...inputSchema.properties },
        required: [...(inputSchema.required ?? [])],
      },
    })),
  }))
  server.setRequestHandler(CallToolRequestSchema, async (request, extra) => {
    const { name, arguments: args = {} } = request.params
    return callTool(options, name, args, extra.signal)
  })
  server.setRequestHandler(ListResourcesRequestSchema, () => ({ resources: listResources() }))
  server.setRequestHandler(ReadResourceRequestSchema, ({ params }) => {
    const found = readResource(options.agent, params.uri)
    if (found === undefined) throw new McpError(ErrorCode.InvalidParams, `there is no resource ${params.uri}`)
    return { contents: [found] }
  })
  return server
}

async function callTool(options: ServerOptions, name: string, args: Arguments, signal: AbortSignal) {
  const { agent, files, journal, session } = options
  const began = performance.now()
  const tool = TOOLS.find((each) => each.name === name)
  const outcome = await outcomeOf(tool, name, { agent, files, args, signal })
  journal.record({
    kind: 'tool',
    agent: agent.name,
    session,
    tool: name,
    args,
    ok: outcome.ok,
    text: outcome.text,
    tookMs: Math.round(performance.now() - began),
    ...(outcome.about === undefined ? {} : agent.answered(outcome.about)),
  })
  const content = [{ type: 'text' as const, text: outcome.text }]
  return outcome.ok ? { content } : { content, isError: true }
}

interface Outcome {
  readonly ok: boolean
  readonly text: string
  readonly about?: string | undefined
}

async function outcomeOf(
  tool: Tool | undefined,
  name: string,
  call: Parameters<Tool['run']>[0],
): Promise<Outcome> {
  if (tool === undefined) return { ok: false, text: `there is no tool "${name}"` }
  const problem = problemOf(tool.inputSchema, call.args)
  if (problem !== undefined) return { ok: false, text: `${name}: ${problem}` }
  try {
    const result: ToolResult = await tool.run(call)
    return { ok: true, text: JSON.stringify(result.value), about: result.about }
  } catch (error) {
    if (error instanceof ToolError) return { ok: false, text: error.message }
    throw error
  }
}

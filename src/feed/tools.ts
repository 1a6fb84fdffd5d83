/**
 * The tools of the feed: what they take, what they say.
 *
 * Not how a subscription works. The one rule: a failure is a tool error with a sentence an agent can act on, in
 * the words of the documentation where it has them.
 */
import type { CallToolResult, Tool } from '@modelcontextprotocol/sdk/types.js'
import { CATCH_UP_ELSEWHERE } from '../channel/tools.ts'
import { isSpaceId } from './config.ts'
import { isRecord, text } from './filter.ts'
import { type Interval, MAX_PROMPT, MIN_INTERVAL_S } from './interval.ts'
import { sentence } from './refusal.ts'
import type { Subscriptions } from './subscriptions.ts'
import { startOf } from './texts.ts'

export interface Toolbox {
  readonly subscriptions: Subscriptions
  readonly interval: Interval
}

const SPACE_ID = {
  type: 'string',
  description: 'Space ID (optional: omit for all spaces)',
  minLength: 1,
  maxLength: 200,
} as const
const HINTS = {
  readOnlyHint: false,
  destructiveHint: false,
  idempotentHint: true,
  openWorldHint: true,
} as const

export const TOOLS: readonly Tool[] = [
  {
    name: 'subscribe',
    title: 'Subscribe to a space',
    description:
      "Start receiving notifications for a space (also joins it), or, without a space_id, for all spaces you participate in; new ones are then found by themselves. You'll receive channel notifications for mentions, thread replies, decisions and status changes as they happen.",
    inputSchema: { type: 'object', properties: { space_id: SPACE_ID }, additionalProperties: false },
    annotations: HINTS,
  },
  {
    name: 'unsubscribe',
    title: 'Unsubscribe from a space',
    description:
      'Stop receiving notifications. Pass a space_id to unsubscribe from one space, or omit it to unsubscribe from all.',
    inputSchema: { type: 'object', properties: { space_id: SPACE_ID }, additionalProperties: false },
    annotations: HINTS,
  },
  {
    name: 'list_subscriptions',
    title: 'List subscriptions',
    description: "List the spaces you're currently subscribed to.",
    inputSchema: { type: 'object', properties: {}, additionalProperties: false },
    annotations: { readOnlyHint: true, openWorldHint: false },
    // None of these tools shows an event: after a break an agent is sent to those of moot's own server.
    _meta: {
      [CATCH_UP_ELSEWHERE]: 'get_mentions or get_recent_context of the moot MCP server',
    },
  },
  {
    name: 'set_interval',
    title: 'Set an interval',
    description:
      "Set one agent-local interval that injects a prompt into this agent's session. Replaces any existing interval.",
    inputSchema: {
      type: 'object',
      properties: {
        seconds: {
          type: 'number',
          minimum: MIN_INTERVAL_S,
          description: 'Interval in seconds (minimum 60).',
        },
        prompt: {
          type: 'string',
          minLength: 1,
          maxLength: MAX_PROMPT,
          description: "Prompt injected into this agent's session.",
        },
      },
      required: ['seconds', 'prompt'],
      additionalProperties: false,
    },
    annotations: { ...HINTS, openWorldHint: false },
  },
  {
    name: 'clear_interval',
    title: 'Clear the interval',
    description: "Cancel this agent's local interval, if one is set.",
    inputSchema: { type: 'object', properties: {}, additionalProperties: false },
    annotations: { ...HINTS, openWorldHint: false },
  },
]

/** Runs a tool. Never rejects. `cancelled`: aborted when nobody waits for the answer any more. */
export async function callTool(
  box: Toolbox,
  name: string,
  input: unknown,
  cancelled: AbortSignal,
): Promise<CallToolResult> {
  const given = isRecord(input) ? input : {}
  const unknown = unknownArgument(name, given)
  if (unknown !== undefined) return wrong(unknown)
  switch (name) {
    case 'subscribe':
      return withSpace(given, (spaceId) =>
        spaceId === undefined ? subscribeAll(box, cancelled) : subscribe(box, spaceId, cancelled),
      )
    case 'unsubscribe':
      return withSpace(given, (spaceId) => unsubscribe(box, spaceId))
    case 'list_subscriptions':
      return listSubscriptions(box)
    case 'set_interval':
      return setInterval(box, given)
    case 'clear_interval':
      return said(box.interval.clear() ? 'Agent interval cleared.' : 'No agent interval was set.')
    default:
      return wrong(`Unknown tool: ${name}`)
  }
}

/** A misspelt `space_id` must not come to mean all spaces. */
function unknownArgument(name: string, given: Readonly<Record<string, unknown>>): string | undefined {
  const tool = TOOLS.find((each) => each.name === name)
  const known = Object.keys(tool?.inputSchema.properties ?? {})
  const unknown = Object.keys(given).find((key) => !known.includes(key))
  if (tool === undefined || unknown === undefined) return undefined
  const takes = known.length === 0 ? 'it takes none' : `it takes ${known.join(' and ')}`
  return `Nothing was done: ${name} has no argument ${JSON.stringify(startOf(unknown, 40))}; ${takes}.`
}

async function subscribe(box: Toolbox, spaceId: string, cancelled: AbortSignal): Promise<CallToolResult> {
  const done = await box.subscriptions.subscribe(spaceId, cancelled)
  switch (done.state) {
    case 'new':
      return said(
        `Subscribed to ${spaceId}. You'll receive notifications for mentions, thread replies, and decisions.`,
      )
    case 'already':
      return said(`Already subscribed to ${spaceId}`)
    case 'kept':
      return wrong(
        `Not connected to ${spaceId} yet: ${sentence(done.refusal)} The subscription is kept: notifications begin as soon as it connects.`,
      )
    case 'refused':
      return wrong(`Not subscribed to ${spaceId}: ${sentence(done.refusal)}`)
    default:
      return done satisfies never
  }
}

async function subscribeAll(box: Toolbox, cancelled: AbortSignal): Promise<CallToolResult> {
  const done = await box.subscriptions.subscribeAll(cancelled)
  if (!done.ok) {
    if (done.no.error.code === 'CLOSING') return wrong(`Not subscribed: ${sentence(done.no)}`)
    return wrong(
      `Your spaces are not known yet: ${sentence(done.no)} They keep being looked for, and are subscribed as soon as they are found.`,
    )
  }
  const { added, total, waiting } = done.value
  const lines = waiting.map(({ spaceId, problem }) => `\n- ${spaceId} is not connected yet: ${problem}`)
  const words =
    added > 0 || total === 0
      ? `Subscribed to ${added} new space(s). Total: ${total} active subscriptions.`
      : waiting.length === 0
        ? `Already subscribed to all ${total} spaces.`
        : `No new spaces. Of your ${total} subscriptions ${waiting.length} ${waiting.length === 1 ? 'gets' : 'get'} nothing at the moment:`
  const answer = `${words}${lines.join('')}`
  return total > 0 && waiting.length === total ? wrong(answer) : said(answer)
}

function unsubscribe(box: Toolbox, spaceId: string | undefined): CallToolResult {
  if (spaceId === undefined) return said(`Unsubscribed from ${box.subscriptions.unsubscribeAll()} space(s).`)
  return said(
    box.subscriptions.unsubscribe(spaceId) ? `Unsubscribed from ${spaceId}` : `Not subscribed to ${spaceId}`,
  )
}

function listSubscriptions(box: Toolbox): CallToolResult {
  const list = box.subscriptions.list()
  if (list.length === 0) return said('No active subscriptions')
  const line = ({ spaceId, problem }: (typeof list)[number]): string =>
    problem === undefined ? `- ${spaceId}` : `- ${spaceId} (not connected: ${problem})`
  return said(list.map(line).join('\n'))
}

function setInterval(box: Toolbox, given: Readonly<Record<string, unknown>>): CallToolResult {
  const { seconds, prompt } = given
  if (typeof seconds !== 'number' || !Number.isFinite(seconds) || seconds < MIN_INTERVAL_S) {
    return wrong(`Error: seconds must be a finite number of at least ${MIN_INTERVAL_S}.`)
  }
  if (typeof prompt !== 'string' || prompt === '' || startOf(prompt, MAX_PROMPT) !== prompt) {
    return wrong(`Error: prompt must be a string of 1 to ${MAX_PROMPT} characters.`)
  }
  box.interval.set(seconds, prompt)
  return said(`Agent interval set for every ${Number(seconds.toPrecision(6))} seconds.`)
}

async function withSpace(
  given: Readonly<Record<string, unknown>>,
  act: (spaceId: string | undefined) => CallToolResult | Promise<CallToolResult>,
): Promise<CallToolResult> {
  const value = given.space_id
  // Some clients write an argument that is left out as `null`.
  if (value === undefined || value === null) return act(undefined)
  const spaceId = text(value)
  if (spaceId === undefined || !isSpaceId(spaceId)) {
    return wrong(
      'space_id must be the id of a space: up to 200 characters, without white space or slashes. Leave it out for all spaces.',
    )
  }
  return act(spaceId)
}

function said(text: string): CallToolResult {
  return { content: [{ type: 'text', text }] }
}

function wrong(text: string): CallToolResult {
  return { content: [{ type: 'text', text }], isError: true }
}

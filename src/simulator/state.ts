/**
 * What is, at this moment, as one JSON value: for the console and for scripts.
 *
 * Not what was; that is the journal. The one rule: no key and no token is in it.
 */
import type { Agent } from './agent.ts'
import type { Endpoint, SessionView } from './endpoint.ts'
import type { Faults } from './faults.ts'
import type { Journal } from './journal.ts'

export interface State {
  /** Differs for every start of a simulator. */
  readonly instance: string
  readonly url: string
  readonly mcpUrl: string
  /** Number of the latest journal entry; follow the timeline from here. */
  readonly seq: number
  readonly agents: readonly AgentState[]
  readonly sessions: readonly SessionView[]
  /** Faults that hold, with milliseconds left. */
  readonly faults: Readonly<Record<string, number>>
}

export interface AgentState {
  readonly name: string
  readonly waiting: number
  readonly calls: readonly unknown[]
  readonly conversations: readonly unknown[]
}

const SHOWN_LINES = 50

export function stateOf(world: {
  readonly instance: string
  readonly url: string
  readonly agents: readonly Agent[]
  readonly endpoint: Endpoint
  readonly faults: Faults
  readonly journal: Journal
}): State {
  return {
    instance: world.instance,
    url: world.url,
    mcpUrl: `${world.url}/mcp/`,
    seq: world.journal.seq,
    agents: world.agents.map(agentState),
    sessions: world.endpoint.sessions,
    faults: world.faults.active,
  }
}

function agentState(agent: Agent): AgentState {
  return {
    name: agent.name,
    waiting: agent.inbox.waiting,
    calls: agent.calls.all.map(({ id, platform, direction, peer, state, at, lines }) => ({
      id,
      platform,
      direction,
      peer,
      state,
      at,
      lines: lines.slice(-SHOWN_LINES),
    })),
    conversations: agent.conversations.all.map(({ id, platform, name, lines, typingUntil }) => ({
      id,
      platform,
      name,
      typing: typingUntil > Date.now(),
      lines: lines.slice(-SHOWN_LINES),
    })),
  }
}

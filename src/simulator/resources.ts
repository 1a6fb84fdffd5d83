/**
 * The resources of the simulated server. Documented is only that there are some; these are assumed.
 *
 * The one rule: they show what tools give too, so no agent depends on a guess.
 */
import type { Agent } from './agent.ts'

interface Resource {
  readonly uri: string
  readonly name: string
  readonly description: string
  readonly read: (agent: Agent) => unknown
}

const RESOURCES: readonly Resource[] = [
  {
    uri: 'chamade://calls',
    name: 'calls',
    description: 'Calls of this agent and their states, newest first',
    read: (agent) =>
      agent.calls.all.map(({ id, platform, state, peer }) => ({ call_id: id, platform, state, peer })),
  },
  {
    uri: 'chamade://conversations',
    name: 'conversations',
    description: 'Direct conversations of this agent',
    read: (agent) =>
      agent.conversations.all.map(({ id, platform, name }) => ({ conversation_id: id, platform, name })),
  },
]

const MIME = 'application/json'

export function listResources() {
  return RESOURCES.map(({ uri, name, description }) => ({ uri, name, description, mimeType: MIME }))
}

/** The text of a resource, or undefined when there is none under this URI. */
export function readResource(agent: Agent, uri: string) {
  const found = RESOURCES.find((each) => each.uri === uri)
  if (found === undefined) return undefined
  return { uri, mimeType: MIME, text: JSON.stringify(found.read(agent)) }
}

/** A client and a server around one `withChannel`, in memory: the test speaks for both. */
import { type ChannelOptions, DEFAULT_CHANNEL, withChannel } from '../../src/channel/channel.ts'
import { type ChannelEvent, channelEvent } from '../../src/channel/notification.ts'
import { compose, METHOD, type Request } from '../../src/protocol.ts'
import type { Upstream } from '../../src/sides.ts'
import type { PushStatus } from '../../src/status.ts'
import { MemoryUpstream, Recorder } from '../support/memory-upstream.ts'

/** All at once, and no hold: tests lengthen what they are about. */
export const BRISK: Partial<ChannelOptions> = { holdMs: 0, gapIntervalMs: 40, downAfterMs: 60_000 }

export interface Around {
  readonly server: MemoryUpstream
  readonly client: Recorder
  readonly upstream: Upstream
  /** The client says something. */
  readonly send: (value: object) => Promise<void>
  /** `initialize`, its answer, `notifications/initialized`. */
  readonly connect: () => Promise<void>
  /** The channel events that came out. */
  readonly events: () => ChannelEvent[]
  readonly contents: () => string[]
  /** Those among them that are notices of ours. */
  readonly notices: () => ChannelEvent[]
}

export const DECLARED = { tools: {}, experimental: { 'claude/channel': {} } }

/** `tools`: names the server lists; `'late'` leaves `tools/list` open. */
export function around(
  options: Partial<ChannelOptions> = {},
  capabilities: object = DECLARED,
  tools: readonly string[] | 'late' = ['chamade_call_say', 'chamade_call_status', 'chamade_inbox'],
): Around {
  const answer = (request: Request): string | undefined => {
    if (request.method === METHOD.initialize) {
      return JSON.stringify({ protocolVersion: '2025-11-25', capabilities, serverInfo: {} })
    }
    if (request.method !== METHOD.toolsList || tools === 'late') return undefined
    return JSON.stringify({ tools: tools.map((name) => ({ name, inputSchema: {} })) })
  }
  const server = new MemoryUpstream(answer)
  const client = new Recorder()
  const upstream = withChannel(server.open, { ...DEFAULT_CHANNEL, ...BRISK, ...options })(client)
  const send = (value: object): Promise<void> => upstream.send(compose({ jsonrpc: '2.0', ...value }))
  const connect = async (): Promise<void> => {
    await send({ id: 0, method: METHOD.initialize, params: {} })
    await send({ method: METHOD.initialized })
  }
  const events = (): ChannelEvent[] =>
    client.delivered.flatMap(({ message }) =>
      message.kind === 'notification' ? (channelEvent(message) ?? []) : [],
    )
  return {
    server,
    client,
    upstream,
    send,
    connect,
    events,
    contents: () => events().map(({ content }) => content),
    notices: () => events().filter(({ meta }) => meta.event_type?.startsWith('channel_')),
  }
}

export function channel(content: string, meta: object = {}): object {
  return { jsonrpc: '2.0', method: METHOD.channel, params: { content, meta } }
}

/** A fact about the push stream, now. */
export function push(state: PushStatus['state'], more: Partial<PushStatus> = {}): PushStatus {
  return { kind: 'push', state, at: Date.now(), generation: 1, ...more }
}

/** True when `promise` is still pending once everything that was due has run. */
export async function pending(promise: Promise<void>): Promise<boolean> {
  const later = new Promise<true>((resolve) => setImmediate(() => resolve(true)))
  return await Promise.race([promise.then(() => false as const), later])
}

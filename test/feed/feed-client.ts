/**
 * A client in front of `openFeed`, in this process: it shakes hands, calls tools, and keeps what is pushed.
 *
 * The seam is the outlet; behind it are real sockets to a real simulator. Not a mock of anything in src/feed.
 */
import { onTestFinished } from 'vitest'
import { channelEvent } from '../../src/channel/notification.ts'
import { withEnvironment } from '../../src/commands/command.ts'
import { FEED_OPTIONS } from '../../src/commands/moot.ts'
import { type FeedConfig, type FeedLimits, resolveFeed } from '../../src/feed/config.ts'
import { openFeed } from '../../src/feed/upstream.ts'
import { compose, type Message, valueAt } from '../../src/protocol.ts'
import type { OpenUpstream, Upstream } from '../../src/sides.ts'
import { type MootSimulatorOptions, startMootSimulator } from '../../src/simulator/moot/simulator.ts'
import { levelOf, type PushStatus, redactor, render, type Status } from '../../src/status.ts'
import { eventually, pause } from '../support/eventually.ts'

/** Quick enough for tests; what is tested of time is set by the test. */
export const QUICK: FeedLimits = {
  httpMs: 5_000,
  handshakeMs: 5_000,
  historyMs: 5_000,
  histories: 64,
  lookAgainMs: 60_000,
  heartbeatMs: 60_000,
  pingMs: 20_000,
  discoverMs: 60_000,
  toolMs: 5_000,
  maxFrameBytes: 16 * 1024 * 1024,
  maxBodyBytes: 64 * 1024 * 1024,
  maxQueued: 256 * 1024,
}

export const QUICK_BACKOFF = {
  baseMs: 10,
  capMs: 40,
  slowAfterMs: 60_000,
  slowCapMs: 60,
  stableAfterMs: 5_000,
}

export type Env = Readonly<Record<string, string | undefined>>
export type Changes = Partial<Omit<FeedConfig, 'limits'>> & { readonly limits?: Partial<FeedLimits> }

export type Simulator = Awaited<ReturnType<typeof startMootSimulator>>

export async function simulator(options: MootSimulatorOptions = {}): Promise<Simulator> {
  const started = await startMootSimulator(options)
  onTestFinished(() => started.close())
  return started
}

/** True when the client's socket stands: (almost) nothing is taken from it for a moment. */
export async function takesNothing(moot: Simulator, space: string): Promise<boolean> {
  const before = moot.sockets.taken(space)
  await pause(100)
  return moot.sockets.taken(space) - before < 200
}

/** The configuration a user's environment leads to, with quick times. */
export function configFrom(env: Env, changes: Changes = {}): FeedConfig {
  const { config } = resolveFeed(withEnvironment({}, FEED_OPTIONS, env), env, redactor())
  const { limits, ...rest } = changes
  return { ...config, backoff: QUICK_BACKOFF, ...rest, limits: { ...QUICK, ...limits } }
}

export interface ToolAnswer {
  readonly text: string
  readonly isError: boolean
}

export interface Told {
  readonly content: string
  readonly meta: Readonly<Record<string, string>>
}

export class FeedClient {
  readonly told: Told[] = []
  readonly statuses: Status[] = []
  /** Set to hold what is pushed, as a client does that does not read. */
  gate: Promise<void> | undefined
  /** Pushes that came as far as the gate. */
  offered = 0
  readonly upstream: Upstream
  readonly #answers = new Map<string, (message: Message) => void>()
  #lastId = 0

  /** `around`: what stands between, the channel for example. */
  constructor(config: FeedConfig, around: (open: OpenUpstream) => OpenUpstream = (open) => open) {
    this.upstream = around(openFeed(config))({
      deliver: async (message) => {
        if (message.kind === 'response') this.#answers.get(message.id ?? 'null')?.(message)
        if (message.kind !== 'notification') return
        this.offered++
        await this.gate
        const event = channelEvent(message)
        if (event !== undefined) this.told.push(event)
      },
      report: (status) => this.statuses.push(status),
    })
    onTestFinished(() => this.upstream.close(500))
  }

  get contents(): readonly string[] {
    return this.told.map(({ content }) => content)
  }

  /** What a person would see in the log at the level `info`, and at `debug`. */
  get log(): string {
    return this.statuses.map((status) => `${levelOf(status)} ${render(status)}`).join('\n')
  }

  pushStatuses(stream: string): readonly PushStatus[] {
    return this.statuses
      .filter((status) => status.kind === 'push')
      .filter((status) => status.stream === stream)
  }

  async request(method: string, params: unknown = {}): Promise<Record<string, unknown>> {
    const id = ++this.#lastId
    const answered = new Promise<Message>((resolve) => this.#answers.set(String(id), resolve))
    await this.upstream.send(compose({ jsonrpc: '2.0', id, method, params }))
    const message = await answered
    if (message.kind !== 'response') throw new Error('no response')
    const at = message.result ?? message.error
    if (at === undefined) throw new Error('an empty response')
    return valueAt(message.raw, at) as Record<string, unknown>
  }

  async initialize(): Promise<Record<string, unknown>> {
    const result = await this.request('initialize', {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'test', version: '1' },
    })
    await this.upstream.send(compose({ jsonrpc: '2.0', method: 'notifications/initialized' }))
    return result
  }

  async tool(name: string, args: object = {}): Promise<ToolAnswer> {
    const result = await this.request('tools/call', { name, arguments: args })
    const [first] = result.content as { text: string }[]
    return { text: first?.text ?? '', isError: result.isError === true }
  }

  /** Waits for `count` notifications. */
  async hears(count: number, withinMs?: number): Promise<readonly Told[]> {
    await eventually(
      `${count} notifications (there are ${this.told.length})`,
      () => this.told.length >= count,
      withinMs,
    )
    return this.told
  }
}

/** An initialized client of `moot`, with the environment a user would write. */
export async function connected(moot: Simulator, env: Env = {}, changes: Changes = {}): Promise<FeedClient> {
  const config = configFrom({ CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key, ...env }, changes)
  const client = new FeedClient(config)
  await client.initialize()
  return client
}

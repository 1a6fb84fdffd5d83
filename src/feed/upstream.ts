/**
 * A moot event feed dressed as an MCP server: the handshake, five tools, and channel notifications.
 *
 * Holds no socket (subscription.ts, shared-socket.ts) and says no event (texts.ts). The one rule: `initialize`
 * is answered at once, whatever the network does; nothing is connected before the client has initialized.
 */
import { type ChannelDraft, channelNotification } from '../channel/notification.ts'
import { errors } from '../errors.ts'
import { METHOD, type Message } from '../protocol.ts'
import { Backoff, firstOf, MAX_WAIT_MS, sleep } from '../retry.ts'
import type { OpenUpstream, Outlet, Upstream } from '../sides.ts'
import { VERSION } from '../version.ts'
import type { FeedConfig } from './config.ts'
import { Interval } from './interval.ts'
import { LocalServer } from './local-server.ts'
import { reasonOfRefusal } from './refusal.ts'
import type { Subscriptions } from './subscriptions.ts'
import { intervalDraft } from './texts.ts'
import { callTool, TOOLS } from './tools.ts'

/** The far side of `chamade-mcp moot`. */
export function openFeed(config: FeedConfig): OpenUpstream {
  return (outlet) => new Feed(config, outlet)
}

/** What the agent is told once, at the start; clients cut it at 2 KB. */
function instructions(config: FeedConfig): string {
  const { spaceId, autoSubscribe } = config
  const begin = autoSubscribe
    ? 'You are subscribed to all your active spaces.'
    : spaceId === undefined
      ? 'There are none until you call subscribe: without arguments for all your spaces, or with a space_id.'
      : `You are subscribed to ${spaceId}; call subscribe for others.`
  return `Events of moot spaces arrive by themselves as <channel> messages: mentions of you, replies in threads you took part in, decisions, status changes. ${begin} To answer, use the moot tools (reply_to, post_response) with the space_id and event_id of the message. A message that ends in "[truncated" is whole in get_recent_context.`
}

class Feed implements Upstream {
  readonly #config: FeedConfig
  readonly #outlet: Outlet
  readonly #server: LocalServer
  /** The network side. Loaded when it is first wanted: the handshake need not wait for its code. */
  #network: Promise<Subscriptions> | undefined
  readonly #interval: Interval
  readonly #over = new AbortController()
  /** The goodbye is over: nobody is answered any more. */
  readonly #gone = new AbortController()
  /** The end of the queue of channel messages. */
  #pushed: Promise<void> = Promise.resolve()
  #started: Promise<void> | undefined
  #closed: Promise<void> | undefined

  constructor(config: FeedConfig, outlet: Outlet) {
    this.#config = config
    this.#outlet = outlet
    this.#interval = new Interval(async (prompt) => {
      const { actor } = await this.#connect()
      const agentId = actor?.actorId ?? config.agentId ?? 'unknown-agent'
      await this.#push(intervalDraft(prompt, agentId, config.wording))
    })
    this.#server = new LocalServer(
      {
        about: {
          capabilities: { tools: {}, experimental: { 'claude/channel': {} } },
          serverInfo: { name: 'moot-channel', title: 'moot channel', version: VERSION },
          instructions: instructions(config),
        },
        tools: TOOLS,
        call: async (name, args, cancelled) => {
          const box = { subscriptions: await this.#connect(), interval: this.#interval }
          return callTool(box, name, args, cancelled)
        },
      },
      outlet.deliver,
    )
  }

  async send(message: Message): Promise<void> {
    if (this.#over.signal.aborted) throw errors.closing()
    // A client that was here before may call at once, without shaking hands again.
    if (
      message.kind !== 'response' &&
      (message.method === METHOD.initialized || message.method === METHOD.toolsCall)
    ) {
      this.#started ??= this.#start()
    }
    const done = await firstOf([this.#server.receive(message)], MAX_WAIT_MS, this.#gone.signal)
    if (done === undefined) throw errors.closing()
  }

  close(deadlineMs: number): Promise<void> {
    this.#closed ??= this.#close(deadlineMs)
    return this.#closed
  }

  /** What the configuration wants at start. Its failures are statuses; it is tried until it works. */
  async #start(): Promise<void> {
    const { spaceId, autoSubscribe } = this.#config
    const subscriptions = await this.#connect()
    if (spaceId !== undefined) subscriptions.keep(spaceId)
    if (autoSubscribe) subscriptions.discover(true)
    await this.#identify(subscriptions)
  }

  #connect(): Promise<Subscriptions> {
    this.#network ??= import('./subscriptions.ts').then(
      (room) => new room.Subscriptions(this.#config, this.#push.bind(this), this.#outlet.report),
    )
    return this.#network
  }

  /** A wrong key is said when the client starts, not when the agent first subscribes. */
  async #identify(subscriptions: Subscriptions): Promise<void> {
    const { backoff: options, random } = this.#config
    const backoff = new Backoff(options, random)
    let told: string | undefined
    while (!this.#over.signal.aborted) {
      const who = await subscriptions.identity()
      if (who.ok || this.#over.signal.aborted) return
      const { error, lasting, retryAfterMs } = who.no
      const reason = reasonOfRefusal(who.no)
      if (told !== reason) this.#outlet.report({ kind: 'failed', what: 'reaching moot', error })
      told = reason
      await sleep(lasting ? backoff.slow() : backoff.next(0, retryAfterMs), this.#over.signal)
    }
  }

  /** One at a time, in order: the next is given when the client has taken this one. */
  #push(draft: ChannelDraft, isWanted: () => boolean = () => true): Promise<void> {
    const given = this.#pushed.then(() => {
      if (this.#over.signal.aborted) throw errors.closing()
      // Unsubscribed while it waited for the client.
      if (!isWanted()) return undefined
      return this.#outlet.deliver(channelNotification(draft), 'push', isWanted)
    })
    this.#pushed = given.catch(() => undefined)
    return given
  }

  async #close(deadlineMs: number): Promise<void> {
    this.#over.abort()
    this.#interval.clear()
    const goodbye = Promise.allSettled([
      this.#network?.then((subscriptions) => subscriptions.close()),
      this.#started,
    ])
    // A client that takes nothing any more must not hold up the goodbye.
    await firstOf([goodbye], deadlineMs)
    this.#gone.abort()
  }
}

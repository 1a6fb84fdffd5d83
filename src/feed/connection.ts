/**
 * One WebSocket connection: opened or refused with a reason, read frame by frame, ended.
 *
 * Not the loop that keeps it up (socket.ts), no idea what a frame says. The one rule: the reader sets the pace; what
 * it has not taken waits in frames.ts, and while nothing is read nobody is taken for dead.
 *
 * undici's WebSocket tells neither why a handshake failed nor lets itself be paused. Both are had from its
 * dispatcher, which sees the response, the error, and the socket of the upgrade.
 */

import type { Duplex } from 'node:stream'
import type { SecureContext } from 'node:tls'
import { DecoratorHandler, type Dispatcher, ping, WebSocket } from 'undici'
import { ClockWatch, LOOK_MS, STOPPED_MS } from '../clock-watch.ts'
import { reasonOf, seconds } from '../errors.ts'
import type { NamedProxy } from '../proxy.ts'
import type { Clock } from '../retry.ts'
import { firstOf, sleep } from '../retry.ts'
import { isSystemTrusted, isUntrusted, trustSystem } from '../system-trust.ts'
import { Frames } from './frames.ts'
import { dispatcherFor } from './network.ts'
import {
  type Clean,
  failedBy,
  lineOf,
  no,
  type Refusal,
  type Reply,
  refusedBy,
  retryAfterMs,
  through,
  yes,
} from './refusal.ts'

export interface DialOptions {
  /** With the token: never shown. */
  readonly url: string
  /** What this connection is for: "follow space x". */
  readonly what: string
  readonly secureContext?: SecureContext | undefined
  readonly proxy?: NamedProxy | undefined
  /** The variable that gave the address, where it did that alone. */
  readonly setting?: string | undefined
  readonly handshakeMs: number
  readonly pingMs: number
  readonly maxFrameBytes: number
  readonly maxQueued: number
  readonly clock: Clock
  /** Cuts secrets out of what the server says. */
  readonly clean: Clean
}

/** How a connection ended. */
export interface Ending {
  readonly reason: string
  /** From when on something may not have come: ms since 1970. */
  readonly since: number
  /** Set when the server closed as it would refuse (44xx, 1008). */
  readonly refusal?: Refusal
}

/** An open connection. Take `frames` once; it ends when the connection does, after what had arrived. */
export interface Connection {
  readonly frames: AsyncIterable<string>
  /** Resolves when the connection is over. */
  readonly ended: Promise<Ending>
  readonly isOver: boolean
  send(text: string): void
  /** Says goodbye and is gone within `deadlineMs`. `why`: the reason of its end. */
  close(deadlineMs: number, why?: string): Promise<void>
}

/** Some servers let everybody in and close at once on whom they don't want: they have done so by then. */
const SETTLE_MS = 50
/** Whoever closes hangs up first [RFC 6455 §7.1.1]; some never do. */
const HANG_UP_MS = 1_000
/** Of one message; each costs memory beside its bytes. */
const MAX_FRAGMENTS = 131_072

/** Opens a connection. A refusal says why not; an aborted `signal` gives one too. */
export async function dial(options: DialOptions, signal: AbortSignal): Promise<Reply<Connection>> {
  const seen: Seen = {}
  const trusted = isSystemTrusted()
  const { handshakeMs, maxFrameBytes } = options
  const limits = {
    headersTimeout: handshakeMs,
    webSocket: { maxPayloadSize: maxFrameBytes, maxFragments: MAX_FRAGMENTS },
  }
  const agent = dispatcherFor({ ...options, connectMs: handshakeMs }, limits, 'tunnelled')
  let socket: WebSocket
  try {
    socket = new WebSocket(options.url, { dispatcher: agent.compose(watching(seen)) })
  } catch (cause) {
    await agent.destroy()
    return no(failed(new Error(`its address is refused (${reasonOf(cause)})`), options))
  }
  socket.binaryType = 'arraybuffer'
  const frames = new Frames(options.maxQueued, () => seen.raw)
  let heardClose: (event: { code: number; reason: string }) => void = () => undefined
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    heardClose = resolve
  })
  const settled = new AbortController()
  const opened = new Promise<boolean>((resolve) => {
    socket.addEventListener('open', () => resolve(true))
    socket.addEventListener('close', (event) => {
      resolve(false)
      frames.end()
      heardClose(event)
      settled.abort()
    })
    socket.addEventListener('error', () => resolve(false))
    socket.addEventListener('message', (event) => {
      const bytes: unknown = event.data
      frames.push(typeof bytes === 'string' ? bytes : Buffer.from(bytes as ArrayBuffer).toString('utf8'))
    })
  })
  const open = (await firstOf([opened], handshakeMs, signal))?.result
  if (open === true && !signal.aborted && seen.raw !== undefined) {
    const live = new Live(socket, seen.raw, agent, frames, closed, options)
    await sleep(SETTLE_MS, settled.signal, signal)
    if (!settled.signal.aborted) return yes(live)
    const { reason, refusal } = await live.ended
    return no(refusal ?? failed(new Error(reason), { ...options, proxy: undefined }))
  }
  socket.close()
  seen.raw?.destroy()
  await agent.destroy()
  if (options.secureContext === undefined && isUntrusted(seen.error) && trustSystem(trusted)) {
    return await dial(options, signal)
  }
  return no(whyNot(seen, options, open === undefined))
}

/** To one that runs again, a server that is there has answered by then. */
const AFTER_STOP_MS = 5_000

class Live implements Connection {
  readonly frames: Frames
  readonly ended: Promise<Ending>
  readonly #socket: WebSocket
  readonly #raw: Duplex
  readonly #over = new AbortController()
  readonly #clockWatch: ClockWatch
  #peerEnded = false
  #rawError: Error | undefined
  #silentMs: number | undefined
  #closedBecause: string | undefined
  /** When the close frame of the server was there: ms since 1970. */
  #closingSince: number | undefined
  /** When it was last known to be alive, if that says more than when it ended: ms since 1970. */
  #unsureSince: number | undefined

  constructor(
    socket: WebSocket,
    raw: Duplex,
    agent: Dispatcher,
    frames: Frames,
    closed: Promise<{ code: number; reason: string }>,
    options: DialOptions,
  ) {
    this.#socket = socket
    this.#raw = raw
    this.#clockWatch = new ClockWatch(options.clock)
    this.frames = frames
    raw.on('end', () => {
      this.#peerEnded = true
    })
    raw.on('error', (error) => {
      this.#rawError = error
    })
    const look = (): void => {
      if (this.#closingSince !== undefined || socket.readyState !== WebSocket.CLOSING) return
      this.#closingSince = options.clock.now()
      void sleep(HANG_UP_MS, this.#over.signal).then(() => raw.destroy())
    }
    raw.on('data', look)
    // A compressed message is read later, and so is a close frame behind it.
    socket.addEventListener('message', () => queueMicrotask(look))
    look()
    const watched = this.#watch(options)
    this.ended = closed.then(async (event) => {
      const at = this.#clockWatch.atTheEarliest(this.#closingSince ?? options.clock.now())
      this.#over.abort()
      await watched
      await agent.destroy()
      return this.#ending(event, at, options)
    })
  }

  get isOver(): boolean {
    return this.#over.signal.aborted
  }

  send(text: string): void {
    this.#socket.send(text)
  }

  async close(deadlineMs: number, why?: string): Promise<void> {
    if (this.#over.signal.aborted) return
    this.#closedBecause ??= why
    // What is queued has no reader any more: without a reader the server's close frame must still be seen.
    this.frames.discard()
    this.#socket.close(1000)
    await sleep(deadlineMs, this.#over.signal)
    this.#raw.destroy()
    await this.ended
  }

  /** Signs of life: a ping, and by the next one some byte must have come. Nothing is asked while we don't read. */
  async #watch(options: DialOptions): Promise<void> {
    const { pingMs, clock } = options
    let waitMs = pingMs
    let aliveAt = clock.now()
    let readOn = true
    while (!this.#over.signal.aborted) {
      const [bytes, wall, holds] = [bytesRead(this.#raw), clock.now(), this.frames.holds]
      // Its answer would not be read, and servers cut whoever pings without reading.
      const asked = !this.frames.held
      if (asked) ping(this.#socket)
      const stopped = await this.#wait(waitMs)
      const reading = asked && !this.#raw.isPaused() && this.frames.holds === holds
      const heard = bytesRead(this.#raw) !== bytes
      // What is read late says nothing of now.
      if (reading && heard) aliveAt = wall
      if (this.#over.signal.aborted) {
        // What had come and was not read yet is lost with it.
        if (!reading || !readOn) this.#unsureSince = aliveAt
        return
      }
      readOn = reading
      // We did not run: that is no silence of the server. Ask once more, and soon.
      if (reading && !heard && !stopped) {
        this.#silentMs = waitMs
        this.#unsureSince = aliveAt
        this.#raw.destroy()
        return
      }
      waitMs = stopped ? Math.min(pingMs, AFTER_STOP_MS) : pingMs
    }
  }

  /** For `ms`, or until it turns out that this process did not run for a while: true then. */
  async #wait(ms: number): Promise<boolean> {
    for (let left = ms; left > 0 && !this.#over.signal.aborted; left -= LOOK_MS) {
      await sleep(Math.min(left, LOOK_MS), this.#over.signal)
      if (this.#clockWatch.look().passedMs >= STOPPED_MS) return true
    }
    return false
  }

  #ending(event: { code: number; reason: string }, at: number, options: DialOptions): Ending {
    if (this.#closedBecause !== undefined) return { reason: this.#closedBecause, since: at }
    if (event.code === 1006) return { reason: this.#whyLost(options), since: this.#unsureSince ?? at }
    const said = lineOf(event.reason, options.clean)
    const reason = `the server closed it (code ${event.code}${said === '' ? '' : `: ${said}`})`
    const status =
      event.code === 1008 ? 403 : event.code > 4400 && event.code < 4430 ? event.code - 4000 : undefined
    if (status === undefined) return { reason, since: at }
    const { what, setting } = options
    const refusal = refusedBy(status, what, { said, how: `close code ${event.code}`, setting })
    return { reason, since: at, refusal }
  }

  #whyLost({ maxFrameBytes, proxy }: DialOptions): string {
    if (this.#silentMs !== undefined) return `no sign of life for ${seconds(this.#silentMs)}${through(proxy)}`
    if (this.#rawError !== undefined) return `${reasonOf(this.#rawError)}${through(proxy)}`
    const peer = proxy === undefined ? 'the server' : `the server or the proxy ${proxy.url.host}`
    if (this.#peerEnded) return `${peer} hung up`
    const limit = `${Math.round(maxFrameBytes / 1_048_576)} MiB`
    return `lost, or a frame was refused (malformed, or longer than ${limit})`
  }
}

/** What the dispatcher saw of a handshake. */
interface Seen {
  /** undici has tried it: all it refuses by itself are ports. */
  asked?: true
  status?: number
  retryAfter?: string
  error?: Error
  raw?: Duplex
}

function watching(seen: Seen): Dispatcher.DispatcherComposeInterceptor {
  return (dispatch) => (options, handler) => {
    seen.asked = true
    return dispatch(options, new Witness(handler, seen))
  }
}

type ReplyHeaders = Readonly<Record<string, string | string[] | undefined>>

/** undici's declaration leaves the methods of this class out. */
interface Handler {
  onRequestUpgrade(by: unknown, status: number, headers: ReplyHeaders, socket: Duplex): void
  onResponseStart(by: unknown, status: number, headers: ReplyHeaders, statusMessage?: string): void
  onResponseError(by: unknown, error: Error): void
}
const Decorator = DecoratorHandler as unknown as new (handler: Dispatcher.DispatchHandler) => Handler

class Witness extends Decorator {
  readonly #seen: Seen

  constructor(handler: Dispatcher.DispatchHandler, seen: Seen) {
    super(handler)
    this.#seen = seen
  }

  override onRequestUpgrade(...args: Parameters<Handler['onRequestUpgrade']>): void {
    const [by, status, headers, socket] = args
    this.#seen.status = status
    this.#seen.raw = socket
    // [RFC 6455 §4.1] `Upgrade` is one of its tokens; undici wants it to be the only one.
    const connection = /(?:^|,)\s*upgrade\s*(?:,|$)/i.test(String(headers.connection)) ? 'upgrade' : ''
    super.onRequestUpgrade(by, status, { ...headers, connection }, socket)
  }

  override onResponseStart(...args: Parameters<Handler['onResponseStart']>): void {
    const retryAfter = args[2]['retry-after']
    this.#seen.status = args[1]
    if (typeof retryAfter === 'string') this.#seen.retryAfter = retryAfter
    super.onResponseStart(...args)
  }

  override onResponseError(...args: Parameters<Handler['onResponseError']>): void {
    this.#seen.error ??= args[1]
    super.onResponseError(...args)
  }
}

// [Fetch §2.9]
const BAD_PORT =
  'its port is one that no WebSocket is opened to (a "bad port" of the Fetch standard); choose another'

function whyNot(seen: Seen, options: DialOptions, timedOut: boolean): Refusal {
  if (seen.status !== undefined && seen.status !== 101) {
    const { what, setting } = options
    return refusedBy(seen.status, what, { retryAfterMs: retryAfterMs(seen.retryAfter), setting })
  }
  if (timedOut) {
    return failed(new Error(`no answer to the handshake within ${seconds(options.handshakeMs)}`), options)
  }
  const why = seen.asked ? 'the handshake failed' : BAD_PORT
  return failed(seen.error ?? new Error(why), options)
}

function failed(cause: Error, { what, url, proxy, setting }: DialOptions): Refusal {
  return failedBy(cause, what, new URL(url).host, proxy, setting)
}

function bytesRead(raw: Duplex): number {
  return 'bytesRead' in raw && typeof raw.bytesRead === 'number' ? raw.bytesRead : Number.NaN
}

/**
 * Pump and ledger: what the client says goes up, what the server says comes down, and every request gets
 * exactly one answer (at most one once it is cancelled).
 *
 * Not aware of HTTP, sessions or WebSockets. Answers by itself only what nobody else can: input that is no
 * message, the era probe, a ping before there is anyone to ping, and requests whose fate is final.
 * The one rule: a line leaves the ledger exactly once, and what it leaves with is the answer.
 */
import { BridgeError, errors, reasonOf } from './errors.ts'
import {
  cancelledId,
  errorResponse,
  failure,
  type Malformed,
  METHOD,
  type Message,
  type Request,
  RPC,
  success,
} from './protocol.ts'
import { sleep, systemClock, turn } from './retry.ts'
import type { OpenUpstream, Port, Room, Upstream } from './sides.ts'
import type { Status } from './status.ts'

export interface BridgeOptions {
  readonly port: Port
  readonly open: OpenUpstream
  readonly report: (status: Status) => void
  /** Aborted by a signal: ends the bridge at once. */
  readonly signal: AbortSignal
  /** False once the process that started us is gone: nobody is left to drain for. */
  readonly parentAlive: () => boolean
  /** How long open requests may take after EOF, ms. */
  readonly drainMs: number
}

/** Why the bridge ended, and whether every request had its answer by then. */
export interface BridgeEnd {
  readonly cause: 'eof' | 'signal' | 'stdout'
  readonly answeredAll: boolean
}

/** Deadlines of the goodbye, ms: after EOF nobody waits, a signal is followed by SIGKILL half a second later. */
const GOODBYE_EOF_MS = 1_000
const GOODBYE_SIGNAL_MS = 300
const FLUSH_MS = 80
const FLUSHED = 'flushed'
/** A drain that waits for notifications and replies alone is no longer than this. */
const LAST_WORDS_MS = 2_000
/** How often a drain looks whether the parent is still there. */
const DRAIN_LOOK_MS = 200

/** Runs until EOF, a signal or a broken stdout; resolves after the goodbye, with nothing left running. */
export function runBridge(options: BridgeOptions): Promise<BridgeEnd> {
  return new Bridge(options).run()
}

interface Line {
  readonly method: string
  cancelled: boolean
}

class Bridge {
  readonly #options: BridgeOptions
  readonly #upstream: Upstream
  readonly #ledger = new Map<string, Line>()
  /** Notifications and replies on their way. */
  #underway = 0
  #initializeSeen = false
  #stdoutBroken = false
  readonly #interrupted: Promise<'signal' | 'stdout'>
  #interrupt: (cause: 'signal' | 'stdout') => void = () => undefined
  /** Wakes the drain when something was settled. */
  #wake: () => void = () => undefined

  constructor(options: BridgeOptions) {
    this.#options = options
    this.#interrupted = new Promise((resolve) => {
      this.#interrupt = resolve
    })
    if (options.signal.aborted) this.#interrupt('signal')
    options.signal.addEventListener('abort', () => this.#interrupt('signal'), { once: true })
    void options.port.broken.then(() => this.#readerGone())
    this.#upstream = options.open({
      deliver: (message) => this.#deliver(message),
      report: options.report,
    })
  }

  async run(): Promise<BridgeEnd> {
    let cause = await Promise.race([this.#pump(), this.#interrupted])
    if (cause === 'eof') cause = await Promise.race([this.#drain(), this.#interrupted])
    let answeredAll = !this.#requestsOpen
    await this.#goodbye(cause === 'signal' ? GOODBYE_SIGNAL_MS : GOODBYE_EOF_MS)
    // Who was told by its Upstream why it failed is answered with that.
    await turn()
    for (const id of [...this.#ledger.keys()]) this.#fail(id, errors.closing(true))
    // Whoever ended stdin may still read slowly; whoever sent a signal kills soon.
    const limitMs = cause === 'eof' ? this.#options.drainMs : FLUSH_MS
    const flushed = new AbortController()
    await Promise.race([
      this.#options.port.flush().then(() => flushed.abort(FLUSHED)),
      sleep(limitMs, flushed.signal),
      this.#interrupted.then(() => sleep(FLUSH_MS, flushed.signal)),
    ])
    if (flushed.signal.reason !== FLUSHED || this.#stdoutBroken) answeredAll = false
    flushed.abort()
    return { cause, answeredAll }
  }

  async #pump(): Promise<'eof'> {
    try {
      for await (const messages of this.#options.port.incoming) {
        for (const message of messages) {
          const room = this.#accept(message)
          if (room !== undefined) await room
        }
      }
    } catch (cause) {
      const text = `reading stdin failed: ${reasonOf(cause)}`
      this.#options.report({ kind: 'note', level: 'warn', text })
    }
    return 'eof'
  }

  /** Waits for what is open; gives up when time is out or nobody is left to wait for. */
  async #drain(): Promise<'eof'> {
    const { parentAlive, drainMs } = this.#options
    const began = systemClock.uptime()
    for (;;) {
      const limitMs = this.#requestsOpen ? drainMs : this.#underway > 0 ? Math.min(drainMs, LAST_WORDS_MS) : 0
      const leftMs = limitMs - (systemClock.uptime() - began)
      if (leftMs <= 0 || !parentAlive()) return 'eof'
      const woken = new AbortController()
      this.#wake = () => woken.abort()
      await sleep(Math.min(leftMs, DRAIN_LOOK_MS), woken.signal)
    }
  }

  /** A signal that comes in the midst of it shortens what is left. */
  async #goodbye(deadlineMs: number): Promise<void> {
    const { signal } = this.#options
    const over = new AbortController()
    const closed = this.#upstream.close(deadlineMs).then(() => over.abort())
    await sleep(deadlineMs, signal, over.signal)
    await (signal.aborted ? Promise.race([closed, sleep(GOODBYE_SIGNAL_MS, over.signal)]) : closed)
  }

  get #requestsOpen(): boolean {
    for (const line of this.#ledger.values()) if (!line.cancelled) return true
    return false
  }

  /** Something to wait for only where we answer ourselves: a client that does not read is not read either. */
  #accept(message: Message | Malformed): Room {
    switch (message.kind) {
      case 'malformed':
        return this.#answerMalformed(message)
      case 'request':
        return this.#acceptRequest(message)
      case 'notification': {
        if (message.method === METHOD.cancelled) {
          const line = this.#ledger.get(cancelledId(message) ?? '')
          if (line !== undefined) line.cancelled = true
          this.#wake()
        }
        this.#forward(message, message.method)
        return undefined
      }
      case 'response':
        this.#forward(message, `a reply to request ${message.id ?? 'null'} of the server`)
        return undefined
    }
  }

  #acceptRequest(request: Request): Room {
    const { id, method } = request
    if (this.#ledger.has(id)) {
      const text = `request id ${id} is still open; the second request (${method}) was not sent`
      return this.#written(failure(null, RPC.invalidRequest, text))
    }
    // A connection that answers the probe of the 2026-07-28 era can never be a channel.
    if (method === METHOD.discover) return this.#written(failure(id, RPC.methodNotFound, 'Method not found'))
    if (method === METHOD.initialize) this.#initializeSeen = true
    if (method === METHOD.ping && !this.#initializeSeen) return this.#written(success(id, '{}'))
    const line: Line = { method, cancelled: false }
    this.#ledger.set(id, line)
    this.#upstream.send(request).then(
      () => this.#settled(id, line),
      (error: unknown) => this.#failed(id, line, error),
    )
    return undefined
  }

  /** The far side is done with the request; an answer has left the ledger already. */
  #settled(id: string, line: Line): void {
    if (this.#ledger.get(id) !== line) return
    this.#fail(id, new BridgeError('SERVER_CONFUSED', `no answer came to ${line.method}`))
  }

  #failed(id: string, line: Line, cause: unknown): void {
    if (this.#ledger.get(id) !== line) return
    const failed = toBridgeError(cause)
    const isAway = line.method === METHOD.initialize && failed.code === 'SERVER_UNREACHABLE'
    const error = isAway ? errors.notConnected(failed) : failed
    if (error.code !== 'CLOSING' && !line.cancelled) {
      this.#options.report({ kind: 'failed', what: line.method, error })
    }
    this.#fail(id, error)
  }

  /** Strikes the line; answers it unless it was cancelled. */
  #fail(id: string, error: BridgeError): void {
    const line = this.#ledger.get(id)
    this.#strike(id)
    if (line !== undefined && !line.cancelled) void this.#written(errorResponse(id, error.toRpcError()))
  }

  #strike(id: string): void {
    this.#ledger.delete(id)
    this.#wake()
  }

  /** Notifications and replies: nobody waits for them, but a loss is said. */
  #forward(message: Message, what: string): void {
    this.#underway++
    this.#upstream
      .send(message)
      .catch((cause: unknown) => {
        const error = toBridgeError(cause)
        if (error.code === 'CLOSING') return
        this.#options.report({ kind: 'dropped', what: `${what} to the server`, why: error.message })
      })
      .finally(() => {
        this.#underway--
        this.#wake()
      })
  }

  #deliver(message: Message): Room {
    if (message.kind === 'response') {
      if (message.id === undefined || !this.#ledger.has(message.id)) {
        const what = `a response with id ${message.id ?? 'null'}`
        this.#options.report({ kind: 'dropped', what, why: 'no request with that id is open' })
        return undefined
      }
      this.#strike(message.id)
    }
    return this.#written(message)
  }

  #answerMalformed(input: Malformed): Room {
    switch (input.reason) {
      case 'not-json':
        return this.#written(failure(null, RPC.parse, `Parse error: ${input.detail}`))
      case 'not-rpc':
      case 'empty-batch':
        return this.#written(failure(null, RPC.invalidRequest, `Invalid Request: ${input.detail}`))
      case 'too-long':
        return this.#answerTooLong(input)
    }
  }

  /** Under its own id, unless that is the id of an open request: then it was a reply, or a second request. */
  #answerTooLong({ id, detail }: Malformed): Room {
    const free = id !== undefined && !this.#ledger.has(id) ? id : null
    return this.#written(failure(free, RPC.invalidRequest, `Invalid Request: ${detail}`))
  }

  /** Never rejects: a broken stdout ends the bridge, and nobody is left to tell. */
  #written(message: Message): Room {
    return this.#options.port.write(message)?.catch(() => this.#readerGone())
  }

  #readerGone(): void {
    this.#stdoutBroken = true
    this.#interrupt('stdout')
  }
}

function toBridgeError(cause: unknown): BridgeError {
  if (cause instanceof BridgeError) return cause
  return new BridgeError('SERVER_CONFUSED', `internal error: ${reasonOf(cause)}`, { cause })
}

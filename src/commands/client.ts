/**
 * A small MCP client over any Upstream: what `listen`, `call` and `tools` speak with.
 *
 * Not a bridge: it makes its own requests and reads the answers. The one rule: it declares no capability it
 * does not have, and answers every request of the server.
 */
import { BridgeError } from '../errors.ts'
import {
  composeNotification,
  composeRequest,
  elementTexts,
  failure,
  LATEST_LEGACY_VERSION,
  METHOD,
  type Message,
  member,
  type Notification,
  type Response,
  RPC,
  success,
  valueAt,
} from '../protocol.ts'
import { aborted } from '../retry.ts'
import type { OpenUpstream, Upstream } from '../sides.ts'
import type { Status } from '../status.ts'
import { VERSION } from '../version.ts'

/** Most pages of a list that are asked for. */
const MAX_PAGES = 1_000
const GOODBYE_MS = 1_000

/** What the server said to `initialize`. */
export interface ServerIdentity {
  readonly name: string
  readonly version: string
  readonly protocolVersion: string
  /** It declared `claude/channel`. */
  readonly channel: boolean
}

/** The server's own refusal of a request. */
export interface RpcError {
  readonly code: number
  readonly message: string
}

export type Answer =
  | {
      readonly ok: true
      readonly result: Readonly<Record<string, unknown>>
      /** What stands under `path` in it, as it came: numbers keep their digits. */
      readonly json: (...path: readonly string[]) => string
      /** The same of each element of the list there. */
      readonly elements: (...path: readonly string[]) => readonly string[]
    }
  | { readonly ok: false; readonly error: RpcError }

export interface ClientOptions {
  /** Cuts secrets out of what the server says of a refusal. */
  readonly redact: (text: string) => string
  /** The promise is the back-pressure: nothing more is read from that stream until it resolves. */
  readonly onNotification?: (notification: Notification) => Promise<void>
  readonly onStatus?: (status: Status) => void
}

/** A tool as `tools/list` shows it. */
export interface Tool {
  readonly name: string
  readonly description: string
  readonly inputSchema: Readonly<Record<string, unknown>>
}

/** With all that the server says of it, as JSON text. */
export interface ListedTool extends Tool {
  readonly json: string
}

export class McpClient {
  readonly #upstream: Upstream
  readonly #options: ClientOptions
  readonly #waiting = new Map<string, (response: Response) => void>()
  #ids = 0

  constructor(open: OpenUpstream, options: ClientOptions) {
    this.#options = options
    this.#upstream = open({
      deliver: (message) => this.#deliver(message),
      report: (status) => options.onStatus?.(status),
    })
  }

  /** Shakes hands. Rejects with a BridgeError, also when the server refuses. */
  async initialize(signal?: AbortSignal): Promise<ServerIdentity> {
    const params = {
      protocolVersion: LATEST_LEGACY_VERSION,
      capabilities: {},
      clientInfo: { name: 'chamade-mcp', version: VERSION },
    }
    const answer = await this.request(METHOD.initialize, params, signal)
    const { result } = settled(METHOD.initialize, answer)
    await this.#upstream.send(composeNotification(METHOD.initialized))
    const info = record(result.serverInfo)
    return {
      name: text(info.name) ?? 'unnamed',
      version: text(info.version) ?? '?',
      protocolVersion: text(result.protocolVersion) ?? '?',
      channel: declaresChannel(record(result.capabilities)),
    }
  }

  /**
   * One request, `params` as they are or as JSON text, and its answer. An aborted `signal` cancels it and rejects with
   * the signal's reason.
   */
  async request(method: string, params: object | string = {}, signal?: AbortSignal): Promise<Answer> {
    signal?.throwIfAborted()
    const id = ++this.#ids
    const request = composeRequest(id, method, params)
    const answered = new Promise<Response>((resolve) => this.#waiting.set(request.id, resolve))
    const cancel = (): void => {
      const params = { requestId: id, reason: 'the user ended it' }
      const notice = composeNotification(METHOD.cancelled, params)
      void this.#upstream.send(notice).catch(() => undefined)
    }
    signal?.addEventListener('abort', cancel, { once: true })
    try {
      const sent = this.#upstream.send(request)
      // Resolves after the answer was delivered, or when the request was withdrawn.
      await (signal === undefined ? sent : Promise.race([sent, aborted(signal)]))
      signal?.throwIfAborted()
      const response = await answered
      if (response.error !== undefined) {
        const error = record(valueAt(response.raw, response.error))
        const message = this.#options.redact(text(error.message) ?? '')
        return { ok: false, error: { code: Number(error.code), message } }
      }
      const { raw, result } = response
      return {
        ok: true,
        result: result === undefined ? {} : record(valueAt(raw, result)),
        json: (...path) => {
          const at = member(raw, result, ...path)
          return at === undefined ? 'null' : raw.toString('utf8', at.start, at.end)
        },
        elements: (...path) => elementTexts(raw, member(raw, result, ...path)),
      }
    } finally {
      signal?.removeEventListener('abort', cancel)
      this.#waiting.delete(request.id)
    }
  }

  /** All tools, page by page. */
  async tools(signal?: AbortSignal): Promise<readonly ListedTool[]> {
    const found: ListedTool[] = []
    const seen = new Set<string>()
    let cursor: string | undefined
    for (let page = 1; ; page++) {
      const answer = await this.request(METHOD.toolsList, cursor === undefined ? {} : { cursor }, signal)
      const { result, elements } = settled(METHOD.toolsList, answer)
      for (const json of elements('tools')) {
        const tool = record(JSON.parse(json))
        found.push({
          name: text(tool.name) ?? '',
          description: text(tool.description) ?? '',
          inputSchema: record(tool.inputSchema),
          json,
        })
      }
      cursor = text(result.nextCursor)
      // Pages that go round have all been seen.
      if (cursor === undefined || seen.has(cursor)) return found
      if (page >= MAX_PAGES) {
        throw new BridgeError('SERVER_CONFUSED', `the server's list of tools has no end (${page} pages)`)
      }
      seen.add(cursor)
    }
  }

  /** Says goodbye. */
  close(): Promise<void> {
    return this.#upstream.close(GOODBYE_MS)
  }

  async #deliver(message: Message): Promise<void> {
    switch (message.kind) {
      case 'response':
        this.#waiting.get(message.id ?? '')?.(message)
        return
      case 'notification':
        await this.#options.onNotification?.(message)
        return
      case 'request': {
        const answer =
          message.method === METHOD.ping
            ? success(message.id, '{}')
            : failure(message.id, RPC.methodNotFound, `${message.method} is not supported`)
        void this.#upstream.send(answer).catch(() => undefined)
      }
    }
  }
}

/** The good answer; throws a BridgeError when the server said no. */
function settled(what: string, answer: Answer): Answer & { readonly ok: true } {
  if (answer.ok) return answer
  const { code, message } = answer.error
  throw new BridgeError('SERVER_REFUSED', `the server refused ${what}: ${message} (${code})`)
}

/** Does a server that declares these capabilities push events, as a client of it sees that? */
export function declaresChannel(capabilities: Readonly<Record<string, unknown>>): boolean {
  return Boolean(record(capabilities.experimental)['claude/channel'])
}

export function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {}
}

export function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

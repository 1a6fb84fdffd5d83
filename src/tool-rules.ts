/**
 * Rules about tools, in front of any Upstream: some are hidden, none may hang.
 *
 * Not a registry: lists and calls pass as they are, but for what the user forbade.
 * The one rule: a call that is given up is cancelled upstream and answered here, once.
 */
import { BridgeError, errors, seconds } from './errors.ts'
import { globMatcher } from './glob.ts'
import { elements, textAt } from './json.ts'
import {
  cancelled,
  METHOD,
  type Message,
  member,
  type Request,
  type Response,
  stringMember,
  textMember,
  withSpan,
} from './protocol.ts'
import { sleep, turn } from './retry.ts'
import type { OpenUpstream, Room } from './sides.ts'

export interface ToolRules {
  /** Globs (`*`, `?`) of tool names to hide. */
  readonly ignore: readonly string[]
  /** Silence after which a call is given up, ms; undefined: never. */
  readonly timeoutMs: number | undefined
}

interface OpenCall {
  /** Raw token of `_meta.progressToken`: progress of it is a sign of life. */
  readonly progressToken: string | undefined
  lastSign: number
  readonly ended: AbortController
}

/** A call nobody waits for any more. */
interface GivenUp {
  readonly over: Promise<void>
  isAnswered: boolean
}

/** `open` with the rules applied; `open` itself when there are none. */
export function withToolRules(open: OpenUpstream, rules: ToolRules): OpenUpstream {
  const { ignore, timeoutMs } = rules
  if (ignore.length === 0 && timeoutMs === undefined) return open
  const hidden = ignore.map(globMatcher)
  const isHidden = (name: string | undefined): boolean =>
    name !== undefined && hidden.some((matches) => matches(name))
  return (outlet) => {
    const lists = new Set<string>()
    const calls = new Map<string, OpenCall>()
    /** Calls that were given up and may still be answered: their ids wait until that is over. */
    const givenUp = new Map<string, GivenUp>()
    /** What the client has not taken yet, and since when: behind it the answer may wait. */
    let untaken = 0
    let heldSince: number | undefined
    /** How long nothing was heard of a call, ms, while something could be. */
    const silentMs = ({ lastSign }: OpenCall): number =>
      Math.max(0, Math.min(heldSince ?? Number.POSITIVE_INFINITY, performance.now()) - lastSign)
    const taken = (room: Room): Room => {
      if (room === undefined) return room
      if (untaken++ === 0) heldSince = performance.now()
      return room.finally(() => {
        if (--untaken > 0) return
        for (const call of calls.values()) call.lastSign = performance.now() - silentMs(call)
        heldSince = undefined
      })
    }
    const upstream = open({
      report: outlet.report,
      deliver: (message, lane, isWanted) => {
        if (message.kind === 'response' && message.id !== undefined) {
          const late = givenUp.get(message.id)
          if (late !== undefined) {
            late.isAnswered = true
            return undefined
          }
          calls.get(message.id)?.ended.abort()
          if (lists.delete(message.id)) return taken(outlet.deliver(withoutHidden(message, isHidden), lane))
        }
        if (message.kind === 'notification' && message.method === 'notifications/progress')
          noteProgress(message, calls)
        const room = outlet.deliver(message, lane, isWanted)
        return lane === 'answer' ? taken(room) : room
      },
    })

    const call = async (request: Request, name: string): Promise<void> => {
      if (timeoutMs === undefined) return await upstream.send(request)
      const open: OpenCall = {
        progressToken: textMember(request.raw, request.params, '_meta', 'progressToken'),
        lastSign: performance.now(),
        ended: new AbortController(),
      }
      calls.set(request.id, open)
      const answered = upstream.send(request).finally(() => open.ended.abort())
      const late = watch(open, timeoutMs, silentMs)
      try {
        if ((await Promise.race([answered.then(() => 'answered'), late])) !== 'late') return await answered
      } finally {
        calls.delete(request.id)
      }
      const why = `no answer to ${name || METHOD.toolsCall} within ${seconds(timeoutMs)} (--tool-timeout)`
      const over = answered.catch(() => undefined).finally(() => givenUp.delete(request.id))
      const state: GivenUp = { over, isAnswered: false }
      givenUp.set(request.id, state)
      void upstream.send(cancelled(request.id, why)).catch(() => undefined)
      // What had not left us, or was refused, ends with its cancellation; or it ends just now by itself.
      await turn()
      if (state.isAnswered || givenUp.has(request.id)) {
        throw new BridgeError('RESPONSE_LOST', `${why}; it may still have run`)
      }
      await answered
      throw new BridgeError(
        'SERVER_UNREACHABLE',
        `${why}: the server could not be reached, or asked to wait; it was not run`,
      )
    }

    const list = (request: Request): Promise<void> => {
      lists.add(request.id)
      // (One that fails is not answered through here.)
      return upstream.send(request).finally(() => lists.delete(request.id))
    }

    const ask = (request: Request): Promise<void> => {
      const name = nameCalled(request)
      if (name !== undefined) return call(request, name)
      const isFiltered = request.method === METHOD.toolsList && hidden.length > 0
      return isFiltered ? list(request) : upstream.send(request)
    }

    return {
      send: (message: Message) => {
        const name = nameCalled(message)
        if (name !== undefined && isHidden(name)) return Promise.reject(errors.hiddenTool(name))
        if (message.kind !== 'request') return upstream.send(message)
        const over = givenUp.get(message.id)?.over
        return over === undefined ? ask(message) : over.then(() => ask(message))
      },
      close: (deadlineMs) => upstream.close(deadlineMs),
    }
  }
}

/** Resolves with `late` once nothing was heard of the call for `timeoutMs`; with `ended` when it ended before. */
async function watch(
  call: OpenCall,
  timeoutMs: number,
  silentMs: (call: OpenCall) => number,
): Promise<'late' | 'ended'> {
  while (!call.ended.signal.aborted) {
    const left = timeoutMs - silentMs(call)
    if (left <= 0) return 'late'
    await sleep(left, call.ended.signal)
  }
  return 'ended'
}

/** Of the tool, where `message` calls one: a server may run what a notification says. */
function nameCalled(message: Message): string | undefined {
  if (message.kind === 'response' || message.method !== METHOD.toolsCall) return undefined
  return stringMember(message.raw, message.params, 'name') ?? ''
}

function noteProgress(
  message: Message & { kind: 'notification' },
  calls: ReadonlyMap<string, OpenCall>,
): void {
  const token = textMember(message.raw, message.params, 'progressToken')
  if (token === undefined) return
  for (const call of calls.values()) if (call.progressToken === token) call.lastSign = performance.now()
}

/** The list without hidden tools; all other bytes stay as they were. */
function withoutHidden(response: Response, isHidden: (name: string | undefined) => boolean): Response {
  const tools = member(response.raw, response.result, 'tools')
  const all = tools === undefined ? undefined : elements(response.raw, tools)
  if (tools === undefined || all === undefined) return response
  const kept = all.filter((tool) => !isHidden(stringMember(response.raw, tool, 'name')))
  if (kept.length === all.length) return response
  const list = `[${kept.map((tool) => textAt(response.raw, tool)).join(',')}]`
  return withSpan(response, tools, list)
}

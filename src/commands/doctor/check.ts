/**
 * What a check is, and how a list of them is run.
 *
 * The one rule: a check says one thing, in one sentence, and with anything but `ok` one thing to do about it.
 * A check never throws at its reader: what it did not expect becomes a failed finding.
 */
import { BridgeError, isPlainHttp, proxyRefusal, reasonOf } from '../../errors.ts'
import { firstOf } from '../../retry.ts'

export type State = 'ok' | 'warn' | 'fail' | 'skip'

export interface Finding {
  readonly state: State
  readonly text: string
  /** What to do. */
  readonly advice?: string
}

export interface Check<Context> {
  /** Stable, for scripts: `session-404`. */
  readonly name: string
  run(context: Context, progress: (text: string) => void): Finding | Promise<Finding>
}

/** A finding with whose it is. */
export interface Result extends Finding {
  /** `server`, `machine` or `stream`. */
  readonly group: string
  readonly name: string
  readonly ms: number
}

export const ok = (text: string): Finding => ({ state: 'ok', text })
export const skip = (text: string, advice?: string): Finding => finding('skip', text, advice)
export const warn = (text: string, advice?: string): Finding => finding('warn', text, advice)
export const fail = (text: string, advice?: string): Finding => finding('fail', text, advice)

function finding(state: State, text: string, advice: string | undefined): Finding {
  return advice === undefined ? { state, text } : { state, text, advice }
}

/** Runs one check; `limitMs` ends the wait for one that hangs. */
export async function runCheck<Context>(
  check: Check<Context>,
  context: Context,
  progress: (text: string) => void,
  limitMs: number,
): Promise<Finding & { readonly ms: number }> {
  const start = performance.now()
  const found = await findingOf(check, context, progress, limitMs)
  return { ...found, ms: Math.round(performance.now() - start) }
}

async function findingOf<Context>(
  check: Check<Context>,
  context: Context,
  progress: (text: string) => void,
  limitMs: number,
): Promise<Finding> {
  try {
    const found = await firstOf([Promise.resolve(check.run(context, progress))], limitMs)
    const late = `no result within ${Math.round(limitMs / 1_000)} s`
    return found?.result ?? fail(late, 'run it again; if it stays so, report it')
  } catch (error) {
    if (error instanceof BridgeError) return fail(error.message, error.hint)
    const advice = 'run it again; if it stays so, look at what stands between you and the server'
    return fail(reasonOf(error), connectionAdvice(error, advice))
  }
}

/** What to do about a connection that failed; `otherwise` unless its error tells more. */
export function connectionAdvice(error: unknown, otherwise: string): string {
  const refused = proxyRefusal(error)
  if (refused === '407') return 'write them into the URL of the proxy: http://user:password@host:port'
  if (refused !== undefined) return 'ask whoever runs the proxy, or name the host in NO_PROXY'
  return isPlainHttp(error) ? 'it may speak plain http: write http:// in the URL' : otherwise
}

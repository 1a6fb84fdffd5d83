/**
 * The checks that need time: what comes on the push stream, how often, and what ends it.
 *
 * They are asked last, when the stream has been open for a while already.
 */
import { seconds } from '../../errors.ts'
import { firstOf } from '../../retry.ts'
import { type Check, fail, ok, skip, warn } from './check.ts'
import type { ServerContext } from './context.ts'
import { BUFFERED, type Watched } from './watch.ts'

/** Keep-alives come every 15 to 30 s as a rule: silence that was shorter says nothing. */
const TELLING_MS = 20_000

const firstByte: Check<ServerContext> = {
  name: 'first-byte',
  async run({ facts, waitMs, signal }, progress) {
    const { stream } = facts
    if (stream === undefined) return skip('no push stream')
    await until(stream, waitMs, signal, () => stream.arrivals.length > 0, progress)
    const [at] = stream.arrivals
    if (at !== undefined) return ok(`${seconds(at - stream.openedAt)} after the stream was opened`)
    if (stream.ended !== undefined) return fail(endText(stream), END_ADVICE)
    if (waitMs < TELLING_MS)
      return skip(
        `nothing in ${seconds(waitMs)}, which is shorter than most keep-alive intervals`,
        'listen longer: --wait 35s',
      )
    return warn(
      `nothing in ${seconds(waitMs)}: no keep-alive is sent, or something between holds it back`,
      BUFFERED,
    )
  },
}

const cadence: Check<ServerContext> = {
  name: 'keep-alive',
  async run({ facts, waitMs, signal }, progress) {
    const { stream } = facts
    if (stream === undefined || stream.arrivals.length === 0) return skip('nothing came')
    await until(stream, waitMs, signal, () => stream.arrivals.length >= 3, progress)
    if (stream.ended !== undefined) return fail(endText(stream), END_ADVICE)
    const gaps = stream.arrivals.slice(1).map((at, n) => at - (stream.arrivals[n] ?? at))
    if (gaps.length === 0 && waitMs < TELLING_MS)
      return skip(
        `one sign of life in ${seconds(waitMs)}, which is too short to see how often they come`,
        'listen longer: --wait 2m',
      )
    if (gaps.length === 0)
      return warn(`only one sign of life in ${seconds(waitMs)}`, 'run with --wait 2m to learn more')
    const longest = Math.max(...gaps)
    const line = `a sign of life every ${seconds(longest)}`
    return longest > 60_000 ? warn(line, 'many load balancers cut what is silent for 60 s') : ok(line)
  },
}

const idle: Check<ServerContext> = {
  name: 'idle',
  async run({ facts, longMs, signal }, progress) {
    const { stream } = facts
    if (stream === undefined) return skip('no push stream')
    if (longMs === undefined) return skip('what closes an idle stream, and when: --long finds out')
    await until(stream, longMs, signal, () => false, progress)
    if (stream.ended === undefined)
      return ok(`the stream was still open after ${seconds(performance.now() - stream.openedAt)}`)
    return warn(endText(stream), END_ADVICE)
  },
}

export const STREAM_CHECKS: readonly Check<ServerContext>[] = [firstByte, cadence, idle]

const END_ADVICE =
  'the bridge opens it again; if it happens often, raise the idle limit of what stands between'

function endText(stream: Watched): string {
  const lived = seconds((stream.ended?.at ?? stream.openedAt) - stream.openedAt)
  const last = stream.arrivals.at(-1)
  const silent =
    last === undefined
      ? 'without one byte'
      : `${seconds((stream.ended?.at ?? last) - last)} after its last byte`
  return `the push stream ${stream.ended?.how ?? 'ended'} after ${lived}, ${silent}`
}

/** Until `enough`, or the stream has ended, or it has been open for `limitMs`. */
async function until(
  stream: Watched,
  limitMs: number,
  signal: AbortSignal,
  enough: () => boolean,
  progress: (text: string) => void,
): Promise<void> {
  for (;;) {
    const left = stream.openedAt + limitMs - performance.now()
    if (enough() || stream.ended !== undefined || left <= 0 || signal.aborted) return
    progress(`listening, ${Math.ceil(left / 1_000)} s at most`)
    await firstOf([stream.changed()], Math.min(left, 1_000), signal)
  }
}

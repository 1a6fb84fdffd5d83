/**
 * The words of the notices: `channel_gap` (events may have been missed) and `channel_down` (nothing is heard, or,
 * with a `to`, was heard until then and nothing is missing).
 *
 * Not the decision when to say them (breaks.ts). The one rule: an agent can act on the text alone: from when to
 * when, why, and which tools to call now.
 */
import { oneLine, seconds } from '../errors.ts'
import type { Gap, Outage, Recovery } from './breaks.ts'
import type { ChannelDraft } from './notification.ts'
import type { CatchUp } from './tools.ts'

/** What is said after a break. */
export function gapNotice(gap: Gap, where: CatchUp): ChannelDraft {
  const call = callable(where)
  const reason = clause(gap.reason)
  const length =
    gap.breaks === 1 ? seconds(gap.deafMs) : `${gap.breaks} breaks, ${seconds(gap.deafMs)} in all`
  const changed =
    gap.changed === undefined
      ? ''
      : ` The server's session was renewed and differs from before: ${clause(gap.changed)}.`
  const catchUp =
    call === undefined
      ? 'No tool of this server is known that shows what came in that time: if it has one, call it now, else look at the source of these events itself.'
      : `${own(where)}To catch up on what came in that time, call ${call} now.`
  return {
    content:
      `Events on ${named(gap.stream)} may have been missed between ${iso(gap.from)} and ${iso(gap.to)} ` +
      `(${length}): ${reason}. It is up again and new events arrive.${changed} ${catchUp}`,
    meta: {
      event_type: 'channel_gap',
      from: iso(gap.from),
      to: iso(gap.to),
      duration_ms: String(gap.deafMs),
      reason,
      breaks: String(gap.breaks),
      stream: gap.stream,
    },
  }
}

/** What is said while a stream stays away. */
export function downNotice(outage: Outage, where: CatchUp): ChannelDraft {
  const call = callable(where)
  const reason = clause(outage.reason)
  const meanwhile =
    call === undefined
      ? 'Until then do not rely on being told of anything; no tool of this server is known that shows new events.'
      : `${own(where)}Until then you are not told of anything: to look for new events yourself, call ${call} from time to time.`
  return {
    content:
      `Nothing has arrived on ${named(outage.stream)} since ${iso(outage.since)} (${seconds(outage.downMs)}), ` +
      `because it is down: ${reason}. It is being reconnected without your help; the next event or notice ` +
      `here means that it is up again. ${meanwhile}`,
    meta: {
      event_type: 'channel_down',
      from: iso(outage.since),
      duration_ms: String(outage.downMs),
      reason,
      stream: outage.stream,
    },
  }
}

/** What is said when a stream that was told to be down is up again, and nothing was missed. */
export function upNotice(recovery: Recovery): ChannelDraft {
  const reason = clause(recovery.reason)
  return {
    content:
      `It is up again: ${named(recovery.stream)} was down from ${iso(recovery.since)} to ${iso(recovery.to)} ` +
      `(${seconds(recovery.downMs)}): ${reason}. Nothing was missed: what came in that time, if anything, follows ` +
      'here, and new events arrive. There is no need to look for them yourself any more.',
    meta: {
      event_type: 'channel_down',
      from: iso(recovery.since),
      to: iso(recovery.to),
      duration_ms: String(recovery.downMs),
      reason,
      stream: recovery.stream,
    },
  }
}

/** The object of "call": the server's own tools, else what it names; undefined when there is nothing. */
function callable({ tools, elsewhere }: CatchUp): string | undefined {
  if (tools.length > 0) return either(tools)
  return elsewhere === undefined ? undefined : clause(elsewhere)
}

function own({ tools }: CatchUp): string {
  return tools.length > 0 ? '' : 'The tools of this server show no events. '
}

function named(stream: string | undefined): string {
  return stream === undefined ? 'this channel' : `this channel's stream ${clause(stream)}`
}

function either(tools: readonly string[]): string {
  return tools.length < 2 ? tools.join('') : `${tools.slice(0, -1).join(', ')} or ${tools.at(-1)}`
}

function iso(at: number): string {
  return new Date(at).toISOString()
}

/** Fit for the middle of a sentence, and for an attribute: one line, no full stop, not endless. */
function clause(text: string): string {
  return oneLine(text, 199).replace(/\.+$/, '')
}

/**
 * What the checks out there share: how they were asked, and what the earlier ones have learned.
 *
 * Later checks stand on `Facts`; where one is missing they are skipped, so that the first failure is the one
 * that is read. The one rule: every session that is opened is ended by `hangUp`.
 */
import type { ServerSettings } from '../../config.ts'
import type { OptionValues } from '../../options.ts'
import type { Redactor } from '../../status.ts'
import type { Io } from '../command.ts'
import type { Exchanged, Probe, SessionRef } from './probe.ts'
import type { Watched } from './watch.ts'

export interface ServerContext {
  readonly io: Io
  readonly values: OptionValues
  readonly operands: readonly string[]
  readonly redact: Redactor
  readonly signal: AbortSignal
  /** How long the push stream is listened to. */
  readonly waitMs: number
  /** How long at most, to see what closes an idle one; undefined: not looked for. */
  readonly longMs: number | undefined
  readonly facts: Facts
}

/** What the checks have learned so far. */
export interface Facts {
  settings?: ServerSettings
  probe?: Probe
  /** The host has no address. */
  unresolved?: boolean
  /** So far nothing stands in the way of the next question. */
  goesOn?: boolean
  first?: Exchanged
  stateless?: SessionRef
  session?: SessionRef
  capabilities?: Readonly<Record<string, unknown>>
  stream?: Watched
}

/** Ends the sessions and the stream. Never rejects. */
export async function hangUp({ facts }: ServerContext): Promise<void> {
  facts.stream?.stop()
  const { probe } = facts
  for (const session of [facts.stateless, facts.session]) {
    if (probe === undefined || session?.id === undefined) continue
    await probe
      .open('DELETE', session, undefined, AbortSignal.timeout(2_000))
      .then((reply) => reply.body.destroy())
      .catch(() => undefined)
  }
}

/**
 * What the commands for people connect to: the same HTTP or moot side as the bridge, opened from their options.
 */
import { DEFAULT_CHANNEL, withChannel } from '../channel/channel.ts'
import { serverSettings } from '../config.ts'
import { openHttp } from '../http/upstream.ts'
import { type OptionSpec, type OptionValues, SERVER_OPTIONS } from '../options.ts'
import type { OpenUpstream } from '../sides.ts'
import { type NoteStatus, type Redactor, type Status, statusLog } from '../status.ts'
import { type Io, withEnvironment } from './command.ts'
import { askedFor, ENTRY_OPTION } from './entry.ts'
import { inShell } from './in-shell.ts'
import { FEED_OPTIONS } from './moot.ts'

/** Options of a command that connects as a client. It takes what comes: a message of any size. */
export const CONNECTION_OPTIONS: readonly OptionSpec[] = SERVER_OPTIONS.filter(
  ({ flags }) => !flags.startsWith('--max-message'),
).concat(ENTRY_OPTION)

export interface FarSide {
  readonly open: OpenUpstream
  /** What is connected to, as it may be shown. */
  readonly where: string
  /** What the user should know about the settings. */
  readonly notes: readonly NoteStatus[]
}

/** An MCP server behind a URL. It is waited for `limitMs` at most, whatever the patience. */
export async function serverSide(
  values: OptionValues,
  operands: readonly string[],
  io: Io,
  redact: Redactor,
  limitMs = Number.POSITIVE_INFINITY,
): Promise<FarSide> {
  const asked = await askedFor(values, operands, io)
  const { http, notes } = await serverSettings(asked.values, asked.operands, asked.env, redact)
  const { origin, pathname } = new URL(http.url)
  const where = `${origin}${pathname}`
  const patienceMs = Math.min(http.patienceMs, limitMs)
  return { open: openHttp({ ...http, patienceMs }), where, notes }
}

/** The spaces of a moot; the values are flags of `chamade-mcp moot`. */
export async function mootSide(values: OptionValues, env: Io['env'], redact: Redactor): Promise<FarSide> {
  const { resolveFeed } = await import('../feed/config.ts')
  const { openFeed } = await import('../feed/upstream.ts')
  const { config, notes } = resolveFeed(withEnvironment(values, FEED_OPTIONS, env), env, redact)
  return { open: openFeed(config), where: config.apiUrl, notes }
}

/** With every break told at once, and nothing held back: somebody watches. */
export function watched(open: OpenUpstream, redact: Redactor): OpenUpstream {
  return withChannel(open, { ...DEFAULT_CHANNEL, redact, holdMs: 0, gapIntervalMs: 0, downAfterMs: 10_000 })
}

/** Warnings go to stderr; the notes of the settings first. */
export function reportTo(io: Io, side: FarSide, redact: Redactor): (status: Status) => void {
  const write = (line: string): boolean => io.stderr.write(inShell(line))
  const log = statusLog({ write, level: 'warn', format: 'text', redact })
  for (const note of side.notes) log(note)
  return log
}

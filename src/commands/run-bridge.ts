/**
 * The common end of `connect` and `moot`: a Port on stdin and stdout, the bridge, and an Upstream behind it.
 */
import { openSync, writeSync } from 'node:fs'
import { type BridgeEnd, runBridge } from '../bridge.ts'
import { DEFAULT_CHANNEL, withChannel } from '../channel/channel.ts'
import { parseFilter } from '../channel/filter.ts'
import { duration, invalid, list, logSettings, maxMessage, text } from '../config.ts'
import { reasonOf } from '../errors.ts'
import type { OpenUpstream } from '../sides.ts'
import { type Redactor, type Status, statusLog } from '../status.ts'
import { openStdio } from '../stdio.ts'
import type { Io, OptionValues } from './command.ts'

/** Serves MCP on stdio until the client leaves. Resolves with the exit code; a signal's is the caller's business. */
export async function serveStdio(
  open: OpenUpstream,
  values: OptionValues,
  io: Io,
  redact: Redactor,
  notes: readonly Status[],
): Promise<number> {
  const complain = (text: string): void => report({ kind: 'note', level: 'error', text })
  const report = statusLog({ ...logSettings(values), redact, write: logWriter(values, io, complain) })
  const channel = {
    ...DEFAULT_CHANNEL,
    redact,
    holdMs: duration(values, 'hold') ?? DEFAULT_CHANNEL.holdMs,
    gapIntervalMs: duration(values, 'gapInterval') ?? DEFAULT_CHANNEL.gapIntervalMs,
    gapNotice: values.noGapNotice !== true,
    only: parseFilter(list(values.only), '--only'),
    drop: parseFilter(list(values.drop), '--drop'),
  }
  const drainMs = duration(values, 'drain') ?? 20_000
  const port = openStdio(io.stdin, io.stdout, { maxLineBytes: maxMessage(values) })
  for (const note of notes) report(note)
  if (io.stdin.isTTY) report(AT_A_TERMINAL)
  const end = await runBridge({
    port,
    open: withChannel(open, channel),
    report,
    signal: io.signal,
    parentAlive: io.parentAlive,
    drainMs,
  })
  return exitCode(end)
}

const AT_A_TERMINAL: Status = {
  kind: 'note',
  level: 'warn',
  text: 'reading MCP messages from this terminal, one a line; usually an MCP client starts this program',
  hint: '--help, or Ctrl-D to end',
}

/** To stderr unless `--silent`, and to `--log-file`, which only its owner can read. */
function logWriter(values: OptionValues, io: Io, complain: (text: string) => void): (line: string) => void {
  const path = text(values.logFile)
  let file = path === undefined ? undefined : openLog(path)
  return (line) => {
    if (values.silent !== true) io.stderr.write(line)
    if (file === undefined) return
    try {
      writeSync(file, line)
    } catch (cause) {
      // A full disk is no reason to be deaf.
      file = undefined
      complain(`the log file ${path} cannot be written: ${reasonOf(cause)}`)
    }
  }
}

function openLog(path: string): number {
  try {
    return openSync(path, 'a', 0o600)
  } catch (cause) {
    throw invalid(
      `the log file ${path} cannot be written (${reasonOf(cause)})`,
      'check the path and its permissions',
    )
  }
}

/** 0 when every request had its answer. */
function exitCode(end: BridgeEnd): number {
  return end.cause === 'eof' && end.answeredAll ? 0 : 1
}

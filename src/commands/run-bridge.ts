/**
 * The common end of `connect` and `moot`: a Port on stdin and stdout, the bridge, and an Upstream behind it.
 */
import { accessSync, closeSync, constants, existsSync, fstatSync, openSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { type BridgeEnd, runBridge } from '../bridge.ts'
import { DEFAULT_CHANNEL, withChannel } from '../channel/channel.ts'
import { parseFilter } from '../channel/filter.ts'
import { duration, list, logSettings, maxMessage, text } from '../config.ts'
import { type BridgeError, invalid, reasonOf } from '../errors.ts'
import type { OptionValues } from '../options.ts'
import type { OpenUpstream } from '../sides.ts'
import { type NoteStatus, type Redactor, statusLog } from '../status.ts'
import { openStdio } from '../stdio.ts'
import type { Io } from './command.ts'

/** Serves MCP on stdio until the client leaves. Resolves with the exit code; a signal's is the caller's business. */
export async function serveStdio(
  open: OpenUpstream,
  values: OptionValues,
  io: Io,
  redact: Redactor,
  notes: readonly NoteStatus[],
): Promise<number> {
  const { log, channel, drainMs, maxLineBytes } = bridgeSettings(values)
  const complain = (text: string): void => report({ kind: 'note', level: 'error', text })
  const report = statusLog({ ...log, redact, write: logWriter(values, io, complain) })
  const port = openStdio(io.stdin, io.stdout, { maxLineBytes })
  for (const note of notes) report(note)
  if (io.stdin.isTTY) report(AT_A_TERMINAL)
  const end = await runBridge({
    port,
    open: withChannel(open, { ...channel, redact }),
    report,
    signal: io.signal,
    parentAlive: io.parentAlive,
    drainMs,
  })
  return exitCode(end)
}

/** What the values say of all that is not the far side. Throws CONFIG_INVALID. */
export function bridgeSettings(values: OptionValues) {
  const channel = {
    ...DEFAULT_CHANNEL,
    holdMs: duration(values, 'hold') ?? DEFAULT_CHANNEL.holdMs,
    gapIntervalMs: duration(values, 'gapInterval') ?? DEFAULT_CHANNEL.gapIntervalMs,
    gapNotice: values.noGapNotice !== true,
    only: parseFilter(list(values.only), '--only'),
    drop: parseFilter(list(values.drop), '--drop'),
  }
  const drainMs = duration(values, 'drain') ?? 20_000
  return { log: logSettings(values), channel, drainMs, maxLineBytes: maxMessage(values) }
}

const AT_A_TERMINAL: NoteStatus = {
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

/** Throws CONFIG_INVALID where a log could not be opened; opens and makes none. */
export function checkLogFile(path: string): void {
  try {
    if (!existsSync(path)) return accessSync(dirname(path), constants.W_OK)
    closeSync(openSync(path, constants.O_WRONLY | APPEND_ONLY))
  } catch (cause) {
    throw unusableLog(path, cause)
  }
}

const STDOUT = 1

/** Never waited for: a named pipe that nobody reads is no log file. */
const APPEND_ONLY = constants.O_APPEND | ((constants.O_NONBLOCK as number | undefined) ?? 0)
const APPEND = constants.O_WRONLY | APPEND_ONLY | constants.O_CREAT

function openLog(path: string): number {
  try {
    const file = openSync(path, APPEND, 0o600)
    if (!isStdout(file)) return file
  } catch (cause) {
    throw unusableLog(path, cause)
  }
  throw invalid(
    `the log file ${path} is stdout, which belongs to the protocol`,
    'name a file, or read stderr',
  )
}

function unusableLog(path: string, cause: unknown): BridgeError {
  return invalid(
    `the log file ${path} cannot be written (${reasonOf(cause)})`,
    'check the path and its permissions',
  )
}

function isStdout(file: number): boolean {
  const [log, out] = [fstatSync(file), fstatSync(STDOUT)]
  return (log.isFile() || log.isFIFO()) && log.dev === out.dev && log.ino === out.ino
}

/** 0 when every request had its answer. */
function exitCode(end: BridgeEnd): number {
  return end.cause === 'eof' && end.answeredAll ? 0 : 1
}

/**
 * `chamade-mcp doctor`: which link of the chain is down.
 *
 * Between a message out there and an agent here stand a dozen things that fail without a word. Each has a named
 * check. The one rule: nothing is changed, and what is printed can be pasted into an issue.
 */

import { lengthOf } from '../config.ts'
import { PLACEHOLDER } from '../credentials.ts'
import type { OptionValues } from '../options.ts'
import { redactor } from '../status.ts'
import { VERSION } from '../version.ts'
import type { CommandSpec, Io } from './command.ts'
import { type Check, type Result, runCheck } from './doctor/check.ts'
import { CLAUDE_CHECKS } from './doctor/claude.ts'
import { hangUp, type ServerContext } from './doctor/context.ts'
import { configured } from './doctor/entries.ts'
import { MACHINE_CHECKS, machineContext } from './doctor/machine.ts'
import { JsonReport, ListReport, type Report } from './doctor/report.ts'
import { SERVER_CHECKS } from './doctor/server.ts'
import { STREAM_CHECKS } from './doctor/stream.ts'
import { WAY_CHECKS } from './doctor/way.ts'
import { CONNECTION_OPTIONS } from './far-side.ts'

export const doctor: CommandSpec = {
  name: 'doctor',
  summary: `Check every link between the server and the agent, and say what to do.

Exit code 1 when a check failed. Secrets are cut out: the list can be pasted into an issue.`,
  operands: '[url]',
  options: [
    ...CONNECTION_OPTIONS.filter(({ flags }) => flags !== '--stateful' && !flags.startsWith('--patience')),
    { flags: '--wait <time>', description: 'how long to listen to the push stream', fallback: '35s' },
    { flags: '--long', description: 'keep listening, up to 15 min, to see what closes an idle stream' },
    { flags: '--json', description: 'one JSON object' },
  ],
  examples: [
    'CHAMADE_API_KEY=chmd_… chamade-mcp doctor',
    'chamade-mcp doctor --entry chamade --long',
    'chamade-mcp doctor --json',
  ],
  run,
}

const LONG_MS = 15 * 60_000

async function run(values: OptionValues, operands: readonly string[], io: Io): Promise<number> {
  const waitMs = lengthOf(values, 'wait') ?? 35_000
  // (That this folder is gone is said at once, not when half of the report is printed.)
  const entries = await configured(io)
  const redact = redactor()
  for (const [name, value] of Object.entries(io.env)) {
    if (
      /KEY|TOKEN|SECRET|PASSW/i.test(name) &&
      !/_FILE$/.test(name) &&
      value !== undefined &&
      value.length >= 8
    ) {
      // The text of a reference or placeholder is no secret, and the finding about it must stay readable.
      if (!value.includes('${') && value !== PLACEHOLDER) redact.add(value)
    }
  }
  const server: ServerContext = {
    io,
    values,
    operands,
    redact,
    signal: io.signal,
    waitMs,
    longMs: values.long === true ? LONG_MS : undefined,
    facts: {},
  }
  const report: Report =
    values.json === true
      ? new JsonReport(io, redact, { version: VERSION, at: new Date().toISOString(), platform: io.platform })
      : new ListReport(io, redact, `chamade-mcp ${VERSION} doctor`)
  const results: Result[] = []
  const work = async <C>(
    group: string,
    title: string,
    checks: readonly Check<C>[],
    context: C,
    limitMs: number,
  ): Promise<void> => {
    if (io.signal.aborted) return
    report.group(title)
    for (const check of checks) {
      if (io.signal.aborted) return
      report.running(check.name, '')
      const found = await runCheck(check, context, (text) => report.running(check.name, text), limitMs)
      // What was broken off has failed of nothing, and fallen silent of nothing.
      if (io.signal.aborted && found.state !== 'ok') return report.stopped()
      const result = { group, name: check.name, ...found }
      results.push(result)
      report.result(result)
    }
  }
  try {
    await work('server', 'Out there', [...WAY_CHECKS, ...SERVER_CHECKS], server, 60_000)
    await work(
      'machine',
      'Here',
      [...MACHINE_CHECKS, ...CLAUDE_CHECKS],
      await machineContext(io, entries),
      30_000,
    )
    await work(
      'stream',
      'The push stream',
      STREAM_CHECKS,
      server,
      Math.max(server.longMs ?? 0, waitMs) + 10_000,
    )
  } finally {
    await hangUp(server)
  }
  report.end(results, io.signal.aborted)
  return results.some(({ state }) => state === 'fail') ? 1 : 0
}

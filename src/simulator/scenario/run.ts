/**
 * Runs a scenario against a simulator and tells, step by step, what came of it.
 *
 * Not an agent: it makes things happen and watches. The one rule: an expectation looks at what was journalled since
 * the last thing the scenario did, and one entry satisfies one expectation only.
 */
import { seconds } from '../../errors.ts'
import { sleep } from '../../retry.ts'
import type { Entry } from '../journal.ts'
import type { Simulator } from '../simulator.ts'
import { type Expectation, patternOf, type Scenario, type Step } from './scenario.ts'

const SETTLE_MS = 1_000

/** What came of one step. */
export interface StepReport {
  /** From 1. */
  readonly step: number
  readonly ok: boolean
  readonly text: string
}

/**
 * True when every step went as the scenario says; stops at the first that did not, and when aborted. What the agent was
 * seen to ask is answered by then.
 */
export async function runScenario(
  simulator: Simulator,
  scenario: Scenario,
  report: (step: StepReport) => void,
  signal: AbortSignal,
): Promise<boolean> {
  const ok = await runSteps(simulator, scenario, report, signal)
  await simulator.settled(SETTLE_MS)
  return ok
}

async function runSteps(
  simulator: Simulator,
  scenario: Scenario,
  report: (step: StepReport) => void,
  signal: AbortSignal,
): Promise<boolean> {
  const used = new Set<number>()
  let since = 0
  for (const [index, step] of scenario.steps.entries()) {
    if (signal.aborted) return false
    // What has been seen of the agent is also answered, before anything is cut.
    if (step.kind === 'fault') await simulator.settled(SETTLE_MS)
    if (step.kind === 'happen' || step.kind === 'fault') since = simulator.journal.seq
    const came = await runStep(simulator, step, { since, used, signal })
    report({ step: index + 1, ...came })
    if (!came.ok) return false
  }
  return true
}

interface Watch {
  /** Entries up to this one are past. */
  readonly since: number
  /** Entries that satisfied an expectation. */
  readonly used: Set<number>
  readonly signal: AbortSignal
}

async function runStep(simulator: Simulator, step: Step, watch: Watch): Promise<Omit<StepReport, 'step'>> {
  switch (step.kind) {
    case 'happen':
      return happen(simulator, step)
    case 'fault':
      return { ok: true, text: simulator.fault(step.name, { seconds: step.seconds, ms: step.ms }) }
    case 'wait':
      await sleep(step.ms, watch.signal)
      return { ok: !watch.signal.aborted, text: `waited ${seconds(step.ms)}` }
    case 'expect': {
      const began = performance.now()
      const entry = await seen(simulator, step.what, step.ms, watch)
      if (entry === undefined) return { ok: false, text: missed(simulator, step.what, step.ms, watch) }
      watch.used.add(entry.seq)
      return { ok: true, text: `${nameOf(step.what)} after ${seconds(performance.now() - began)}` }
    }
    case 'never': {
      const now = { ...watch, since: simulator.journal.seq }
      const entry = await seen(simulator, step.what, step.ms, now)
      if (entry === undefined) return { ok: true, text: `no ${nameOf(step.what)} for ${seconds(step.ms)}` }
      return { ok: false, text: `${nameOf(step.what)}, which must not be: ${lineOf(entry)}` }
    }
    default:
      return step satisfies never
  }
}

function happen(simulator: Simulator, { happening }: Step & { kind: 'happen' }): Omit<StepReport, 'step'> {
  try {
    const { published } = simulator.happen(happening)
    const text = published.map(({ event, routes }) => {
      const to = routes.length === 0 ? 'nobody listens' : `pushed to ${routes.join(', ')}`
      return `${event.content} (${to})`
    })
    return { ok: true, text: text.join('; ') || happening.type }
  } catch (error) {
    return { ok: false, text: `${happening.type}: ${error instanceof Error ? error.message : String(error)}` }
  }
}

/** The first entry that fits, among those that are there and those that come within `ms`. */
function seen(
  simulator: Simulator,
  what: Expectation,
  ms: number,
  { since, used, signal }: Watch,
): Promise<Entry | undefined> {
  const fits = (entry: Entry): boolean => entry.seq > since && !used.has(entry.seq) && matches(entry, what)
  const there = simulator.journal.entries.find(fits)
  if (there !== undefined) return Promise.resolve(there)
  return new Promise((resolve) => {
    const end = (entry: Entry | undefined): void => {
      stop()
      over.abort()
      resolve(entry)
    }
    const stop = simulator.journal.follow((entry) => {
      if (fits(entry)) end(entry)
    })
    const over = new AbortController()
    void sleep(ms, signal, over.signal).then(() => end(undefined))
  })
}

function matches(entry: Entry, what: Expectation): boolean {
  if (what.kind !== 'tool') return entry.kind === what.kind && entry.state === what.state
  if (entry.kind !== 'tool' || !what.tools.includes(entry.tool) || entry.ok !== what.ok) return false
  return contains(entry.args, what.args)
}

/** Is everything in `wanted` also in `given`? Texts like "/…/i" are patterns. */
function contains(given: unknown, wanted: unknown): boolean {
  if (typeof wanted === 'string') {
    const pattern = patternOf(wanted)
    return pattern === undefined ? given === wanted : typeof given === 'string' && pattern.test(given)
  }
  if (typeof wanted !== 'object' || wanted === null) return given === wanted
  if (typeof given !== 'object' || given === null) return false
  return Object.entries(wanted).every(([name, each]) =>
    contains((given as Readonly<Record<string, unknown>>)[name], each),
  )
}

function missed(simulator: Simulator, what: Expectation, ms: number, { since, signal }: Watch): string {
  if (signal.aborted) return `stopped while waiting for ${nameOf(what)}`
  const instead = simulator.journal.entries.filter((entry) => entry.seq > since).slice(-5)
  const lines = instead.length === 0 ? 'nothing' : instead.map(lineOf).join('; ')
  return `no ${nameOf(what)} within ${seconds(ms)}; seen instead: ${lines}`
}

function nameOf(what: Expectation): string {
  if (what.kind !== 'tool') return `${what.kind} ${what.state}`
  const args = Object.keys(what.args).length === 0 ? '' : ` ${JSON.stringify(what.args)}`
  return `${what.tools.join(' or ')}${args}${what.ok ? '' : ' that is refused'}`
}

function lineOf(entry: Entry): string {
  switch (entry.kind) {
    case 'event':
      return `event ${entry.event.type}`
    case 'tool':
      return `${entry.tool} ${JSON.stringify(entry.args)}${entry.ok ? '' : ` (refused: ${entry.text})`}`
    case 'session':
    case 'stream':
      return `${entry.kind} ${entry.session} ${entry.state}`
    case 'call':
      return `call ${entry.callId} ${entry.state}`
    case 'fault':
      return entry.text
    default:
      return entry satisfies never
  }
}

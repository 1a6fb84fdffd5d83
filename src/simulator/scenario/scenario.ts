/**
 * A scenario file: a timeline of happenings, faults and expectations, read and checked before anything runs.
 *
 * Not the running of it (run.ts). The one rule: what cannot be meant is refused here, with the number of its step.
 *
 *   name: Redeploy
 *   patience: 30s
 *   steps:
 *     - expect: { stream: open }
 *     - dm: { from: Alice, platform: discord, text: Can you check the test results? }
 *     - expect: { tool: chamade_dm_chat, args: { text: /pass/i }, within: 20s }
 *     - fault: restart
 *     - wait: 500ms
 *     - never: { tool: chamade_inbox, for: 2s }
 */
import { parse } from 'yaml'
import { faultOf } from '../control.ts'
import type { FaultName } from '../faults.ts'
import { BadHappening, HAPPENINGS, type Happening, happeningOf } from '../happenings.ts'
import { TOOLS } from '../tools/index.ts'

/** What has to be seen. Fields that are absent match everything. */
export type Expectation =
  | {
      readonly kind: 'tool'
      /** Any of these. */
      readonly tools: readonly string[]
      readonly args: Readonly<Record<string, unknown>>
      readonly ok: boolean
    }
  | { readonly kind: 'stream'; readonly state: string }
  | { readonly kind: 'session'; readonly state: string }
  | { readonly kind: 'call'; readonly state: string }

export type Step =
  | { readonly kind: 'happen'; readonly happening: Happening }
  | {
      readonly kind: 'fault'
      readonly name: FaultName
      readonly seconds: number | undefined
      readonly ms: number | undefined
    }
  | { readonly kind: 'wait'; readonly ms: number }
  /** Has to be seen within `ms`. */
  | { readonly kind: 'expect'; readonly what: Expectation; readonly ms: number }
  /** Must not be seen for `ms`. */
  | { readonly kind: 'never'; readonly what: Expectation; readonly ms: number }

export interface Scenario {
  readonly name: string
  /** How many times faster than the wall clock calls run. */
  readonly speed: number
  readonly replay: boolean
  readonly legacyPush: boolean
  readonly steps: readonly Step[]
}

/** What is wrong with a scenario file. */
export class BadScenario extends Error {
  override readonly name = 'BadScenario'
}

const DEFAULT_PATIENCE_MS = 30_000
const STATES = {
  stream: ['open', 'closed', 'refused'],
  session: ['opened', 'closed', 'forgotten'],
  call: ['connecting', 'ringing', 'active', 'ended', 'refused', 'missed', 'disconnected'],
} as const

type Fields = Readonly<Record<string, unknown>>

/** Reads YAML or JSON; throws BadScenario. */
export function readScenario(text: string): Scenario {
  const top = fieldsOf(parsed(text), 'a scenario')
  only(top, ['name', 'about', 'speed', 'replay', 'legacyPush', 'patience', 'steps'], 'a scenario')
  if (!Array.isArray(top.steps) || top.steps.length === 0)
    throw new BadScenario('a scenario needs "steps", a list')
  const patienceMs = top.patience === undefined ? DEFAULT_PATIENCE_MS : durationOf(top.patience, 'patience')
  const speed = top.speed ?? 1
  if (typeof speed !== 'number' || speed <= 0) throw new BadScenario('"speed" must be a number above 0')
  return {
    name: typeof top.name === 'string' ? top.name : 'scenario',
    speed,
    replay: booleanOf(top, 'replay', false),
    legacyPush: booleanOf(top, 'legacyPush', false),
    steps: top.steps.map((step: unknown, index) => numbered(index, () => stepOf(step, patienceMs))),
  }
}

function parsed(text: string): unknown {
  try {
    return parse(text) as unknown
  } catch (error) {
    // (Below its first line the parser shows the place.)
    const [what = ''] = (error instanceof Error ? error.message : String(error)).split(/:?\n/, 1)
    throw new BadScenario(`neither YAML nor JSON: ${what}`)
  }
}

function numbered<T>(index: number, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof BadScenario || error instanceof BadHappening) {
      throw new BadScenario(`step ${index + 1}: ${error.message}`)
    }
    throw error
  }
}

function stepOf(value: unknown, patienceMs: number): Step {
  const step = fieldsOf(value, 'a step')
  const [name, ...others] = Object.keys(step)
  if (name === undefined || others.length > 0) throw new BadScenario('a step has exactly one key')
  const content = step[name]
  switch (name) {
    case 'wait':
      return { kind: 'wait', ms: durationOf(content, 'wait') }
    case 'fault': {
      const given = typeof content === 'object' && content !== null ? content : { fault: content }
      const { fault, seconds, ms } = faultOf(given)
      return { kind: 'fault', name: fault, seconds, ms }
    }
    case 'expect': {
      const { within, ...what } = fieldsOf(content, 'expect')
      const ms = within === undefined ? patienceMs : durationOf(within, 'within')
      return { kind: 'expect', what: expectationOf(what), ms }
    }
    case 'never': {
      const { for: length, ...what } = fieldsOf(content, 'never')
      return { kind: 'never', what: expectationOf(what), ms: durationOf(length, 'for') }
    }
    default:
      if (HAPPENINGS.includes(name)) {
        return { kind: 'happen', happening: happeningOf({ ...fieldsOf(content ?? {}, name), type: name }) }
      }
      throw new BadScenario(
        `there is no step "${name}"; there are expect, never, wait, fault, ${HAPPENINGS.join(', ')}`,
      )
  }
}

function expectationOf(what: Fields): Expectation {
  if (what.tool !== undefined) {
    only(what, ['tool', 'args', 'ok'], 'an expected tool call')
    const tools: readonly unknown[] = Array.isArray(what.tool) ? (what.tool as unknown[]) : [what.tool]
    const args = what.args === undefined ? {} : fieldsOf(what.args, 'args')
    checkPatterns(args)
    return { kind: 'tool', tools: tools.map(toolOf), args, ok: booleanOf(what, 'ok', true) }
  }
  for (const kind of ['stream', 'session', 'call'] as const) {
    const state = what[kind]
    if (state === undefined) continue
    only(what, [kind], `an expected ${kind}`)
    const states: readonly string[] = STATES[kind]
    if (!states.includes(String(state))) {
      throw new BadScenario(`a ${kind} is never "${String(state)}"; it is ${states.join(', ')}`)
    }
    return { kind, state: String(state) }
  }
  throw new BadScenario('expected is one of tool, stream, session, call')
}

function toolOf(name: unknown): string {
  const tool = TOOLS.find((each) => each.name === name)
  if (tool !== undefined) return tool.name
  throw new BadScenario(
    `there is no tool "${String(name)}"; there are ${TOOLS.map((each) => each.name).join(', ')}`,
  )
}

function checkPatterns(value: unknown): void {
  if (typeof value === 'string') patternOf(value)
  else if (typeof value === 'object' && value !== null)
    for (const each of Object.values(value)) checkPatterns(each)
}

/** The pattern in "/…/flags", or undefined when the text is meant as it is. */
export function patternOf(text: string): RegExp | undefined {
  const found = /^\/(.+)\/([imsu]*)$/s.exec(text)
  if (found === null) return undefined
  try {
    return new RegExp(found[1] ?? '', found[2])
  } catch (error) {
    throw new BadScenario(`${text} is no pattern: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** (In YAML 1.2 `yes`, `no`, `on` and `off` are texts.) */
function booleanOf(fields: Fields, field: string, fallback: boolean): boolean {
  const value = fields[field] ?? fallback
  if (typeof value === 'boolean') return value
  throw new BadScenario(`"${field}" must be true or false`)
}

/** Milliseconds of "500ms", "20s", "2m"; a bare number means seconds. */
function durationOf(value: unknown, field: string): number {
  const [, amount, unit = 's'] = /^(\d+(?:\.\d+)?)\s*(ms|s|m)?$/.exec(String(value)) ?? []
  if (amount === undefined) throw new BadScenario(`"${field}" must be a duration like 500ms, 20s or 2m`)
  return Number(amount) * (unit === 'ms' ? 1 : unit === 'm' ? 60_000 : 1_000)
}

function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields
  throw new BadScenario(`${what} must be a map of fields`)
}

function only(fields: Fields, allowed: readonly string[], what: string): void {
  for (const name of Object.keys(fields)) {
    if (!allowed.includes(name))
      throw new BadScenario(`${what} has no "${name}"; it has ${allowed.join(', ')}`)
  }
}

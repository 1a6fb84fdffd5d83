/**
 * From samples to a table: medians, ratios round by round, targets met or missed, Markdown.
 *
 * Pure: no clock, no process. The one rule: a ratio is taken inside a round and the median of the ratios is shown,
 * never the ratio of two medians; what disturbed a whole round then disturbs nothing.
 */
import { FIGURE_NAMES, type Figure, type FigureName, type Found, figureOf } from './figures.ts'

/** Samples by contestant, one entry a round. */
export type Samples = Readonly<Record<string, readonly Found[]>>

export interface Verdict {
  readonly figure: FigureName
  readonly target: string
  /** The figure of ours as the target has it: a ratio or a value. */
  readonly value: number
  readonly met: boolean
}

/** The middle value, or the mean of the middle two; NaN of nothing. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** Linear interpolation between the closest ranks. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (sorted.length - 1) * q
  const low = sorted[Math.floor(at)] ?? Number.NaN
  const high = sorted[Math.ceil(at)] ?? low
  return low + (high - low) * (at - Math.floor(at))
}

/** The median of a contestant's figure, or undefined when it was never found. */
export function middle(samples: Samples, contestant: string, name: FigureName): number | undefined {
  const values = (samples[contestant] ?? []).flatMap((found) => found[name] ?? [])
  return values.length === 0 ? undefined : median(values)
}

/** The median over the rounds of `contestant` divided by `reference`; undefined without a round that has both. */
export function ratio(
  samples: Samples,
  contestant: string,
  reference: string,
  name: FigureName,
): number | undefined {
  const others = samples[reference] ?? []
  const ratios = (samples[contestant] ?? []).flatMap((found, round) => {
    const mine = found[name]
    const theirs = others[round]?.[name]
    return mine === undefined || theirs === undefined || theirs === 0 ? [] : [mine / theirs]
  })
  return ratios.length === 0 ? undefined : median(ratios)
}

/** Our figures against their targets; those that could not be measured are absent. */
export function verdicts(samples: Samples): readonly Verdict[] {
  return FIGURE_NAMES.flatMap((name) => {
    const { target, unit } = figureOf(name)
    if (target === undefined) return []
    const value =
      target.of === undefined ? middle(samples, 'ours', name) : ratio(samples, 'ours', target.of, name)
    if (value === undefined) return []
    const bound = target.atMost ?? target.atLeast ?? Number.NaN
    const text =
      target.of === undefined
        ? `${bound} ${unit}`.trim()
        : `${bound}× ${target.of.replace('bare', 'bare node')}`
    const met = target.atMost === undefined ? value >= bound : value <= bound
    return [{ figure: name, target: `${target.atMost === undefined ? '≥' : '≤'} ${text}`, value, met }]
  })
}

/** The Markdown table: a row a figure, a column a contestant. */
export function table(samples: Samples): string {
  const names = Object.keys(samples)
  const judged = new Map(verdicts(samples).map((verdict) => [verdict.figure, verdict]))
  const rows = FIGURE_NAMES.flatMap((name) => {
    const figure = figureOf(name)
    const values = names.map((contestant) => middle(samples, contestant, name))
    if (values.every((value) => value === undefined)) return []
    const title = figure.unit === '' ? figure.title : `${figure.title}, ${figure.unit}`
    return [[title, ...values.map((value) => format(value, figure)), judgement(judged.get(name), figure)]]
  })
  return grid(['', ...names, 'target'], rows)
}

function judgement(verdict: Verdict | undefined, figure: Figure): string {
  if (verdict === undefined) return ''
  const value = figure.target?.of === undefined ? '' : ` (${verdict.value.toFixed(2)}×)`
  return `${verdict.target}: ${verdict.met ? 'met' : '**missed**'}${value}`
}

function format(value: number | undefined, figure: Figure): string {
  if (value === undefined) return '–'
  if (figure.unit === '/s' || value >= 1_000) return Math.round(value).toLocaleString('en-US')
  if (figure.unit === '') return String(Math.round(value))
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

/** A Markdown table, its columns padded. */
export function grid(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(3, title.length, ...rows.map((row) => (row[column] ?? '').length)),
  )
  const line = (cells: readonly string[]): string =>
    `| ${widths.map((width, i) => (i === 0 ? (cells[i] ?? '').padEnd(width) : (cells[i] ?? '').padStart(width))).join(' | ')} |`
  const rule = `|${widths.map((width, i) => (i === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`
  return [line(head), rule, ...rows.map(line)].join('\n')
}

export const START_MARK = '<!-- bench:start -->'
export const END_MARK = '<!-- bench:end -->'

/** `readme` with what stands between the marks replaced. Throws when a mark is missing. */
export function replaceBetweenMarks(readme: string, text: string): string {
  const start = readme.indexOf(START_MARK)
  const end = readme.indexOf(END_MARK)
  if (start < 0 || end < start) throw new Error(`the README needs ${START_MARK} and ${END_MARK}`)
  return `${readme.slice(0, start + START_MARK.length)}\n${text}\n${readme.slice(end)}`
}

/**
 * A unified diff of two texts, for people.
 *
 * Not a patch for machines: values of keys and tokens are hidden in it. The one rule: it is short; only what
 * changed and three lines around it.
 */
import { PLACEHOLDER } from '../../credentials.ts'
import { KEY } from '../../options.ts'
import type { Palette } from '../terminal.ts'

const CONTEXT = 3

/** The diff, coloured, without a newline at its end; empty when the texts are the same. */
export function unifiedDiff(before: string, after: string, file: string, paint: Palette): string {
  if (before === after) return ''
  const lines = compare(linesOf(before), linesOf(after))
  const head = [before === '' ? '--- (no file)' : `--- ${file}`, `+++ ${file}`].map(paint.bold)
  return [...head, ...hunks(withoutSecrets(lines)).flatMap((hunk) => show(hunk, paint))].join('\n')
}

const SECRET = '(?:key|token|secret|passw|authorization|cookie)'
const FLAG = `"--?[^"\\\\:=]*${SECRET}[^"\\\\:=]*"\\s*,\\s*`
const VALUE = '(?:[^"\\\\]|\\\\.)+'
/** What may be before a secret in a line, and it. */
const SECRETS = new RegExp(
  [
    `("[^"]*${SECRET}[^"]*"\\s*:\\s*")(${VALUE})(?=")`,
    `(${FLAG}")(${VALUE})(?=")`,
    // "Name: value", "--name=value", "--env=NAME=value", a query.
    `("[^"\\\\]*${SECRET}[\\w.-]*\\s*[:=]\\s*)(${VALUE})(?=")`,
    `(\\bBearer\\s+)([^"\\s]+)`,
    `(\\bhttps?://[^\\s"/@:]*:)([^\\s"/@]+)(?=@)`,
  ].join('|'),
  'gi',
)
const BEHIND_FLAG = new RegExp(`${FLAG}$`, 'i')

/**
 * One line with the values of what looks like a secret hidden; references, files and the simulator's keys stay. `ahead`:
 * the line before, where a flag may stand whose value this is.
 */
export function hideSecrets(line: string, ahead = ''): string {
  const hide = (whole: string, ...groups: readonly (string | undefined)[]): string => {
    const [head = '', value = ''] = groups.slice(0, 10).filter((group) => typeof group === 'string')
    const isNone = /^(?:(?:Bearer )?\$\{[^}]+\}|chmd_local_[0-9a-f]+)$/.test(value) || value === PLACEHOLDER
    return isNone || isOfFile(head) ? whole : `${head}••••••`
  }
  const isValue = BEHIND_FLAG.test(ahead) && !isOfFile(ahead)
  const known = isValue ? line.replace(new RegExp(`^(\\s*")(${VALUE})(?=")`), hide) : line
  return known.replaceAll(SECRETS, hide).replaceAll(KEY, (key) => hide(key, '', key))
}

function isOfFile(head: string): boolean {
  return /[_-]file["=:]/i.test(head)
}

function withoutSecrets(lines: readonly Line[]): readonly Line[] {
  const last = { old: '', new: '' }
  return lines.map((line) => {
    const text = hideSecrets(line.text, line.mark === '+' ? last.new : last.old)
    if (line.mark !== '+') last.old = line.text
    if (line.mark !== '-') last.new = line.text
    return { ...line, text }
  })
}

interface Line {
  readonly mark: ' ' | '-' | '+'
  readonly text: string
  /** Line numbers from 1, in the old and the new text. */
  readonly old: number
  readonly new: number
}

function linesOf(text: string): string[] {
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  return lines.map((line) => line.replace(/\r$/, ''))
}

/** Longest common subsequence over what is left between the common head and the common tail. */
function compare(a: readonly string[], b: readonly string[]): Line[] {
  let head = 0
  while (head < a.length && head < b.length && a[head] === b[head]) head++
  let tail = 0
  while (
    tail < a.length - head &&
    tail < b.length - head &&
    a[a.length - 1 - tail] === b[b.length - 1 - tail]
  ) {
    tail++
  }
  const x = a.slice(head, a.length - tail)
  const y = b.slice(head, b.length - tail)
  const common: number[][] = Array.from({ length: x.length + 1 }, () =>
    new Array<number>(y.length + 1).fill(0),
  )
  const length = (i: number, j: number): number => common[i]?.[j] ?? 0
  for (let i = x.length - 1; i >= 0; i--) {
    for (let j = y.length - 1; j >= 0; j--) {
      const row = common[i]
      if (row !== undefined) {
        row[j] = x[i] === y[j] ? length(i + 1, j + 1) + 1 : Math.max(length(i + 1, j), length(i, j + 1))
      }
    }
  }
  const lines: Line[] = []
  let i = 0
  let j = 0
  const add = (mark: Line['mark'], text: string): void => {
    lines.push({ mark, text, old: i + 1, new: j + 1 })
    if (mark !== '+') i++
    if (mark !== '-') j++
  }
  for (const text of a.slice(0, head)) add(' ', text)
  while (i - head < x.length || j - head < y.length) {
    const [left, right] = [x[i - head], y[j - head]]
    if (left !== undefined && left === right) add(' ', left)
    else if (left !== undefined && length(i - head + 1, j - head) >= length(i - head, j - head + 1))
      add('-', left)
    else if (right !== undefined) add('+', right)
    else if (left !== undefined) add('-', left)
  }
  for (const text of a.slice(a.length - tail)) add(' ', text)
  return lines
}

function hunks(lines: readonly Line[]): Line[][] {
  const near = lines.map((_line, at) =>
    lines.slice(Math.max(0, at - CONTEXT), at + CONTEXT + 1).some((each) => each.mark !== ' '),
  )
  const found: Line[][] = []
  lines.forEach((line, at) => {
    if (near[at] !== true) return
    if (near[at - 1] === true) found.at(-1)?.push(line)
    else found.push([line])
  })
  return found
}

function show(hunk: readonly Line[], paint: Palette): string[] {
  const old = hunk.filter((line) => line.mark !== '+').length
  const fresh = hunk.filter((line) => line.mark !== '-').length
  const [first] = hunk
  const head = `@@ -${old === 0 ? 0 : (first?.old ?? 1)},${old} +${fresh === 0 ? 0 : (first?.new ?? 1)},${fresh} @@`
  const paints = { ' ': (text: string) => text, '-': paint.red, '+': paint.green }
  return [paint.cyan(head), ...hunk.map((line) => paints[line.mark](`${line.mark}${line.text}`))]
}

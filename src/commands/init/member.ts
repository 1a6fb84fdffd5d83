/**
 * Puts, replaces or takes away one member of a JSON text that may hold comments.
 *
 * Not a formatter: jsonc-parser's `modify` formats the lines around, and sets a new member between the last one and
 * the comment behind it. The one rule: outside of that member not one character changes, but for a comma and the
 * white space beside it.
 */
import {
  applyEdits,
  createScanner,
  type Edit,
  findNodeAtLocation,
  type JSONPath,
  type Node,
  parseTree,
} from 'jsonc-parser'

export interface Layout {
  /** One step. */
  readonly indent: string
  readonly eol: string
}

/** The text with `value` under `path`: in the place of what stands there, else behind the last of its neighbours. */
export function withMember(text: string, path: JSONPath, value: unknown, layout: Layout): string {
  const tree = parseTree(text, [], { allowTrailingComma: true })
  const there = tree && findNodeAtLocation(tree, path)
  if (there !== undefined) {
    const short = !textOf(text, there).includes('\n')
    const content = short ? onOneLine(value) : onLines(value, indentAt(text, there.offset), layout)
    return applyEdits(text, [{ offset: there.offset, length: there.length, content }])
  }
  const parent = tree && findNodeAtLocation(tree, path.slice(0, -1))
  const key = String(path.at(-1))
  if (parent === undefined) return withMember(text, path.slice(0, -1), { [key]: value }, layout)
  // What belongs to an entry on one line goes on that line; a new entry gets lines of its own.
  const short = path.length > 2 && !textOf(text, parent).includes('\n')
  return behindLast(text, parent, `${JSON.stringify(key)}: `, value, short, layout)
}

/** The text with `value` at the end of the list under `path`. */
export function withElement(text: string, path: JSONPath, value: unknown, layout: Layout): string {
  const tree = parseTree(text, [], { allowTrailingComma: true })
  const list = tree && findNodeAtLocation(tree, path)
  return list === undefined
    ? withMember(text, path, [value], layout)
    : behindLast(text, list, '', value, false, layout)
}

/** The text without what stands under `path`; comments beside it stay. */
export function withoutMember(text: string, path: JSONPath): string {
  const tree = parseTree(text, [], { allowTrailingComma: true })
  const member = tree && findNodeAtLocation(tree, path)?.parent
  if (member === undefined) return text
  const edits: Edit[] = [{ offset: member.offset, length: member.length, content: '' }]
  const neighbours = member.parent?.children ?? []
  const before = neighbours[neighbours.indexOf(member) - 1]
  const comma =
    trivia(text, endOf(member)).comma ?? (before && trivia(text, endOf(before), member.offset).comma)
  if (comma !== undefined) edits.push({ offset: comma, length: 1, content: '' })
  const shorter = applyEdits(text, edits)
  const gone = comma !== undefined && comma < member.offset ? member.offset - 1 : member.offset
  return withoutHole(shorter, gone)
}

/** Where something was taken out: no line that is empty now, and no two spaces. */
function withoutHole(text: string, at: number): string {
  const start = text.lastIndexOf('\n', at - 1) + 1
  const end = text.indexOf('\n', at) + 1
  if (start > 0 && end > 0 && text.slice(start, end).trim() === '')
    return text.slice(0, start) + text.slice(end)
  return (
    text.slice(0, at) +
    (/[\s]$/.test(text.slice(0, at)) ? text.slice(at).replace(/^[^\S\r\n]+/, '') : text.slice(at))
  )
}

function behindLast(
  text: string,
  parent: Node,
  name: string,
  value: unknown,
  short: boolean,
  layout: Layout,
): string {
  const close = endOf(parent) - 1
  const last = parent.children?.at(-1)
  const from = last === undefined ? parent.offset + 1 : endOf(last)
  const { comma, end } = trivia(text, from, close)
  const edits: Edit[] = []
  if (last !== undefined && comma === undefined) edits.push({ offset: from, length: 0, content: ',' })
  const trailing = comma === undefined ? '' : ','
  if (short) {
    const pad = last === undefined && end === close ? ' ' : ''
    edits.push({ offset: end, length: 0, content: ` ${name}${onOneLine(value)}${trailing}${pad}` })
    return applyEdits(text, edits)
  }
  const outer = indentAt(text, parent.offset)
  const inner = (last && ownIndent(text, last.offset)) ?? outer + layout.indent
  const rest = text.slice(end, close)
  const content = `${layout.eol}${inner}${name}${onLines(value, inner, layout)}${trailing}`
  edits.push(
    rest.includes('\n')
      ? { offset: end, length: 0, content }
      : { offset: end, length: rest.length, content: `${content}${layout.eol}${outer}` },
  )
  return applyEdits(text, edits)
}

/** What stands between members: the comma, if there is one, and where the last comment (or the comma) ends. */
function trivia(text: string, from: number, to = text.length): { comma: number | undefined; end: number } {
  const scanner = createScanner(text)
  scanner.setPosition(from)
  let comma: number | undefined
  let end = from
  for (;;) {
    scanner.scan()
    const at = scanner.getTokenOffset()
    const word = text.slice(at, at + scanner.getTokenLength())
    if (at >= to) break
    if (word === ',' && comma === undefined) comma = at
    else if (!/^(?:\s*$|\/[/*])/.test(word)) break
    if (word.trim() !== '') end = at + word.length
  }
  return { comma, end }
}

function textOf(text: string, node: Node): string {
  return text.slice(node.offset, endOf(node))
}

function endOf(node: Node): number {
  return node.offset + node.length
}

/** White space at the start of the line that holds `offset`. */
function indentAt(text: string, offset: number): string {
  const line = text.slice(text.lastIndexOf('\n', offset - 1) + 1, offset)
  return /^[^\S\r\n]*/.exec(line)?.[0] ?? ''
}

/** The same, if nothing else stands before `offset` on its line. */
function ownIndent(text: string, offset: number): string | undefined {
  const line = text.slice(text.lastIndexOf('\n', offset - 1) + 1, offset)
  return line.trim() === '' ? line : undefined
}

function onLines(value: unknown, indent: string, { indent: step, eol }: Layout): string {
  return JSON.stringify(value, undefined, step).replaceAll('\n', `${eol}${indent}`)
}

/** `["a", "b"]`, `{ "a": "b" }`. */
function onOneLine(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(onOneLine).join(', ')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const members = Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${onOneLine(each)}`)
  return members.length === 0 ? '{}' : `{ ${members.join(', ')} }`
}

/**
 * Puts one entry into a client's JSON file, as text: comments, order, indent and line ends stay.
 *
 * Nothing here touches the disk. The one rule: what was not asked for is the same afterwards. That is checked on
 * the result before it is given out; a file that cannot be understood is refused, never repaired.
 */
import {
  applyEdits,
  type FormattingOptions,
  findNodeAtLocation,
  format,
  type JSONPath,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from 'jsonc-parser'
import { type BridgeError, invalid } from '../../errors.ts'
import type { Entry, Input } from './entry.ts'
import { type Layout, withElement, withMember, withoutMember } from './member.ts'

export interface Change {
  /** Member that holds the entries: `mcpServers`. */
  readonly root: string
  readonly name: string
  readonly entry: Entry
  readonly input: Input | undefined
}

/** Members of a remote entry that mean nothing, or the wrong thing, once the entry starts a process. */
const REMOTE = ['url', 'serverUrl', 'headers', 'headersHelper', 'oauth']

type Plain = Record<string, unknown>

/** The text of the file after the change; `file` is for error texts. An absent file is the empty text. */
export function edited(text: string, change: Change, file: string): string {
  const mark = text.startsWith('\uFEFF') ? '\uFEFF' : ''
  const before = text.slice(mark.length)
  const { root, name, entry, input } = change
  if (before.trim() === '') {
    const fresh = { ...(input === undefined ? {} : { inputs: [input] }), [root]: { [name]: entry } }
    return `${mark}${JSON.stringify(fresh, undefined, 2)}\n`
  }
  const tree = treeOf(before, file)
  const formatting = formatOf(before)
  const layout = layoutOf(formatting)
  // A file on one line was written by a program; parts of it on lines of their own would please nobody.
  const oneLine = !before.trimEnd().includes('\n')
  let after = oneLine ? applyEdits(before, format(before, undefined, formatting)) : before
  const set = (path: JSONPath, value: unknown): void => {
    after = value === undefined ? withoutMember(after, path) : withMember(after, path, value, layout)
  }
  const existing = findNodeAtLocation(tree, [root, name])
  if (existing === undefined) {
    set([root, name], entry)
  } else {
    objectOf(existing, `"${root}"."${name}"`, before, file)
    const env = findNodeAtLocation(existing, ['env'])
    if (env?.type === 'object') objectOf(env, `"env" of "${name}"`, before, file)
    const values = plain(existing)
    for (const member of REMOTE) if (member in values) set([root, name, member], undefined)
    if ('type' in values || entry.type !== undefined) set([root, name, 'type'], 'stdio')
    if (values.command !== entry.command) set([root, name, 'command'], entry.command)
    if (JSON.stringify(values.args) !== JSON.stringify(entry.args)) set([root, name, 'args'], entry.args)
    setEnvironment(values, entry.env, [root, name, 'env'], set)
  }
  if (input !== undefined) after = withInput(after, input, tree, layout)
  verify(before, after, change, file)
  return mark + after
}

/** Refuses what a client that takes only JSON would ignore, the whole file of it. */
export function refuseLax(text: string, title: string, file: string): void {
  const offset = laxAt(text)
  if (offset === undefined) return
  throw broken(file, `${place(text, offset)}: ${title} takes ${NO_LAX}, and ignores the whole file`)
}

/** What a strict reader does not take. */
export const NO_LAX = 'no comments and no trailing commas'

/** Where the first comment or trailing comma stands. */
export function laxAt(text: string): number | undefined {
  if (text.trim() === '') return undefined
  const problems: ParseError[] = []
  parseTree(text.replace(/^\uFEFF/, ' '), problems, { disallowComments: true, allowTrailingComma: false })
  return problems[0]?.offset
}

/** The key that the entry under `name` gives, in `variable` or an Authorization header: undefined when there is none. */
export function existingKey(
  text: string,
  root: string,
  name: string,
  variable: string,
  file: string,
): string | undefined {
  if (text.trim() === '') return undefined
  const node = findNodeAtLocation(treeOf(text.replace(/^\uFEFF/, ''), file), [root, name])
  if (node?.type !== 'object') return undefined
  const values = plain(node)
  const own = at(values, 'env', variable)
  if (typeof own === 'string' && own !== '') return own
  const header = Object.entries(asPlain(values.headers)).find(
    ([key]) => key.toLowerCase() === 'authorization',
  )
  return typeof header?.[1] === 'string' ? /^Bearer\s+(\S.*)$/i.exec(header[1])?.[1] : undefined
}

/** Names and values of all entries under `root`; empty for an absent file. */
export function entriesOf(text: string, root: string, file: string): ReadonlyMap<string, Plain> {
  if (text.trim() === '') return new Map()
  const values = asPlain(plain(treeOf(text.replace(/^\uFEFF/, ''), file))[root])
  return new Map(Object.entries(values).map(([name, value]) => [name, asPlain(value)]))
}

/** Other variables of an existing entry stay; the ways to give a key replace each other. */
function setEnvironment(
  values: Plain,
  env: Entry['env'],
  path: JSONPath,
  set: (path: JSONPath, value: unknown) => void,
): void {
  if (values.env === undefined || typeof values.env !== 'object' || values.env === null) {
    set(path, env)
    return
  }
  const old = asPlain(values.env)
  for (const [name, value] of Object.entries(env)) if (old[name] !== value) set([...path, name], value)
  for (const rival of ['CHAMADE_API_KEY', 'CONVO_API_KEY']) {
    if (`${rival}_FILE` in env && rival in old) set([...path, rival], undefined)
    if (rival in env && `${rival}_FILE` in old) set([...path, `${rival}_FILE`], undefined)
  }
  // What was named before must not win over what was chosen now: the endpoint, and (in the arguments) a session.
  for (const rival of ['CHAMADE_MCP_URL', 'CHAMADE_URL', 'CHAMADE_STATEFUL']) {
    if (!(rival in env) && rival in old) set([...path, rival], undefined)
  }
}

function withInput(text: string, input: Input, tree: Node, layout: Layout): string {
  const inputs = findNodeAtLocation(tree, ['inputs'])
  const known =
    inputs?.type === 'array' && (inputs.children ?? []).some((each) => plain(each).id === input.id)
  return known ? text : withElement(text, ['inputs'], input, layout)
}

/** Refuses what is not one JSON object (comments and trailing commas allowed), or names something twice. */
function treeOf(text: string, file: string): Node {
  const problems: ParseError[] = []
  const tree = parseTree(text, problems, { allowTrailingComma: true })
  const [first] = problems
  if (first !== undefined) {
    const what = printParseErrorCode(first.error)
      .replaceAll(/(?<=[a-z])(?=[A-Z])/g, ' ')
      .toLowerCase()
    throw broken(file, `${place(text, first.offset)}: ${what}`)
  }
  if (tree === undefined) throw broken(file, 'it holds no value')
  objectOf(tree, 'the whole', text, file)
  for (const member of ['mcpServers', 'servers']) {
    const node = findNodeAtLocation(tree, [member])
    if (node !== undefined) objectOf(node, `"${member}"`, text, file)
  }
  return tree
}

function objectOf(node: Node, what: string, text: string, file: string): void {
  if (node.type !== 'object')
    throw broken(
      file,
      `${place(text, node.offset)}: ${what} should be an object, it is ${article(node.type)}`,
    )
  const seen = new Set<string>()
  for (const { children } of node.children ?? []) {
    const key = String(children?.[0]?.value)
    if (seen.has(key))
      throw broken(file, `${place(text, children?.[0]?.offset ?? 0)}: "${key}" stands there twice`)
    seen.add(key)
  }
}

function broken(file: string, why: string): BridgeError {
  return invalid(
    `${file} is not changed: ${why}`,
    'mend the file, or use --print and put the entry in by hand',
  )
}

function place(text: string, offset: number): string {
  const before = text.slice(0, offset).split('\n')
  return `line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`
}

/** All but our entry and our input must have survived, and our entry must stand there. */
function verify(before: string, after: string, change: Change, file: string): void {
  const left = without(plain(treeOf(before, file)), change)
  const right = without(plain(treeOf(after, file)), change)
  const written = asPlain(at(plain(treeOf(after, file)), change.root, change.name))
  const stands =
    written.command === change.entry.command && canonical(written.args) === canonical(change.entry.args)
  if (!stands || canonical(left) !== canonical(right)) {
    throw broken(file, 'the change would have touched more than its own entry')
  }
}

function without(value: Plain, { root, name, input }: Change): Plain {
  const servers = Object.entries(asPlain(value[root])).filter(([key]) => key !== name)
  const inputs = Array.isArray(value.inputs) ? (value.inputs as unknown[]) : []
  const others = inputs.filter((each) => input === undefined || asPlain(each).id !== input.id)
  return { ...value, [root]: Object.fromEntries(servers), inputs: others }
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, each: unknown) =>
    typeof each === 'object' && each !== null && !Array.isArray(each)
      ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)))
      : each,
  )
}

/** Indent and line ends as the file has them. */
function formatOf(text: string): FormattingOptions {
  const indent = /^[^\S\r\n]+(?=")/m.exec(text)?.[0] ?? '  '
  return {
    insertSpaces: !indent.startsWith('\t'),
    tabSize: indent.startsWith('\t') ? 4 : indent.length,
    eol: text.includes('\r\n') ? '\r\n' : '\n',
  }
}

function layoutOf({ insertSpaces, tabSize, eol = '\n' }: FormattingOptions): Layout {
  return { indent: insertSpaces === false ? '\t' : ' '.repeat(tabSize ?? 2), eol }
}

function plain(node: Node): Plain {
  return asPlain(plainValue(node))
}

function plainValue(node: Node): unknown {
  if (node.type === 'array') return (node.children ?? []).map(plainValue)
  if (node.type !== 'object') return node.value as unknown
  const entries = (node.children ?? []).map(({ children }): [string, unknown] => {
    const [key, value] = children ?? []
    return [String(key?.value), value === undefined ? undefined : plainValue(value)]
  })
  return Object.fromEntries(entries)
}

function at(value: Plain, ...path: readonly string[]): unknown {
  return path.reduce<unknown>((found, key) => asPlain(found)[key], value)
}

function asPlain(value: unknown): Plain {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Plain) : {}
}

function article(type: string): string {
  return /^[aeiou]/.test(type) ? `an ${type}` : type === 'null' ? 'null' : `a ${type}`
}

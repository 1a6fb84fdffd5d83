/**
 * Imports go one way. Reads the import statements of every file in `src/` and holds them against the table.
 *
 * A new room means a new line here, argued in the commit that adds it.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const src = join(dirname(fileURLToPath(import.meta.url)), '..', 'src')

/** Room -> rooms it may import. A room is a file directly in `src/` (without `.ts`) or a folder. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  cli: ['commander', 'commands', 'errors', 'options'],
  commander: ['commands', 'version', 'options'],
  commands: [
    'bridge',
    'stdio',
    'http',
    'feed',
    'simulator',
    'channel',
    'config',
    'credentials',
    'options',
    'status',
    'sides',
    'protocol',
    'errors',
    'loopback',
    'retry',
    'system-trust',
    'tool-rules',
    'version',
  ],
  config: [
    'credentials',
    'errors',
    'status',
    'retry',
    'http',
    'loopback',
    'options',
    'pem',
    'proxy',
    'version',
  ],
  credentials: ['errors', 'status', 'http', 'loopback'],
  options: ['errors'],
  bridge: ['sides', 'protocol', 'errors', 'status', 'retry'],
  stdio: ['sides', 'protocol', 'json', 'gathered'],
  http: [
    'clock-watch',
    'sides',
    'protocol',
    'errors',
    'status',
    'retry',
    'json',
    'gathered',
    'loopback',
    'pem',
    'proxy',
    'system-trust',
  ],
  feed: [
    'clock-watch',
    'credentials',
    'sides',
    'protocol',
    'errors',
    'status',
    'retry',
    'channel',
    'loopback',
    'options',
    'pem',
    'proxy',
    'system-trust',
    'version',
  ],
  channel: ['sides', 'protocol', 'errors', 'status', 'retry', 'json', 'glob'],
  'tool-rules': ['sides', 'protocol', 'errors', 'retry', 'json', 'glob'],
  simulator: ['errors', 'retry'],
  sides: ['protocol', 'status'],
  status: ['errors'],
  protocol: ['json'],
  errors: ['protocol'],
  retry: [],
  'clock-watch': ['retry'],
  version: [],
  json: ['long-string'],
  'long-string': [],
  gathered: ['garbage'],
  garbage: [],
  loopback: [],
  pem: ['errors'],
  proxy: ['errors', 'loopback'],
  'system-trust': [],
  glob: [],
}

interface Import {
  readonly from: string
  readonly to: string
  readonly typeOnly: boolean
}

const files = readdirSync(src, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /(?<!\.d)\.ts$/.test(entry.name))
  .map((entry) => relative(src, join(entry.parentPath, entry.name)).split(sep).join('/'))

const imports = files.flatMap((file) => importsOf(file))

function importsOf(file: string): Import[] {
  const text = readFileSync(join(src, file), 'utf8')
  const found: Import[] = []
  const statement = /^(?:import|export)\s+(type\s+)?(?:([^'";]*?)\s+from\s+)?'([^']+)'/gm
  for (const [, type, names, to] of text.matchAll(statement)) {
    if (to !== undefined) found.push({ from: file, to, typeOnly: type !== undefined || allTypes(names) })
  }
  for (const [, to] of text.matchAll(/\bimport\(\s*'([^']+)'\s*\)/g)) {
    if (to !== undefined) found.push({ from: file, to, typeOnly: false })
  }
  return found
}

/** `{ type A, type B }` brings no value in. */
function allTypes(names: string | undefined): boolean {
  const inner = /^\{([\s\S]*)\}$/.exec(names?.trim() ?? '')?.[1]
  if (inner === undefined) return false
  return inner
    .split(',')
    .filter((each) => each.trim() !== '')
    .every((each) => each.trim().startsWith('type '))
}

function target(one: Import): string {
  return posix.normalize(posix.join(posix.dirname(one.from), one.to))
}

function room(path: string): string {
  const [first = '', ...rest] = path.split('/')
  return rest.length === 0 ? first.replace(/\.ts$/, '') : first
}

const inner = imports.filter((one) => one.to.startsWith('.') && !target(one).startsWith('..'))

describe('imports', () => {
  test('the reader finds them', () => {
    expect(inner).toContainEqual({ from: 'sides.ts', to: './protocol.ts', typeOnly: true })
    expect(inner.length).toBeGreaterThan(8)
  })

  test('every room is in the table', () => {
    expect([...new Set(files.map(room))].filter((each) => allowed[each] === undefined)).toEqual([])
  })

  test('no room imports one it may not', () => {
    const wrong = inner.filter((one) => {
      const [from, to] = [room(one.from), room(target(one))]
      return from !== to && !(allowed[from] ?? []).includes(to)
    })
    expect(wrong.map((one) => `${one.from} -> ${target(one)}`)).toEqual([])
  })

  test('a folder is entered by one door: nobody outside imports its inner rooms', () => {
    // What a room can be told (config) is public; network.ts makes the dispatcher that http is told to use.
    const doors = new Set([
      'http/upstream.ts',
      'http/config.ts',
      'http/network.ts',
      'feed/upstream.ts',
      'feed/config.ts',
    ])
    const wrong = inner.filter((one) => {
      const to = target(one)
      return ['http', 'feed'].includes(room(to)) && room(one.from) !== room(to) && !doors.has(to)
    })
    expect(wrong.map((one) => `${one.from} -> ${target(one)}`)).toEqual([])
  })

  /** cli, and what of it is loaded late. */
  const mayUseCommands = (one: Import): boolean => ['cli', 'commander', 'commands'].includes(room(one.from))

  test('nothing but cli imports commands, and nothing imports cli', () => {
    const wrong = inner.filter(
      (one) => (room(target(one)) === 'commands' && !mayUseCommands(one)) || room(target(one)) === 'cli',
    )
    expect(wrong).toEqual([])
  })

  test.each([
    ['rooms', room],
    ['files', (path: string) => path],
  ])('there are no cycles between %s, of types neither', (_, placeOf) => {
    const edges = new Map<string, Set<string>>()
    for (const one of inner) {
      const [from, to] = [placeOf(one.from), placeOf(target(one))]
      if (from !== to) edges.set(from, (edges.get(from) ?? new Set()).add(to))
    }
    // Who imports nobody that is left, or is imported by nobody, is in no cycle.
    const importsNobody = (place: string): boolean =>
      ![...(edges.get(place) ?? [])].some((to) => edges.has(to))
    const isImported = (place: string): boolean => [...edges.values()].some((to) => to.has(place))
    const leave = (place: string): boolean =>
      (importsNobody(place) || !isImported(place)) && edges.delete(place)
    while ([...edges.keys()].some(leave));
    expect(Object.fromEntries(edges)).toEqual({})
  })

  test('imports of our own files end in .ts', () => {
    expect(imports.filter((one) => one.to.startsWith('.') && !/\.(ts|json)$/.test(one.to))).toEqual([])
  })

  test('the SDK is imported for its types only, but in the simulator', () => {
    const wrong = imports.filter(
      (one) =>
        one.to.startsWith('@modelcontextprotocol/sdk') && !one.typeOnly && room(one.from) !== 'simulator',
    )
    expect(wrong).toEqual([])
  })

  test('undici is used in http/ and for the sockets of feed/, and nowhere else', () => {
    const users = imports
      .filter((one) => /^undici(\/|$)/.test(one.to) && !one.typeOnly)
      .map((one) => one.from)
    expect(users.filter((file) => !['http', 'feed'].includes(room(file)))).toEqual([])
  })
})

test('the global process and console are named in cli.ts only', () => {
  const wrong = files.filter((file) => {
    if (file === 'cli.ts') return false
    const code = readFileSync(join(src, file), 'utf8')
      .replaceAll(/\/\*[\s\S]*?\*\//g, '')
      .replaceAll(/\/\/.*$/gm, '')
      .replaceAll(/'(?:[^'\\\n]|\\.)*'/g, "''")
    return /(?<![.\w])(?:process|console)\.\w/.test(code)
  })
  expect(wrong).toEqual([])
})

test('every file opens by saying what it is', () => {
  const silent = files.filter((file) => !/^(?:#!.*\n)?\/\*\*/.test(readFileSync(join(src, file), 'utf8')))
  expect(silent).toEqual([])
})

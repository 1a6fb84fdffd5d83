/**
 * `chamade-mcp tools`: what the server offers, read as a person would want it before a `call`.
 */

import { invalid } from '../errors.ts'
import { type OptionValues, shown } from '../options.ts'
import { redactor } from '../status.ts'
import { McpClient, record, type Tool, text } from './client.ts'
import type { CommandSpec, Io } from './command.ts'
import { CONNECTION_OPTIONS, reportTo, serverSide } from './far-side.ts'
import { indented } from './indented.ts'
import { shellLine } from './shell-line.ts'
import { harmless, type Palette, palette, wantsColour } from './terminal.ts'

export const tools: CommandSpec = {
  name: 'tools',
  summary: "List the server's tools, or show one of them with its parameters.",
  operands: '[tool]',
  options: [...CONNECTION_OPTIONS, { flags: '--json', description: 'as the server gave it' }],
  examples: [
    'CHAMADE_API_KEY=chmd_… chamade-mcp tools',
    'chamade-mcp tools chamade_inbox',
    'chamade-mcp tools --url http://127.0.0.1:8484/mcp/ --json',
  ],
  run,
}

async function run(values: OptionValues, operands: readonly string[], io: Io): Promise<number> {
  const [name] = operands
  refuseAddress(name)
  const redact = redactor()
  const side = await serverSide(values, [], io, redact)
  const client = new McpClient(side.open, { redact, onStatus: reportTo(io, side, redact) })
  try {
    await client.initialize(io.signal)
    const all = await client.tools(io.signal)
    const found = name === undefined ? all : [toolNamed(all, name)]
    if (values.json === true) {
      const texts = found.map(({ json }) => json).join(',')
      io.stdout.write(`${indented(name === undefined ? `[${texts}]` : texts)}\n`)
    } else {
      const paint = palette(wantsColour(io.stdout, io.env))
      const width = io.stdout.columns ?? 100
      io.stdout.write(
        name === undefined ? table(found, paint, width) : found.map((each) => sheet(each, paint)).join(''),
      )
    }
    return 0
  } finally {
    await client.close()
  }
}

/** An address in the place of a tool's name would leave the default one to be asked, key and all. */
export function refuseAddress(name: string | undefined): void {
  if (name?.includes('://') !== true) return
  throw invalid(
    `${shown(name)} stands where the name of a tool should`,
    `for the address: --url ${shown(name)}`,
  )
}

/** The tool of that name, or an error that names the nearest. */
export function toolNamed<Named extends Tool>(all: readonly Named[], name: string): Named {
  const found = all.find((each) => each.name === name)
  if (found !== undefined) return found
  const near = all.map((each) => each.name).filter((each) => each.includes(name) || distance(each, name) < 4)
  throw invalid(
    `the server has no tool ${JSON.stringify(name)}`,
    near.length > 0 ? `did you mean ${near.join(', ')}?` : `see ${shellLine('tools')}`,
  )
}

/** Parameters as `name`, `[name]` when they may be left out. */
export function parameters(tool: Tool): readonly {
  readonly name: string
  readonly type: string
  readonly required: boolean
  readonly description: string
}[] {
  const required = tool.inputSchema.required
  const needed = new Set(Array.isArray(required) ? (required as unknown[]) : [])
  return Object.entries(record(tool.inputSchema.properties)).map(([name, schema]) => ({
    name,
    type: typeOf(record(schema)),
    required: needed.has(name),
    description: text(record(schema).description) ?? '',
  }))
}

function table(all: readonly Tool[], paint: Palette, width: number): string {
  const longest = Math.max(...all.map(({ name }) => harmless(name).length), 0)
  const lines = all.map((tool) => {
    const first = harmless(tool.description).split(/\n|(?<=\.)\s/)[0] ?? ''
    const room = Math.max(20, width - longest - 2)
    return `${paint.bold(harmless(tool.name).padEnd(longest))}  ${first.length > room ? `${first.slice(0, room - 1)}…` : first}\n`
  })
  return lines.join('')
}

function sheet(tool: Tool, paint: Palette): string {
  const all = parameters(tool).map((each) => ({
    ...each,
    name: harmless(each.name),
    type: harmless(each.type),
  }))
  const longest = Math.max(...all.map(({ name }) => name.length + 2), 0)
  const widest = Math.min(Math.max(...all.map(({ type }) => type.length), 0), 24)
  const rows = all.map(({ name, type, required, description }) => {
    const shown = (required ? name : `[${name}]`).padEnd(longest)
    return `  ${paint.bold(shown)}  ${paint.dim(type.padEnd(widest))}${description === '' ? '' : `  ${harmless(description)}`}`
  })
  const head = `${paint.bold(harmless(tool.name))}\n\n${harmless(tool.description)}\n`
  return rows.length === 0 ? `${head}\nno parameters\n` : `${head}\n${rows.join('\n')}\n`
}

/** One word, or several with ` | ` between them: kinds, and of an enumeration the values as JSON. */
function typeOf(schema: Readonly<Record<string, unknown>>): string {
  if (Array.isArray(schema.enum))
    return (schema.enum as unknown[]).map((each) => JSON.stringify(each)).join(' | ')
  const choices = schema.anyOf ?? schema.oneOf
  if (Array.isArray(choices))
    return [...new Set((choices as unknown[]).map((each) => typeOf(record(each))))].join(' | ')
  if (schema.type === 'array') {
    const each = typeOf(record(schema.items))
    return each.includes(' | ') ? `(${each})[]` : `${each}[]`
  }
  if (typeof schema.type === 'string') return schema.type
  return Array.isArray(schema.type) ? (schema.type as unknown[]).join(' | ') : 'any'
}

/** Edits between two names (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const changed = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(changed, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}

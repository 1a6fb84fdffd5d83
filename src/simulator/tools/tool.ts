/**
 * What a simulated tool is: a schema, a description, and a function from checked arguments to a result.
 *
 * Not MCP: `server.ts` speaks it. The one rule: what a tool sees of the arguments in its schema has a value that this
 * allows, and a refusal is a ToolError with a sentence an agent can act on.
 */
import type { Agent } from '../agent.ts'
import type { Files } from '../files.ts'

/** One argument, the part of JSON Schema we use. */
export interface Property {
  readonly type: 'string' | 'integer' | 'boolean' | 'array'
  readonly description: string
  readonly enum?: readonly string[]
  readonly minimum?: number
  readonly maximum?: number
  readonly items?: Readonly<Record<string, unknown>>
}

export interface Schema {
  readonly type: 'object'
  readonly properties: Readonly<Record<string, Property>>
  readonly required?: readonly string[]
}

export type Arguments = Readonly<Record<string, unknown>>

export interface ToolCall {
  readonly agent: Agent
  readonly files: Files
  readonly args: Arguments
  /** Aborted when the call is cancelled or its session ends. */
  readonly signal: AbortSignal
}

/** What a tool gives back: `value` becomes the JSON text, `about` names the conversation or call it spoke to. */
export interface ToolResult {
  readonly value: unknown
  readonly about?: string
}

export interface Tool {
  readonly name: string
  readonly description: string
  readonly inputSchema: Schema
  run(call: ToolCall): ToolResult | Promise<ToolResult>
}

/** A refusal: becomes `isError: true` with this sentence. */
export class ToolError extends Error {}

/** What is wrong with `args`, or undefined. Unknown arguments are let through. */
export function problemOf(schema: Schema, args: Arguments): string | undefined {
  for (const name of schema.required ?? []) {
    if (args[name] === undefined) return `"${name}" is missing: ${schema.properties[name]?.description ?? ''}`
  }
  for (const [name, property] of Object.entries(schema.properties)) {
    const value = args[name]
    const problem = value === undefined ? undefined : problemOfValue(property, value)
    if (problem !== undefined) return `"${name}" ${problem}`
  }
  return undefined
}

function problemOfValue(property: Property, value: unknown): string | undefined {
  if (property.type === 'array') return Array.isArray(value) ? undefined : 'must be a list'
  if (property.type === 'integer') {
    if (typeof value !== 'number' || !Number.isInteger(value)) return 'must be a whole number'
    if (property.minimum !== undefined && value < property.minimum)
      return `must be ${property.minimum} or more`
    if (property.maximum !== undefined && value > property.maximum)
      return `must be ${property.maximum} or less`
    return undefined
  }
  if (typeof value !== property.type) return `must be a ${property.type}`
  const allowed = property.enum
  if (allowed !== undefined && !allowed.includes(String(value))) return `must be one of ${allowed.join(', ')}`
  return undefined
}

/** A string argument, or undefined. */
export function textOf(args: Arguments, name: string): string | undefined {
  const value = args[name]
  return typeof value === 'string' ? value : undefined
}

/** A number argument, or `fallback`. */
export function numberOf(args: Arguments, name: string, fallback: number): number {
  const value = args[name]
  return typeof value === 'number' ? value : fallback
}

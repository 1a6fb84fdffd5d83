/**
 * What is wrong with a request, in one sentence, before the SDK's server sees it.
 *
 * Not what a request does. The one rule: the server is handed nothing that it would drop without an answer (it
 * does so with params its schema refuses) or answer with the dump of a schema.
 */
import {
  CallToolRequestSchema,
  InitializeRequestSchema,
  ListToolsRequestSchema,
  PingRequestSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { METHOD, RPC } from '../protocol.ts'
import { isRecord } from './filter.ts'

/** Code and message of a JSON-RPC error. */
export interface Wrong {
  readonly code: number
  readonly message: string
}

/** All that the server answers. */
const SCHEMAS = new Map(
  Object.entries({
    [METHOD.initialize]: InitializeRequestSchema,
    [METHOD.ping]: PingRequestSchema,
    [METHOD.toolsList]: ListToolsRequestSchema,
    [METHOD.toolsCall]: CallToolRequestSchema,
  }),
)

/** Undefined when the server will answer it. `params`: undefined when there are none. */
export function wrongWith(method: string, params: unknown): Wrong | undefined {
  const schema = SCHEMAS.get(method)
  if (schema === undefined) return { code: RPC.methodNotFound, message: 'Method not found' }
  if (params !== undefined && !isRecord(params)) return invalid(method, 'params must be an object')
  const read = schema.safeParse({ method, ...(params === undefined ? {} : { params }) })
  if (read.success) return undefined
  const [issue] = read.error.issues
  const path = issue?.path ?? []
  const expected = issue?.code === 'invalid_type' ? issue.expected : undefined
  return invalid(
    method,
    `${path.join('.') || 'params'} ${complaint(valueAtPath({ params }, path), expected)}`,
  )
}

/** The schema's own messages depend on how it was loaded, and run over several lines. */
function complaint(value: unknown, expected: string | undefined): string {
  if (value === undefined) return 'is missing'
  if (expected === undefined) return 'is of the wrong kind'
  return `must be ${expected === 'object' || expected === 'record' ? 'an object' : `a ${expected}`}`
}

function valueAtPath(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((at, key) => (isRecord(at) ? at[String(key)] : undefined), value)
}

function invalid(method: string, what: string): Wrong {
  return { code: RPC.invalidParams, message: `Invalid params of ${method}: ${what}` }
}

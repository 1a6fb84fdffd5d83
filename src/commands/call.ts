/**
 * `chamade-mcp call TOOL key=value …`: one tool call from the shell, for debugging and smoke tests.
 *
 * The one rule: stdout holds what the tool said and nothing else; the exit code says whether it said yes.
 */

import { text as given, timeLimit } from '../config.ts'
import { BridgeError, invalid, seconds } from '../errors.ts'
import type { OptionValues } from '../options.ts'
import { composeRequest, member, type Notification, valueAt } from '../protocol.ts'
import { ENDLESS_MS, limit } from '../retry.ts'
import { redactor } from '../status.ts'
import { type Answer, McpClient, record, type Tool, text } from './client.ts'
import type { CommandSpec, Io } from './command.ts'
import { CONNECTION_OPTIONS, reportTo, serverSide } from './far-side.ts'
import { indented } from './indented.ts'
import { stdinText } from './stdin.ts'
import { harmless } from './terminal.ts'
import { parameters, refuseAddress, toolNamed } from './tools.ts'

export const call: CommandSpec = {
  name: 'call',
  summary: `Call one tool and print what it says.

key=value is read as the tool's schema wants it (a number, true, a list as JSON); key:=JSON is taken as it is.
Exit code 1 when the tool reports an error.`,
  operands: '<tool> [pairs...]',
  options: [
    ...CONNECTION_OPTIONS,
    { flags: '--arguments <json>', description: 'all arguments as one JSON object; - reads it from stdin' },
    {
      flags: '--timeout <time>',
      description: 'give up after so long, and cancel the call',
      fallback: 'never',
    },
    { flags: '--json', description: 'the whole result as JSON' },
  ],
  examples: [
    'CHAMADE_API_KEY=chmd_… chamade-mcp call chamade_inbox wait=0',
    'chamade-mcp call chamade_dm_chat platform=discord to=alice text="On my way"',
    'chamade-mcp call echo --url http://127.0.0.1:3001/mcp --arguments \'{"message":"hi"}\'',
  ],
  run,
}

async function run(values: OptionValues, operands: readonly string[], io: Io): Promise<number> {
  const [name = '', ...pairs] = operands
  refuseAddress(name)
  const timeoutMs = timeLimit(values, 'timeout')
  const whole = await wholeArguments(given(values.arguments), io)
  const redact = redactor()
  const side = await serverSide(values, [], io, redact)
  const client = new McpClient(side.open, {
    redact,
    onStatus: reportTo(io, side, redact),
    onNotification: (notification) => {
      showProgress(notification, io)
      return Promise.resolve()
    },
  })
  const { signal, clear } = limit(timeoutMs ?? ENDLESS_MS, io.signal)
  let isCalled = false
  try {
    await client.initialize(signal)
    const tool = toolNamed(await client.tools(signal), name)
    const input = jsonObject({ ...whole, ...argumentsOf(pairs, tool) })
    const params = jsonObject({ name: JSON.stringify(name), arguments: input, _meta: '{"progressToken":1}' })
    isCalled = true
    return show(await client.request('tools/call', params, signal), values.json === true, io)
  } catch (error) {
    if (error instanceof DOMException && error.name === 'TimeoutError') {
      const within = `did not answer within ${seconds(timeoutMs ?? 0)}`
      const hint = 'give it longer with --timeout'
      throw isCalled
        ? new BridgeError('RESPONSE_LOST', `${name} ${within}; it was cancelled, and may have run`, { hint })
        : new BridgeError('SERVER_UNREACHABLE', `${side.where} ${within}; nothing was run`, { hint })
    }
    throw error
  } finally {
    clear()
    await client.close()
  }
}

/** `key=value` as the schema has it, `key:=json` as it is: JSON texts, because numbers would lose digits. */
export function argumentsOf(pairs: readonly string[], tool: Tool): Record<string, string> {
  const known = parameters(tool)
  const found: Record<string, string> = {}
  for (const pair of pairs) {
    const [, key, sign, value] = /^([^=:]+)(:=|=)([\s\S]*)$/.exec(pair) ?? []
    if (key === undefined || value === undefined) {
      throw invalid(`${JSON.stringify(pair)} is no argument`, 'write key=value, or key:=JSON')
    }
    const parameter = known.find((each) => each.name === key)
    const open = tool.inputSchema.additionalProperties !== false
    if (parameter === undefined && known.length > 0 && !open) {
      throw invalid(
        `${tool.name} has no parameter ${key}`,
        `one of ${known.map((each) => each.name).join(', ')}`,
      )
    }
    if (sign === ':=' && !isJson(value)) throw notJson(`${JSON.stringify(pair)}: that`)
    found[key] = sign === ':=' ? value : typed(value, parameter?.type ?? 'string', pair)
  }
  return found
}

function jsonObject(members: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(members).map(([name, json]) => `${JSON.stringify(name)}:${json}`)
  return `{${pairs.join(',')}}`
}

/** `value` as JSON text of what `type` names. */
function typed(value: string, type: string, pair: string): string {
  const json = fitting(value, type)
  if (json !== undefined) return json
  const kind = kindsOf(type).find((each) => each !== 'null') ?? type
  const one = kind.replaceAll(/[()[\]]/g, '')
  if (/^(array|object)$/.test(one) || (one !== kind && value.trimStart().startsWith('[')))
    throw notJson(`${JSON.stringify(pair)}: that`)
  const hint = one === 'boolean' ? 'write true or false behind the =' : 'write a number behind the ='
  throw invalid(`${JSON.stringify(pair)}: that is no ${one}`, hint)
}

function kindsOf(type: string): readonly string[] {
  return type.split(/ \| (?![^(]*\))/)
}

/** Of several kinds the first that `value` can be, a text before all; undefined: it is none of them. */
function fitting(value: string, type: string): string | undefined {
  const kinds = kindsOf(type)
  if (kinds.includes('string') || kinds.includes(JSON.stringify(value))) return JSON.stringify(value)
  // A value of an enumeration, or null.
  if (kinds.includes(value) && isJson(value)) return value
  return kinds.flatMap((kind) => ofKind(value, kind) ?? [])[0]
}

/** Undefined: it is none. */
function ofKind(value: string, kind: string): string | undefined {
  switch (kind) {
    case 'number':
    case 'integer': {
      const number = Number(value)
      const whole = kind === 'number' || Number.isInteger(number)
      if (value.trim() === '' || !Number.isFinite(number) || !whole) return undefined
      return isJson(value) ? value : String(number)
    }
    case 'boolean':
      return value === 'true' || value === 'false' ? value : undefined
    case 'null':
      return undefined
    case 'object':
    case 'array':
      return isJson(value) ? value : undefined
    default: {
      if (!kind.endsWith('[]')) return JSON.stringify(value)
      if (value.trimStart().startsWith('[')) return isJson(value) ? value : undefined
      const each = kind.slice(0, -2).replace(/^\((.*)\)$/, '$1')
      const parts = value.split(',').flatMap((part) => fitting(part, each) ?? [])
      return parts.length === value.split(',').length ? `[${parts}]` : undefined
    }
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

function notJson(what: string): BridgeError {
  return invalid(`${what} is no JSON`, 'quote it for the shell: \'key:={"a": 1}\'')
}

async function wholeArguments(text: string | undefined, io: Io): Promise<Readonly<Record<string, string>>> {
  if (text === undefined) return {}
  const source = text === '-' ? await stdinText(io) : text
  const said = text === '-' ? 'what --arguments read from stdin' : '--arguments'
  if (!isJson(source)) {
    const hint = 'write one object, quoted for the shell: --arguments \'{"key": "value"}\''
    throw invalid(`${said} is no JSON`, hint)
  }
  const value: unknown = JSON.parse(source)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(`${said} is no JSON object`, 'write {"key": "value"}')
  }
  const { raw, params } = composeRequest(0, 'tools/call', source)
  const texts = Object.keys(value).map((name) => {
    const at = member(raw, params, name)
    return [name, raw.toString('utf8', at?.start, at?.end)]
  })
  return Object.fromEntries(texts) as Record<string, string>
}

function show(answer: Answer, asJson: boolean, io: Io): number {
  if (!answer.ok) {
    if (asJson) io.stdout.write(`${JSON.stringify({ error: answer.error }, undefined, 2)}\n`)
    else
      io.stderr.write(
        `error: the server refused the call: ${harmless(answer.error.message)} (${answer.error.code})\n`,
      )
    return 1
  }
  const { result } = answer
  if (asJson) io.stdout.write(`${indented(answer.json())}\n`)
  else
    for (const block of blocks(answer))
      io.stdout.write(`${io.stdout.isTTY === true ? harmless(block) : block}\n`)
  return result.isError === true ? 1 : 0
}

/** What a person reads of a result: its texts, or what stands in their place. */
function blocks({ result, json }: Answer & { readonly ok: true }): readonly string[] {
  const content = Array.isArray(result.content) ? (result.content as unknown[]).map(record) : []
  const lines = content.map((block) => {
    const whole = text(block.text) ?? text(record(block.resource).text)
    if (whole !== undefined) return whole
    const bytes = Buffer.byteLength(text(block.data) ?? text(record(block.resource).blob) ?? '', 'base64')
    const what = [text(block.type), text(block.mimeType), text(block.uri) ?? text(record(block.resource).uri)]
    return `[${what.filter((each) => each !== undefined).join(', ')}${bytes > 0 ? `, ${bytes} bytes` : ''}]`
  })
  if (lines.length > 0 || result.structuredContent === undefined) return lines
  return [indented(json('structuredContent'))]
}

function showProgress(notification: Notification, io: Io): void {
  if (notification.method !== 'notifications/progress' || io.stderr.isTTY !== true) return
  if (notification.params === undefined) return
  const { progress, total, message } = record(valueAt(notification.raw, notification.params))
  const amount = total === undefined ? String(progress) : `${String(progress)}/${String(total)}`
  io.stderr.write(`… ${amount}${text(message) === undefined ? '' : ` ${harmless(text(message) ?? '')}`}\n`)
}

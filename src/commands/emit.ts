/**
 * `chamade-mcp emit`: lets something happen in the running simulator, from the shell.
 *
 * Not a client of Chamade: it speaks the simulator's control API. The one rule: it finds the simulator by itself,
 * and says on stdout what came of each event, one line each.
 */
import { readFile } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { BridgeError, reasonOf } from '../errors.ts'
import { ASSUMED } from '../simulator/assumptions.ts'
import { type Beacon, findBeacons } from '../simulator/beacon.ts'
import { FAULTS } from '../simulator/faults.ts'
import type { CommandSpec, Io, OptionValues } from './command.ts'
import { invalid, listOf, numberOf, textOf } from './simulator-options.ts'

export const emit: CommandSpec = {
  name: 'emit',
  summary: `Let something happen in the running simulator:
  dm TEXT             somebody writes a direct message (--from, --platform)
  call                the phone rings (--from, --platform)
  transcript TEXT     somebody says a line in the active call (--from, --call)
  hangup              the other side hangs up (--call, --broken)
  window-closed       WhatsApp's 24 h window with --from closes
  raw TEXT            a channel event as it is (--meta)
  fault NAME          something breaks; NAME is one of
${Object.entries(FAULTS)
  .map(([name, what]) => `      ${name.padEnd(12)}    ${what}`)
  .join('\n')}
Without an operand, or with "-", events are read from stdin as JSON, one a line.`,
  operands: '[what] [words...]',
  options: [
    { flags: '--from <name>', description: 'who writes, calls or speaks', fallback: 'Alice' },
    {
      flags: '--platform <name>',
      description: 'discord, telegram, teams, whatsapp, slack, nctalk; for calls also sip, meet, zoom',
      fallback: 'discord, sip for calls',
    },
    { flags: '--call <id>', description: 'which call', fallback: 'the newest' },
    { flags: '--broken', description: 'with hangup: the connection broke' },
    { flags: '--agent <name>', description: 'which agent, when there are several', fallback: 'the first' },
    { flags: '--meta <key=value...>', description: 'with raw: one entry of meta; repeat it for more' },
    { flags: '--file <path...>', description: 'with dm: a file to send along; repeat it for more' },
    { flags: '--seconds <n>', description: 'with fault: how long' },
    { flags: '--ms <n>', description: 'with fault slow: how much later' },
    {
      flags: '--port <n>',
      description: 'which simulator, when several run',
      fallback: 'the one started last',
    },
    { flags: '--json', description: 'print the answer as JSON' },
  ],
  examples: [
    'chamade-mcp emit dm --from Alice --platform discord "Can you check the test results?"',
    'chamade-mcp emit call --from "+33 1 23 45 67 89"',
    'chamade-mcp emit fault restart',
  ],
  run: async (values, operands, io) => {
    const requests = await requestsOf(values, operands, io)
    const simulator = await findRunning(values, io)
    for (const request of requests) report(await send(simulator, request), request, values, io)
    return 0
  },
}

/** One POST to the control API. */
interface ControlRequest {
  readonly route: 'emit' | 'fault'
  readonly body: unknown
}

async function requestsOf(
  values: OptionValues,
  operands: readonly string[],
  io: Io,
): Promise<readonly ControlRequest[]> {
  const [what, ...words] = operands
  if (what === undefined || what === '-') return readStdin(io)
  const text = words.join(' ')
  if (what === 'fault') {
    const amounts = { seconds: numberOf(values, 'seconds'), ms: numberOf(values, 'ms') }
    return [{ route: 'fault', body: { fault: text, ...amounts } }]
  }
  const attachments = what === 'dm' ? await filesOf(values, io) : []
  const happening = { ...happeningOf(what, text, values), agent: textOf(values, 'agent') }
  return [{ route: 'emit', body: attachments.length === 0 ? happening : { ...happening, attachments } }]
}

function happeningOf(what: string, text: string, values: OptionValues): Readonly<Record<string, unknown>> {
  const from = textOf(values, 'from') ?? 'Alice'
  const platform = textOf(values, 'platform')
  const call = textOf(values, 'call')
  switch (what) {
    case 'dm':
      return { type: 'dm', from, platform, text: said(what, text) }
    case 'call':
      return { type: 'call', from, platform }
    case 'transcript':
      return { type: 'transcript', speaker: from, call, text: said(what, text) }
    case 'hangup':
      return { type: 'hangup', call, ...(values.broken === true ? { broken: true } : {}) }
    case 'window-closed':
      return { type: 'window-closed', from }
    case 'raw':
      return { type: 'raw', content: said(what, text), meta: metaOf(values) }
    default:
      throw invalid(
        `there is nothing like "${what}" to emit`,
        'dm, call, transcript, hangup, window-closed, raw, fault',
      )
  }
}

function said(what: string, text: string): string {
  if (text !== '') return text
  throw invalid(`emit ${what} needs a text`, `chamade-mcp emit ${what} "hello"`)
}

function filesOf(values: OptionValues, io: Io) {
  return Promise.all(
    listOf(values, 'file').map(async (path) => {
      const bytes = await readFile(resolve(io.cwd, path)).catch((error: unknown) => {
        throw invalid(`--file ${path} cannot be read: ${reasonOf(error)}`, 'check the path')
      })
      if (bytes.length > ASSUMED.maxFileBytes)
        throw invalid(`--file ${path} is over 25 MB`, 'send a smaller one')
      return { name: basename(path), bytes_b64: bytes.toString('base64') }
    }),
  )
}

function metaOf(values: OptionValues): Readonly<Record<string, string>> {
  return Object.fromEntries(
    listOf(values, 'meta').map((pair) => {
      const at = pair.indexOf('=')
      if (at < 1) throw invalid(`--meta ${pair} is no key=value`, '--meta source=test')
      return [pair.slice(0, at), pair.slice(at + 1)]
    }),
  )
}

/** JSON values on stdin: one a line, or one text that is an object or a list. */
async function readStdin(io: Io): Promise<readonly ControlRequest[]> {
  if (io.stdin.isTTY === true) throw invalid('say what to emit', 'chamade-mcp emit --help')
  let text = ''
  io.stdin.setEncoding('utf8')
  for await (const chunk of io.stdin) text += String(chunk)
  const values = valuesOf(text)
  if (values.length === 0) throw invalid('there was nothing on stdin', 'chamade-mcp emit --help')
  return values.map((body) => ({ route: isFault(body) ? 'fault' : 'emit', body }))
}

function valuesOf(text: string): readonly unknown[] {
  const whole = jsonOf(text)
  if (whole !== undefined) return Array.isArray(whole.value) ? (whole.value as unknown[]) : [whole.value]
  const lines = text.split('\n').filter((line) => line.trim() !== '')
  return lines.map((line, index) => {
    const parsed = jsonOf(line)
    if (parsed === undefined)
      throw invalid(`line ${index + 1} of stdin is no JSON`, '{"type":"dm","from":"Alice","text":"hi"}')
    return parsed.value
  })
}

function jsonOf(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown }
  } catch {
    return undefined
  }
}

function isFault(body: unknown): boolean {
  return typeof body === 'object' && body !== null && 'fault' in body
}

/** The simulator on `--port`, else the one that was started last and still answers. */
async function findRunning(values: OptionValues, io: Io): Promise<Beacon> {
  const port = textOf(values, 'port')
  const known = await findBeacons(io.homedir)
  const wanted = port === undefined ? known : known.filter((beacon) => new URL(beacon.url).port === port)
  for (const beacon of wanted) if (await answers(beacon)) return beacon
  const where = port === undefined ? '' : ` on port ${port}`
  throw new BridgeError('SERVER_UNREACHABLE', `no simulator is running${where}`, {
    hint: 'start one in another terminal: chamade-mcp simulate',
  })
}

async function answers({ url, token }: Beacon): Promise<boolean> {
  const headers = { authorization: `Bearer ${token}` }
  try {
    const response = await fetch(`${url}/control/state`, { headers, signal: AbortSignal.timeout(2_000) })
    await response.body?.cancel()
    return response.ok
  } catch {
    return false
  }
}

async function send({ url, token }: Beacon, { route, body }: ControlRequest): Promise<unknown> {
  const response = await fetch(`${url}/control/${route}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const answer = (await response.json()) as { readonly error?: string }
  if (response.ok) return answer
  const said = answer.error ?? `HTTP ${response.status}`
  throw new BridgeError('CONFIG_INVALID', said, { hint: 'chamade-mcp emit --help' })
}

function report(answer: unknown, request: ControlRequest, values: OptionValues, io: Io): void {
  if (values.json === true) {
    io.stdout.write(`${JSON.stringify(answer)}\n`)
    return
  }
  if (request.route === 'fault') {
    io.stdout.write(`${(answer as { readonly done: string }).done}\n`)
    return
  }
  const { events, call_id } = answer as {
    readonly events: readonly {
      readonly event_id: string
      readonly content: string
      readonly pushed_to: string[]
    }[]
    readonly call_id?: string
  }
  const call = call_id === undefined ? '' : `  (${call_id})`
  for (const { event_id, content, pushed_to } of events) {
    const to = pushed_to.length === 0 ? 'nobody listens' : `pushed to ${pushed_to.join(', ')}`
    io.stdout.write(`${event_id}  ${to}  ${content.split('\n', 1).join('')}${call}\n`)
  }
  if (events.length === 0) io.stdout.write(`done${call}\n`)
}

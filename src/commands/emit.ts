/**
 * `chamade-mcp emit`: lets something happen in the running simulator, from the shell.
 *
 * Not a client of Chamade or moot: it reads what is wanted out of words and stdin, `emit/running.ts` asks for it.
 * The one rule: it finds the simulator by itself, and says on stdout what came of each event, one line each.
 */
import { readFile } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { list, text } from '../config.ts'
import { BridgeError, invalid, reasonOf } from '../errors.ts'
import type { OptionValues } from '../options.ts'
import { ASSUMED } from '../simulator/assumptions.ts'
import { FAULTS } from '../simulator/faults.ts'
import { MOOT_FAULTS } from '../simulator/moot/faults.ts'
import type { CommandSpec, Io } from './command.ts'
import { letHappen, simulatorsHere, type Wanted } from './emit/running.ts'
import { shellLine } from './shell-line.ts'
import { stdinText } from './stdin.ts'
import { numberOf, portOf } from './values.ts'

function linesOf(faults: Readonly<Record<string, string>>): string {
  return Object.entries(faults)
    .map(([name, what]) => `      ${name.padEnd(12)}    ${what}`)
    .join('\n')
}

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
${linesOf(FAULTS)}
In a simulated moot (simulate --moot):
  say TEXT            somebody speaks (--from, --space); "@MyAgent …" is a mention
  status STATUS       the space (--space) becomes active, paused or archived
  fault NAME          something breaks; NAME is one of
${linesOf(MOOT_FAULTS)}
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
    { flags: '--space <id>', description: 'with say and status: which space', fallback: 'sprint-planning' },
    { flags: '--broken', description: 'with hangup: the connection broke' },
    { flags: '--agent <name>', description: 'which agent, when there are several', fallback: 'the first' },
    { flags: '--meta <key=value...>', description: 'with raw: one entry of meta; repeat it for more' },
    { flags: '--file <path...>', description: 'with dm: a file to send along; repeat it for more' },
    { flags: '--seconds <n>', description: 'with a fault that lasts: for how long' },
    { flags: '--ms <n>', description: 'with fault slow: how much later', fallback: '2000' },
    {
      flags: '--port <n>',
      description: 'which simulator, when several run',
      fallback: 'the one started last',
    },
    { flags: '--json', description: 'print the answer as JSON' },
  ],
  examples: [
    'chamade-mcp emit dm --from Alice "Can you check the results?"',
    'chamade-mcp emit say "@MyAgent can you review this?"',
    'chamade-mcp emit fault restart',
    'chamade-mcp emit fault refuse --seconds 20',
  ],
  run: async (values, operands, io) => {
    checkOptions(values, operands[0] ?? '-')
    const asked = await askedOf(values, operands, io)
    const port = values.port === undefined ? undefined : portOf(values, 0)
    const simulators = await simulatorsHere(io.homedir, port)
    for (const { wanted, where } of asked) {
      const { answer, lines } = await letHappen(simulators, wanted).catch((error: unknown) => {
        throw where === undefined ? error : placed(error, where)
      })
      const shown = values.json === true ? [JSON.stringify(answer)] : lines
      for (const line of shown) io.stdout.write(`${line}\n`)
    }
    return 0
  },
}

/** The options that mean something to each, besides --port and --json. */
const OPTIONS_OF = new Map<string, readonly string[]>(
  Object.entries({
    dm: ['from', 'platform', 'file', 'agent'],
    call: ['from', 'platform', 'agent'],
    transcript: ['from', 'call', 'agent'],
    hangup: ['call', 'broken', 'agent'],
    'window-closed': ['from', 'agent'],
    raw: ['meta', 'agent'],
    fault: ['seconds', 'ms', 'space'],
    say: ['from', 'space'],
    status: ['space'],
    '-': ['from'],
  }),
)

function checkOptions(values: OptionValues, what: string): void {
  const options = OPTIONS_OF.get(what)
  if (options === undefined) return
  const vain = Object.keys(values).find((name) => ![...options, 'port', 'json'].includes(name))
  if (vain === undefined) return
  const on = what === '-' ? 'an event read from stdin says all itself: it' : `emit ${what}`
  const has = options.map((name) => `--${name}`).join(', ')
  throw invalid(`${on} has no --${vain}`, `leave it away; there are ${has}, --port, --json`)
}

/** One event, and where on stdin it stands. */
interface Asked {
  readonly wanted: Wanted
  readonly where?: string
}

async function askedOf(values: OptionValues, operands: readonly string[], io: Io): Promise<readonly Asked[]> {
  const [what, ...rest] = operands
  if (what === undefined || what === '-') return readStdin(values, io)
  const words = rest.join(' ')
  if (what === 'fault') {
    if (words === '') throw faultMissing()
    const amounts = { seconds: numberOf(values, 'seconds'), ms: numberOf(values, 'ms') }
    return [{ wanted: { fault: words, ...amounts, space: text(values.space) } }]
  }
  const attachments = what === 'dm' ? await filesOf(values, io) : []
  const happening = {
    ...bySomebody(happeningOf(what, words, values), values),
    agent: text(values.agent),
  }
  return [{ wanted: attachments.length === 0 ? happening : { ...happening, attachments } }]
}

/** What happens is somebody's doing: whose, where the event itself does not say. */
function bySomebody(happening: Wanted, values: OptionValues): Wanted {
  const from = text(values.from) ?? 'Alice'
  switch (happening.type) {
    case 'dm':
    case 'call':
    case 'window-closed':
    case 'say':
      return { from, ...happening }
    case 'transcript':
      return { speaker: from, ...happening }
    default:
      return happening
  }
}

function faultMissing(): BridgeError {
  const names = (faults: object): string => Object.keys(faults).join(', ')
  return invalid('emit fault needs a name', `one of ${names(FAULTS)}; in a moot ${names(MOOT_FAULTS)}`)
}

/** The mistake, with the place of the event on stdin: what stands before it has happened already. */
function placed(error: unknown, where: string): unknown {
  if (!(error instanceof BridgeError)) return error
  return new BridgeError(error.code, `${where}: ${error.message}`, { hint: error.hint, cause: error })
}

function happeningOf(what: string, words: string, values: OptionValues): Readonly<Record<string, unknown>> {
  const platform = text(values.platform)
  const call = text(values.call)
  const space = text(values.space)
  switch (what) {
    case 'dm':
      return { type: 'dm', platform, text: said(what, words) }
    case 'call':
      return { type: 'call', platform }
    case 'transcript':
      return { type: 'transcript', call, text: said(what, words) }
    case 'hangup':
      return { type: 'hangup', call, ...(values.broken === true ? { broken: true } : {}) }
    case 'window-closed':
      return { type: 'window-closed' }
    case 'raw':
      return { type: 'raw', content: said(what, words), meta: metaOf(values) }
    case 'say':
      return { type: 'say', space, text: said(what, words) }
    case 'status':
      return { type: 'status', space, status: words }
    default:
      throw invalid(
        `there is nothing like "${what}" to emit`,
        'dm, call, transcript, hangup, window-closed, raw, fault; in a moot say, status, fault',
      )
  }
}

function said(what: string, words: string): string {
  if (words !== '') return words
  throw invalid(`emit ${what} needs a text`, shellLine(`emit ${what} "hello"`))
}

function filesOf(values: OptionValues, io: Io) {
  return Promise.all(
    list(values.file).map(async (path) => {
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
    list(values.meta).map((pair) => {
      const at = pair.indexOf('=')
      if (at < 1) throw invalid(`--meta ${pair} is no key=value`, '--meta severity=high')
      return [pair.slice(0, at), pair.slice(at + 1)]
    }),
  )
}

/** JSON values on stdin: one a line, or one text that is an object or a list. */
async function readStdin(values: OptionValues, io: Io): Promise<readonly Asked[]> {
  if (io.stdin.isTTY === true) throw invalid('say what to emit', shellLine('emit --help'))
  const found = valuesOf(await stdinText(io))
  if (found.length === 0) throw invalid('there was nothing on stdin', shellLine('emit --help'))
  return found.map(({ value, where }) => {
    if (typeof value !== 'object' || value === null) throw invalid(`${where} is no object`, EVENT)
    if (!('type' in value) && !('fault' in value))
      throw invalid(`${where} has neither "type" nor "fault"`, EVENT)
    return { wanted: bySomebody(value as Wanted, values), where }
  })
}

const EVENT = '{"type":"dm","from":"Alice","text":"hi"}'

function valuesOf(text: string): readonly { readonly value: unknown; readonly where: string }[] {
  const whole = jsonOf(text)
  if (whole !== undefined) {
    if (!Array.isArray(whole.value)) return [{ value: whole.value, where: 'the event on stdin' }]
    return whole.value.map((value: unknown, at) => ({ value, where: `event ${at + 1} on stdin` }))
  }
  return text.split('\n').flatMap((line, at) => {
    if (line.trim() === '') return []
    const where = `line ${at + 1} of stdin`
    const parsed = jsonOf(line)
    if (parsed === undefined) throw invalid(`${where} is no JSON`, EVENT)
    return [{ value: parsed.value, where }]
  })
}

function jsonOf(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown }
  } catch {
    return undefined
  }
}

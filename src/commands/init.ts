/**
 * `chamade-mcp init`: writes the server's entry into a client's configuration, and says how to launch it.
 *
 * Not an installer: it changes one entry of one file per client and shows it first. The one rule: nothing is
 * written that was not shown, and what was there is kept beside it.
 */
import { randomBytes } from 'node:crypto'
import { list, text } from '../config.ts'
import { PLACEHOLDER } from '../credentials.ts'
import { BridgeError, invalid } from '../errors.ts'
import { asGiven, type OptionValues } from '../options.ts'
import type { CommandSpec, Io } from './command.ts'
import { CLIENTS, type Client, clientNamed, paths, type Scope } from './init/clients.ts'
import { unifiedDiff } from './init/diff.ts'
import { edited, entriesOf, existingKey, refuseLax } from './init/edit.ts'
import {
  claudeAddLine,
  entryFor,
  inputFor,
  type KeyFrom,
  keyVariable,
  SIMULATOR_URL,
  USUAL_NAME,
  type Wish,
} from './init/entry.ts'
import { mayBeWritten, replaceText, textOf } from './init/files.ts'
import { channelEntries } from './init/launch.ts'
import type { Questions } from './init/questions.ts'
import { nextSteps, type Plan } from './init/steps.ts'
import { type Palette, palette, wantsColour } from './terminal.ts'
import { spaceWithoutMoot, webAddress } from './values.ts'

export const init: CommandSpec = {
  name: 'init',
  summary: `Write the entry for Claude Code, Claude Desktop, Cursor or VS Code.

Shows what it would change and asks first; an existing file keeps its other entries (and its comments, where the client takes them), and a copy of \
it stays beside it (.bak). The key is named, not written, where the client can read it from somewhere else.`,
  options: [
    {
      flags: '--client <name...>',
      description: `${CLIENTS.map(({ name }) => name).join(', ')}; repeat it for more`,
      env: 'CHAMADE_INIT_CLIENT',
      fallback: 'claude-code; asked on a terminal',
    },
    {
      flags: '--scope <scope>',
      description: 'project (a file in this folder) or user (for all your projects)',
      fallback: 'project where the client has it',
    },
    {
      flags: '--name <name>',
      description: 'name of the entry',
      fallback: 'chamade, or moot-channel with --moot',
    },
    {
      flags: '--url <url>',
      description: 'address of the server, when it is not the usual one',
    },
    {
      flags: '--stateful',
      description: 'ask for a session and pushed events',
      fallback: 'on for Claude Code, which shows them',
    },
    { flags: '--stateless', description: 'no session, no pushed events' },
    {
      flags: '--api-key-file <path>',
      description: 'the entry names this file instead of a variable',
    },
    { flags: '--allow-http', description: 'the key may be sent over plain http beyond this machine' },
    { flags: '--moot', description: 'the moot channel adapter instead of Chamade' },
    { flags: '--space <id>', description: 'moot: the space to join at the start' },
    { flags: '--simulator', description: `the simulator on this machine (${SIMULATOR_URL})` },
    {
      flags: '--installed',
      description: 'start chamade-mcp from the PATH (npm install -g) instead of through npx',
    },
    { flags: '--print', description: 'only show it' },
    { flags: '--yes', description: 'write without asking' },
  ],
  examples: [
    'chamade-mcp init',
    'chamade-mcp init --client claude-code --client cursor --yes',
    'chamade-mcp init --simulator --print',
  ],
  run,
}

/** As a signal would say it: 128 and the number of SIGINT. */
const INTERRUPTED = 130

/** How far it may go. */
interface Mode {
  readonly print: boolean
  readonly yes: boolean
  readonly ask: Questions | undefined
  readonly io: Io
  readonly paint: Palette
}

/** One client's part: what is to be done is known, and nothing is done yet. */
interface Job {
  readonly client: Client
  readonly wish: Wish
  /** Undefined where the client's own command writes the entry. */
  readonly edit: Edit | undefined
}

interface Edit {
  readonly file: string
  /** Undefined: there is no such file. */
  readonly before: string | undefined
  readonly after: string
}

async function run(values: OptionValues, _operands: readonly string[], io: Io): Promise<number> {
  const print = values.print === true
  const yes = values.yes === true
  const asking = !print && !yes && io.stdin.isTTY === true && io.stdout.isTTY === true
  if (!print && !yes && !asking) {
    throw invalid(
      'init asks before it writes, and this is no terminal',
      'add --yes to write, or --print to see',
    )
  }
  const room = asking ? await import('./init/questions.ts') : undefined
  const ask = room?.questions(io)
  const mode: Mode = { print, yes, ask, io, paint: palette(wantsColour(io.stdout, io.env)) }
  try {
    const clients = await chosenClients(values, ask)
    const plan = await planOf(values, mode)
    // What cannot be done is said before anything is written.
    const jobs: Job[] = []
    for (const client of clients) jobs.push(await prepare(client, plan, mode))
    for (const job of jobs) await carryOut(job, plan, mode)
    return 0
  } catch (error) {
    if (room === undefined || !(error instanceof room.Cancelled)) throw error
    io.stdout.write('Stopped; nothing more was written.\n')
    return error.interrupted ? INTERRUPTED : 1
  }
}

async function chosenClients(values: OptionValues, ask: Questions | undefined): Promise<readonly Client[]> {
  const names = list(values.client).flatMap((name) => name.split(','))
  if (names.length === 0) return ask === undefined ? CLIENTS.slice(0, 1) : ask.clients()
  return [...new Set(names)].map((name) => {
    const client = clientNamed(name)
    if (client !== undefined) return client
    throw invalid(
      `${asGiven({ ...values, client: name }, 'client')} is not known`,
      `one of ${CLIENTS.map((each) => each.name).join(', ')}`,
    )
  })
}

async function planOf(values: OptionValues, { ask, io }: Mode): Promise<Plan> {
  const url = webAddress(values, 'url')
  const moot = values.moot === true
  const simulator = values.simulator === true
  if (values.stateful === true && values.stateless === true) {
    throw invalid('--stateful and --stateless exclude each other', 'give one of them')
  }
  if (moot && simulator) throw invalid('--moot and --simulator exclude each other', 'use --moot --url URL')
  const told = moot ? 'moot' : simulator ? 'simulator' : url === undefined ? undefined : 'chamade'
  const target = told ?? (await ask?.system()) ?? 'chamade'
  if (target !== 'moot' && text(values.space) !== undefined) throw spaceWithoutMoot()
  const keyFile = text(values.apiKeyFile)
  return {
    system: target === 'moot' ? 'moot' : 'chamade',
    simulatorKey: target === 'simulator' ? `chmd_local_${randomBytes(12).toString('hex')}` : undefined,
    name: nameOf(values, target),
    url: target === 'simulator' ? (url ?? SIMULATOR_URL) : url,
    allowHttp: values.allowHttp === true,
    space: text(values.space),
    installed: values.installed === true,
    stateful: values.stateless === true ? false : values.stateful === true ? true : undefined,
    keyFile: keyFile === undefined ? undefined : paths(io).resolve(io.cwd, keyFile),
    scope: scopeOf(values),
  }
}

function nameOf(values: OptionValues, target: keyof typeof USUAL_NAME): string {
  const name = text(values.name) ?? USUAL_NAME[target]
  if (/^[A-Za-z0-9_-]{1,64}$/.test(name)) return name
  throw invalid(`--name ${name} cannot be the name of an entry`, 'use letters, digits, - and _')
}

function scopeOf(values: OptionValues): Scope | undefined {
  const scope = text(values.scope)
  if (scope === undefined || scope === 'project' || scope === 'user') return scope
  throw invalid(`--scope ${scope} is not known`, 'one of project, user')
}

/** Reads, asks what is to be asked, and makes the new text. Throws what stands in the way. */
async function prepare(client: Client, plan: Plan, mode: Mode): Promise<Job> {
  const { io } = mode
  const scope = plan.scope ?? client.scopes[0]
  if (!client.scopes.includes(scope)) {
    throw invalid(`${client.title} has no --scope ${scope}`, `one of ${client.scopes.join(', ')}`)
  }
  const file = client.file(io, scope)
  if (file === undefined) {
    return { client, wish: wishFor(client, plan, keyToSay(plan)), edit: undefined }
  }
  try {
    return await editOf(client, plan, file, await textOf(file), mode)
  } catch (error) {
    if (!mode.print || !(error instanceof BridgeError)) throw error
    // It is left to a person's hand: what belongs there can be shown all the same.
    io.stderr.write(`${error.message}\nas it would be in a new file:\n`)
    return await editOf(client, plan, file, undefined, mode)
  }
}

async function editOf(
  client: Client,
  plan: Plan,
  file: string,
  before: string | undefined,
  mode: Mode,
): Promise<Job> {
  const { io } = mode
  const key = await keyFor(client, plan, before ?? '', file, mode)
  const wish = wishFor(client, plan, key)
  const entry = entryFor(client, wish, io.platform)
  const change = { root: client.root, name: wish.name, entry, input: inputFor(client, wish) }
  const after = edited(before ?? '', change, file)
  if (client.strict) refuseLax(before ?? '', client.title, file)
  if (after !== before && !mode.print) await mayBeWritten(file)
  return { client, wish, edit: { file, before, after } }
}

/** Shows the change, asks, writes, and says what is left to do. */
async function carryOut({ client, wish, edit }: Job, plan: Plan, mode: Mode): Promise<void> {
  const { io, paint, ask } = mode
  const out = (line: string): void => {
    io.stdout.write(`${line}\n`)
  }
  out(paint.bold(`\n${client.title}${edit === undefined ? '' : `: ${edit.file}`}`))
  if (edit === undefined) {
    out(`\nRun this; Claude Code keeps the entry itself:\n\n  ${claudeAddLine(client, wish, io.platform)}`)
    out(nextSteps(client, plan, wish, [plan.name], mode))
    return
  }
  const { file, before, after } = edit
  const secret = wish.key.kind === 'value'
  if (after === before) {
    out(paint.green('already as it should be'))
  } else {
    out(unifiedDiff(before ?? '', after, file, paint))
    const write = !mode.print && (mode.yes || (await ask?.write(file)) === true)
    if (write) {
      const backup = await replaceText(file, before, after, secret)
      out(`${paint.green('written')}${backup === undefined ? '' : `; as it was before: ${backup}`}`)
    } else {
      out(paint.yellow('not written'))
    }
    if (!write && !mode.print) return
  }
  if (mode.print && client.name === 'claude-code' && plan.simulatorKey === undefined) {
    out(`\nOr, without a file:\n\n  ${claudeAddLine(client, { ...wish, key: keyToSay(plan) }, io.platform)}`)
    if (secret) out(`\n(with ${keyVariable(plan.system)} set where Claude Code is started)`)
  }
  const names = client.channels ? channelEntries(entriesOf(after, client.root, file)) : []
  out(nextSteps(client, plan, wish, names, mode))
}

function wishFor(client: Client, plan: Plan, key: KeyFrom): Wish {
  const { system, name, url, allowHttp, space, installed } = plan
  return { system, name, url, allowHttp, space, installed, stateful: plan.stateful ?? client.channels, key }
}

/** The key in a line that is shown and run: the simulator's is no secret, any other stays in its variable. */
function keyToSay({ keyFile, simulatorKey }: Plan): KeyFrom {
  if (keyFile !== undefined) return { kind: 'file', path: keyFile }
  return simulatorKey === undefined ? { kind: 'variable' } : { kind: 'value', value: simulatorKey }
}

/** A key that stands in the entry stays; a variable is named where that is possible; else somebody must say it. */
async function keyFor(
  client: Client,
  plan: Plan,
  before: string,
  file: string,
  mode: Mode,
): Promise<KeyFrom> {
  if (plan.keyFile !== undefined) return { kind: 'file', path: plan.keyFile }
  const variable = keyVariable(plan.system)
  const existing = existingKey(before, client.root, plan.name, variable, file)
  if (
    existing !== undefined &&
    existing !== PLACEHOLDER &&
    existing !== client.reference(variable) &&
    // A real key is none of the simulator's business, and would be shown in the line that starts it.
    (plan.simulatorKey === undefined || existing.startsWith('chmd_local'))
  ) {
    return { kind: 'value', value: existing }
  }
  if (plan.simulatorKey !== undefined) return { kind: 'value', value: plan.simulatorKey }
  if (client.reference(variable) !== undefined) return { kind: 'variable' }
  const value = mode.io.env[variable] ?? (await mode.ask?.key(client, variable))
  return value === undefined || value === '' ? { kind: 'variable' } : { kind: 'value', value }
}

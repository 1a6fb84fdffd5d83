/**
 * `chamade-mcp listen`: is the client, and prints what is pushed as it comes.
 *
 * For people ("is it them or me?") and for scripts. The one rule: what is printed arrived; breaks and gaps stand
 * in their place between the events, so that silence can be told from deafness; whoever never listened fails.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { kill } from 'node:process'
import { parseFilter, passes } from '../channel/filter.ts'
import { lengthOf, list, text } from '../config.ts'
import { BridgeError, invalid, seconds } from '../errors.ts'
import { nameGiven, type OptionValues } from '../options.ts'
import type { Notification } from '../protocol.ts'
import { aborted, later } from '../retry.ts'
import { ALL_SPACES, levelOf, type Redactor, redactor, render, type Status } from '../status.ts'
import { McpClient, type ServerIdentity } from './client.ts'
import type { CommandSpec, Io } from './command.ts'
import { type Asked, mootAsked, withoutTwins } from './entry.ts'
import { CONNECTION_OPTIONS, type FarSide, mootSide, serverSide, watched } from './far-side.ts'
import { inShell } from './in-shell.ts'
import { type Heard, heard, type Page, pageFor } from './listen/page.ts'
import { shellLine } from './shell-line.ts'
import { count, spaceWithoutMoot } from './values.ts'

export const listen: CommandSpec = {
  name: 'listen',
  summary: `Be the client and print pushed events as they come.

On a terminal one line an event: time, kind, sender, latency, text. Otherwise one JSON object a line, "type" being \
"event", "gap" or "status". Latency is the event's own time stamp against this machine's clock.`,
  operands: '[url]',
  options: [
    ...CONNECTION_OPTIONS.filter(({ flags }) => flags !== '--stateful'),
    { flags: '--stateless', description: 'do not add ?stateful to the URL' },
    { flags: '--moot', description: 'listen to moot spaces (CONVO_API_URL, CONVO_API_KEY) instead' },
    { flags: '--space <id>', description: 'moot: this space only', fallback: 'all of the agent' },
    { flags: '--only <rule...>', description: 'only events whose meta matches, e.g. event_type=dm_*' },
    { flags: '--drop <rule...>', description: 'leave out events whose meta matches' },
    { flags: '--all', description: 'other notifications too; as JSON their "type" is "other"' },
    { flags: '--count <n>', description: 'stop after so many events' },
    {
      flags: '--for <time>',
      description: 'stop after so long; with --count: fail if there were fewer by then',
    },
    {
      flags: '--exec <command>',
      description:
        'run this in the shell for each event, the event as JSON on its stdin, one after the other',
    },
    { flags: '--json', description: 'JSON lines on a terminal too' },
  ],
  examples: [
    'CHAMADE_API_KEY=chmd_… chamade-mcp listen',
    "chamade-mcp listen --only 'event_type=dm_*' --count 1 --for 10m",
    "chamade-mcp listen http://127.0.0.1:8484/mcp/ --exec 'jq -r .content'",
  ],
  run,
}

/** Why it ended: the time of --for was over. */
const TIME_IS_OVER = 'time is over'
/** The server has no push stream. */
const NOT_OFFERED = 'not offered'
const HANDSHAKE_GRACE_MS = 1_500
/** While a stream stays down, the attempts are told this often. */
const RETRY_TOLD_MS = 30_000

/** What the command was asked to do, checked. */
interface Wanted {
  readonly count: number
  readonly forMs: number | undefined
  readonly exec: string | undefined
  readonly all: boolean
  wants(notification: Notification): boolean
}

async function run(values: OptionValues, operands: readonly string[], io: Io): Promise<number> {
  const entry = await mootAsked(values, io)
  const isMoot = values.moot === true || entry !== undefined
  if (!isMoot && text(values.space) !== undefined) throw spaceWithoutMoot()
  const wanted = wantedOf(values)
  const redact = redactor()
  const side = isMoot
    ? await mootSide(mootValues(values, operands, entry), entry?.env ?? io.env, redact)
    : await serverSide({ ...values, stateful: values.stateless !== true }, operands, io, redact, wanted.forMs)
  const page = pageFor(io, values.json === true)
  return await new Listening(side, wanted, page, io, redact).run()
}

/** Flags that are about an MCP server. */
const NOT_OF_MOOT = ['url', 'stateless', 'header', 'cert', 'key', 'patience']

/** Only what is meant for moot: key and address of Chamade, and all that its variables say, are none of its business. */
function mootValues(
  values: OptionValues,
  [apiUrl]: readonly string[],
  entry: Omit<Asked, 'operands'> | undefined,
): OptionValues {
  const flags = withoutTwins(values)
  const vain = NOT_OF_MOOT.find((name) => flags[name] !== undefined)
  if (vain !== undefined) {
    const hint =
      vain === 'url' ? `write the address alone: ${shellLine('listen --moot URL')}` : 'leave it away'
    throw invalid(`${nameGiven(values, vain)} is for an MCP server, not for a moot`, hint)
  }
  const { space, allowHttp, ca, apiKeyFile } = flags
  const given = Object.entries({ space, allowHttp, ca, apiKeyFile, apiUrl })
  const said = Object.fromEntries(given.filter(([, value]) => value !== undefined)) as OptionValues
  const merged: OptionValues = { ...entry?.values, ...said }
  return { ...merged, autoSubscribe: (text(merged.space) ?? entry?.env.CONVO_SPACE_ID) === undefined }
}

function wantedOf(values: OptionValues): Wanted {
  const only = parseFilter(list(values.only), '--only')
  const drop = parseFilter(list(values.drop), '--drop')
  return {
    count: count(values, 'count') ?? Number.POSITIVE_INFINITY,
    forMs: lengthOf(values, 'for'),
    exec: text(values.exec),
    all: values.all === true,
    wants: (notification) => passes(notification, only, drop),
  }
}

class Listening {
  readonly #side: FarSide
  readonly #wanted: Wanted
  readonly #page: Page
  readonly #io: Io
  readonly #redact: Redactor
  readonly #done = new AbortController()
  /** A push stream was open. (To know the spaces of an agent is not to hear them.) */
  #listened = false
  /** Moot has told which spaces there are, and named none. */
  #isNowhere = false
  #seen = 0
  /** When a failed attempt was last told (uptime, ms). */
  #retryTold = Number.NEGATIVE_INFINITY
  #failedCommands = 0
  /** What --exec runs now. Resolves at its end. */
  #command: Promise<void> = Promise.resolve()

  constructor(side: FarSide, wanted: Wanted, page: Page, io: Io, redact: Redactor) {
    this.#side = side
    this.#wanted = wanted
    this.#page = page
    this.#io = io
    this.#redact = redact
  }

  async run(): Promise<number> {
    const { forMs } = this.#wanted
    const stop = (): void => this.#done.abort()
    this.#io.signal.addEventListener('abort', stop, { once: true })
    if (this.#io.signal.aborted) stop()
    // Whoever read us has gone (`| head`).
    this.#io.stdout.on('error', stop)
    for (const note of this.#side.notes) this.#status(note)
    const client = new McpClient(watched(this.#side.open, this.#redact), {
      redact: this.#redact,
      onNotification: (notification) => this.#notification(notification),
      onStatus: (status) => this.#status(status),
    })
    const began = performance.now()
    const over = (): void => this.#done.abort(TIME_IS_OVER)
    // The handshake is given up by itself when --for is over, a moment later, and then it says why.
    let callOff = forMs === undefined ? undefined : later(forMs + HANDSHAKE_GRACE_MS, over)
    try {
      const server = await Promise.race([client.initialize(), aborted(this.#done.signal)])
      if (server !== undefined) this.#greet(server)
      callOff?.()
      if (forMs !== undefined) callOff = later(forMs - (performance.now() - began), over)
      await aborted(this.#done.signal)
    } finally {
      callOff?.()
      stop()
      await client.close()
      await this.#command
    }
    if (this.#done.signal.reason === NOT_OFFERED) throw notOffered(this.#side.where)
    if (!this.#listened && this.#seen === 0 && this.#done.signal.reason === TIME_IS_OVER)
      throw this.#isNowhere ? nowhere(this.#side.where) : neverListened(this.#side.where, forMs)
    const short = Number.isFinite(this.#wanted.count) && this.#seen < this.#wanted.count
    if (short && this.#done.signal.reason === TIME_IS_OVER)
      this.#io.stderr.write(`error: ${this.#seen} of ${this.#wanted.count} events came within --for
try: give it longer with --for; what --only and --drop leave out is not counted\n`)
    return short || this.#failedCommands > 0 ? 1 : 0
  }

  #greet(server: ServerIdentity): void {
    const name = `${server.name} ${server.version}`
    this.#page.status('info', `connected to ${name} at ${this.#side.where}, MCP ${server.protocolVersion}`)
    if (server.channel) return
    this.#page.status('warn', 'it does not declare claude/channel: it may have nothing to push here')
  }

  async #notification(notification: Notification): Promise<void> {
    if (this.#done.signal.aborted) return
    const event = heard(notification, Date.now())
    if (event === undefined) {
      if (this.#wanted.all) await this.#page.other(notification)
      return
    }
    if (event.kind === 'channel_gap' || event.kind === 'channel_down') return await this.#page.gap(event)
    if (!this.#wanted.wants(notification)) return
    this.#seen++
    await this.#page.event(event)
    if (this.#wanted.exec !== undefined) {
      this.#command = this.#execute(this.#wanted.exec, event)
      await this.#command
    }
    if (this.#seen >= this.#wanted.count) this.#done.abort()
  }

  /**
   * Runs the user's command to its end; one that fails is said, and the next event goes on. Whoever stops `listen`
   * stops the command too, with all that it has started: it is a process group of its own.
   */
  async #execute(command: string, event: Heard): Promise<void> {
    const { signal, platform } = this.#io
    const hasGroups = platform !== 'win32'
    const outcome = await new Promise<string | undefined>((resolve) => {
      const child = spawn(command, {
        shell: true,
        stdio: ['pipe', 'inherit', 'inherit'],
        detached: hasGroups,
      })
      const end = (): void => terminate(child, hasGroups)
      signal.addEventListener('abort', end, { once: true })
      child.on('error', (error) => resolve(error.message))
      child.on('close', (code, by) => {
        signal.removeEventListener('abort', end)
        resolve(code === 0 ? undefined : by === null ? `exit code ${code}` : `ended by ${by}`)
      })
      // A command need not read its stdin.
      child.stdin.on('error', () => undefined)
      child.stdin.end(`${JSON.stringify(event.json)}\n`)
    })
    if (outcome === undefined || signal.aborted) return
    this.#failedCommands++
    this.#page.status('warn', `--exec failed: ${outcome}`)
  }

  #status(status: Status): void {
    if (this.#done.signal.aborted) return
    switch (status.kind) {
      case 'session':
        if (status.reason === undefined && (status.state === 'opening' || status.generation === 1)) return
        break
      case 'gap':
        return // Its notice is on the page already.
      case 'note':
        if (status.level === 'debug') return
        break
      case 'push':
        this.#isNowhere = status.stream === ALL_SPACES && status.state === 'up'
        if (status.state === 'up') {
          this.#listened ||= status.stream !== ALL_SPACES
          this.#retryTold = Number.NEGATIVE_INFINITY
        }
        if (status.state !== 'retrying') break
        if (performance.now() - this.#retryTold < RETRY_TOLD_MS) return
        this.#retryTold = performance.now()
        break
      default:
    }
    const bad = levelOf(status) === 'warn' || (status.kind === 'push' && status.state !== 'up')
    this.#page.status(bad ? 'warn' : 'info', inShell(this.#redact(render(status))))
    if (status.kind === 'push' && status.state === 'not-offered' && status.stream === undefined)
      this.#done.abort(NOT_OFFERED)
  }
}

function terminate(child: ChildProcess, isGroup: boolean): void {
  if (child.pid === undefined) return
  try {
    kill(isGroup ? -child.pid : child.pid)
  } catch {
    // It has just ended.
  }
}

function notOffered(where: string): BridgeError {
  return new BridgeError('SERVER_CONFUSED', `nothing can be listened to: ${where} offers no push stream`, {
    hint: 'check the URL; the warning before says what the server answered',
  })
}

function nowhere(where: string): BridgeError {
  return new BridgeError(
    'FEED_REFUSED',
    `nothing was listened to: ${where} has no active space of this agent`,
    {
      hint: 'have it invited to a space, or name one to join: --space ID',
    },
  )
}

function neverListened(where: string, forMs = 0): BridgeError {
  const text = `nothing was listened to: no push stream of ${where} was open within ${seconds(forMs)}`
  return new BridgeError('SERVER_UNREACHABLE', text, {
    hint: 'check the address and the key (the warnings say what failed), or give it longer with --for',
  })
}

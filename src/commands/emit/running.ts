/**
 * The simulators that run on this machine, and how each is asked to let something happen.
 *
 * A Chamade and a moot have different things happen in them and different control APIs; nobody else needs to know.
 * The one rule: what is asked for goes to a simulator in which it can happen, the one started last.
 */
import { BridgeError, invalid, reasonOf } from '../../errors.ts'
import {
  type Beacon,
  beaconFile,
  beaconFolder,
  findBeacons,
  portIn,
  type System,
} from '../../simulator/beacon.ts'
import { FAULTS } from '../../simulator/faults.ts'
import { MOOT_FAULTS } from '../../simulator/moot/faults.ts'
import { shellLine } from '../shell-line.ts'

/** A happening by its `type`, or a fault by its `fault`; the rest is for the simulator to check. */
export type Wanted = Readonly<Record<string, unknown>>

/** What came of it: an answer as the simulator gave it, and the same as lines for people. */
export interface Came {
  readonly answer: unknown
  readonly lines: readonly string[]
}

/** What happens in a moot only. */
const IN_MOOT: readonly unknown[] = ['say', 'status']

/** The newest first. */
export interface Simulators {
  readonly running: readonly Beacon[]
  /** They refuse connections for a while, or were ended without a chance to say so. */
  readonly silent: readonly Beacon[]
  /** Which were asked for, and where they were looked for. */
  readonly sought: string
}

/** All that said they run; on `port` only, if that is given. */
export async function simulatorsHere(homedir: string, port: number | undefined): Promise<Simulators> {
  const known = await findBeacons(homedir)
  const asked = port === undefined ? known : known.filter(({ url }) => portIn(url) === port)
  const answered = await Promise.all(asked.map(answers))
  return {
    running: asked.filter((_beacon, at) => answered[at]),
    silent: asked.filter((_beacon, at) => !answered[at]),
    sought:
      port === undefined
        ? `(looked in ${beaconFolder(homedir)})`
        : `on port ${port} (looked for ${beaconFile(homedir, port)})`,
  }
}

/** Lets it happen. Throws when it can happen in none of them. */
export async function letHappen(simulators: Simulators, wanted: Wanted): Promise<Came> {
  const where = systemsOf(wanted)
  const simulator = simulators.running.find(({ system }) => where.includes(system))
  if (simulator === undefined) throw nowhere(simulators, wanted, where)
  return simulator.system === 'moot' ? inMoot(simulator, wanted) : inChamade(simulator, wanted)
}

function systemsOf({ type, fault }: Wanted): readonly System[] {
  if (fault === undefined) return IN_MOOT.includes(type) ? ['moot'] : ['chamade']
  const name = String(fault)
  const has = [Object.hasOwn(FAULTS, name) && 'chamade', Object.hasOwn(MOOT_FAULTS, name) && 'moot'] as const
  const systems = has.filter((system) => system !== false)
  // Whoever runs will say which faults there are.
  return systems.length === 0 ? ['chamade', 'moot'] : systems
}

function nowhere(
  { running, silent, sought }: Simulators,
  { type, fault }: Wanted,
  where: readonly System[],
): BridgeError {
  const [other] = running
  const start = shellLine(`simulate${where.includes('chamade') ? '' : ' --moot'}`)
  const mute = silent.find(({ system }) => where.includes(system))
  if (other === undefined && mute !== undefined) {
    return new BridgeError('SERVER_UNREACHABLE', `the simulator at ${mute.url} does not answer`, {
      hint: `wait, if it was told to refuse connections; if it has ended, start one in another terminal: ${start}`,
    })
  }
  if (other === undefined) {
    return new BridgeError('SERVER_UNREACHABLE', `no simulator is known ${sought}`, {
      hint: `start one in another terminal: ${start}; one that runs has another HOME, or said at its start that emit will not find it`,
    })
  }
  const what = fault === undefined ? `"${String(type)}"` : `fault "${String(fault)}"`
  const is = other.system === 'moot' ? 'a moot' : 'a Chamade'
  const instead = other.system === 'moot' ? 'emit say, emit status or emit fault' : shellLine('emit --help')
  return new BridgeError(
    'SERVER_UNREACHABLE',
    `the simulator at ${other.url} is ${is}: there is no ${what} in it`,
    {
      hint: `${instead}; or start another one beside it: ${start} --port 0`,
    },
  )
}

async function answers({ url, token, system }: Beacon): Promise<boolean> {
  const headers = { authorization: `Bearer ${token}` }
  const path = system === 'moot' ? '_simulator/state' : 'control/state'
  try {
    const response = await fetch(`${url}/${path}`, { headers, signal: AbortSignal.timeout(2_000) })
    await response.body?.cancel()
    return response.ok
  } catch {
    return false
  }
}

async function inChamade(simulator: Beacon, wanted: Wanted): Promise<Came> {
  if ('fault' in wanted) {
    const answer = (await post(simulator, 'control/fault', wanted)) as { readonly done: string }
    return { answer, lines: [answer.done] }
  }
  const answer = (await post(simulator, 'control/emit', wanted)) as {
    readonly events: readonly {
      readonly event_id: string
      readonly content: string
      readonly pushed_to: string[]
    }[]
    readonly call_id?: string
  }
  const call = answer.call_id === undefined ? '' : `  (${answer.call_id})`
  const lines = answer.events.map(({ event_id, content, pushed_to }) => {
    const to = pushed_to.length === 0 ? 'nobody listens' : `pushed to ${pushed_to.join(', ')}`
    return `${event_id}  ${to}  ${content.split('\n', 1).join('')}${call}`
  })
  return { answer, lines: lines.length === 0 ? [`done${call}`] : lines }
}

async function inMoot(simulator: Beacon, { type, fault, from, space, ...rest }: Wanted): Promise<Came> {
  if (fault !== undefined) {
    const answer = await post(simulator, '_simulator/fault', { ...rest, name: fault, space_id: space })
    return { answer, lines: [`${String(fault)}: done`] }
  }
  const route = type === 'say' ? 'publish' : 'status'
  const answer = (await post(simulator, `_simulator/${route}`, {
    ...rest,
    speaker: from,
    space_id: space,
  })) as MootAnswer
  const heard = answer.sockets === 0 ? 'nobody listens' : `pushed to ${answer.sockets}`
  const what =
    type === 'say'
      ? `${answer.event_id}  ${heard}  ${answer.speaker_name} in ${answer.space_id}: ${answer.text}`
      : `${heard}  ${answer.space_id} is ${answer.status}`
  return { answer, lines: [what] }
}

interface MootAnswer {
  readonly space_id: string
  readonly sockets: number
  readonly event_id?: string
  readonly speaker_name?: string
  readonly text?: string
  readonly status?: string
}

async function post({ url, token }: Beacon, path: string, body: unknown): Promise<unknown> {
  let response: Response
  let answer: { readonly error?: string; readonly detail?: string }
  try {
    response = await fetch(`${url}/${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    answer = (await response.json()) as typeof answer
  } catch (cause) {
    // It answered a moment ago: it restarts, or has ended.
    const text = `the simulator at ${url} did not answer: ${reasonOf(cause)}`
    throw new BridgeError('SERVER_UNREACHABLE', text, { hint: 'see that it runs, and try again', cause })
  }
  if (response.ok) return answer
  const said = answer.error ?? answer.detail ?? `HTTP ${response.status}`
  throw invalid(said, shellLine('emit --help'))
}

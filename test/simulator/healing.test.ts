/** After every fault the real bridge hears again, and a tool call is answered. */
import { expect, it } from 'vitest'
import { FAULTS, type FaultName } from '../../src/simulator/faults.ts'
import type { Simulator } from '../../src/simulator/simulator.ts'
import { BridgeProcess } from '../support/bridge-process.ts'
import { simulators } from './world.ts'

const start = simulators()

/** Faults nothing can heal but the end of the fault itself, with how long they last here. */
const SECONDS = 0.5
/** `half-open` shows only after three missed comments, 5 s at least; 401 is retried slowly. */
const SLOW_TO_HEAL: ReadonlySet<string> = new Set(['half-open', 'bad-key'])
const NAMES = (Object.keys(FAULTS) as FaultName[]).filter(
  (name) => name !== 'clear' && !SLOW_TO_HEAL.has(name),
)

async function hearsAgain(name: FaultName, withinMs: number): Promise<void> {
  const simulator = await start({ pingMs: 100 })
  const bridge = await BridgeProcess.connected(simulator.mcpUrl, {
    args: ['--stateful', '--hold', '10ms'],
    env: { CHAMADE_API_KEY: simulator.key },
  })
  await heard(simulator, bridge, 'before', withinMs)
  // Enough comments to know how often they come.
  await new Promise((resolve) => setTimeout(resolve, 600))
  simulator.fault(name, { seconds: SECONDS, ms: 50 })
  await heard(simulator, bridge, 'after', withinMs)
  // (A call that may have run fails while a gateway does; what changes nothing waits for the end of that.)
  expect((await bridge.call('tools/list', {}, withinMs)).error).toBeUndefined()
  const answer = await bridge.call('tools/call', { name: 'chamade_account', arguments: {} }, withinMs)
  expect(answer.error).toBeUndefined()
  expect(answer.result.isError).toBeUndefined()
}

/** What is published while nobody listens is gone for the stream: so it is said until somebody hears. */
async function heard(
  simulator: Simulator,
  bridge: BridgeProcess,
  word: string,
  withinMs: number,
): Promise<void> {
  await bridge.waitFor(
    `a message ${word} the fault`,
    () => {
      if (simulator.sessions.some((each) => each.streamOpen))
        simulator.publish({ type: 'raw', content: word })
      return bridge.channel().includes(word)
    },
    withinMs,
  )
}

it.each(NAMES)('after "%s"', (name) => hearsAgain(name, 20_000), 60_000)

it('after "half-open", once three comments are missing', () => hearsAgain('half-open', 30_000), 60_000)

/** Starts simulators for one test file, and ends them after each test. */
import { afterEach } from 'vitest'
import { type Simulator, type SimulatorOptions, startSimulator } from '../../src/simulator/simulator.ts'

/** Call once at the top of a test file. */
export function simulators(): (options?: SimulatorOptions) => Promise<Simulator> {
  const running: Simulator[] = []
  afterEach(async () => {
    for (const simulator of running.splice(0)) await simulator.close()
  })
  return async (options = {}) => {
    const simulator = await startSimulator(options)
    running.push(simulator)
    return simulator
  }
}

/** A request to the control API. */
export async function control(
  simulator: Simulator,
  path: string,
  body?: unknown,
  token = simulator.token,
): Promise<{ readonly status: number; readonly body: unknown }> {
  const response = await fetch(`${simulator.url}/control/${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${token}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, body: await response.json() }
}

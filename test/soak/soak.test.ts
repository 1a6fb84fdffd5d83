/**
 * The soak, a few minutes, only when asked for (`npm run soak`): 1,000 restarts, 100,000 calls and events, one
 * process. Its memory and handles must not grow.
 *
 * SOAK_RESTARTS, SOAK_CALLS: other sizes.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually } from '../support/eventually.ts'
import { ScriptedServer } from '../support/scripted-server.ts'

const RESTARTS = Number(process.env.SOAK_RESTARTS ?? 1_000)
const CALLS = Number(process.env.SOAK_CALLS ?? 100_000)

interface Usage {
  readonly residentMiB: number
  readonly handles: number
}

function usage(pid: number): Usage {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const kib = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1])
  return { residentMiB: Math.round(kib / 1024), handles: readdirSync(`/proc/${pid}/fd`).length }
}

const wanted = process.env.MODE === 'soak' && existsSync('/proc/self/status')

describe.runIf(wanted)('soak', () => {
  test(`${CALLS} calls and as many events`, { timeout: 20 * 60_000 }, async () => {
    let answers = 0
    let events = 0
    const { server, bridge } = await start((line) => {
      if (line.includes('"result"')) answers++
      else if (line.includes('"notifications/n"')) events++
    })
    const steps: Usage[] = []
    for (let n = 1; n <= CALLS; n++) {
      bridge.send(`{"jsonrpc":"2.0","id":${n},"method":"tools/call","params":{"n":${n}}}`)
      server.push({ jsonrpc: '2.0', method: 'notifications/n', params: { n } })
      if (n % 50 === 0) await eventually('fifty answers', () => answers >= n, 20_000)
      if (n % 100 === 0) server.requests.length = 0
      if (n % (CALLS / 10) === 0) steps.push(report('calls', n, bridge))
    }
    await eventually('everything', () => answers === CALLS + 1 && events === CALLS, 30_000)
    flat(steps)
    await goodbye(server, bridge)
  })

  test(`${RESTARTS} restarts with calls in between`, { timeout: 40 * 60_000 }, async () => {
    let answers = 0
    let proofs = 0
    const { server, bridge } = await start((line) => {
      if (/"id":\d+,"(result|error)"/.test(line.toString())) answers++
      else if (line.includes('"notifications/proof"')) proofs++
    })
    const steps: Usage[] = []
    for (let n = 1; n <= RESTARTS; n++) {
      bridge.send(`{"jsonrpc":"2.0","id":${n},"method":"tools/call","params":{"n":${n}}}`)
      await server.restart()
      await eventually(`the stream after restart ${n}`, () => server.listening(), 30_000)
      server.push({ jsonrpc: '2.0', method: 'notifications/proof' })
      await eventually(`the event after restart ${n}`, () => proofs === n, 10_000)
      await eventually(`the answer of call ${n}`, () => answers === n + 1, 30_000)
      server.requests.length = 0
      for (const [id, session] of server.sessions)
        if (session.endedBy !== undefined) server.sessions.delete(id)
      if (n % Math.max(1, RESTARTS / 10) === 0) steps.push(report('restarts', n, bridge))
    }
    flat(steps)
    await goodbye(server, bridge)
  })
})

async function start(
  sink: (line: Buffer) => void,
): Promise<{ server: ScriptedServer; bridge: BridgeProcess }> {
  const server = await ScriptedServer.start()
  let lines = 0
  const bridge = BridgeProcess.start(server.url, {
    args: ['--stateful'],
    sink: (line) => {
      lines++
      sink(line)
    },
  })
  bridge.send({
    jsonrpc: '2.0',
    id: 0,
    method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'soak', version: '1' } },
  })
  await eventually('the handshake', () => lines === 1)
  bridge.notify('notifications/initialized')
  await eventually('the push stream', () => server.listening())
  return { server, bridge }
}

function report(what: string, n: number, bridge: BridgeProcess): Usage {
  const now = usage(bridge.pid)
  console.log(`${n} ${what}: ${now.residentMiB} MiB resident, ${now.handles} handles`)
  return now
}

/** After the first third has warmed it up, the rest adds next to nothing. */
function flat(steps: readonly Usage[]): void {
  const third = Math.ceil(steps.length / 3)
  const early = steps.slice(0, third)
  const late = steps.slice(-third)
  const most = (of: readonly Usage[], key: keyof Usage): number => Math.max(...of.map((each) => each[key]))
  expect(most(late, 'residentMiB')).toBeLessThan(most(early, 'residentMiB') * 1.25 + 8)
  expect(most(late, 'handles')).toBeLessThanOrEqual(most(early, 'handles') + 8)
}

async function goodbye(server: ScriptedServer, bridge: BridgeProcess): Promise<void> {
  bridge.eof()
  expect((await bridge.gone()).code).toBe(0)
  expect(server.live()).toEqual([])
}

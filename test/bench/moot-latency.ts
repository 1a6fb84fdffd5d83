/**
 * `npx tsx test/bench/moot-latency.ts [count]`: how long a frame takes from the server's socket to a line on stdout.
 *
 * The whole way of one event: written by a moot simulator in this process, read by the built adapter in another,
 * filtered, worded, written, read here. Both clocks are this process's, so it is an upper bound of what the
 * adapter itself takes. The same bytes through `cat` give the floor of two pipes on this machine.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { startMootSimulator } from '../../src/simulator/moot/simulator.ts'
import { eventually } from '../support/eventually.ts'

type Child = ChildProcessByStdio<Writable, Readable, null>

const count = Number(process.argv[2] ?? 2_000)
const SPACE = 'sprint-planning'
const BIN = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bin', 'chamade-mcp.js')

async function bench(): Promise<void> {
  const moot = await startMootSimulator()
  const adapter = spawn(process.execPath, [BIN, 'moot', '--hold', '0', '--space', SPACE], {
    env: { PATH: process.env.PATH, CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const hello = {
    jsonrpc: '2.0',
    id: 1,
    method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'bench', version: '1' } },
  }
  const lines = linesOf(adapter)
  adapter.stdin.write(`${JSON.stringify(hello)}\n`)
  await lines.next()
  adapter.stdin.write('{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
  await eventually('the space is followed', () => moot.sockets.count(SPACE) === 1)

  const event = await measured(async (i) => {
    moot.publish(SPACE, { text: `@MyAgent number ${i}` })
    const line = await lines.next()
    if (!line.includes(`number ${i}`)) throw new Error(`expected number ${i}, got ${line}`)
  })
  adapter.stdin.end()

  const cat = spawn('cat', [], { stdio: ['pipe', 'pipe', 'inherit'] })
  const echoes = linesOf(cat)
  const floor = await measured(async (i) => {
    cat.stdin.write(`${'x'.repeat(300)} ${i}\n`)
    await echoes.next()
  })
  cat.stdin.end()
  await moot.close()

  show('frame to line, adapter', event)
  show('line to line, cat', floor)
}

/** Milliseconds of each of `count` rounds, after a warm-up. */
async function measured(round: (i: number) => Promise<void>): Promise<number[]> {
  for (let i = 0; i < 500; i++) await round(i)
  const times: number[] = []
  for (let i = 500; i < 500 + count; i++) {
    const began = performance.now()
    await round(i)
    times.push(performance.now() - began)
  }
  return times.toSorted((a, b) => a - b)
}

function show(what: string, times: readonly number[]): void {
  const at = (share: number): string =>
    `${(times[Math.floor(times.length * share)] ?? Number.NaN).toFixed(3)} ms`
  process.stdout.write(
    `${what.padEnd(24)} p50 ${at(0.5)}  p90 ${at(0.9)}  p99 ${at(0.99)}  n=${times.length}\n`,
  )
}

function linesOf(child: Child): { next(): Promise<string> } {
  const waiting: ((line: string) => void)[] = []
  const ready: string[] = []
  let rest = ''
  child.stdout.on('data', (chunk: Buffer) => {
    const parts = `${rest}${chunk}`.split('\n')
    rest = parts.pop() ?? ''
    for (const part of parts) {
      const take = waiting.shift()
      if (take === undefined) ready.push(part)
      else take(part)
    }
  })
  return {
    next: () => {
      const line = ready.shift()
      return line === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(line)
    },
  }
}

void bench()

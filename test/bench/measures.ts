/**
 * One function a measure: what a contestant does with one task, once. Rounds, order and medians are not known here.
 *
 * The one rule: every measure starts its own process and ends it, so that none inherits another's warm code.
 */
import { execFile, spawn } from 'node:child_process'
import { promisify } from 'node:util'
import { bareNode, type Contestant } from './contestants.ts'
import type { FigureName, Found } from './figures.ts'
import { memoryOf } from './process-usage.ts'
import { median, quantile } from './results.ts'
import type { ServerProcess } from './server-process.ts'
import { msSince, nowNs, Subject } from './subject.ts'

/** How much of it. */
export interface Sizes {
  readonly latencyCalls: number
  readonly loadCalls: number
  readonly pushes: number
  readonly burst: number
  readonly bigCalls: number
}

export interface Bench {
  readonly server: ServerProcess
  readonly sizes: Sizes
  readonly node: string
}

export type Measure = (bench: Bench, contestant: Contestant) => Promise<Found>

const BIG_BYTES = 10_000_000
const IN_FLIGHT = 64
const PUSH_EVERY_MS = 20
const SETTLE_MS = 500
/** A start is measured so often in each round. */
const STARTS = 3

/** By the name `--only` takes. */
export const MEASURES: Readonly<Record<string, Measure>> = {
  start: measureStart,
  tls: measureTls,
  latency: measureLatency,
  load: measureLoad,
  push: measurePush,
  burst: measureBurst,
  big: measureBig,
  exit: measureExit,
  cut: (bench, contestant) => measureCut(bench, contestant, false),
  forget: measureForget,
  deaf: (bench, contestant) => measureCut(bench, contestant, true),
}

/** The same figures of Node itself, for those that are compared with it. */
export async function measureBare(node: string, name: string): Promise<Found> {
  if (name === 'start') {
    return middleOf(STARTS, async () => {
      const at = nowNs()
      const { file, args, env } = bareNode(node, '0')
      const child = spawn(file, args, { env, stdio: ['pipe', 'pipe', 'pipe'] })
      await new Promise((resolve) => child.once('exit', resolve))
      const ms = msSince(at)
      return { 'start.ms': ms, ...(await bareCpu(node)) }
    })
  }
  if (name === 'load') {
    const { file, args, env } = bareNode(node, 'setInterval(() => {}, 1000)')
    const child = spawn(file, args, { env, stdio: 'ignore' })
    await pause(SETTLE_MS)
    const memory = memoryOf(child.pid ?? -1)
    child.kill()
    return memory === undefined ? {} : { 'rss.idle': memory.rssMb, 'rss.peak': memory.peakMb }
  }
  return {}
}

/** A child that has exited has no /proc entry: the shell that waited for it knows, to the millisecond. */
async function bareCpu(node: string): Promise<Found> {
  if (process.platform !== 'linux') return {}
  const { env } = bareNode(node, '0')
  try {
    const { stdout } = await promisify(execFile)('bash', ['-c', '"$0" -e 0; times', node], { env })
    const children = stdout.trim().split('\n')[1] ?? ''
    const seconds = [...children.matchAll(/(\d+)m([\d.]+)s/g)].map(([, m, s]) => Number(m) * 60 + Number(s))
    return seconds.length === 2 ? { 'start.cpu': 1_000 * seconds.reduce((a, b) => a + b, 0) } : {}
  } catch {
    return {}
  }
}

async function measureStart({ server }: Bench, contestant: Contestant): Promise<Found> {
  return middleOf(STARTS, async () => {
    const subject = new Subject(contestant.command(server.url))
    try {
      const ms = await subject.initialize()
      const cpu = subject.cpuMs
      subject.notify('notifications/initialized')
      const at = nowNs()
      await subject.request('tools/list')
      const list = msSince(at)
      return { 'start.ms': ms, 'list.ms': list, ...(cpu === undefined ? {} : { 'start.cpu': cpu }) }
    } finally {
      await subject.end()
    }
  })
}

/** The median of each figure over `times` runs: one start is short enough to be hit by a neighbour. */
async function middleOf(times: number, run: () => Promise<Found>): Promise<Found> {
  const all: Found[] = []
  for (let i = 0; i < times; i++) all.push(await run())
  const names = Object.keys(all[0] ?? {}) as FigureName[]
  return Object.fromEntries(names.map((name) => [name, median(all.flatMap((found) => found[name] ?? []))]))
}

async function measureTls({ server }: Bench, contestant: Contestant): Promise<Found> {
  if (server.tlsUrl === undefined || server.caFile === undefined) return {}
  const subject = new Subject(contestant.command(server.tlsUrl, { NODE_EXTRA_CA_CERTS: server.caFile }))
  try {
    return { 'tls.ms': await subject.initialize() }
  } finally {
    await subject.end()
  }
}

async function measureLatency({ server, sizes }: Bench, contestant: Contestant): Promise<Found> {
  return using(server, contestant, async (subject) => {
    const json = await latencies(subject, 'echo', sizes.latencyCalls)
    const sse = await latencies(subject, 'echo_sse', sizes.latencyCalls)
    return {
      'json.p50': median(json),
      'json.p99': quantile(json, 0.99),
      'sse.p50': median(sse),
      'sse.p99': quantile(sse, 0.99),
    }
  })
}

/** Milliseconds of calls made one after the other; the first fifth only warms up. */
async function latencies(subject: Subject, tool: string, count: number): Promise<number[]> {
  const found: number[] = []
  for (let i = 0; i < count * 1.25; i++) {
    const at = nowNs()
    await subject.tool(tool, { text: `call ${i}` })
    found.push(msSince(at))
  }
  return found.slice(-count)
}

async function measureLoad({ server, sizes }: Bench, contestant: Contestant): Promise<Found> {
  return using(server, contestant, async (subject) => {
    await pause(SETTLE_MS)
    const idle = subject.memory
    await load(subject, sizes.loadCalls / 4)
    const cpuBefore = subject.cpuMs
    const at = nowNs()
    await load(subject, sizes.loadCalls)
    const ms = msSince(at)
    const cpuAfter = subject.cpuMs
    const cpu = cpuBefore === undefined || cpuAfter === undefined ? undefined : cpuAfter - cpuBefore
    await pause(SETTLE_MS)
    const after = subject.memory
    return {
      'load.rate': (sizes.loadCalls / ms) * 1_000,
      ...(cpu === undefined ? {} : { 'load.cpu': (cpu / sizes.loadCalls) * 1_000 }),
      ...(idle === undefined ? {} : { 'rss.idle': idle.rssMb }),
      ...(after === undefined ? {} : { 'rss.load': after.rssMb, 'rss.peak': after.peakMb }),
    }
  })
}

/** Keeps 64 calls in flight until `count` are answered. */
function load(subject: Subject, count: number): Promise<void> {
  return new Promise((resolve) => {
    let sent = 0
    let answered = 0
    const send = (): void => subject.call('echo', { text: `call ${sent++}` }, done)
    const done = (): void => {
      if (++answered >= count) resolve()
      else if (sent < count) send()
    }
    while (sent < Math.min(count, IN_FLIGHT)) send()
  })
}

async function measurePush({ server, sizes }: Bench, contestant: Contestant): Promise<Found> {
  return using(server, contestant, async (subject) => {
    await server.streaming()
    const found: number[] = []
    const all = events(subject, sizes.pushes, (line) => found.push(msSince(timeIn(line))))
    await server.tell({ do: 'push', count: sizes.pushes, everyMs: PUSH_EVERY_MS })
    await all
    return { 'push.p50': median(found) }
  })
}

async function measureBurst({ server, sizes }: Bench, contestant: Contestant): Promise<Found> {
  return using(server, contestant, async (subject) => {
    await server.streaming()
    const all = events(subject, sizes.burst, () => {}, 60_000)
    const at = await server.tell({ do: 'burst', count: sizes.burst })
    await all
    return { 'burst.rate': sizes.burst / (msSince(at) / 1_000) }
  })
}

async function measureBig({ server, sizes }: Bench, contestant: Contestant): Promise<Found> {
  const json = await bigAnswers(server, contestant, 'big', sizes.bigCalls)
  const sse = await bigAnswers(server, contestant, 'big_sse', sizes.bigCalls)
  return {
    'big.json.ms': json.ms,
    'big.sse.ms': sse.ms,
    ...(json.peakMb === undefined ? {} : { 'big.json.peak': json.peakMb }),
    ...(sse.peakMb === undefined ? {} : { 'big.sse.peak': sse.peakMb }),
  }
}

function bigAnswers(server: ServerProcess, contestant: Contestant, tool: string, count: number) {
  return using(server, contestant, async (subject) => {
    const found: number[] = []
    for (let i = 0; i < count; i++) {
      const at = nowNs()
      await subject.tool(tool, { bytes: BIG_BYTES })
      found.push(msSince(at))
    }
    return { ms: median(found), peakMb: subject.memory?.peakMb }
  })
}

async function measureExit({ server }: Bench, contestant: Contestant): Promise<Found> {
  const subject = new Subject(contestant.command(server.url))
  let ms: number | undefined
  try {
    await subject.handshake()
    await pause(SETTLE_MS)
  } finally {
    ms = await subject.end()
  }
  return ms === undefined ? {} : { 'exit.ms': ms }
}

/** The push stream is destroyed; with `forget` the session is gone too and the client says nothing. */
async function measureCut({ server }: Bench, contestant: Contestant, forget: boolean): Promise<Found> {
  return using(server, contestant, async (subject) => {
    await server.streaming()
    await pause(SETTLE_MS)
    let arrived: bigint | undefined
    // A notice of the bridge's own does not count: only the server's event does.
    const again = new Promise<void>((resolve, reject) => {
      setTimeout(() => reject(new Error('no event for 4 s')), 4_000).unref()
      subject.onEvent = (line) => {
        if (line.indexOf('"seq":"1000000"') < 0) return
        arrived = nowNs()
        resolve()
      }
    })
    const at = await server.tell({ do: 'cut', forget })
    await again
    const ms = Number((arrived ?? at) - at) / 1e6
    return forget ? { 'deaf.ms': ms } : { 'cut.ms': ms }
  })
}

async function measureForget({ server }: Bench, contestant: Contestant): Promise<Found> {
  return using(server, contestant, async (subject) => {
    for (let i = 0; i < 50; i++) await subject.tool('echo', { text: `call ${i}` })
    await server.tell({ do: 'forget' })
    const at = nowNs()
    await subject.tool('echo', { text: 'again' }, 4_000)
    return { 'forget.ms': msSince(at) }
  })
}

async function using<T>(
  server: ServerProcess,
  contestant: Contestant,
  task: (subject: Subject) => Promise<T>,
): Promise<T> {
  const subject = new Subject(contestant.command(server.url))
  try {
    await subject.handshake()
    return await task(subject)
  } finally {
    await subject.end()
  }
}

/** Resolves after `count` events; rejects when none came for `patienceMs`. */
export function events(
  subject: Subject,
  count: number,
  take: (line: Buffer) => void,
  patienceMs = 5_000,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen = 0
    let before = 0
    const watch = setInterval(() => {
      if (seen === before) finish(() => reject(new Error(`${seen} of ${count} events, then none`)))
      before = seen
    }, patienceMs)
    const finish = (settle: () => void): void => {
      clearInterval(watch)
      settle()
    }
    subject.onEvent = (line) => {
      take(line)
      if (++seen === count) finish(resolve)
    }
  })
}

/** The moment at which the server wrote this event. */
function timeIn(line: Buffer): bigint {
  const found = /"at":"(\d+)"/.exec(line.toString())?.[1]
  return BigInt(found ?? 0)
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

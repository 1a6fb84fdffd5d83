/**
 * Does it stay linear? Time and memory at n, 2n, 4n and 8n.
 *
 * The one rule: the slow way to do it must show here as a slope. A quadratic step costs 64 times at 8n, a linear
 * one 8 times; the table prints the time of one unit at each size, which then stays level.
 */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { type Contestant, ROOT } from './contestants.ts'
import { type Bench, events } from './measures.ts'
import { grid, median } from './results.ts'
import { msSince, nowNs, Subject } from './subject.ts'

export interface GrowthSizes {
  readonly lineBytes: number
  readonly trickleBytes: number
  readonly requests: number
  readonly events: number
}

/** The sizes at 8n; the longest lines stay below the limit of a message, 64 MiB. */
export const GROWTH_SIZES = {
  full: { lineBytes: 64e6, trickleBytes: 64e6, requests: 10_000, events: 1_000_000 },
  quick: { lineBytes: 8e6, trickleBytes: 2e6, requests: 1_600, events: 80_000 },
} as const satisfies Readonly<Record<string, GrowthSizes>>

export interface Growth {
  readonly title: string
  /** What one unit is, for the column of times. */
  readonly per: string
  readonly steps: readonly Step[]
}

export interface Step {
  readonly units: number
  readonly ms: number
  readonly peakMb: number | undefined
}

/** Linear when a unit at 8n costs at most this many times what it costs before, in the middle (quadratic: 4 times). */
const LEVEL = 1.6
const CHUNK = 64 << 10
/** A step of up to this is taken three times. */
const QUICK_MS = 1_500

type Say = (text: string) => void

export async function measureGrowth(
  bench: Bench,
  ours: Contestant,
  sizes: GrowthSizes,
  say: Say,
): Promise<readonly Growth[]> {
  const found: Growth[] = []
  const grow = async (title: string, per: string, most: number, step: (n: number) => Promise<Step>) => {
    const steps: Step[] = []
    for (const part of [8, 4, 2, 1]) {
      try {
        steps.push(await best(() => step(Math.round(most / part))))
      } catch (error) {
        say(`${title}: ${error instanceof Error ? error.message : error}`)
      }
    }
    found.push({ title, per, steps })
    say(`growth: ${title}`)
  }
  await grow('a line of 64 kB chunks, client to server', 'MB', sizes.lineBytes, (n) =>
    longLine(bench, ours, n),
  )
  await grow('a line of 1-byte chunks, into the framing', 'MB', sizes.trickleBytes, (n) => trickle(bench, n))
  await grow('an answer of one line, JSON', 'MB', sizes.lineBytes, (n) => longAnswer(bench, ours, 'big', n))
  await grow('an answer of one line, SSE', 'MB', sizes.lineBytes, (n) =>
    longAnswer(bench, ours, 'big_sse', n),
  )
  await grow('requests in flight', '1,000', sizes.requests, (n) => inFlight(bench, ours, n))
  await grow('pushed events', '1,000', sizes.events, (n) => pushed(bench, ours, n))
  return found
}

/** The quickest of three, where it is quick: a neighbour's minute must not look like a slope. */
async function best(run: () => Promise<Step>): Promise<Step> {
  const first = await run()
  if (first.ms > QUICK_MS) return first
  const all = [first, await run(), await run()]
  return all.reduce((a, b) => (b.ms < a.ms ? b : a))
}

/** A Markdown table: milliseconds a unit and peak memory at each size, and the verdict. */
export function growthTable(growth: readonly Growth[]): string {
  if (growth.length === 0) return ''
  const rows = growth.map(({ title, per, steps }) => {
    const cells = steps.map((step) => {
      const peak = step.peakMb === undefined ? '' : `, ${step.peakMb.toFixed(0)} MB`
      return `${amount(step.units, per)}: ${perUnit(step, per).toFixed(perUnit(step, per) < 10 ? 2 : 0)}${peak}`
    })
    while (cells.length < 4) cells.push('–')
    return [`${title}, ms per ${per}`, ...cells, verdict(steps, per)]
  })
  return grid(['growth', 'n', '2n', '4n', '8n', ''], rows)
}

function verdict(steps: readonly Step[], per: string): string {
  const last = steps.at(-1)
  if (steps.length < 4 || last === undefined) return '**not finished**'
  const slope = perUnit(last, per) / median(steps.slice(0, -1).map((step) => perUnit(step, per)))
  return slope <= LEVEL ? 'linear' : `**not linear: ${slope.toFixed(1)}×**`
}

function perUnit(step: Step, per: string): number {
  return step.ms / (per === 'MB' ? step.units / 1e6 : step.units / 1_000)
}

function amount(units: number, per: string): string {
  return per === 'MB' ? `${(units / 1e6).toFixed(1)} MB` : units.toLocaleString('en-US')
}

async function longLine(bench: Bench, ours: Contestant, bytes: number): Promise<Step> {
  return one(bench, ours, bytes, async (subject) => {
    let feeding: Promise<void> | undefined
    const answered = new Promise<void>((resolve) => {
      const line = subject.expect('sink', { text: '' }, resolve)
      const cut = line.indexOf('"text":""') + '"text":"'.length
      feeding = feed(subject, line.slice(0, cut), Buffer.alloc(bytes, 'x'), line.slice(cut))
    })
    await feeding
    await answered
  })
}

async function feed(subject: Subject, head: string, text: Buffer, tail: string): Promise<void> {
  subject.write(head)
  for (let at = 0; at < text.length; at += CHUNK) {
    if (!subject.write(text.subarray(at, at + CHUNK))) await subject.drained()
  }
  subject.write(tail)
}

async function longAnswer(bench: Bench, ours: Contestant, tool: string, bytes: number): Promise<Step> {
  return one(bench, ours, bytes, (subject) => subject.tool(tool, { bytes }, 300_000))
}

async function inFlight(bench: Bench, ours: Contestant, count: number): Promise<Step> {
  return one(bench, ours, count, async (subject) => {
    let open = count
    await new Promise<void>((resolve) => {
      for (let i = 0; i < count; i++) subject.call('hold', { count }, () => --open === 0 && resolve())
    })
  })
}

async function pushed(bench: Bench, ours: Contestant, count: number): Promise<Step> {
  return one(bench, ours, count, async (subject) => {
    await bench.server.streaming()
    const all = events(subject, count, () => {}, 60_000)
    await bench.server.tell({ do: 'burst', count })
    await all
  })
}

async function one(
  bench: Bench,
  ours: Contestant,
  units: number,
  task: (subject: Subject) => Promise<void>,
): Promise<Step> {
  const subject = new Subject(ours.command(bench.server.url))
  try {
    await subject.handshake()
    const at = nowNs()
    await task(subject)
    const ms = msSince(at)
    return { units, ms, peakMb: subject.memory?.peakMb }
  } finally {
    await subject.end()
  }
}

/**
 * One line of `bytes` in pieces of one byte. A pipe would join them, so the framing is fed directly, in a process
 * of its own (`trickle.ts`), which prints what it found.
 */
function trickle(bench: Bench, bytes: number): Promise<Step> {
  return new Promise((resolve, reject) => {
    const args = ['--import', 'tsx', join(import.meta.dirname, 'trickle.ts'), String(bytes)]
    const child = spawn(bench.node, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (chunk) => {
      text += chunk
    })
    child.on('exit', (code) => {
      if (code !== 0) return reject(new Error(`the framing failed with ${code}`))
      const { ms, peakMb } = JSON.parse(text) as { ms: number; peakMb?: number }
      resolve({ units: bytes, ms, peakMb })
    })
  })
}

/**
 * What a process costs, read from /proc: memory and processor time. On systems without /proc nothing is known, and
 * the figures stay empty. The one rule: never guess.
 */
import { readdirSync, readFileSync } from 'node:fs'

export interface Memory {
  readonly rssMb: number
  /** The highest it has been since the process started (VmHWM). */
  readonly peakMb: number
}

export function memoryOf(pid: number): Memory | undefined {
  const status = read(`/proc/${pid}/status`)
  const rss = kilobytes(status, 'VmRSS')
  const peak = kilobytes(status, 'VmHWM')
  if (rss === undefined || peak === undefined) return undefined
  return { rssMb: rss / 1_024, peakMb: peak / 1_024 }
}

/** Milliseconds of processor time of all its threads so far. */
export function cpuMsOf(pid: number): number | undefined {
  let ns = 0
  let threads: string[]
  try {
    threads = readdirSync(`/proc/${pid}/task`)
  } catch {
    return undefined
  }
  for (const thread of threads) {
    const onCpu = read(`/proc/${pid}/task/${thread}/schedstat`)?.split(' ')[0]
    if (onCpu === undefined) return undefined
    ns += Number(onCpu)
  }
  return ns / 1e6
}

function kilobytes(status: string | undefined, name: string): number | undefined {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status ?? '')?.[1]
  return found === undefined ? undefined : Number(found)
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/**
 * How `emit` and scripts find a running simulator: one small file per port in a folder of the user's own.
 *
 * Not a lock. The one rule: the file holds a token, so nobody else may read it (0600 in a 0700 folder).
 */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { reasonOf } from '../errors.ts'

/** What is simulated. */
export type System = 'chamade' | 'moot'

/** Where a simulator is, and what opens its control API. */
export interface Beacon {
  readonly system: System
  readonly url: string
  readonly token: string
  /** ISO 8601. */
  readonly startedAt: string
}

/** The folder, below a home directory. */
export function beaconFolder(homedir: string): string {
  return join(homedir, '.chamade-mcp', 'simulators')
}

/** Where the simulator on `port` says that it runs. */
export function beaconFile(homedir: string, port: number): string {
  return join(beaconFolder(homedir), `${port}.json`)
}

/** The port of a simulator's address; 80 is not written in it. */
export function portIn(url: string): number {
  return Number(new URL(url).port || 80)
}

/** Writes the file of one port; the returned function takes it away again, unless somebody else's is there now. */
export async function announce(homedir: string, port: number, beacon: Beacon): Promise<() => Promise<void>> {
  const path = beaconFile(homedir, port)
  const folder = dirname(path)
  const text = `${JSON.stringify(beacon)}\n`
  // Renamed into place: a reader never sees half a file, and an old file's permissions don't matter.
  const temporary = join(folder, `.${port}-${randomBytes(6).toString('hex')}`)
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await writeFile(temporary, text, { mode: 0o600, flag: 'wx' })
    await rename(temporary, path)
  } catch (cause) {
    throw new Error(`${path} cannot be written: ${reasonOf(cause)}`, { cause })
  }
  return async () => {
    const now = await readFile(path, 'utf8').catch(() => '')
    if (now === text) await rm(path, { force: true })
  }
}

/** Every simulator that said it runs, newest first. Whether it still does shows when it is asked. */
export async function findBeacons(homedir: string): Promise<readonly Beacon[]> {
  const folder = beaconFolder(homedir)
  const names = await readdir(folder).catch(() => [])
  const texts = names
    .filter((name) => /^\d+\.json$/.test(name))
    .map((name) => readFile(join(folder, name), 'utf8').catch(() => ''))
  const found = (await Promise.all(texts)).flatMap((text) => beaconOf(text) ?? [])
  return found.sort((a, b) => b.startedAt.localeCompare(a.startedAt))
}

function beaconOf(text: string): Beacon | undefined {
  try {
    const value = JSON.parse(text) as Partial<Beacon> | null
    const { url, token, startedAt } = value ?? {}
    const system = value?.system === 'moot' ? 'moot' : 'chamade'
    if (typeof url !== 'string' || typeof token !== 'string' || typeof startedAt !== 'string')
      return undefined
    return { system, url, token, startedAt }
  } catch {
    return undefined
  }
}

/**
 * What a user waits for before the first start: the packed package installed, and `npx` with nothing but npm's cache.
 *
 * Ours is served by a registry of one package on this machine, so that it takes npm's ordinary way; peers come from
 * npm's own registry once, and from the cache when they are measured. The one rule: each repetition starts with an
 * empty folder, and contestants take turns.
 */
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PEERS, type Peer, peerArgs, ROOT } from './contestants.ts'
import type { Found } from './figures.ts'
import { median } from './results.ts'
import { msSince, nowNs, Subject } from './subject.ts'

interface InstallOptions {
  readonly url: string
  readonly peers: boolean
  readonly say: (text: string) => void
}

/** One package to be installed. */
interface Parcel {
  readonly contestant: string
  readonly spec: string
  /** Said to npm besides. */
  readonly npmArgs: readonly string[]
  readonly args: readonly string[]
  /** npm's cache for this parcel alone. */
  readonly cache: string
}

const REPEATS = 3
/** What each start reads. */
const LOADED = ['bin/chamade-mcp.js', 'dist/cli.js', 'dist/llhttp_simd.wasm']

export async function measureInstall(options: InstallOptions): Promise<Record<string, Found>> {
  if (process.platform === 'win32' || !existsSync(join(ROOT, 'dist/cli.js'))) return {}
  const folder = mkdtempSync(join(tmpdir(), 'bench-install-'))
  const registry = await serveOnePackage(folder)
  try {
    const parcels: Parcel[] = [
      {
        contestant: 'ours',
        spec: registry.spec,
        npmArgs: ['--registry', registry.url],
        args: ['--url', options.url, '--stateful'],
        cache: join(folder, 'cache-ours'),
      },
    ]
    for (const peer of options.peers ? (Object.keys(PEERS) as Peer[]) : []) {
      const target = peer === 'supergateway' ? ['--streamableHttp', options.url] : [options.url]
      parcels.push({
        contestant: peer,
        spec: `${peer}@${PEERS[peer]}`,
        npmArgs: [],
        args: [...target, ...peerArgs(peer)],
        cache: join(folder, `cache-${peer}`),
      })
    }
    return await takeTurns(parcels, folder, options.say)
  } finally {
    registry.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function takeTurns(
  parcels: readonly Parcel[],
  folder: string,
  say: (text: string) => void,
): Promise<Record<string, Found>> {
  const found: Record<string, Found> = {}
  const seconds = new Map<string, { install: number[]; npx: number[] }>()
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    for (const parcel of parcels) {
      const times = seconds.get(parcel.contestant) ?? { install: [], npx: [] }
      seconds.set(parcel.contestant, times)
      try {
        const target = join(folder, 'target')
        times.install.push(await install(parcel, target))
        found[parcel.contestant] ??= sizes(parcel, target)
        rmSync(target, { recursive: true, force: true })
        times.npx.push(await startWithNpx(parcel))
      } catch (error) {
        say(`${parcel.contestant}, install: ${error instanceof Error ? error.message : error}`)
      }
    }
  }
  for (const [contestant, { install, npx }] of seconds) {
    const sized = found[contestant] ?? {}
    if (install.length > 0) sized['install.s'] = median(install)
    if (npx.length > 0) sized['npx.s'] = median(npx)
    found[contestant] = sized
  }
  return found
}

/** Seconds of `npm install` into an empty folder with an empty cache. */
async function install(parcel: Parcel, target: string): Promise<number> {
  rmSync(parcel.cache, { recursive: true, force: true })
  const at = nowNs()
  const args = ['install', '--prefix', target, '--no-audit', '--no-fund', '--cache', parcel.cache]
  const child = spawn('npm', [...args, ...parcel.npmArgs, parcel.spec], { stdio: 'ignore', cwd: tmpdir() })
  const code = await new Promise((resolve) => child.once('exit', resolve))
  if (code !== 0) throw new Error(`npm install ${parcel.spec} exited with ${String(code)}`)
  return msSince(at) / 1_000
}

/** Seconds from `npx` to the answer to `initialize`, the package being in npm's cache and nowhere else. */
async function startWithNpx(parcel: Parcel): Promise<number> {
  rmSync(join(parcel.cache, '_npx'), { recursive: true, force: true })
  const args = ['--yes', '--prefer-offline', '--cache', parcel.cache, ...parcel.npmArgs, parcel.spec]
  const env = Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) =>
      value === undefined || /^npm_|^NODE_|CHAMADE/.test(name) ? [] : [[name, value]],
    ),
  )
  const subject = new Subject({ file: 'npx', args: [...args, ...parcel.args], env, cwd: tmpdir() })
  try {
    return (await subject.initialize()) / 1_000
  } finally {
    await subject.end()
  }
}

function sizes(parcel: Parcel, target: string): Found {
  const lock = JSON.parse(readFileSync(join(target, 'node_modules/.package-lock.json'), 'utf8')) as {
    packages: object
  }
  const files = readdirSync(join(target, 'node_modules'), { recursive: true, withFileTypes: true })
  const bytes = files
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0)
  return {
    'install.packages': Object.keys(lock.packages).length,
    'install.mb': bytes / 1e6,
    ...(parcel.contestant === 'ours'
      ? { 'install.hot': LOADED.reduce((sum, file) => sum + statSync(join(ROOT, file)).size, 0) / 1e6 }
      : {}),
  }
}

/** `npm pack`, and a registry that knows this one package. */
async function serveOnePackage(folder: string): Promise<{ url: string; spec: string; close: () => void }> {
  const packed = execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], {
    cwd: ROOT,
  })
  const tarball = readFileSync(join(folder, packed.toString().trim().split('\n').at(-1) ?? ''))
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    name: string
    version: string
  }
  const server = createServer((request, response) => {
    if (request.url?.endsWith('.tgz')) {
      response.end(tarball)
      return
    }
    const dist = {
      tarball: `${url}/package.tgz`,
      integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}`,
    }
    const versions = { [manifest.version]: { ...manifest, dist } }
    response.setHeader('content-type', 'application/json')
    response.setHeader('cache-control', 'public, max-age=300')
    const latest = { latest: manifest.version }
    response.end(JSON.stringify({ name: manifest.name, 'dist-tags': latest, versions }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { url, spec: `${manifest.name}@${manifest.version}`, close: () => server.close() }
}

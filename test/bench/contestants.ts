/**
 * Who is measured, and how each is started.
 *
 * The one rule: all get the same Node, the same clean environment and the same URL. Peers are installed on demand,
 * in exactly the versions named here, into a folder of the system's temp folder that later runs find again.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Command } from './subject.ts'

export const ROOT = resolve(import.meta.dirname, '../..')

export const PEERS = { 'mcp-remote': '0.15.1', supergateway: '4.0.0' } as const
export type Peer = keyof typeof PEERS

export interface Contestant {
  readonly name: string
  /** Measures it is not asked for, because it is known not to do that at all. */
  readonly cannot?: readonly string[]
  command(url: string, env?: Readonly<Record<string, string>>): Command
}

/** Node itself: `evaluated` is its whole program. */
export function bareNode(node: string, evaluated: string): Command {
  return { file: node, args: ['-e', evaluated], env: cleanEnv() }
}

/** Ours first, then the floor, then the rivals. */
export function contestants(options: { node: string; peers: boolean }): readonly Contestant[] {
  const { node } = options
  const here = (file: string): string => join(import.meta.dirname, file)
  const run = (name: string, args: (url: string) => readonly string[]): Contestant => ({
    name,
    command: (url, env = {}) => ({ file: node, args: args(url), env: { ...cleanEnv(), ...env } }),
  })
  const found: Contestant[] = []
  if (existsSync(join(ROOT, 'dist/cli.js'))) {
    found.push(run('ours', (url) => [join(ROOT, 'bin/chamade-mcp.js'), '--url', url, '--stateful']))
  }
  found.push(
    { ...run('floor', (url) => [here('floor.cjs'), url]), cannot: ['cut', 'forget', 'deaf'] },
    run('SDK glue', (url) => [here('sdk-glue.mjs'), url]),
  )
  if (!options.peers) return found
  const modules = installPeers()
  return [
    ...found,
    run('mcp-remote', (url) => [join(modules, 'mcp-remote/dist/proxy.js'), url, ...peerArgs('mcp-remote')]),
    run('supergateway', (url) => [
      join(modules, 'supergateway/dist/index.js'),
      '--streamableHttp',
      url,
      ...peerArgs('supergateway'),
    ]),
  ]
}

/** What is said to a peer besides the URL. */
export function peerArgs(peer: Peer): readonly string[] {
  return peer === 'mcp-remote' ? ['--allow-http', '--transport', 'http-only'] : ['--logLevel', 'none']
}

/** Nothing of the developer's own: no NODE_OPTIONS, no keys, no npm settings, a home that is a temp folder. */
export function cleanEnv(): Record<string, string> {
  const home = join(tmpdir(), 'bench-home')
  mkdirSync(home, { recursive: true })
  const kept = ['PATH', 'SystemRoot', 'TEMP', 'TMP'].flatMap((name) => {
    const value = process.env[name]
    return value === undefined ? [] : [[name, value]]
  })
  return { ...Object.fromEntries(kept), HOME: home, USERPROFILE: home, MCP_REMOTE_CONFIG_DIR: home }
}

function installPeers(): string {
  const wanted = Object.entries(PEERS).map(([name, version]) => `${name}@${version}`)
  const folder = join(tmpdir(), `bench-peers-${wanted.join('-')}`)
  const modules = join(folder, 'node_modules')
  if (!existsSync(join(modules, 'supergateway/dist/index.js'))) {
    mkdirSync(folder, { recursive: true })
    execFileSync('npm', ['install', '--prefix', folder, '--no-audit', '--no-fund', ...wanted], {
      stdio: ['ignore', 'ignore', 'inherit'],
      shell: process.platform === 'win32',
    })
  }
  return modules
}

/**
 * What runs on this machine, as far as it can be seen without rights: ids, parents, command lines.
 *
 * The one rule: command lines may hold secrets; nothing of them is ever shown but what we look for.
 */
import { execFile } from 'node:child_process'
import { readdir, readFile, readlink } from 'node:fs/promises'
import type { Io } from '../command.ts'

export interface Running {
  readonly pid: number
  readonly parent: number
  readonly words: readonly string[]
  /** Its folder, where that can be told. */
  readonly cwd?: string | undefined
}

/** All processes; undefined where they cannot be listed. */
export async function running(platform: NodeJS.Platform): Promise<readonly Running[] | undefined> {
  if (platform === 'linux') return await fromProc()
  if (platform === 'win32') return undefined
  const text = await output('ps', ['-axww', '-o', 'pid=,ppid=,args='], 5_000)
  return text
    ?.split('\n')
    .map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line))
    .flatMap((match) =>
      match === null
        ? []
        : [{ pid: Number(match[1]), parent: Number(match[2]), words: (match[3] ?? '').split(/\s+/) }],
    )
}

/** What a program prints; undefined when it cannot be run or fails. */
function output(
  program: string,
  args: readonly string[],
  limitMs: number,
  options: { readonly env?: NodeJS.ProcessEnv; readonly shell?: boolean } = {},
): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile(program, [...args], { timeout: limitMs, windowsHide: true, ...options }, (error, stdout) => {
      resolve(error === null ? stdout : undefined)
    })
  })
}

async function fromProc(): Promise<readonly Running[] | undefined> {
  const names = await readdir('/proc').catch(() => undefined)
  if (names === undefined) return undefined
  const all = await Promise.all(
    names
      .filter((name) => /^\d+$/.test(name))
      .map(async (pid): Promise<Running[]> => {
        try {
          const [line, stat, cwd] = await Promise.all([
            readFile(`/proc/${pid}/cmdline`, 'utf8'),
            readFile(`/proc/${pid}/stat`, 'utf8'),
            readlink(`/proc/${pid}/cwd`).catch(() => undefined),
          ])
          // pid (name) state ppid …; the name may hold anything, parentheses too.
          const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
          return [{ pid: Number(pid), parent, words: line.split('\0').filter((word) => word !== ''), cwd }]
        } catch {
          return [] // Gone by now, or not ours to see.
        }
      }),
  )
  return all.flat()
}

/** What `program --version` prints. */
export async function version(program: string, io: Io): Promise<string | undefined> {
  return (
    await output(program, ['--version'], 10_000, { env: env(io), shell: io.platform === 'win32' })
  )?.trim()
}

/** The environment without the folders that npx puts in front of the PATH for us alone: no client finds anything there. */
function env(io: Io): NodeJS.ProcessEnv {
  const name = Object.keys(io.env).find((each) => /^path$/i.test(each))
  const path = name === undefined ? undefined : io.env[name]
  if (name === undefined || path === undefined || io.env.npm_command !== 'exec') return { ...io.env }
  const separator = io.platform === 'win32' ? ';' : ':'
  const folders = path.split(separator).filter((folder) => !/[\\/]node_modules[\\/]\.bin$/.test(folder))
  return { ...io.env, [name]: folders.join(separator) }
}

/** Is `a` an older version than `b`? Three numbers each. */
export function older(a: string, b: string): boolean {
  const [left, right] = [a, b].map((each) => each.split(/[.-]/).slice(0, 3).map(Number))
  for (let at = 0; at < 3; at++) {
    const difference = (left?.[at] ?? 0) - (right?.[at] ?? 0)
    if (difference !== 0) return difference < 0
  }
  return false
}

/**
 * The commands for people as users run them: the bin, in a home and a folder of its own.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { onTestFinished } from 'vitest'
import { baseEnv, bin } from '../support/bridge-process.ts'
import { emptyFolder } from '../support/empty-folder.ts'

export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly home?: string
  readonly cwd?: string
  /** Written to stdin, which is closed then; `open`: nothing is, and it stays open. */
  readonly input?: string | { readonly open: true }
}

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export class Cli {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>
  stdout = ''
  stderr = ''
  readonly ended: Promise<Ended>

  constructor(args: readonly string[], options: CliOptions = {}) {
    const home = options.home ?? emptyFolder()
    const env = { ...baseEnv, HOME: home, USERPROFILE: home, XDG_CONFIG_HOME: '', ...options.env }
    this.child = spawn(process.execPath, [bin, ...args], {
      cwd: options.cwd ?? home,
      env,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.child.stdout.on('data', (chunk: Buffer) => {
      this.stdout += chunk.toString()
    })
    this.child.stderr.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString()
    })
    this.child.stdin.on('error', () => undefined)
    if (typeof options.input !== 'object') this.child.stdin.end(options.input ?? '')
    this.ended = new Promise((resolve) => {
      this.child.on('close', (code) => resolve({ code, stdout: this.stdout, stderr: this.stderr }))
    })
    onTestFinished(() => {
      this.child.kill('SIGKILL')
    })
  }

  /** The lines of JSON on stdout so far. */
  get objects(): Record<string, unknown>[] {
    const whole = this.stdout.slice(0, this.stdout.lastIndexOf('\n') + 1)
    return whole
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  }
}

/** Runs it to its end. */
export function runCli(args: readonly string[], options: CliOptions = {}): Promise<Ended> {
  return new Cli(args, options).ended
}

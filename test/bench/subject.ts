/**
 * A bridge as a process, seen from its client: lines in, lines out, and the clock.
 *
 * Not the test suite's client: this one is on the measured path, so it reads ids without parsing and never copies
 * a line it does not need. The one rule: the moment that counts is the one at which the line was read here.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { cpuMsOf, type Memory, memoryOf } from './process-usage.ts'

export interface Command {
  readonly file: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd?: string
}

const NEWLINE = 0x0a
const HEAD_BYTES = 96
const PATIENCE_MS = 30_000

/** Nanoseconds of a clock that all processes of the machine share. */
export function nowNs(): bigint {
  return process.hrtime.bigint()
}

export function msSince(ns: bigint): number {
  return Number(nowNs() - ns) / 1e6
}

export class Subject {
  readonly spawnedAt: bigint
  /** Called with each pushed event; the line is only valid during the call. */
  onEvent: (line: Buffer) => void = () => {}
  readonly #child: ChildProcess
  readonly #pending = new Map<number, { answered: (line: Buffer) => void; failed: (error: Error) => void }>()
  #pieces: Buffer[] = []
  #nextId = 0
  #stderr = ''

  constructor(command: Command) {
    this.spawnedAt = nowNs()
    this.#child = spawn(command.file, [...command.args], {
      cwd: command.cwd,
      env: command.env,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.#child.stdout?.on('data', (chunk: Buffer) => this.#read(chunk))
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      if (this.#stderr.length < 2_000) this.#stderr += chunk.toString()
    })
    this.#child.stdin?.on('error', () => {})
    this.#child.on('error', (error) => this.#fail(error))
    this.#child.on('exit', (code) => this.#fail(new Error(`it exited with ${code}: ${this.#stderr.trim()}`)))
  }

  get pid(): number {
    return this.#child.pid ?? -1
  }

  get memory(): Memory | undefined {
    return memoryOf(this.pid)
  }

  get cpuMs(): number | undefined {
    return cpuMsOf(this.pid)
  }

  /** Sends a request; resolves with its answer's line, rejects after `patienceMs` or when the process is gone. */
  request(method: string, params: object = {}, patienceMs = PATIENCE_MS): Promise<Buffer> {
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => this.#settle(id)?.failed(new Error(`no answer to ${method} for ${patienceMs} ms`)),
        patienceMs,
      )
      this.#pending.set(id, {
        answered: (line) => {
          clearTimeout(timer)
          resolve(line)
        },
        failed: (error) => {
          clearTimeout(timer)
          reject(error)
        },
      })
      this.write(`{"jsonrpc":"2.0","id":${id},"method":"${method}","params":${JSON.stringify(params)}}\n`)
    })
  }

  /** A tool call without a timer and without a promise, for loads. */
  call(name: string, args: object, answered: () => void): void {
    this.write(this.expect(name, args, answered))
  }

  /** The line of a tool call, newline included, for a caller that writes it in its own way. */
  expect(name: string, args: object, answered: () => void): string {
    const id = this.#nextId++
    this.#pending.set(id, { answered, failed: answered })
    const params = `{"name":"${name}","arguments":${JSON.stringify(args)}}`
    return `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":${params}}\n`
  }

  /** A tool call; its answer must carry a result. */
  async tool(name: string, args: object, patienceMs?: number): Promise<void> {
    const line = await this.request('tools/call', { name, arguments: args }, patienceMs)
    if (line.indexOf('"result":') < 0) throw new Error(`${name} failed: ${line.toString().slice(0, 500)}`)
  }

  notify(method: string): void {
    this.write(`{"jsonrpc":"2.0","method":"${method}"}\n`)
  }

  /** Writes that follow in this turn of the event loop leave together. */
  write(text: string | Buffer): boolean {
    const stdin = this.#child.stdin
    if (stdin === null) return false
    if (stdin.writableCorked === 0) {
      stdin.cork()
      process.nextTick(() => stdin.uncork())
    }
    return stdin.write(text)
  }

  /** Resolves when stdin takes more. */
  drained(): Promise<void> {
    return new Promise((resolve) => this.#child.stdin?.once('drain', resolve))
  }

  /** `initialize`; milliseconds from spawn to its answer. */
  async initialize(): Promise<number> {
    const line = await this.request('initialize', {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'bench', version: '1' },
    })
    const ms = msSince(this.spawnedAt)
    if (line.indexOf('"protocolVersion":') < 0) throw new Error(`initialize failed: ${line}`)
    return ms
  }

  /** Everything a client does before its first call, and that call. */
  async handshake(): Promise<void> {
    await this.initialize()
    this.notify('notifications/initialized')
    await this.request('tools/list')
    await this.tool('echo', { text: 'warm' })
  }

  /** Milliseconds from the end of stdin to the exit; killed (and undefined) after 10 s. */
  async end(): Promise<number | undefined> {
    const child = this.#child
    if (child.exitCode !== null || child.signalCode !== null) return undefined
    const at = nowNs()
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        child.kill('SIGKILL')
        resolve(undefined)
      }, 10_000)
      child.once('exit', () => {
        clearTimeout(timer)
        resolve(msSince(at))
      })
      child.stdin?.end()
    })
  }

  #read(chunk: Buffer): void {
    let from = 0
    for (;;) {
      const at = chunk.indexOf(NEWLINE, from)
      if (at < 0) break
      const piece = chunk.subarray(from, at)
      from = at + 1
      if (this.#pieces.length === 0) {
        this.#line(piece)
      } else {
        this.#pieces.push(piece)
        const line = Buffer.concat(this.#pieces)
        this.#pieces = []
        this.#line(line)
      }
    }
    if (from < chunk.length) this.#pieces.push(chunk.subarray(from))
  }

  #line(line: Buffer): void {
    if (line.length < 2) return
    const head = line.toString('latin1', 0, HEAD_BYTES)
    if (head.includes('"method":"notifications/')) {
      this.onEvent(line)
      return
    }
    const id =
      /"id":(\d+)/.exec(head) ?? /"id":(\d+)/.exec(line.toString('latin1', Math.max(0, line.length - 40)))
    if (id?.[1] !== undefined) this.#settle(Number(id[1]))?.answered(line)
  }

  #settle(id: number) {
    const found = this.#pending.get(id)
    this.#pending.delete(id)
    return found
  }

  #fail(error: Error): void {
    for (const { failed } of this.#pending.values()) failed(error)
    this.#pending.clear()
  }
}

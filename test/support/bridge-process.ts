/**
 * The bridge as users run it: `node bin/chamade-mcp.js …`, a real process with real pipes.
 *
 * Not a client: it writes the bytes a test hands it and keeps the bytes that come back.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { eventually } from './eventually.ts'
import { initialize, initialized, initializeParams } from './messages.ts'
import type { ScriptedServer } from './scripted-server.ts'
import { stateful } from './settings.ts'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
export const bin = join(root, 'bin', 'chamade-mcp.js')

/** Node that collects garbage all the time: what nobody holds is gone. With TEST_GC=1 every bridge runs so. */
export const collectingNode: readonly [string, ...string[]] = [
  process.execPath,
  '--expose-gc',
  '--import',
  'data:text/javascript,setInterval(globalThis.gc,200).unref()',
]

/** A JSON-RPC message as a test reads it. */
export interface Reply {
  readonly jsonrpc: '2.0'
  readonly id?: string | number | null
  readonly method?: string
  readonly params?: Record<string, unknown>
  // biome-ignore lint/suspicious/noExplicitAny: tests look into results of every shape
  readonly result?: any
  readonly error?: {
    readonly code: number
    readonly message: string
    readonly data?: { readonly code?: string }
  }
}

export interface BridgeOptions {
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** A process group of its own, so that a signal can be sent to the group. */
  readonly detached?: boolean
  /** Takes the lines instead of keeping them. */
  readonly sink?: (line: Buffer) => void
  /** Instead of `node bin/chamade-mcp.js`. */
  readonly command?: readonly [string, ...string[]]
}

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** `performance.now()` at the exit. */
  readonly at: number
}

/** What of our own environment a child gets; nothing that could configure the bridge. */
export const baseEnv: Readonly<Record<string, string>> = Object.fromEntries(
  ['PATH', 'HOME', 'SystemRoot', 'TEMP', 'TMPDIR', 'USERPROFILE', 'NODE_V8_COVERAGE'].flatMap((name) => {
    const value = process.env[name]
    return value === undefined ? [] : [[name, value]]
  }),
)

export class BridgeProcess {
  /** stdout, line by line, without the newline. */
  readonly lines: Buffer[] = []
  /** The same, parsed; what does not parse stands as undefined. */
  readonly replies: (Reply | undefined)[] = []
  stderr = ''
  readonly exited: Promise<Exit>
  exit: Exit | undefined
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>
  readonly #waiters = new Set<() => void>()
  readonly #sink: ((line: Buffer) => void) | undefined
  readonly #detached: boolean
  #rest: Buffer[] = []
  #nextId = 100
  /** It has exited and all it wrote has been read. */
  #closed = false

  private constructor(args: readonly string[], options: BridgeOptions) {
    const [file, ...first] =
      options.command ?? (process.env.TEST_GC === '1' ? [...collectingNode, bin] : [process.execPath, bin])
    this.#sink = options.sink
    this.#detached = options.detached === true
    this.#child = spawn(file, [...first, ...args], {
      cwd: root,
      env: { ...baseEnv, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: this.#detached,
    })
    this.#child.stdin.on('error', () => {})
    this.#child.stdout.on('data', (chunk: Buffer) => this.#take(chunk))
    this.#child.stderr.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString()
      this.#wake()
    })
    this.exited = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        this.exit = { code, signal, at: performance.now() }
        this.#wake()
        resolve(this.exit)
      })
      this.#child.once('close', () => {
        this.#closed = true
        this.#wake()
      })
      this.#child.once('error', () => {
        this.exit ??= { code: null, signal: null, at: performance.now() }
        resolve(this.exit)
      })
    })
  }

  /** Starts it in front of `url`; killed when the test ends. */
  static start(url: string | undefined, options: BridgeOptions = {}): BridgeProcess {
    const bridge = new BridgeProcess(
      [...(url === undefined ? [] : ['--url', url]), ...(options.args ?? [])],
      options,
    )
    onTestFinished(() => bridge.kill())
    return bridge
  }

  /** Starts it, shakes hands (`initialize` has id 0), and waits for the answer. */
  static async connected(url: string, options: BridgeOptions = {}): Promise<BridgeProcess> {
    const bridge = BridgeProcess.start(url, options)
    await bridge.handshake()
    return bridge
  }

  /** The same in front of `server`, and waits for the push stream. */
  static async listening(server: ScriptedServer, options: BridgeOptions = stateful): Promise<BridgeProcess> {
    const bridge = await BridgeProcess.connected(server.url, options)
    await eventually('the push stream', () => server.listening())
    return bridge
  }

  get pid(): number {
    return this.#child.pid ?? -1
  }

  async handshake(params: object = {}): Promise<Reply> {
    this.send({ ...initialize(), params: { ...initializeParams, ...params } })
    const reply = await this.reply(0, 15_000)
    if (reply.error !== undefined) throw new Error(`initialize failed: ${reply.error.message}`)
    this.send(initialized)
    return reply
  }

  /** Bytes as they are. */
  write(bytes: string | Buffer): void {
    this.#child.stdin.write(bytes)
  }

  /** One line. */
  send(message: string | object): void {
    this.write(`${typeof message === 'string' ? message : JSON.stringify(message)}\n`)
  }

  notify(method: string, params?: object): void {
    this.send({ jsonrpc: '2.0', method, ...(params === undefined ? {} : { params }) })
  }

  /** Writes a request and gives its id without waiting. */
  ask(method: string, params?: object): number {
    const id = this.#nextId++
    this.send({ jsonrpc: '2.0', id, method, ...(params === undefined ? {} : { params }) })
    return id
  }

  /** Writes a request and waits for its answer. */
  call(method: string, params?: object, withinMs = 5_000): Promise<Reply> {
    return this.reply(this.ask(method, params), withinMs)
  }

  /** The answer to `id` (a parsed id). */
  reply(id: string | number | null, withinMs = 5_000): Promise<Reply> {
    return this.waitFor(
      `the answer to ${JSON.stringify(id)}`,
      () => this.replies.find((each) => each !== undefined && each.method === undefined && each.id === id),
      withinMs,
    )
  }

  answersTo(id: string | number | null): Reply[] {
    return this.replies.flatMap((each) =>
      each !== undefined && each.method === undefined && each.id === id ? [each] : [],
    )
  }

  /** Messages of the server with that method, so far. */
  received(method: string): Reply[] {
    return this.replies.flatMap((each) => (each?.method === method ? [each] : []))
  }

  /** Contents of the channel events that came, so far. */
  channel(): string[] {
    return this.received('notifications/claude/channel').map((each) => String(each.params?.content))
  }

  /** Re-examined at every line and every byte of stderr. Its failure shows what the process said. */
  async waitFor<T>(what: string, probe: () => T | undefined | false, withinMs = 5_000): Promise<T> {
    const end = performance.now() + withinMs
    for (;;) {
      const found = probe()
      if (found !== undefined && found !== false) return found
      const left = end - performance.now()
      if (left <= 0) throw new Error(`not within ${withinMs} ms: ${what}\n${this.describe()}`)
      if (this.#closed) throw new Error(`it ended before: ${what}\n${this.describe()}`)
      await this.#change(Math.min(left, 50))
    }
  }

  /** The end of it all: it has exited, and what it wrote has been read. */
  async gone(withinMs = 5_000): Promise<Exit> {
    const exit = await eventually('exit of the bridge', () => this.exit, withinMs).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.describe()}`, { cause: error })
    })
    // A grandchild may hold the pipes open.
    await eventually('end of its output', () => this.#closed, 1_000).catch(() => undefined)
    return exit
  }

  signal(name: NodeJS.Signals): void {
    process.kill(this.#detached ? -this.pid : this.pid, name)
  }

  eof(): void {
    this.#child.stdin.end()
  }

  /** Stops or goes on reading stdout (the pipe fills up). */
  read(on: boolean): void {
    if (on) this.#child.stdout.resume()
    else this.#child.stdout.pause()
  }

  closeStdout(): void {
    this.#child.stdout.destroy()
  }

  async kill(): Promise<void> {
    if (this.exit === undefined) {
      try {
        process.kill(this.pid, 'SIGKILL')
      } catch {}
    }
    await this.exited
    this.#child.stdin.destroy()
    this.#child.stdout.destroy()
    this.#child.stderr.destroy()
  }

  describe(): string {
    const last = this.lines.slice(-12).map((line) => `  ${line.toString().slice(0, 300)}`)
    const state = this.exit === undefined ? 'running' : `exited ${this.exit.code ?? this.exit.signal}`
    return `${state}; stdout:\n${last.join('\n')}\nstderr:\n${this.stderr.slice(-1_500)}`
  }

  #take(chunk: Buffer): void {
    let from = 0
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      this.#rest.push(chunk.subarray(from, at))
      const line = this.#rest.length === 1 ? chunk.subarray(from, at) : Buffer.concat(this.#rest)
      this.#rest = []
      from = at + 1
      if (this.#sink !== undefined) {
        this.#sink(line)
        continue
      }
      this.lines.push(line)
      this.replies.push(parsed(line))
    }
    if (from < chunk.length) this.#rest.push(chunk.subarray(from))
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#waiters) wake()
  }

  #change(withinMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        this.#waiters.delete(done)
        resolve()
      }
      const timer = setTimeout(done, withinMs)
      this.#waiters.add(done)
    })
  }
}

function parsed(line: Buffer): Reply | undefined {
  try {
    return JSON.parse(line.toString()) as Reply
  } catch {
    return undefined
  }
}

/** Is there a process of this id? */
export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/**
 * The server under test as a process of its own: starting it, telling it what to do, ending it.
 */
import { type ChildProcess, execFileSync, fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface ServerState {
  readonly sessions: number
  readonly streams: number
  readonly requests: number
}

/** What the server is told; see `server.cjs`. */
export type Order =
  | { readonly do: 'push'; readonly count: number; readonly everyMs: number }
  | { readonly do: 'burst'; readonly count: number }
  | { readonly do: 'cut'; readonly forget: boolean }
  | { readonly do: 'forget' }
  | { readonly do: 'state' }

interface Answer extends Partial<ServerState> {
  readonly to?: number
  readonly at?: string
}

export class ServerProcess {
  readonly url: string
  /** Undefined when no certificate could be made on this machine. */
  readonly tlsUrl: string | undefined
  /** The file that makes the certificate trusted (`NODE_EXTRA_CA_CERTS`). */
  readonly caFile: string | undefined
  readonly #child: ChildProcess
  readonly #folder: string
  #seq = 0

  private constructor(
    child: ChildProcess,
    folder: string,
    ports: { port: number; tlsPort?: number },
    caFile: string | undefined,
  ) {
    this.#child = child
    this.#folder = folder
    this.url = `http://127.0.0.1:${ports.port}/mcp`
    this.tlsUrl = ports.tlsPort === undefined ? undefined : `https://localhost:${ports.tlsPort}/mcp`
    this.caFile = caFile
  }

  static async start(): Promise<ServerProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'bench-server-'))
    const certificate = makeCertificate(folder)
    const child = fork(join(import.meta.dirname, 'server.cjs'), certificate ?? [], { execArgv: [] })
    const ports = await new Promise<{ port: number; tlsPort?: number }>((resolve, reject) => {
      child.once('message', (message) => resolve(message as { port: number; tlsPort?: number }))
      child.once('exit', (code) => reject(new Error(`the server exited with ${code}`)))
    })
    return new ServerProcess(child, folder, ports, certificate?.[1])
  }

  /** Milliseconds and nanoseconds are those of `nowNs`: `at` is when the server began. */
  async tell(order: Order): Promise<bigint> {
    return BigInt((await this.#ask(order)).at ?? 0)
  }

  async state(): Promise<ServerState> {
    const { sessions = 0, streams = 0, requests = 0 } = await this.#ask({ do: 'state' })
    return { sessions, streams, requests }
  }

  /** Resolves once there is a push stream; rejects after `patienceMs`. */
  async streaming(patienceMs = 5_000): Promise<void> {
    const deadline = Date.now() + patienceMs
    while ((await this.state()).streams === 0) {
      if (Date.now() > deadline) throw new Error('it never opened a push stream')
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  stop(): void {
    this.#child.disconnect()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #ask(order: Order): Promise<Answer> {
    const seq = ++this.#seq
    return new Promise((resolve) => {
      const take = (answer: Answer): void => {
        if (answer.to !== seq) return
        this.#child.off('message', take)
        resolve(answer)
      }
      this.#child.on('message', take)
      this.#child.send({ ...order, seq })
    })
  }
}

/** Key and certificate for localhost, made for this run; undefined where there is no openssl. */
function makeCertificate(folder: string): [key: string, certificate: string] | undefined {
  const key = join(folder, 'key.pem')
  const certificate = join(folder, 'certificate.pem')
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  try {
    execFileSync('openssl', ['req', '-x509', ...kind, '-keyout', key, '-out', certificate, ...subject], {
      stdio: 'ignore',
    })
    return [key, certificate]
  } catch {
    return undefined
  }
}

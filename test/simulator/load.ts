/**
 * Many sessions, many events: `npx tsx test/simulator/load.ts [sessions=200] [events per second=100] [seconds=60]`.
 * One more session is held by the real bridge; the time until its stdout is measured apart.
 *
 * Not a test: a measurement. The simulator is the real program in a process of its own; every stream counts every
 * event. Exit code 1 when one was lost, came twice, or out of order.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually, rawInitialize } from './agent.ts'

const [sessions = 200, rate = 100, seconds = 60] = process.argv.slice(2).map(Number)
/** One connection for the publisher, so that events arrive in the order of their numbers; one for each stream. */
const publisher = new Agent({ keepAlive: true, maxSockets: 1 })

interface Stream {
  next: number
  wrong: number
}

async function main(): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), 'chamade-load-'))
  const child = spawn(process.execPath, ['bin/chamade-mcp.js', 'simulate', '--port', '0'], {
    env: { ...process.env, HOME: home, USERPROFILE: home },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    await eventually(() => said.includes('claude --dangerously'))
    const find = (pattern: RegExp): string => pattern.exec(said)?.[1] ?? ''
    const url = `${find(/^MCP endpoint: +(\S+) /m)}?stateful`
    const key = find(/^key of agent: +(\S+)$/m)
    const token = find(/#(\w+)$/m)
    const memory = (): number => {
      const status = readFileSync(`/proc/${child.pid ?? 0}/status`, 'utf8')
      return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024)
    }
    const took: number[] = []
    const streams: Stream[] = []
    for (let i = 0; i < sessions; i++) streams.push(await listen(url, key, took))
    const printed: number[] = []
    const bridged = behindBridge(url, key, printed)
    await eventually(() => bridged.open)
    streams.push(bridged)
    const before = memory()
    const readings: number[] = []
    const total = rate * seconds
    const began = performance.now()
    for (let sent = 0; sent < total; ) {
      const due = Math.min(total, Math.floor(((performance.now() - began) / 1_000) * rate) + 1)
      for (; sent < due; sent++) await emit(new URL('/control/emit', url), token, sent)
      if (sent >= (readings.length + 1) * rate * 5) readings.push(memory())
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const sentMs = performance.now() - began
    await eventually(() => streams.every((stream) => stream.next >= total), 30_000).catch(() => undefined)
    const wrong = streams.reduce((sum, stream) => sum + stream.wrong, 0)
    const lost = streams.reduce((sum, stream) => sum + (total - stream.next), 0)
    console.log(
      `${sessions} sessions, ${total} events in ${(sentMs / 1_000).toFixed(1)} s, ${took.length} pushes`,
    )
    console.log(`lost ${lost}, twice or out of order ${wrong}`)
    console.log(`publish to client: ${figures(took)}`)
    console.log(`publish to stdout of the bridge: ${figures(printed)}`)
    bridged.end()
    console.log(
      `memory of the simulator: ${before} MB before, then ${readings.join(', ')}, ${memory()} MB after`,
    )
    process.exitCode = lost + wrong === 0 ? 0 : 1
  } finally {
    child.kill('SIGTERM')
    rmSync(home, { recursive: true, force: true })
  }
}

function figures(took: number[]): string {
  took.sort((a, b) => a - b)
  const at = (part: number): string => `${took[Math.floor(took.length * part)] ?? Number.NaN} ms`
  return `p50 ${at(0.5)}, p99 ${at(0.99)}, max ${took.at(-1) ?? Number.NaN} ms`
}

interface Bridged extends Stream {
  open: boolean
  end(): void
}

/** The real bridge, as a client would start it. */
function behindBridge(url: string, key: string, took: number[]): Bridged {
  const child = spawn(process.execPath, ['bin/chamade-mcp.js', '--url', url], {
    env: { ...process.env, CHAMADE_API_KEY: key },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const bridged: Bridged = { next: 0, wrong: 0, open: false, end: () => child.kill('SIGTERM') }
  const say = (message: object): void => void child.stdin.write(`${JSON.stringify(message)}\n`)
  say(rawInitialize() as object)
  let rest = ''
  child.stdout.setEncoding('utf8')
  child.stdout.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line.includes('"id":0')) {
        say({ jsonrpc: '2.0', method: 'notifications/initialized' })
        say({
          jsonrpc: '2.0',
          id: 1,
          method: 'tools/call',
          params: { name: 'chamade_account', arguments: {} },
        })
      }
      // A moment for the stream that opens after `initialized`.
      if (line.includes('"id":1'))
        setTimeout(() => {
          bridged.open = true
        }, 2_500)
      take(bridged, line, took)
    }
  })
  return bridged
}

function take(stream: Stream, text: string, took: number[]): void {
  const now = Date.now()
  for (const [, number, sentAt] of text.matchAll(/load (\d+) at (\d+)/g)) {
    if (Number(number) !== stream.next) stream.wrong++
    stream.next = Number(number) + 1
    took.push(now - Number(sentAt))
  }
}

/** Opens a session and its stream, and checks what comes. */
async function listen(url: string, key: string, took: number[]): Promise<Stream> {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  const accept = 'application/json, text/event-stream'
  const opened = await send('POST', url, { ...headers, accept }, JSON.stringify(rawInitialize()))
  opened.resume()
  const id = String(opened.headers['mcp-session-id'])
  const response = await send('GET', url, { ...headers, accept: 'text/event-stream', 'mcp-session-id': id })
  if (response.statusCode !== 200) throw new Error(`GET answered ${response.statusCode}`)
  const stream: Stream = { next: 0, wrong: 0 }
  let rest = ''
  response.setEncoding('latin1')
  response.on('data', (chunk: string) => {
    const text = rest + chunk
    const end = text.lastIndexOf('\n\n')
    rest = text.slice(end + 2)
    take(stream, text.slice(0, end + 2), took)
  })
  return stream
}

async function emit(url: URL, token: string, number: number): Promise<void> {
  const body = JSON.stringify({ type: 'raw', content: `load ${number} at ${Date.now()}` })
  const response = await send('POST', url.href, { authorization: `Bearer ${token}` }, body, publisher)
  response.resume()
  await new Promise((resolve) => response.once('end', resolve))
}

function send(method: string, url: string, headers: Record<string, string>, body?: string, agent?: Agent) {
  return new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
    request(url, { method, headers, agent }, resolve).once('error', reject).end(body)
  })
}

main()
  .then(() => process.exit())
  .catch((error: unknown) => {
    console.error(error)
    process.exit(1)
  })

/**
 * `npm run demo:moot`: what the moot channel adapter does on a good day and on bad ones, as a timeline.
 *
 * The real process on real pipes in front of a local moot. Every line says what happened; it ends with 0 only if
 * every event arrived once and in order.
 */
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { channelEvent } from '../../src/channel/notification.ts'
import { parse } from '../../src/protocol.ts'
import { startMootSimulator } from '../../src/simulator/moot/simulator.ts'
import { eventually, pause } from '../support/eventually.ts'

const SPACE = 'sprint-planning'
const BIN = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bin', 'chamade-mcp.js')

async function demo(): Promise<void> {
  const began = performance.now()
  const heard: string[] = []
  const replies = new Map<number, string>()
  const moot = await startMootSimulator()
  const me = moot.agent.actor_id

  function line(who: string, text: string): void {
    const at = ((performance.now() - began) / 1_000).toFixed(2).padStart(6)
    process.stdout.write(`${at} s  ${who.padEnd(8)} ${text.replaceAll('\n', ' ⏎ ').slice(0, 130)}\n`)
  }

  const bridge = spawn(process.execPath, [BIN, 'moot', '--hold', '0'], {
    env: {
      PATH: process.env.PATH,
      CONVO_API_URL: moot.url,
      CONVO_API_KEY: moot.key,
      CHAMADE_LOG_LEVEL: 'info',
    },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let ups = 0
  createInterface({ input: bridge.stderr }).on('line', (text) => {
    if (/push stream \S+ up\b/.test(text)) ups++
    line('log', text.replace(/^\S+ /, ''))
  })
  createInterface({ input: bridge.stdout }).on('line', (text) => {
    for (const message of parse(Buffer.from(text))) {
      if (message.kind === 'response') replies.set(Number(message.id), text)
      if (message.kind !== 'notification') continue
      const event = channelEvent(message)
      if (event === undefined) continue
      heard.push(event.content)
      line('agent', `<channel ${event.meta.event_type}> ${event.content}`)
    }
  })

  let lastId = 0
  async function ask(method: string, params: object): Promise<string> {
    const id = ++lastId
    bridge.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`)
    return await eventually(`the answer to ${method}`, () => replies.get(id), 15_000)
  }

  async function tool(name: string, args: object = {}): Promise<void> {
    const reply = JSON.parse(await ask('tools/call', { name, arguments: args })) as {
      result: { content: { text: string }[]; isError?: boolean }
    }
    const { content, isError } = reply.result
    line('tool', `${name}(${JSON.stringify(args)}) → ${isError === true ? 'error: ' : ''}${content[0]?.text}`)
  }

  async function hears(count: number): Promise<void> {
    await eventually(`${count} notifications`, () => heard.length >= count, 20_000)
  }

  /** The stream is up for the `count`th time: all that was missed has been fetched. */
  async function isUp(count: number): Promise<void> {
    await eventually('the stream', () => ups >= count, 20_000)
  }

  function say(text: string, more: { thread_id?: string; speaker?: string } = {}): void {
    const event = moot.publish(SPACE, { text, ...more })
    line('moot', `${event.speaker_name}: ${text}`)
  }

  line('moot', `listens on ${moot.url}, one space: ${SPACE}`)
  await ask('initialize', {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'demo', version: '1' },
  })
  bridge.stdin.write('{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
  line('client', 'initialized')
  await tool('list_subscriptions')
  await tool('subscribe')

  say('good morning everybody')
  say('@MyAgent can you review this PR?')
  say('I am on it', { speaker: me, thread_id: 'thr_review' })
  say('thanks, it is the second commit', { thread_id: 'thr_review' })
  moot.store.propose(moot.space(SPACE), moot.alice.actor_id, 'ship on Friday')
  await hears(3)

  line('moot', 'is redeployed: every connection is cut, nothing listens for 2 s')
  await moot.stop()
  say('@MyAgent said while you were away, one')
  say('@MyAgent said while you were away, two')
  await new Promise((resolve) => setTimeout(resolve, 2_000))
  await moot.listen()
  line('moot', 'is back')
  await hears(5)
  await isUp(2)

  line('moot', 'goes silent without closing anything, as behind a dead router; then all sockets are cut')
  moot.sockets.freeze()
  say('@MyAgent said into the void')
  moot.sockets.drop('cut')
  await hears(6)
  await isUp(3)
  // (The history is read to its end behind that: refused then, it would be a gap by right.)
  await pause(500)

  line('moot', 'suspends the tenant')
  moot.weather.suspended = true
  moot.sockets.drop({ code: 4403, reason: 'Tenant is suspended' })
  await tool('subscribe', { space_id: 'another-space' })
  moot.weather.suspended = false
  line('moot', 'takes it back')
  await tool('subscribe', { space_id: SPACE })
  moot.store.setStatus(moot.space(SPACE), 'paused')
  await hears(7)

  bridge.stdin.end()
  const code = await new Promise<number | null>((resolve) => bridge.once('exit', resolve))
  line('client', `left; the adapter exited with ${code}`)
  await moot.close()
  const expected = [
    /review this PR/,
    /second commit/,
    /ship on Friday/,
    /away, one/,
    /away, two/,
    /the void/,
    /now paused/,
  ]
  const whole = heard.length === expected.length && expected.every((each, i) => each.test(heard[i] ?? ''))
  line('demo', whole ? `all ${expected.length} events arrived, each once, in order` : 'EVENTS ARE MISSING')
  process.exitCode = whole && code === 0 ? 0 : 1
}

void demo()

/**
 * Random faults by a seed, and the promises that must hold whatever happens:
 * exactly one answer per request (at most one once cancelled), no call run twice, no event twice or out of order,
 * no event missing without a notice where it is missing, no request in a session after the next was used,
 * and a quiet process at the end.
 *
 * Repeat a failure with CHAOS_SEED=… npx vitest run test/chaos/chaos.test.ts
 */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'
import { seeded } from '../support/seeded.ts'
import { gapInterval, hold } from '../support/settings.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'

const DURATION_MS = Number(process.env.CHAOS_MS ?? 2_500)

interface Scene {
  readonly random: () => number
  readonly server: ScriptedServer
  readonly proxy: TcpProxy
  readonly bridge: BridgeProcess
  /** What was done when, for the message of a failure. */
  readonly log: string[]
  /** Ends the refusals that nobody has met yet. */
  readonly stops: Set<() => void>
}

type Fault = (scene: Scene) => Promise<void> | void

const upTo = (scene: Scene, ms: number): number => Math.floor(scene.random() * ms)

/** Refuses the next few requests that match. */
function refuseSome(scene: Scene, matches: (x: Exchange) => boolean, refuse: (x: Exchange) => void): void {
  let left = 1 + upTo(scene, 3)
  const stop = scene.server.before((x) => {
    if (!matches(x) || left <= 0) return false
    if (--left === 0) stop()
    return refuse(x) ?? true
  })
  scene.stops.add(stop)
}

const faults: Record<string, Fault> = {
  cut: ({ proxy }) => proxy.cut(),
  freeze: async (scene) => {
    scene.proxy.freeze()
    await pause(upTo(scene, 250))
    scene.proxy.thaw()
  },
  delay: async (scene) => {
    scene.proxy.delayMs = 1 + upTo(scene, 15)
    await pause(upTo(scene, 300))
    scene.proxy.delayMs = 0
  },
  trickle: async (scene) => {
    scene.proxy.trickleBytes = 1 + upTo(scene, 7)
    await pause(upTo(scene, 200))
    scene.proxy.trickleBytes = 0
  },
  refuse: async (scene) => {
    await scene.proxy.refuse()
    scene.proxy.cut()
    await pause(upTo(scene, 400))
    await scene.proxy.listen()
  },
  restart: (scene) => scene.server.restart(upTo(scene, 300)),
  wipe: ({ server }) => server.wipe(),
  hangUp: ({ server }) => {
    for (const session of server.live()) session.push.hangUp()
  },
  cutPush: ({ server }) => {
    for (const session of server.live()) session.push.cut()
  },
  badGateway: (scene) =>
    refuseSome(
      scene,
      () => true,
      (x) => x.reply(502, '<html>', { 'content-type': 'text/html' }),
    ),
  noStream: (scene) =>
    refuseSome(
      scene,
      (x) => x.request.method === 'GET',
      (x) => x.reply(503),
    ),
  conflict: (scene) =>
    refuseSome(
      scene,
      (x) => x.request.method === 'GET',
      (x) => x.error(-32000, 'Conflict', 409),
    ),
  reset: (scene) =>
    refuseSome(
      scene,
      () => true,
      (x) => x.reset(),
    ),
  resetBehind: (scene) => {
    // The message arrives, its answer does not.
    let left = 1 + upTo(scene, 3)
    const stop = scene.server.before((x) => {
      if (x.request.method !== 'POST' || left <= 0) return false
      if (--left === 0) stop()
      x.response.write = () => true
      x.response.end = () => x.response
      setTimeout(() => x.reset(), 2)
      return false
    })
    scene.stops.add(stop)
  },
}

const lost: ((x: Exchange) => void)[] = [
  (x) => x.reply(404, 'Session not found'),
  (x) => x.error(-32000, 'Bad Request: No valid session ID provided', 400),
  (x) => x.reply(410),
]

/** Runs of each call, by its number. */
function answering(scene: { server: ScriptedServer; random: () => number }): Map<number, number> {
  const runs = new Map<number, number>()
  scene.server.on('tools/call', async (x) => {
    const n = Number(x.params.n)
    runs.set(n, (runs.get(n) ?? 0) + 1)
    switch (n % 4) {
      case 0:
        return x.result({ n })
      case 1:
        await pause(scene.random() * 120)
        return x.result({ n })
      case 2: {
        const stream = x.stream(scene.random() < 0.5)
        for (let step = 0; step < 4; step++) {
          stream.send({
            jsonrpc: '2.0',
            method: 'notifications/progress',
            params: { progressToken: n, progress: step },
          })
          await pause(scene.random() * 30)
        }
        stream.send(x.answer({ n }))
        return stream.finish()
      }
      default:
        return undefined // Never answered: these are cancelled.
    }
  })
  return runs
}

async function client(
  scene: Scene,
  until: number,
): Promise<{ asked: Map<number, number>; cancelled: Set<number> }> {
  const asked = new Map<number, number>()
  const cancelled = new Set<number>()
  for (let n = 1; performance.now() < until; n++) {
    const id = scene.bridge.ask('tools/call', { n })
    asked.set(id, n)
    if (n % 4 === 3) {
      await pause(scene.random() * 60)
      scene.bridge.notify('notifications/cancelled', { requestId: id })
      cancelled.add(id)
    }
    if (scene.random() < 0.2) scene.bridge.notify('notifications/x', { n })
    if (scene.random() < 0.2) asked.set(scene.bridge.ask('tools/list'), -1)
    await pause(scene.random() * 40)
  }
  return { asked, cancelled }
}

async function pushing(scene: Scene, until: () => boolean): Promise<number> {
  let n = 0
  while (!until()) {
    const live = scene.server.live()
    if (live.some((session) => session.push.open || scene.server.replay)) {
      scene.server.pushChannel(`event ${++n}`)
    } else if (scene.random() < 0.3) {
      n++ // An event that nobody heard.
    }
    await pause(scene.random() * 25)
  }
  return n
}

async function wreck(scene: Scene, until: number): Promise<void> {
  const names = Object.keys(faults)
  while (performance.now() < until) {
    await pause(scene.random() * 180)
    const name = names[upTo(scene, names.length)] ?? ''
    scene.server.refuseLost = lost[upTo(scene, lost.length)] ?? scene.server.refuseLost
    scene.log.push(`${Math.round(performance.now())} ${name}`)
    await faults[name]?.(scene)
  }
}

/** Events in order, none twice; where some are missing a gap notice stands in their place. */
function checkEvents(bridge: BridgeProcess, pushed: number): number {
  let last = 0
  let noticed = false
  let missing = 0
  for (const reply of bridge.received('notifications/claude/channel')) {
    const content = String(reply.params?.content)
    const n = Number(/^event (\d+)$/.exec(content)?.[1])
    if (Number.isNaN(n)) {
      noticed ||= (reply.params?.meta as { event_type?: string } | undefined)?.event_type === 'channel_gap'
      continue
    }
    expect(n, 'no event twice or out of order').toBeGreaterThan(last)
    if (n > last + 1) {
      expect(noticed, `events ${last + 1} to ${n - 1} are missing without a notice`).toBe(true)
      missing += n - last - 1
    }
    last = n
    noticed = false
  }
  expect(last).toBe(pushed)
  return missing
}

/** What was sent before a renewal may arrive behind it: no fault here holds bytes back for longer. */
const IN_TRANSIT_MS = 800

/** Once a session was used, none of the sessions before it is used for anything but its goodbye. */
function checkSessions(server: ScriptedServer): void {
  const order = [...server.sessions.keys()]
  let newest = -1
  let since = 0
  for (const { session, method, rpc, at } of server.requests) {
    if (session === undefined || method === 'DELETE') continue
    const place = order.indexOf(session)
    if (place > newest) {
      newest = place
      since = at
    }
    const late = place < newest && at - since > IN_TRANSIT_MS
    expect(late, `${method} ${rpc?.method ?? ''} in session ${place} while ${newest} is in use`).toBe(false)
  }
}

const fixed = process.env.CHAOS_SEED
const seeds = fixed === undefined ? [1, 2, 3, Date.now() % 1_000_000] : [Number(fixed)]

describe('chaos', () => {
  test.each(seeds.flatMap((seed) => [[seed, seed % 2 === 0]] as const))(
    'seed %d (replaying server: %s)',
    { timeout: DURATION_MS + 70_000 },
    async (seed, replay) => {
      const random = seeded(seed)
      const server = await ScriptedServer.start({
        replay,
        capabilities: { tools: {}, experimental: { 'claude/channel': {} } },
      })
      server.secondStream = 'replace'
      const runs = answering({ server, random })
      const proxy = await TcpProxy.start(server.port)
      const bridge = await BridgeProcess.connected(`http://127.0.0.1:${proxy.port}/mcp`, {
        args: ['--stateful', '--log-level', 'info', ...hold(0), ...gapInterval(1)],
      })
      const scene: Scene = { random, server, proxy, bridge, log: [], stops: new Set() }
      await eventually('the push stream', () => server.listening())
      const until = performance.now() + DURATION_MS
      let over = false
      const pusher = pushing(scene, () => over)
      const [{ asked, cancelled }] = await Promise.all([client(scene, until), wreck(scene, until)])
      const story = (): string => `seed ${seed}\n${scene.log.join('\n')}\n${bridge.describe()}`
      for (const stop of scene.stops) stop()
      try {
        // Calm again: every open request is answered, the stream is back.
        for (const id of asked.keys()) if (!cancelled.has(id)) await bridge.reply(id, 20_000)
        // (A server that forgot the session and left its stream open is found out by a ping after 30 s of silence.)
        await eventually('the push stream', () => server.listening(), 45_000)
        over = true
        await pusher
        await eventually('one stream', () => server.listening(), 15_000)
        const last = (await pusher) + 1
        server.pushChannel(`event ${last}`)
        await bridge.waitFor('the last event', () => bridge.channel().includes(`event ${last}`), 10_000)
        const quietFrom = server.requests.length
        await pause(400)
        const noise = server.requests.slice(quietFrom).map((each) => `${each.method} ${each.rpc?.method}`)
        // (A cancellation written while nobody listened waits for its next try; nobody waits for it.)
        const isCancellation = (each: string): boolean => each === 'POST notifications/cancelled'
        expect(noise.filter(isCancellation).length).toBeLessThanOrEqual(cancelled.size)
        expect(
          noise.filter((each) => !isCancellation(each)),
          'quiet at the end',
        ).toEqual([])

        for (const [id, n] of asked) {
          const answers = bridge.answersTo(id)
          if (cancelled.has(id)) expect(answers.length).toBeLessThanOrEqual(1)
          else expect(answers).toHaveLength(1)
          if (n > 0 && answers[0]?.result !== undefined) expect(answers[0].result).toEqual({ n })
        }
        for (const reply of bridge.replies) {
          expect(reply).toBeDefined()
          if (reply?.method === undefined) expect(reply?.id === 0 || asked.has(Number(reply?.id))).toBe(true)
        }
        for (const [n, times] of runs) expect(times, `runs of call ${n}`).toBe(1)
        const missing = checkEvents(bridge, last)
        checkSessions(server)

        bridge.eof()
        expect((await bridge.gone()).code).toBe(0)
        const answered = [...asked.keys()].filter(
          (id) => bridge.answersTo(id)[0]?.result !== undefined,
        ).length
        console.log(
          `  ${scene.log.length} faults, ${asked.size} requests (${answered} with a result), ` +
            `${last} events (${missing} announced as missed), ${server.sessions.size} sessions`,
        )
      } catch (error) {
        throw new Error(`${String(error)}\n${story()}`, { cause: error })
      } finally {
        over = true
      }
    },
  )
})

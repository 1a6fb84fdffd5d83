/** The server is restarted in every state of the session machine; each time the bridge ends up live and listening. */
import { describe, expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually } from '../support/eventually.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'
import { stateful } from '../support/settings.ts'

/** Restarts the server instead of answering the `nth` request that `matches`. */
function restartAt(server: ScriptedServer, nth: number, matches: (x: Exchange) => boolean, downMs = 0): void {
  let seen = 0
  server.before((x) => (matches(x) && ++seen === nth ? server.restart(downMs) : false))
}

/** Restarts the server after the `nth` request that `matches` was answered, in the same breath. */
function restartBehind(server: ScriptedServer, nth: number, matches: (x: Exchange) => boolean): void {
  let seen = 0
  server.before((x) => {
    if (matches(x) && ++seen === nth) x.response.on('finish', () => void server.restart())
    return false
  })
}

const post = (method: string) => (x: Exchange) => x.rpc.method === method
const get = (x: Exchange): boolean => x.request.method === 'GET'

async function endsUpListening(server: ScriptedServer, bridge: BridgeProcess): Promise<void> {
  await eventually('a push stream', () => server.listening(), 12_000)
  server.push({ jsonrpc: '2.0', method: 'notifications/proof' })
  await bridge.waitFor('an event', () => bridge.received('notifications/proof').length === 1)
  expect((await bridge.call('tools/call', { n: 1 })).result.echo).toEqual({ n: 1 })
  expect(server.mostLive).toBe(1)
  expect(server.live().filter((session) => session.used > 0)).toHaveLength(1)
}

describe('the first session', () => {
  test.each<[string, (server: ScriptedServer) => void]>([
    ['while initialize is with it', (s) => restartAt(s, 1, post('initialize'))],
    ['while initialize is with it, down for 300 ms', (s) => restartAt(s, 1, post('initialize'), 300)],
    ['right behind its answer to initialize', (s) => restartBehind(s, 1, post('initialize'))],
    ['while initialized is with it', (s) => restartAt(s, 1, post('notifications/initialized'))],
    ['right behind initialized', (s) => restartBehind(s, 1, post('notifications/initialized'))],
    ['while the first GET is with it', (s) => restartAt(s, 1, get)],
  ])('restarted %s', async (_, arrange) => {
    const server = await ScriptedServer.start()
    arrange(server)
    const bridge = await BridgeProcess.connected(server.url, stateful)
    await endsUpListening(server, bridge)
    expect(bridge.answersTo(0)).toHaveLength(1)
  })
})

describe('a renewal', () => {
  test.each<[string, (server: ScriptedServer) => void]>([
    ['while the second initialize is with it', (s) => restartAt(s, 1, post('initialize'))],
    [
      'down for 700 ms while the second initialize is with it',
      (s) => restartAt(s, 1, post('initialize'), 700),
    ],
    ['right behind its answer to the second initialize', (s) => restartBehind(s, 1, post('initialize'))],
    ['while the second initialized is with it', (s) => restartAt(s, 1, post('notifications/initialized'))],
    ['right behind the second initialized', (s) => restartBehind(s, 1, post('notifications/initialized'))],
    ['while the GET of the new session is with it', (s) => restartAt(s, 2, get)],
    ['while what was set is set again', (s) => restartAt(s, 1, post('logging/setLevel'))],
    [
      'three times in a row at the second initialize',
      (s) => {
        for (const nth of [1, 2, 3]) restartAt(s, nth, post('initialize'))
      },
    ],
  ])('restarted %s', async (_, arrange) => {
    const server = await ScriptedServer.start({ capabilities: { logging: {} } })
    const bridge = await BridgeProcess.connected(server.url, stateful)
    await bridge.call('logging/setLevel', { level: 'debug' })
    await eventually('the push stream', () => server.listening())
    arrange(server)
    await server.restart()
    await endsUpListening(server, bridge)
  })

  test('with a call that meets the 404 first: answered once', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    restartAt(server, 1, post('initialize'))
    server.wipe()
    const id = bridge.ask('tools/call', { n: 2 })
    const reply = await bridge.reply(id, 10_000)
    expect(reply.result.echo).toEqual({ n: 2 })
    expect(bridge.answersTo(id)).toHaveLength(1)
  })

  test('a session left because its initialized got no answer is deleted', async () => {
    const server = await ScriptedServer.start()
    await BridgeProcess.connected(server.url, stateful)
    await eventually('the push stream', () => server.listening())
    let left = 1
    server.before(async (x) => {
      if (!post('notifications/initialized')(x) || left-- <= 0) return false
      if (x.session !== undefined) x.session.used++
      return x.reset()
    })
    await server.restart()
    await eventually('a push stream', () => server.listening(), 12_000)
    expect(server.sessions.size).toBe(3)
    await eventually('its goodbye', () => [...server.sessions.values()][1]?.endedBy === 'delete')
  })
})

test('restarted while the bridge says goodbye: exit all the same', async () => {
  const server = await ScriptedServer.start()
  restartAt(server, 1, (x) => x.request.method === 'DELETE')
  const bridge = await BridgeProcess.listening(server)
  bridge.eof()
  expect((await bridge.gone()).code).toBe(0)
})

/** A client that stops reading stops the server, not the memory of the bridge. */
import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { initialize } from '../support/messages.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { stateful } from '../support/settings.ts'

/** Resident memory of a process, bytes. */
function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024
}

test.runIf(existsSync('/proc/self/status'))(
  'the client stops reading while 200 MB are pushed: under 150 MB resident, everything arrives in order',
  { timeout: 60_000 },
  async () => {
    const server = await ScriptedServer.start()
    const events = 3_200
    const filler = 'x'.repeat(65_536)
    let arrived = 0
    let inOrder = true
    let handshake = 0
    const bridge = BridgeProcess.start(server.url, {
      args: ['--stateful'],
      sink: (line) => {
        if (!line.includes('"notifications/n"')) {
          handshake++
          return
        }
        const n = Number(/"n":(\d+)/.exec(line.subarray(0, 80).toString())?.[1])
        inOrder &&= n === arrived && line.length > 65_536
        arrived++
      },
    })
    bridge.send(initialize())
    await eventually('the handshake', () => handshake === 1)
    bridge.notify('notifications/initialized')
    await eventually('the push stream', () => server.listening())
    bridge.read(false)
    const { push } = server.session
    let sent = 0
    const pushing = (async () => {
      for (; sent < events; sent++) {
        const text = `data: {"jsonrpc":"2.0","method":"notifications/n","params":{"n":${sent},"t":"${filler}"}}\n\n`
        if (!push.write(text)) await push.drained()
      }
    })()
    // The server gets stuck: nothing moves any more, and memory stays where it is.
    let before = -1
    let most = 0
    await eventually(
      'a server that cannot go on',
      async () => {
        before = sent
        await pause(300)
        most = Math.max(most, residentBytes(bridge.pid))
        return sent === before
      },
      20_000,
    )
    expect(sent).toBeLessThan(events)
    bridge.read(true)
    const watching = setInterval(() => {
      if (bridge.exit === undefined) most = Math.max(most, residentBytes(bridge.pid))
    }, 20)
    await pushing
    await eventually('everything', () => arrived === events, 30_000)
    clearInterval(watching)
    expect(inOrder).toBe(true)
    expect(most).toBeLessThan(150e6)
    expect(server.of('GET')).toHaveLength(1)
  },
)

test('a client that stops reading gets its answers too, once it reads again', {
  timeout: 30_000,
}, async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.connected(server.url, stateful)
  bridge.read(false)
  const text = 'y'.repeat(100_000)
  const ids = [...Array(60).keys()].map((n) => bridge.ask('tools/call', { n, text }))
  await eventually('the calls', () => server.posts('tools/call').length === 60, 10_000)
  await pause(200)
  bridge.read(true)
  for (const [n, id] of ids.entries()) expect((await bridge.reply(id, 10_000)).result.echo.n).toBe(n)
  for (const id of ids) expect(bridge.answersTo(id)).toHaveLength(1)
})

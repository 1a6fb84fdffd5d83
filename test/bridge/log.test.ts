/** The log: nothing that is written about leaves its line, and a log that cannot be written costs nothing else. */
import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually } from '../support/eventually.ts'
import { initialize } from '../support/messages.ts'
import { ScriptedServer } from '../support/scripted-server.ts'

test('a name of the client neither begins a line of the log nor steers the terminal', async () => {
  const bridge = BridgeProcess.start('http://127.0.0.1:9/mcp')
  bridge.send('{"jsonrpc":"2.0","method":"a\\u001b[2J\\r\\u009bb\\n\\u2028c"}')
  bridge.eof()
  await bridge.gone()
  expect(bridge.stderr).toMatch(/^\S+ warn dropped a \[2J b c to the server: [^\n]*\n$/)
})

test.skipIf(!existsSync('/dev/full'))('a full disk under the log file silences only the log', async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.listening(server, {
    args: ['--log-file', '/dev/full', '--log-level', 'debug', '--log-format', 'json'],
  })
  server.session.push.hangUp()
  await eventually('the next', () => server.of('GET').length === 2 && server.listening())
  expect((await bridge.call('tools/call')).error).toBeUndefined()
  const lines = bridge.stderr.trim().split('\n')
  const complaints = lines.filter((line) => line.includes('cannot be written'))
  expect(complaints.map((line) => (JSON.parse(line) as { level: string }).level)).toEqual(['error'])
})

test('who waits for a server that is down reads why, for how long, and when it is over', async () => {
  const server = new ScriptedServer()
  await server.up()
  await server.down()
  const bridge = BridgeProcess.start(server.url)
  bridge.send(initialize(1))
  const waiting =
    /^\S+ warn session 1 opening: 127\.0\.0\.1:\d+\/mcp could not be reached for [\d.]+ m?s: connect ECONNREFUSED .*; trying for 25 s\n$/
  await eventually('it says why', () => waiting.test(bridge.stderr), 5_000)
  await server.up()
  await bridge.reply(1, 10_000)
  await eventually('it says that it is over', () => /\n\S+ warn session 1 live\n$/.test(bridge.stderr))
})

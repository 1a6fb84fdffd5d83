/** The judge is judged: the SDK's own client finds nothing wrong with the scripted server when it behaves. */
import { expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { ScriptedServer } from './scripted-server.ts'
import { direct } from './sdk-client.ts'
import { TcpProxy } from './tcp-proxy.ts'

test('the SDK client talks to the scripted server: handshake, call, push, goodbye', async () => {
  const server = await ScriptedServer.start()
  const { client, received } = await direct(server.url)
  expect((await client.listTools()).tools.map((tool) => tool.name)).toEqual(['echo'])
  expect(await client.callTool({ name: 'echo', arguments: { a: 1 } })).toMatchObject({
    echo: { name: 'echo', arguments: { a: 1 } },
  })
  await eventually('the push stream', () => server.listening())
  server.pushChannel('hello')
  await eventually('the event', () => received.some((m) => JSON.stringify(m).includes('hello')))
  expect(server.mostLive).toBe(1)
})

test('a restarted server listens on its port again and has forgotten its sessions', async () => {
  const server = await ScriptedServer.start()
  const { client } = await direct(server.url)
  await server.restart(10)
  await expect(client.listTools()).rejects.toThrow('Session not found')
})

test('the proxy passes, freezes and thaws', async () => {
  const server = await ScriptedServer.start()
  const proxy = await TcpProxy.start(server.port)
  proxy.trickleBytes = 3
  const { client } = await direct(`http://127.0.0.1:${proxy.port}/mcp`)
  await client.ping()
  proxy.freeze()
  const ping = client.ping()
  let answered = false
  void ping.then(() => {
    answered = true
  })
  await new Promise((resolve) => setTimeout(resolve, 100))
  expect(answered).toBe(false)
  proxy.thaw()
  await ping
})

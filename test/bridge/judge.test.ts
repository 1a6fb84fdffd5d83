/**
 * The outside judge: the SDK's real Client against @modelcontextprotocol/server-everything over its Streamable
 * HTTP, once straight and once through the bridge. The two transcripts must be the same.
 */
import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Client } from '@modelcontextprotocol/sdk/client/index.js'
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { expect, onTestFinished, test } from 'vitest'
import { baseEnv, root } from '../support/bridge-process.ts'
import { eventually } from '../support/eventually.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { direct, type SdkClient, throughBridge } from '../support/sdk-client.ts'

async function freePort(): Promise<number> {
  const probe = createServer()
  await new Promise<void>((resolve) => {
    probe.listen(0, '127.0.0.1', resolve)
  })
  const address = probe.address()
  const port = address !== null && typeof address === 'object' ? address.port : 0
  await new Promise((resolve) => probe.close(resolve))
  return port
}

async function everything(): Promise<string> {
  const port = await freePort()
  const entry = join(root, 'node_modules/@modelcontextprotocol/server-everything/dist/index.js')
  const child = spawn(process.execPath, [entry, 'streamableHttp'], {
    env: { ...baseEnv, PORT: String(port) },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  onTestFinished(() => {
    child.kill('SIGKILL')
  })
  await eventually(`server-everything: ${stderr}`, () => /listening/i.test(stderr), 15_000)
  return `http://127.0.0.1:${port}/mcp`
}

/** Everything the server can do, and what came of it. */
async function tour({ client, received }: SdkClient): Promise<Record<string, unknown>> {
  answerTheServer(client)
  const seen: Record<string, unknown> = {
    version: client.getServerVersion(),
    capabilities: client.getServerCapabilities(),
    instructions: client.getInstructions(),
  }
  seen.tools = await client.listTools()
  seen.prompts = await client.listPrompts()
  seen.resources = await client.listResources()
  seen.templates = await client.listResourceTemplates()
  seen.echo = await client.callTool({ name: 'echo', arguments: { message: 'é😀 \u0000 "quoted"' } })
  seen.sum = await client.callTool({ name: 'get-sum', arguments: { a: 1.5, b: -2 } })
  seen.image = await client.callTool({ name: 'get-tiny-image', arguments: {} })
  seen.annotated = await client.callTool({
    name: 'get-annotated-message',
    arguments: { messageType: 'error', includeImage: true },
  })
  seen.structured = await client.callTool({
    name: 'get-structured-content',
    arguments: { location: 'New York' },
  })
  seen.unknown = await client
    .callTool({ name: 'no-such-tool', arguments: {} })
    .catch((error: Error) => error.message)
  const steps: number[] = []
  seen.long = await client.callTool(
    { name: 'trigger-long-running-operation', arguments: { duration: 0.3, steps: 3 } },
    undefined,
    { onprogress: (step) => steps.push(step.progress) },
  )
  seen.steps = steps
  seen.sampled = await client.callTool({
    name: 'trigger-sampling-request',
    arguments: { prompt: 'hello', maxTokens: 5 },
  })
  seen.elicited = await client.callTool({ name: 'trigger-elicitation-request', arguments: {} })
  seen.roots = await client.callTool({ name: 'get-roots-list', arguments: {} })
  const [prompt] = (await client.listPrompts()).prompts
  seen.prompt = await client.getPrompt({ name: prompt?.name ?? '' })
  const [resource] = (await client.listResources()).resources
  seen.resource = await client.readResource({ uri: resource?.uri ?? '' })
  await client.setLoggingLevel('debug')
  seen.logging = await client.callTool({ name: 'toggle-simulated-logging', arguments: {} })
  await eventually('a log message', () =>
    received.some((m) => 'method' in m && m.method === 'notifications/message'),
  )
  await client.callTool({ name: 'toggle-simulated-logging', arguments: {} })
  const controller = new AbortController()
  const aborted = client
    .callTool({ name: 'trigger-long-running-operation', arguments: { duration: 20, steps: 20 } }, undefined, {
      signal: controller.signal,
    })
    .catch((error: Error) => error.message)
  controller.abort('enough')
  seen.aborted = await aborted
  seen.after = await client.callTool({ name: 'echo', arguments: { message: 'still here' } })
  return seen
}

function answerTheServer(client: Client): void {
  client.setRequestHandler(CreateMessageRequestSchema, () => ({
    model: 'judge',
    role: 'assistant',
    content: { type: 'text', text: 'sampled' },
  }))
  client.setRequestHandler(ElicitRequestSchema, () => ({ action: 'decline' }))
  client.setRequestHandler(ListRootsRequestSchema, () => ({
    roots: [{ uri: 'file:///judge', name: 'judge' }],
  }))
  client.setNotificationHandler(LoggingMessageNotificationSchema, () => {})
}

/** Session ids and times differ from run to run. */
function steady(seen: unknown): unknown {
  return JSON.parse(
    JSON.stringify(seen)
      .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
      .replaceAll(/\d{1,2}:\d{2}:\d{2}( [AP]M)?/g, 'TIME')
      .replaceAll(/\d{4}-\d{2}-\d{2}T[\d:.]+Z/g, 'DATE'),
  )
}

test('server-everything: the same transcript with and without the bridge', { timeout: 40_000 }, async () => {
  const url = await everything()
  const straight = steady(await tour(await direct(url)))
  const bridged = await throughBridge(url, ['--stateful'])
  const through = steady(await tour(bridged))
  expect(through).toEqual(straight)
  expect(Object.keys(straight as object).length).toBeGreaterThan(20)
})

test('the SDK client over the bridge: a server restart is invisible but for list_changed', async () => {
  const server = await ScriptedServer.start()
  const { client, received, stderr } = await throughBridge(server.url, ['--stateful'])
  await client.listTools()
  await eventually('the push stream', () => server.listening())
  await server.restart(100)
  expect(await client.callTool({ name: 'echo', arguments: { a: 1 } })).toMatchObject({
    echo: { arguments: { a: 1 } },
  })
  await eventually('the next push stream', () => server.listening(), 8_000)
  server.push({ jsonrpc: '2.0', method: 'notifications/x' })
  await eventually('an event', () => received.some((m) => 'method' in m && m.method === 'notifications/x'))
  expect(stderr()).not.toMatch(/error/i)
  await client.close()
  await eventually('the goodbye', () => server.live().length === 0)
})

/**
 * Takes the README's picture of the console: `npx tsx test/simulator/screenshot.ts [file] [light|dark] [width] [height]`.
 *
 * Not a test. What it shows really happens: the simulator, the real bridge, an agent's tool calls, a restart.
 */
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { startSimulator } from '../../src/simulator/simulator.ts'
import { type ChannelMessage, eventually } from './agent.ts'
import { browserPath, launch } from './browser.ts'

const [file = '.github/console.png', scheme = 'light', width = '1240', height = '760'] = process.argv.slice(2)

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

async function main(): Promise<void> {
  if (browserPath === undefined) return
  const simulator = await startSimulator({ port: 8484 })
  const client = new Client({ name: 'my-agent', version: '1.0.0' })
  const heard: ChannelMessage[] = []
  client.fallbackNotificationHandler = async (note) => {
    if (note.method === 'notifications/claude/channel') heard.push(note.params as unknown as ChannelMessage)
  }
  const call = (name: string, args: Record<string, unknown>) => client.callTool({ name, arguments: args })
  await client.connect(
    new StdioClientTransport({
      command: process.execPath,
      args: ['bin/chamade-mcp.js', '--stateful', '--url', simulator.mcpUrl],
      env: { PATH: process.env.PATH ?? '', CHAMADE_API_KEY: simulator.key },
    }),
  )
  await client.listTools()
  await eventually(() => simulator.sessions[0]?.streamOpen === true)

  const browser = await launch(browserPath)
  const context = await browser.newContext({
    colorScheme: scheme === 'dark' ? 'dark' : 'light',
    viewport: { width: Number(width), height: Number(height) },
  })
  const page = await context.newPage()
  await page.goto(simulator.consoleUrl)
  await page.getByText('1 stream listens').waitFor()

  simulator.publish({ type: 'call', from: '+33 1 23 45 67 89' })
  await pause(900)
  const call_id = simulator.agents[0]?.calls.latest()?.id
  await call('chamade_call_accept', { call_id })
  simulator.publish({ type: 'transcript', speaker: 'Caller', text: 'Hello, are you open on Sunday?' })
  await pause(1_100)
  await call('chamade_call_say', { call_id, text: 'Good morning! Yes, from ten to four.' })
  await pause(400)
  simulator.fault('restart')
  await eventually(() => simulator.sessions[0]?.streamOpen === true)
  await eventually(() => heard.some((event) => event.meta.event_type === 'channel_gap'))
  await page.getByLabel('Message').fill('Can you check the test results?')
  await page.keyboard.press('Enter')
  await pause(1_300)
  await call('chamade_dm_typing', { conversation_id: 'discord:alice' })
  await call('chamade_dm_chat', {
    conversation_id: 'discord:alice',
    text: 'All 42 tests passing. The auth migration looks good.',
  })
  await page.getByText(/answered by chamade_dm_chat after/).waitFor()
  await pause(300)
  await page.screenshot({ path: file, animations: 'disabled' })
  await browser.close()
  await client.close()
  await simulator.close()
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})

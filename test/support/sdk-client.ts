/**
 * The SDK's real Client, over our bin or straight at a server: the outside judge.
 */
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import type { JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js'
import { onTestFinished } from 'vitest'
import { baseEnv, bin } from './bridge-process.ts'

export interface SdkClient {
  readonly client: Client
  /** Everything the server sent, in order. */
  readonly received: JSONRPCMessage[]
  readonly stderr: () => string
}

/** Through `node bin/chamade-mcp.js --url …`. */
export function throughBridge(
  url: string,
  args: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<SdkClient> {
  return toProcess(['--url', url, ...args], env)
}

/** Of `node bin/chamade-mcp.js` with these arguments. */
export function toProcess(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<SdkClient> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [bin, ...args],
    env: { ...baseEnv, ...env },
    stderr: 'pipe',
  })
  let stderr = ''
  transport.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  return connect(transport, () => stderr)
}

/** With no bridge in between. */
export function direct(url: string): Promise<SdkClient> {
  // The SDK's own types disagree under exactOptionalPropertyTypes.
  return connect(new StreamableHTTPClientTransport(new URL(url)) as Transport, () => '')
}

async function connect(transport: Transport, stderr: () => string): Promise<SdkClient> {
  const client = new Client(
    { name: 'judge', version: '1' },
    { capabilities: { sampling: {}, elicitation: {}, roots: { listChanged: true } } },
  )
  const received: JSONRPCMessage[] = []
  const tapped = tap(transport, received)
  onTestFinished(() => client.close())
  await client.connect(tapped)
  return { client, received, stderr }
}

/** The same transport, with what it delivers written down. */
function tap(transport: Transport, into: JSONRPCMessage[]): Transport {
  const start = transport.start.bind(transport)
  transport.start = async () => {
    const deliver = transport.onmessage
    if (deliver !== undefined) {
      transport.onmessage = (message, extra) => {
        into.push(message)
        deliver(message, extra)
      }
    }
    await start()
  }
  return transport
}

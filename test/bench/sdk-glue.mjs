/**
 * What one writes in an afternoon: the official SDK's two transports, back to back. The usual answer to "we need
 * a stdio bridge", and so the fair rival of a bridge that is written out.
 */
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'

const near = new StdioServerTransport()
const far = new StreamableHTTPClientTransport(new URL(process.argv[2]))
let initializeId

near.onmessage = (message) => {
  if (message.method === 'initialize') initializeId = message.id
  far.send(message).catch((error) => {
    if (message.id === undefined || message.method === undefined) return
    near.send({ jsonrpc: '2.0', id: message.id, error: { code: -32000, message: String(error) } })
  })
}

far.onmessage = (message) => {
  if (message.id === initializeId && message.result !== undefined) {
    far.setProtocolVersion(message.result.protocolVersion)
    initializeId = undefined
  }
  near.send(message)
}

far.onerror = (error) => process.stderr.write(`${error}\n`)
process.stdin.on('end', async () => {
  await far.terminateSession().catch(() => {})
  await far.close()
  process.exit()
})

await far.start()
await near.start()

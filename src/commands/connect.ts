/**
 * `chamade-mcp [url]`, the default command: stdio on this side, an MCP server behind a URL on the other.
 */
import v8 from 'node:v8'
import { CHANNEL_OPTIONS, DRAIN_OPTION, LOG_OPTIONS, SERVER_OPTIONS, serverSettings } from '../config.ts'
import { openHttp } from '../http/upstream.ts'
import { redactor } from '../status.ts'
import type { CommandSpec } from './command.ts'
import { serveStdio } from './run-bridge.ts'

export const connect: CommandSpec = {
  name: 'connect',
  summary: 'Bridge an MCP client on stdio to an MCP server on the internet, and keep its push stream alive.',
  operands: '[url]',
  options: [...SERVER_OPTIONS, ...CHANNEL_OPTIONS, DRAIN_OPTION, ...LOG_OPTIONS],
  examples: [
    'CHAMADE_API_KEY=chmd_… chamade-mcp --stateful',
    "chamade-mcp https://mcp.example.com/mcp --header 'Authorization: Bearer ${TOKEN}'",
    `printf '{"jsonrpc":"2.0","id":1,"method":"tools/list"}\\n' | chamade-mcp --url http://127.0.0.1:8484/mcp/`,
  ],
  run: async (values, operands, io) => {
    // undici's HTTP parser is WebAssembly; optimising it a second time costs 37 MB of peak memory and 270 ms at
    // exit (Node 20) for no gain in latency.
    v8.setFlagsFromString('--liftoff-only')
    const redact = redactor()
    const { http, notes } = serverSettings(values, operands, io.env, redact)
    return await serveStdio(
      openHttp(http),
      values,
      io,
      redact,
      notes.map((note) => ({ kind: 'note', ...note })),
    )
  },
}

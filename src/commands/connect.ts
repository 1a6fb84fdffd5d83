/**
 * `chamade-mcp [url]`, the default command: stdio on this side, an MCP server behind a URL on the other.
 */
import { list, serverSettings, timeLimit } from '../config.ts'
import { openHttp } from '../http/upstream.ts'
import { CHANNEL_OPTIONS, DRAIN_OPTION, LOG_OPTIONS, SERVER_OPTIONS, TOOL_OPTIONS } from '../options.ts'
import { redactor } from '../status.ts'
import { withToolRules } from '../tool-rules.ts'
import type { CommandSpec } from './command.ts'
import { serveStdio } from './run-bridge.ts'

export const connect: CommandSpec = {
  name: 'connect',
  summary: 'Bridge an MCP client on stdio to an MCP server on the internet, and keep its push stream alive.',
  operands: '[url]',
  options: [...SERVER_OPTIONS, ...CHANNEL_OPTIONS, ...TOOL_OPTIONS, DRAIN_OPTION, ...LOG_OPTIONS],
  examples: [
    'CHAMADE_API_KEY=chmd_… chamade-mcp --stateful',
    "chamade-mcp https://mcp.example.com/mcp --header 'Authorization: Bearer ${TOKEN}'",
    `printf '{"jsonrpc":"2.0","id":1,"method":"tools/list"}\\n' | chamade-mcp --url http://127.0.0.1:8484/mcp/`,
  ],
  run: async (values, operands, io) => {
    const redact = redactor()
    const { http, notes } = await serverSettings(values, operands, io.env, redact)
    const open = withToolRules(openHttp(http), {
      ignore: list(values.ignoreTool),
      timeoutMs: timeLimit(values, 'toolTimeout'),
    })
    return await serveStdio(open, values, io, redact, notes)
  },
}

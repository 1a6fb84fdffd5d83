/**
 * `chamade-mcp moot`: stdio on this side, the events of moot spaces on the other.
 *
 * A drop-in for the channel adapter of the documentation: the same variables, tools and notifications.
 */

import { DEFAULT_API_URL, resolveFeed } from '../feed/config.ts'
import { openFeed } from '../feed/upstream.ts'
import { CHANNEL_OPTIONS, DRAIN_OPTION, LOG_OPTIONS, type OptionSpec } from '../options.ts'
import { redactor } from '../status.ts'
import type { CommandSpec } from './command.ts'
import { serveStdio } from './run-bridge.ts'

/** All that configures the feed, but for the key itself. */
export const FEED_OPTIONS: readonly OptionSpec[] = [
  {
    flags: '--api-url <url>',
    env: 'CONVO_API_URL',
    description: 'moot backend: REST API and sockets',
    fallback: DEFAULT_API_URL,
  },
  {
    flags: '--api-key-file <path>',
    env: 'CONVO_API_KEY_FILE',
    description:
      "file with the agent's API key, read again when it is refused; or set CONVO_API_KEY (one is required)",
  },
  { flags: '--space <id>', env: 'CONVO_SPACE_ID', description: 'join and subscribe to this space at start' },
  {
    flags: '--auto-subscribe',
    env: 'CONVO_AUTO_SUBSCRIBE',
    description: 'at start subscribe to all spaces the agent takes part in, as the Python package does',
  },
  {
    flags: '--firehose',
    env: 'CONVO_CHANNEL_FIREHOSE',
    description: 'every event of the subscribed spaces, not only those that concern the agent',
  },
  {
    flags: '--ca <file>',
    env: 'SSL_CERT_FILE',
    description: 'CA certificate (PEM) of a self-hosted moot; HTTPS_PROXY and NO_PROXY are honoured',
  },
  {
    flags: '--channel-url <url>',
    env: 'CONVO_CHANNEL_URL',
    description: 'one socket for all spaces, wss://mootup.io/channel; without it, one a space',
  },
  {
    flags: '--agent-id <id>',
    env: 'CONVO_AGENT_ID',
    description: 'actor id, for a backend that does not tell whose key it is',
  },
  {
    flags: '--agent-name <name>',
    env: 'CONVO_AGENT_NAME',
    description: 'display name, where the backend has none',
  },
  {
    flags: '--texts <wording>',
    env: 'CONVO_TEXTS',
    description: 'docs: as the documentation shows them; source: as the Python package 0.5.14 writes them',
    fallback: 'docs',
  },
  {
    flags: '--max-text <n>',
    env: 'CONVO_MAX_TEXT',
    description: 'characters of a text before it is cut',
    fallback: '2000; 500 with --texts source',
  },
  {
    flags: '--allow-http',
    env: 'CONVO_ALLOW_HTTP',
    description: 'send the key over plain http beyond this machine',
  },
]

export const moot: CommandSpec = {
  name: 'moot',
  summary:
    'Push the events of moot spaces to an MCP client: mentions, thread replies, decisions, status changes.',
  options: [...FEED_OPTIONS, ...CHANNEL_OPTIONS, DRAIN_OPTION, ...LOG_OPTIONS],
  examples: [
    'CONVO_API_KEY=convo_… chamade-mcp moot',
    'chamade-mcp moot --api-key-file ~/.moot/key --space sprint-planning --log-level info',
    'CONVO_API_KEY=convo_… SSL_CERT_FILE=./ca.pem chamade-mcp moot --api-url https://moot.example.org:8443',
  ],
  run: async (values, _operands, io) => {
    const redact = redactor()
    const { config, notes } = resolveFeed(values, io.env, redact)
    return await serveStdio(openFeed(config), values, io, redact, notes)
  },
}

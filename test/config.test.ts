/** Which endpoint is meant, and what holds when nothing is said. */
import { expect, test } from 'vitest'
import { camelCase, longName } from '../src/commands/command.ts'
import { connect } from '../src/commands/connect.ts'
import { bridgeSettings } from '../src/commands/run-bridge.ts'
import { serverSettings } from '../src/config.ts'
import type { OptionValues } from '../src/options.ts'
import { redactor } from '../src/status.ts'

test.each([
  [{}, 'https://mcp.chamade.io/mcp/'],
  [{ CHAMADE_URL: 'https://chamade.io' }, 'https://mcp.chamade.io/mcp/'],
  [{ CHAMADE_URL: 'https://dev.chamade.io/' }, 'https://mcp.dev.chamade.io/mcp/'],
  [{ CHAMADE_URL: 'https://mcp.chamade.io' }, 'https://mcp.chamade.io/mcp/'],
  [{ CHAMADE_URL: 'http://127.0.0.1:8484' }, 'http://127.0.0.1:8484/mcp/'],
])('%j means %s', async (env, url) => {
  const { http } = await serverSettings({}, [], env, redactor())
  expect(http.url).toBe(url)
})

test('what help says of an option that is not given is what holds', async () => {
  const said = Object.fromEntries(
    connect.options.flatMap((option) =>
      option.fallback === undefined ? [] : [[camelCase(longName(option)), option.fallback]],
    ),
  )
  const all = async (values: OptionValues): Promise<unknown> => {
    const { http } = await serverSettings(values, [], {}, redactor())
    const { log, channel, drainMs, maxLineBytes } = bridgeSettings(values)
    const { url, patienceMs, maxMessageBytes } = http
    return { url, patienceMs, maxMessageBytes, log, channel, drainMs, maxLineBytes }
  }
  const { toolTimeout, ...given } = said
  expect(toolTimeout).toBe('never')
  expect(Object.keys(given).length).toBeGreaterThan(6)
  expect(await all(given)).toEqual(await all({}))
})

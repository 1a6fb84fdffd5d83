/** Which endpoint is meant. */
import { expect, test } from 'vitest'
import { serverSettings } from '../src/config.ts'
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

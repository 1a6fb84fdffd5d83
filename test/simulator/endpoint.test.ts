/** The simulated endpoint, over real sockets: stateless and stateful, as documented. */
import { request } from 'node:http'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { describe, expect, it } from 'vitest'
import type { Simulator } from '../../src/simulator/simulator.ts'
import { agentOf, eventually, open, rawInitialize, resultOf } from './agent.ts'
import { simulators } from './world.ts'

const start = simulators()

const INITIALIZE = rawInitialize()

function post(simulator: Simulator, query: string, body: unknown, headers: Record<string, string> = {}) {
  return fetch(simulator.mcpUrl + query, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${simulator.key}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...headers,
    },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
}

describe('the stateless default', () => {
  it('issues no session id and offers no push', async () => {
    const simulator = await start()
    const answer = await post(simulator, '', INITIALIZE)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('mcp-session-id')).toBeNull()
    expect(await answer.text()).not.toContain('claude/channel')
    const get = await fetch(simulator.mcpUrl, {
      headers: { authorization: `Bearer ${simulator.key}`, accept: 'text/event-stream' },
    })
    expect(get.status).toBe(405)
    await get.body?.cancel()
  })

  it('serves a tool call without a handshake, also without the trailing slash', async () => {
    const simulator = await start()
    const call = {
      jsonrpc: '2.0',
      id: 7,
      method: 'tools/call',
      params: { name: 'chamade_inbox', arguments: {} },
    }
    const answer = await fetch(`${simulator.url}/mcp`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${simulator.key}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      },
      body: JSON.stringify(call),
    })
    expect(answer.status).toBe(200)
    expect(await answer.text()).toContain('cursor')
  })

  it('frees a waiting inbox when the client hangs up', async () => {
    const simulator = await start()
    const hangUp = new AbortController()
    const call = {
      jsonrpc: '2.0',
      id: 7,
      method: 'tools/call',
      params: { name: 'chamade_inbox', arguments: { wait: 55 } },
    }
    const answer = fetch(simulator.mcpUrl, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${simulator.key}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      },
      body: JSON.stringify(call),
      signal: hangUp.signal,
    }).then((response) => response.text())
    await eventually(() => simulator.agents[0]?.inbox.waiting === 1)
    hangUp.abort()
    await expect(answer).rejects.toThrow()
    await eventually(() => simulator.agents[0]?.inbox.waiting === 0)
  })
})

describe('?stateful', () => {
  it.each(['?stateful', '?stateful=1', '?stateful=yes', '?a=b&stateful'])(
    '%s gives a session, the channel and instructions',
    async (query) => {
      const simulator = await start()
      const answer = await post(simulator, query, INITIALIZE)
      expect(answer.headers.get('mcp-session-id')).toMatch(/^[!-~]+$/)
      const text = await answer.text()
      expect(text).toContain('"experimental":{"claude/channel":{}}')
      expect(text).toContain('"instructions"')
    },
  )

  it('answers 400 to a message without a session id and 404 to an unknown one', async () => {
    const simulator = await start()
    const ping = { jsonrpc: '2.0', id: 1, method: 'ping' }
    expect((await post(simulator, '?stateful', ping)).status).toBe(400)
    expect((await post(simulator, '?stateful', ping, { 'mcp-session-id': 'nobody' })).status).toBe(404)
  })

  it('pushes an event once to each stream of its owner and to nobody else', async () => {
    const simulator = await start({ keys: ['chmd_a', 'chmd_b'] })
    const first = await open(simulator, { key: 'chmd_a' })
    const second = await open(simulator, { key: 'chmd_a' })
    const other = await open(simulator, { key: 'chmd_b' })
    const { routes } = simulator.publish({
      type: 'dm',
      from: 'Alice',
      text: 'Can you check the test results?',
    })
    expect(routes).toHaveLength(2)
    await eventually(() => first.events.length === 1 && second.events.length === 1)
    expect(first.events[0]?.content).toBe(
      'New message from Alice on Discord: "Can you check the test results?"',
    )
    expect(first.events[0]?.meta).toMatchObject({ event_type: 'dm_chat', conversation_id: 'discord:alice' })
    simulator.publish({ type: 'dm', from: 'Bob', text: 'for b', agent: 'agent-2' })
    await eventually(() => other.events.length === 1)
    expect(first.events).toHaveLength(1)
    for (const agent of [first, second, other]) await agent.close()
  })

  it('frees the bridge when the stream closes, and keeps the session', async () => {
    const simulator = await start()
    const agent = await open(simulator)
    await simulator.fault('hold-stream', { seconds: 60 })
    await eventually(() => simulator.sessions[0]?.streamOpen === false)
    expect(simulator.publish({ type: 'dm', from: 'Alice', text: 'anyone?' }).routes).toEqual([])
    expect(simulator.sessions).toHaveLength(1)
    expect(resultOf(await agent.call('chamade_inbox', {})).events).toHaveLength(1)
    await agent.close()
  })

  it('keeps an idle stream warm with comments', async () => {
    const simulator = await start({ pingMs: 10 })
    const opened = await post(simulator, '?stateful', INITIALIZE)
    const id = opened.headers.get('mcp-session-id') ?? ''
    await opened.text()
    const stream = await fetch(`${simulator.mcpUrl}?stateful`, {
      headers: {
        authorization: `Bearer ${simulator.key}`,
        accept: 'text/event-stream',
        'mcp-session-id': id,
      },
    })
    const reader = stream.body?.getReader()
    const { value } = (await reader?.read()) ?? {}
    expect(new TextDecoder().decode(value)).toMatch(/^: /)
    await reader?.cancel()
  })

  it('refuses a second stream of one session with 409', async () => {
    const simulator = await start()
    const agent = await open(simulator)
    const second = await fetch(`${simulator.mcpUrl}?stateful`, {
      headers: {
        authorization: `Bearer ${simulator.key}`,
        accept: 'text/event-stream',
        'mcp-session-id': agent.sessionId,
      },
    })
    expect(second.status).toBe(409)
    await second.text()
    await agent.close()
  })

  it('forgets sessions and cuts connections on restart', async () => {
    const simulator = await start()
    const agent = await open(simulator)
    simulator.restart()
    expect(simulator.sessions).toEqual([])
    // The first try may meet the socket that was cut under it.
    const refused = await agent
      .call('chamade_inbox', {})
      .catch(() => agent.call('chamade_inbox', {}).catch(String))
    expect(refused).toMatch(/Session not found/)
    const again = await open(simulator)
    simulator.publish({ type: 'dm', from: 'Alice', text: 'still there?' })
    await eventually(() => again.events.length === 1)
    await agent.close()
    await again.close()
  })

  it('an initialize that is refused leaves no session', async () => {
    const simulator = await start()
    const refused = await post(simulator, '?stateful', INITIALIZE, { accept: 'application/json' })
    expect(refused.status).toBe(406)
    await refused.text()
    expect(simulator.sessions).toEqual([])
  })

  it('ends the session on DELETE', async () => {
    const simulator = await start()
    const agent = await open(simulator)
    await agent.goodbye()
    expect(simulator.sessions).toEqual([])
    await agent.close()
  })
})

describe('the door', () => {
  it('answers 401 with WWW-Authenticate without the right key', async () => {
    const simulator = await start()
    for (const authorization of ['', 'Bearer wrong', simulator.key]) {
      const answer = await post(simulator, '', INITIALIZE, { authorization })
      expect(answer.status).toBe(401)
      expect(answer.headers.get('www-authenticate')).toMatch(/^Bearer/)
      await answer.text()
    }
  })

  it('refuses a foreign Origin, and never allows one by CORS', async () => {
    const simulator = await start()
    const foreign = await post(simulator, '', INITIALIZE, { origin: 'https://evil.example' })
    expect(foreign.status).toBe(403)
    expect(foreign.headers.get('access-control-allow-origin')).toBeNull()
    const own = await post(simulator, '', INITIALIZE, { origin: simulator.url })
    expect(own.status).toBe(200)
    await own.text()
  })

  it.each([
    ['evil.example:PORT', 403],
    ['127.0.0.1:1', 403],
    ['127.0.0.1.evil.example:PORT', 403],
    ['user@127.0.0.1:PORT', 403],
    ['localhost:PORT', 405],
    ['[::1]:PORT', 405],
  ])('a request for host %s gets %d', async (named, status) => {
    const simulator = await start()
    const host = named.replace('PORT', String(simulator.port))
    const answer = await new Promise<number | undefined>((resolve, reject) => {
      const headers = { host, authorization: `Bearer ${simulator.key}` }
      request(simulator.mcpUrl, { headers }, (response) => {
        response.resume()
        resolve(response.statusCode)
      })
        .once('error', reject)
        .end()
    })
    expect(answer).toBe(status)
  })

  it('answers what is no JSON with -32700', async () => {
    const simulator = await start()
    const answer = await post(simulator, '?stateful', '{')
    expect(answer.status).toBe(400)
    expect(await answer.json()).toMatchObject({ error: { code: -32700 } })
  })
})

describe('the SDK client in front of it', () => {
  it('lists tools and calls one', async () => {
    const simulator = await start()
    const agent = await agentOf(simulator)
    const { tools } = await agent.client.listTools()
    expect(tools.map((tool) => tool.name)).toContain('chamade_dm_chat')
    simulator.publish({ type: 'dm', from: 'Alice', text: 'hello' })
    const sent = await agent.call('chamade_dm_chat', { conversation_id: 'discord:alice', text: 'hi' })
    expect(resultOf(sent)).toMatchObject({ status: 'sent', conversation_id: 'discord:alice' })
    const answered = simulator.journal.entries.find((entry) => entry.kind === 'tool')
    expect(answered).toMatchObject({ answers: 'evt_000001' })
    await agent.close()
  })

  it('wakes a long poll at once', async () => {
    const simulator = await start()
    const agent = await agentOf(simulator)
    const waiting = agent.call('chamade_inbox', { wait: 55 })
    await eventually(() => simulator.agents[0]?.inbox.waiting === 1)
    simulator.publish({ type: 'dm', from: 'Alice', text: 'wake up' })
    expect(resultOf(await waiting).events).toHaveLength(1)
    await agent.close()
  })

  it('is what an independent client expects of a stateless server', async () => {
    const simulator = await start()
    const client = new Client({ name: 'plain', version: '1' })
    const transport = new StreamableHTTPClientTransport(new URL(simulator.mcpUrl), {
      requestInit: { headers: { authorization: `Bearer ${simulator.key}` } },
    })
    await client.connect(transport as Parameters<Client['connect']>[0])
    expect(transport.sessionId).toBeUndefined()
    await client.ping()
    await client.close()
  })
})

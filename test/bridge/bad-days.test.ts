/** Bad days: what the client sees when the key, the address or the server is wrong. The process lives on. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BridgeProcess, bin, collectingNode, type Reply } from '../support/bridge-process.ts'
import { emptyFolder } from '../support/empty-folder.ts'
import { eventually, pause } from '../support/eventually.ts'
import { initialize } from '../support/messages.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { patience, stateful } from '../support/settings.ts'

const key = 'chmd_test_0123456789abcdef'

async function tryInitialize(bridge: BridgeProcess, withinMs = 5_000): Promise<Reply> {
  bridge.send(initialize())
  return await bridge.reply(0, withinMs)
}

/** A server that lets in only the bearer of `good.key`. */
async function guarded(status = 401, headers: Record<string, string> = { 'www-authenticate': 'Bearer' }) {
  const server = await ScriptedServer.start()
  const good = { key }
  server.before((x) =>
    x.request.headers.authorization === `Bearer ${good.key}`
      ? false
      : x.reply(status, 'Unauthorized', headers),
  )
  return { server, good }
}

describe('the key', () => {
  test('from CHAMADE_API_KEY: sent as a bearer on every request, never printed', async () => {
    const { server } = await guarded()
    const bridge = await BridgeProcess.listening(server, {
      env: { CHAMADE_API_KEY: key },
      args: ['--stateful', '--log-level', 'debug'],
    })
    await bridge.call('tools/list')
    bridge.eof()
    await bridge.gone()
    expect(server.requests.every((each) => each.headers.authorization === `Bearer ${key}`)).toBe(true)
    expect(bridge.stderr + bridge.lines.join('\n')).not.toContain(key)
  })

  test.each([401, 403])(
    'missing, %d: an error that says it is the key and how to set it; the process lives on',
    async (status) => {
      const { server } = await guarded(status)
      const bridge = BridgeProcess.start(server.url)
      const reply = await tryInitialize(bridge)
      expect(reply.error?.data?.code).toBe('KEY_MISSING')
      expect(reply.error?.message).toContain('CHAMADE_API_KEY')
      bridge.send(initialize(1))
      expect((await bridge.reply(1)).error?.data?.code).toBe('KEY_MISSING')
    },
  )

  test.each([401, 403])(
    'refused, %d: an error that says whose key it was, without the key',
    async (status) => {
      const { server } = await guarded(status)
      const wrong = 'chmd_wrong_0123456789'
      const bridge = BridgeProcess.start(server.url, {
        env: { CHAMADE_API_KEY: wrong },
        args: ['--log-level', 'debug'],
      })
      const reply = await tryInitialize(bridge)
      expect(reply.error?.data?.code).toBe('KEY_REFUSED')
      expect(reply.error?.message).toContain('CHAMADE_API_KEY')
      // (What stands in the entry as it is, a client may cut out of what it shows.)
      expect(reply.error?.message).toMatch(/^127\.0\.0\.1:\d+\/mcp refused/)
      expect(bridge.stderr + bridge.lines.join('\n')).not.toContain(wrong)
    },
  )

  test('refused for a while, and taken again: the session is the same, the next call is answered', async () => {
    const { server, good } = await guarded()
    const bridge = await BridgeProcess.listening(server, {
      env: { CHAMADE_API_KEY: key },
      args: ['--stateful'],
    })
    good.key = 'chmd_another_0123456789'
    const { session } = server
    session.push.cut()
    await eventually(
      'it is asked whether it begins sessions',
      () => server.posts('initialize').length > 1,
      8_000,
    )
    expect((await bridge.call('tools/call')).error?.data?.code).toBe('KEY_REFUSED')
    good.key = key
    expect((await bridge.call('tools/call')).result).toBeDefined()
    expect(session.endedBy).toBeUndefined()
  })

  test('not what a 403 is about that a server explains (a Host that it does not take): its own words', async () => {
    const server = await ScriptedServer.start()
    server.before((x) => x.error(-32000, 'Invalid Host: mcp.example', 403) ?? true)
    const { error } = await tryInitialize(BridgeProcess.start(server.url))
    expect(error?.message).toContain('Invalid Host: mcp.example')
    expect(error?.message).not.toContain('API key')
    const keyed = BridgeProcess.start(server.url, { env: { CHAMADE_API_KEY: 'chmd_0123456789' } })
    const refused = (await tryInitialize(keyed)).error
    expect(refused?.data?.code).toBe('KEY_REFUSED')
    expect(refused?.message).toContain('Invalid Host: mcp.example')
  })

  test('refused, and it was that of a file: the hint is not a variable that the file wins over', async () => {
    const { server } = await guarded()
    const path = join(emptyFolder(), 'key')
    writeFileSync(path, 'wrong_0123456789')
    const { error } = await tryInitialize(BridgeProcess.start(server.url, { args: ['--api-key-file', path] }))
    expect(error?.data?.code).toBe('KEY_REFUSED')
    expect(error?.message).toMatch(
      /refused the API key from the file .*\. Try: put .* there; it is read again/,
    )
    expect(error?.message).not.toContain('CHAMADE_API_KEY')
  })

  test('refused, and it was a header of another name: the error says which', async () => {
    const { server } = await guarded()
    const bridge = BridgeProcess.start(server.url, { args: ['--header', 'X-API-Key: wrong_0123456789'] })
    const { error } = await tryInitialize(bridge)
    expect(error?.data?.code).toBe('KEY_REFUSED')
    expect(error?.message).toMatch(/the API key from --header x-api-key \(HTTP 401: Unauthorized\)/)
  })

  test.each(['${CHAMADE_API_KEY}', '$CHAMADE_API_KEY'])(
    'the literal %s: said to be an unset variable, and not sent',
    async (literal) => {
      const { server } = await guarded()
      const bridge = BridgeProcess.start(server.url, { env: { CHAMADE_API_KEY: literal } })
      const { error } = await tryInitialize(bridge)
      expect(error?.data?.code).toBe('KEY_MISSING')
      expect(error?.message).toContain(`is the literal text ${literal}: the variable is not set`)
      // (Not "set it in the entry": it is named there. Claude Code shows each value of `env` as "[redacted]".)
      expect(error?.message).toMatch(
        /Try: set CHAMADE_API_KEY where you start the client, then start it again$/,
      )
      expect(server.requests.every((each) => each.headers.authorization === undefined)).toBe(true)
    },
  )

  test('"Bearer" and an empty variable: said that none is set, and not sent', async () => {
    const { server } = await guarded()
    const { error } = await tryInitialize(
      BridgeProcess.start(server.url, { env: { CHAMADE_API_KEY: 'Bearer ' } }),
    )
    expect(error?.data?.code).toBe('KEY_MISSING')
    expect(server.requests.every((each) => each.headers.authorization === undefined)).toBe(true)
  })

  test('the placeholder that init writes: said to stand there still, and not sent', async () => {
    const { server } = await guarded()
    const bridge = BridgeProcess.start(server.url, { env: { CHAMADE_API_KEY: 'put-your-key-here' } })
    const { error } = await tryInitialize(bridge)
    expect(error?.data?.code).toBe('KEY_MISSING')
    expect(error?.message).toContain('CHAMADE_API_KEY still says put-your-key-here')
    expect(error?.message).toMatch(/Try: put your key there, then restart the client$/)
    expect(server.requests.every((each) => each.headers.authorization === undefined)).toBe(true)
  })

  test.each([401, 403])(
    'from a file: read again on %i, so that a rotated key works without a restart',
    async (status) => {
      const { server, good } = await guarded(status)
      const path = join(emptyFolder(), 'key')
      writeFileSync(path, `${key}\n`)
      const bridge = await BridgeProcess.connected(server.url, { args: ['--api-key-file', path] })
      await bridge.call('ping')
      good.key = 'chmd_rotated_0123456789'
      writeFileSync(path, good.key)
      expect((await bridge.call('tools/call')).error).toBeUndefined()
      expect(server.posts('tools/call')).toHaveLength(2)
    },
  )

  test('from a file: a call that was refused with the old one is sent with the new one that another has read', async () => {
    const path = join(emptyFolder(), 'key')
    let good = 'old_key_0123456789'
    writeFileSync(path, good)
    const server = await ScriptedServer.start()
    const refusals: (() => void)[] = []
    server.before((x) => {
      if (x.request.headers.authorization === `Bearer ${good}`) return false
      if (x.rpc.method !== 'tools/call') return x.reply(401)
      refusals.push(() => x.reply(401))
      return true
    })
    const bridge = await BridgeProcess.connected(server.url, { args: ['--api-key-file', path] })
    await bridge.call('ping')
    good = 'new_key_0123456789'
    writeFileSync(path, good)
    const ids = [bridge.ask('tools/call'), bridge.ask('tools/call')]
    await eventually('both calls', () => refusals.length === 2)
    refusals[0]?.()
    await bridge.waitFor('the first answer', () => ids.some((id) => bridge.answersTo(id).length > 0))
    refusals[1]?.()
    for (const id of ids) expect((await bridge.reply(id)).error).toBeUndefined()
  })

  test('a --header wins over it; ${ENV} in it is expanded and never printed', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url, {
      // (A line break behind it, as files of secrets have: no part of a header, [RFC 9110 §5.5].)
      env: { CHAMADE_API_KEY: key, TOKEN: 'tok_0123456789\n' },
      args: [
        '--header',
        'Authorization: Bearer ${TOKEN}',
        '--header',
        'X-Team: blue',
        '--log-level',
        'debug',
      ],
    })
    await bridge.call('ping')
    for (const each of server.requests) {
      expect(each.headers.authorization).toBe('Bearer tok_0123456789')
      expect(each.headers['x-team']).toBe('blue')
    }
    expect(bridge.stderr + bridge.lines.join('\n')).not.toContain('tok_0123456789')
  })

  test('refused for a while: a call works as soon as the server lets us in again, without a push stream too', async () => {
    const server = await ScriptedServer.start()
    const bridge = BridgeProcess.start(server.url)
    await bridge.call('tools/list')
    server.wipe()
    const open = server.before((x) => x.rpc.method === 'initialize' && x.reply(401))
    expect((await bridge.call('tools/call')).error?.data?.code).toBe('KEY_MISSING')
    open()
    await eventually('a result', async () => (await bridge.call('tools/call')).error === undefined, 3_000)
  })

  test('a 401 with resource_metadata and no key: OAuth, not supported yet', async () => {
    const { server } = await guarded(401, {
      'www-authenticate': 'Bearer resource_metadata="https://x.example/.well-known/oauth-protected-resource"',
    })
    const reply = await tryInitialize(BridgeProcess.start(server.url))
    expect(reply.error?.data?.code).toBe('OAUTH_UNSUPPORTED')
  })

  test('CHAMADE_API_KEY stays here when --url names a stranger, and a warning says so', async () => {
    const bridge = BridgeProcess.start('https://stranger.invalid/mcp', {
      env: { CHAMADE_API_KEY: key },
      args: patience(100),
    })
    await bridge.waitFor('the warning', () => bridge.stderr.includes('stranger.invalid'))
    expect(bridge.stderr).toMatch(/--header|--api-key-file/)
    expect(bridge.stderr).not.toContain(key)
  })

  test('plain http beyond this machine with a credential: exit 2 before the first byte; --allow-http allows it', async () => {
    const header = ['--header', 'Authorization: Bearer abcdefgh']
    const refused = BridgeProcess.start('http://stranger.invalid/mcp', { args: header })
    expect((await refused.gone()).code).toBe(2)
    expect(refused.stderr).toContain('--allow-http')
    expect(refused.lines).toEqual([])
    const allowed = BridgeProcess.start('http://stranger.invalid/mcp', {
      args: [...header, '--allow-http', ...patience(100)],
    })
    expect((await tryInitialize(allowed)).error?.data?.code).toBe('SERVER_UNREACHABLE')
  })

  test('a token in the query is a credential too', async () => {
    const refused = BridgeProcess.start('http://stranger.invalid/mcp?token=tok_9876543210')
    expect((await refused.gone()).code).toBe(2)
    expect(refused.stderr).toContain('--allow-http')
    expect(refused.stderr).not.toContain('tok_9876543210')
  })

  test('the scheme of an Authorization is no secret: it stays readable where it is quoted', async () => {
    const server = await ScriptedServer.start()
    server.before((x) => x.reply(401, 'Token is not ApiKey: t0k_0123456789'))
    const args = ['--header', 'Authorization: Token t0k_0123456789']
    const { error } = await tryInitialize(BridgeProcess.start(server.url, { args }))
    expect(error?.message).toContain('Token is not ApiKey: [redacted]')
  })

  test('a server that echoes key, session id or query in its error page: none of them is repeated', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(`${server.url}?token=tok_9876543210`, {
      env: { CHAMADE_API_KEY: key },
      args: ['--stateful', '--log-level', 'debug'],
    })
    await eventually('the push stream', () => server.listening())
    const { id } = server.session
    const echo = `<html>you sent ${key} in ${id} to ?token=tok_9876543210</html>`
    server.on('tools/call', (x) => x.reply(501, echo, { 'content-type': 'text/html' }))
    server.on('notifications/x', (x) => x.reply(501, echo, { 'content-type': 'text/html' }))
    const reply = await bridge.call('tools/call')
    expect(reply.error?.message).toContain('you sent')
    bridge.notify('notifications/x')
    await bridge.waitFor('the line on stderr', () => bridge.stderr.includes('notifications/x'))
    for (const secret of [key, id, 'tok_9876543210']) {
      expect(bridge.stderr + bridge.lines.join('\n')).not.toContain(secret)
    }
  })

  test('a session id and the tokens of a query appear in no log and no error', async () => {
    const server = await ScriptedServer.start()
    const url = `${server.url}?token=tok_9876543210&x=1`
    const bridge = await BridgeProcess.connected(url, {
      args: ['--stateful', '--log-level', 'debug', ...patience(300)],
    })
    await eventually('the push stream', () => server.listening())
    const session = server.session.id
    await server.restart(50)
    await eventually('the next session', () => server.listening(), 8_000)
    const second = server.session.id
    await server.down()
    await bridge.call('tools/call', {}, 6_000)
    for (const secret of [session, second, 'tok_9876543210']) {
      expect(bridge.stderr + bridge.lines.join('\n')).not.toContain(secret)
    }
    expect(bridge.stderr).not.toBe('')
    expect(server.requests.every((each) => each.url === '/mcp?token=tok_9876543210&x=1&stateful')).toBe(true)
  })
})

describe('the address', () => {
  test.each([
    ['?stateful', '?stateful'],
    ['?stateful=yes&a=1', '?stateful=yes&a=1'],
    ['?a=%20+b&c', '?a=%20+b&c&stateful'],
    ['', '?stateful'],
  ])('--stateful on %j asks for %j: the key once, the rest byte for byte', async (query, expected) => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(`${server.url}${query}`, stateful)
    await bridge.call('ping')
    expect(new Set(server.requests.map((each) => each.url))).toEqual(new Set([`/mcp${expected}`]))
  })

  test('CHAMADE_MCP_URL and a positional URL name it too; --stateful has its twin', async () => {
    const server = await ScriptedServer.start()
    const byEnv = BridgeProcess.start(undefined, {
      env: { CHAMADE_MCP_URL: server.url, CHAMADE_STATEFUL: '1' },
    })
    await byEnv.handshake()
    expect(server.requests[0]?.url).toBe('/mcp?stateful')
    const positional = BridgeProcess.start(undefined, { args: [`${server.url}?p`] })
    await positional.handshake()
    expect(server.posts('initialize').at(-1)?.url).toBe('/mcp?p')
  })

  test.each([
    ['a refused port', () => 'http://127.0.0.1:1/mcp', /127\.0\.0\.1:1.*ECONNREFUSED/],
    [
      'an unknown host',
      () => 'http://no-such-host.invalid/mcp',
      /no-such-host\.invalid.*(ENOTFOUND|EAI_AGAIN)/,
    ],
    [
      'no TLS where TLS was asked for',
      (s: ScriptedServer) => s.url.replace('http:', 'https:'),
      /127\.0\.0\.1.*(SSL|TLS|EPROTO|wrong version)/i,
    ],
  ])(
    '%s at the start: an error naming host and cause, after the patience; the process lives on',
    async (_, url, text) => {
      const server = await ScriptedServer.start()
      const bridge = BridgeProcess.start(url(server), { args: patience(500) })
      const at = performance.now()
      const reply = await tryInitialize(bridge)
      expect(performance.now() - at).toBeGreaterThan(400)
      expect(reply.error?.message).toMatch(text)
      expect(reply.error?.message).not.toContain(url(server))
      expect(reply.error?.message).toMatch(/connect again \(Claude Code: \/mcp, Reconnect\)$/)
      await pause(50)
      expect(bridge.exit).toBeUndefined()
      bridge.send({ jsonrpc: '2.0', id: 'p', method: 'server/discover' })
      expect((await bridge.reply('p')).error?.code).toBe(-32601)
    },
  )

  test('a server that comes up within the patience: initialize is answered as if nothing had been', async () => {
    const server = await ScriptedServer.start()
    await server.down()
    const bridge = BridgeProcess.start(server.url)
    bridge.send(initialize())
    await pause(300)
    expect(bridge.lines).toEqual([])
    await server.up()
    expect((await bridge.reply(0, 10_000)).result).toBeDefined()
  })

  test('a server that comes up after the patience: the next initialize works', async () => {
    const server = await ScriptedServer.start()
    await server.down()
    const bridge = BridgeProcess.start(server.url, { args: patience(200) })
    expect((await tryInitialize(bridge)).error?.data?.code).toBe('SERVER_UNREACHABLE')
    await server.up()
    bridge.send(initialize(1))
    expect((await bridge.reply(1)).result).toBeDefined()
  })

  test('a server that accepts and never answers initialize: an error after the patience', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', () => {})
    const bridge = BridgeProcess.start(server.url, { args: patience(700) })
    const reply = await tryInitialize(bridge, 4_000)
    expect(reply.error?.data?.code).toBe('SERVER_UNREACHABLE')
  })

  test('the patience ends though the garbage collector runs: a limit is held by somebody', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', () => {})
    const bridge = BridgeProcess.start(server.url, {
      command: [...collectingNode, bin],
      args: patience(2_000),
    })
    const reply = await tryInitialize(bridge, 6_000)
    expect(reply.error?.data?.code).toBe('SERVER_UNREACHABLE')
  })

  test('a server that comes up just before the patience ends is in time', async () => {
    const server = await ScriptedServer.start()
    await server.down()
    const bridges = [...Array(8)].map(() => BridgeProcess.start(server.url, { args: patience(1_500) }))
    const replies = Promise.all(bridges.map((bridge) => tryInitialize(bridge)))
    await pause(1_100)
    await server.up()
    for (const reply of await replies) expect(reply.error).toBeUndefined()
  })

  test('404 without a session: no MCP endpoint at URL, no loop', async () => {
    const server = await ScriptedServer.start()
    const bridge = BridgeProcess.start(`${server.origin}/wrong`)
    const reply = await tryInitialize(bridge)
    expect(reply.error?.data?.code).toBe('NO_ENDPOINT')
    expect(reply.error?.message).toContain(`no MCP endpoint at ${new URL(server.origin).host}/wrong`)
    await pause(300)
    expect(server.requests).toHaveLength(1)
  })

  test.each([400, 404, 405])('%d to the first initialize mentions the old transport', async (status) => {
    const server = await ScriptedServer.start()
    server.on('initialize', (x) => x.reply(status, 'nope', { 'content-type': 'text/plain' }))
    const reply = await tryInitialize(BridgeProcess.start(server.url))
    expect(reply.error?.message).toMatch(/2024-11-05|HTTP\+SSE/)
  })

  test('a server that refuses initialize with its own error: the client gets it', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', (x) => x.error(-32602, 'Unsupported protocol version', 400))
    const reply = await tryInitialize(BridgeProcess.start(server.url))
    expect(reply.error).toEqual({ code: -32602, message: 'Unsupported protocol version' })
  })
})

describe('redirects', () => {
  test.each([301, 302, 307, 308])(
    '%d inside the origin: method, body and headers are kept',
    async (status) => {
      const server = await ScriptedServer.start({ path: '/new' })
      server.before((x) =>
        x.request.url.startsWith('/old')
          ? x.reply(status, '', { location: `/new${x.request.url.slice(4)}` })
          : false,
      )
      const bridge = await BridgeProcess.connected(`${server.origin}/old?q=1`, stateful)
      const line = '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"n":1.0}}'
      bridge.send(line)
      await bridge.reply(7)
      await eventually('the push stream', () => server.listening())
      const call = server.posts('tools/call').at(-1)
      expect(call?.url.startsWith('/new?q=1')).toBe(true)
      expect(call?.body.toString()).toBe(line)
      expect(call?.session).toBe(server.session.id)
    },
  )

  test('to another origin: an error naming the Location, and nothing is sent there', async () => {
    const other = await ScriptedServer.start()
    const server = await ScriptedServer.start()
    server.before((x) => x.reply(307, '', { location: `${other.url}?token=tok_secret` }))
    const bridge = BridgeProcess.start(server.url, { env: { CHAMADE_API_KEY: key } })
    const reply = await tryInitialize(bridge)
    expect(reply.error?.data?.code).toBe('REDIRECT_REFUSED')
    expect(reply.error?.message).toContain(other.url)
    expect(other.requests).toEqual([])
    expect(server.requests).toHaveLength(1)
    expect(bridge.stderr + bridge.lines.join('\n')).not.toContain('tok_secret')
  })

  test('to a page that says 503: the next call goes to the address it was told', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    const over = server.before((x) => {
      if (x.rpc.method !== 'tools/call') return false
      if (x.request.url === '/maintenance') return x.reply(503, 'soon')
      return x.reply(301, '', { location: '/maintenance' })
    })
    expect((await bridge.call('tools/call')).error).toBeDefined()
    over()
    expect((await bridge.call('tools/call')).error).toBeUndefined()
    expect(server.posts('tools/call').at(-1)?.url).toBe(server.path)
  })

  test('303: an error naming the Location', async () => {
    const server = await ScriptedServer.start()
    server.before((x) => x.reply(303, '', { location: '/elsewhere' }))
    const reply = await tryInitialize(BridgeProcess.start(server.url))
    expect(reply.error?.message).toContain('/elsewhere')
  })

  test('in a circle: an error, no loop', async () => {
    const server = await ScriptedServer.start()
    server.before((x) => x.reply(308, '', { location: '/mcp' }))
    const reply = await tryInitialize(BridgeProcess.start(server.url))
    expect(reply.error?.message).toMatch(/HTTP 308: more than 5 redirects, the last to \/mcp/)
    expect(server.requests.length).toBeLessThan(20)
  })
})

describe('configuration errors exit 2 before the first byte', () => {
  test.each([
    [['--url', 'nonsense']],
    [['--url', 'ftp://x/']],
    [['--url', 'https://user:pw@x.invalid/']],
    [['--header', 'no colon']],
    [['--header', 'X: ${NOT_SET_ANYWHERE}']],
    [['--api-key-file', '/no/such/file']],
    [['--log-level', 'loud']],
    [['--no-such-flag']],
    [['--patience', 'soon']],
  ])('%j', async (args) => {
    const bridge = BridgeProcess.start(undefined, { args })
    expect((await bridge.gone()).code).toBe(2)
    expect(bridge.stderr).toMatch(/error:/)
    expect(bridge.lines).toEqual([])
    expect(bridge.stderr).not.toMatch(/\n\s+at /)
  })
})

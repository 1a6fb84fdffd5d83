/**
 * A key planted everywhere, by a server that repeats all it is told: no output at any level holds it, and what
 * only looks like one is left as it is.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { SESSIONS_KNOWN } from '../../src/status.ts'
import { BridgeProcess } from '../support/bridge-process.ts'
import { emptyFolder } from '../support/empty-folder.ts'
import { eventually } from '../support/eventually.ts'
import { heard, notification } from '../support/messages.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'
import { patience } from '../support/settings.ts'

const KEY = 'chmd_planted0123456789'
const HEADER = 'planted-header-value-42'
const TOKEN = 'planted-query-token-77'
const levels = ['error', 'warn', 'info', 'debug'].flatMap((level) =>
  ['text', 'json'].map((format) => [level, format] as const),
)

test('half a key is none that an error page shows, wherever it is cut', async () => {
  const server = await ScriptedServer.start()
  let pad = 0
  server.on('a/page', (x) =>
    x.reply(500, `<p>${'y'.repeat(pad)} ${KEY}</p>`, { 'content-type': 'text/html' }),
  )
  const bridge = await BridgeProcess.connected(server.url, { env: { CHAMADE_API_KEY: KEY } })
  for (pad = 270; pad < 300; pad++) {
    expect((await bridge.call('a/page')).error?.message).not.toContain(KEY.slice(0, 5))
  }
})

test('nor is one in the path of a redirect', async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.connected(server.url, { env: { CHAMADE_API_KEY: KEY } })
  server.before((x) => x.reply(307, '', { location: `/auth/${KEY}/loop` }))
  expect((await bridge.call('a/loop')).error?.message).toMatch(
    /more than 5 redirects, the last to \/auth\/\[/,
  )
  server.before((x) => x.reply(302, '', { location: `https://elsewhere.example/${KEY}` }))
  await bridge.call('a/away')
  expect(bridge.lines.join('\n')).not.toContain(KEY)
})

test('nor is the id of the session, though the server names another with every answer', async () => {
  const server = await ScriptedServer.start()
  let last = ''
  server.on('tools/call', (x) => {
    last = `passing-${randomUUID()}`
    x.result({}, { 'mcp-session-id': last })
  })
  const bridge = await BridgeProcess.connected(server.url)
  for (let n = 0; n < 2 * SESSIONS_KNOWN; n++) await bridge.call('tools/call')
  server.on('a/page', (x) => x.reply(400, `no ${x.request.session} and no ${last}`))
  expect((await bridge.call('a/page')).error?.message).toMatch(/: no \[redacted\] and no \[redacted\]$/)
})

test.each(levels)('--log-level %s --log-format %s', async (level, format) => {
  const log = join(emptyFolder(), 'log')
  const server = await ScriptedServer.start()
  const echo = `${KEY} ${HEADER} ${TOKEN}`
  let streams = 0
  const html = { 'content-type': 'text/html' }
  const faults: Record<string, (x: Exchange) => void> = {
    'GET 1': (x) => x.reply(400, `<html>no ${echo} ${x.request.session}</html>`, html),
    'GET 2': (x) => x.reply(503, `later ${echo}`),
    'a/json': (x) => x.error(-32602, `bad ${echo}`, 400),
    'a/page': (x) => x.reply(500, `<p>${echo}</p>`, html),
    'a/moved': (x) => x.reply(302, '', { location: `https://elsewhere.example/x?t=${KEY}` }),
    'a/key': (x) => x.reply(401, `not with ${echo}`),
    'a/html': (x) => x.reply(200, `<b>${echo}</b>`, html),
  }
  server.before((x) => {
    const fault = faults[x.request.method === 'GET' ? `GET ${++streams}` : (x.rpc.method ?? '')]
    fault?.(x)
    return fault !== undefined
  })
  const bridge = await BridgeProcess.connected(`${server.url}?token=${TOKEN}`, {
    args: [
      '--header',
      `X-Planted: ${HEADER}`,
      '--log-level',
      level,
      '--log-format',
      format,
      '--log-file',
      log,
    ],
    env: { CHAMADE_API_KEY: KEY },
  })
  for (const method of ['a/json', 'a/page', 'a/moved', 'a/key', 'a/html']) {
    expect((await bridge.call(method)).error, method).toBeDefined()
  }
  await eventually('the third stream', () => streams >= 3)
  const id = server.session.id
  bridge.eof()
  await bridge.gone()
  expect(server.requests[0]?.headers.authorization).toBe(`Bearer ${KEY}`)
  expect(server.requests[0]?.headers['x-planted']).toBe(HEADER)
  const outputs = `${bridge.lines.join('\n')}\n${bridge.stderr}\n${readFileSync(log, 'utf8')}`
  for (const secret of [KEY, HEADER, TOKEN, id]) expect(outputs).not.toContain(secret)
})

describe('an error of the server that repeats a secret', () => {
  const TICKET = 'tick/et+0123456789=='

  test('loses it from strings, names and numbers, and nothing else changes', async () => {
    const server = await ScriptedServer.start()
    const error = (secret: string, number: string) =>
      `{"code":-32000,"message":"no ${secret}: 1\\/2","data":{"${secret}":1.0,"at":${number},"big":12345678901234567890,"a":1,"a":2}}`
    server.on('a/json', (x) =>
      x.json(
        `{"jsonrpc":"2.0","id":${x.rpc.id},"error":${error(TICKET.replaceAll('/', '\\/'), '4711004711')}}`,
        400,
      ),
    )
    const bridge = await BridgeProcess.connected(server.url, {
      args: ['--header', `X-Ticket: ${TICKET}`, '--header', 'X-Number: 4711004711'],
    })
    await bridge.call('a/json')
    expect(String(bridge.lines.at(-1))).toContain(error('[redacted]', '"[redacted]"').replace('1\\/2', '1/2'))
  })

  test.each([
    ['a cookie', 'Cookie: theme=dark; sid=cookie-0123456789', 'cookie-0123456789'],
    ['a field of a signature', 'X-Signature: t=1,v1=signature0123456789', 'signature0123456789'],
    [
      'the password of Basic',
      `Authorization: Basic ${btoa('user:pass:word0123456789')}`,
      'pass:word0123456789',
    ],
  ])('loses %s', async (_, header, secret) => {
    const server = await ScriptedServer.start()
    server.on('a/json', (x) => x.error(-32602, `bad ${secret} `, 400))
    const bridge = await BridgeProcess.connected(server.url, { args: ['--header', header] })
    expect((await bridge.call('a/json')).error?.message).toBe('bad [redacted] ')
  })

  test('to the initialize of a renewal loses it too, and is not told at any length', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url, {
      args: patience(1_000),
      env: { CHAMADE_API_KEY: KEY },
    })
    server.on('initialize', (x) =>
      x.json(
        `{"jsonrpc":"2.0","id":${x.rpc.id},"error":{"code":-32000,"message":"no ${KEY} ${'y'.repeat(50_000)}"}}`,
      ),
    )
    server.wipe()
    const { error } = await bridge.call('tools/call')
    expect(error?.message).toMatch(/refused to initialize again: .*no \[redacted\] y+/)
    expect(error?.message.length).toBeLessThan(1_000)
    expect(bridge.stderr.length).toBeLessThan(5_000)
  })
})

describe('a secret in a mistaken command line', () => {
  test.each([
    [['mcp.example.com/mcp?token=TOPSECRET9']],
    [['ftp://h/x?token=TOPSECRET9']],
    [['user:TOPSECRET9@host/mcp']],
    [['--url', '//h?key=TOPSECRET9']],
    [['--api-key=TOPSECRET9']],
    [['--header', 'Authorization Bearer TOPSECRET9']],
    [['--header', 'Bearer TOPSECRET9: x', 'https://mcp.example.com/mcp']],
  ])('is not repeated: %j', async (args) => {
    const bridge = BridgeProcess.start(undefined, { args: [...args, ...patience(100)] })
    expect((await bridge.gone()).code).toBe(2)
    expect(bridge.stderr).toMatch(/^error: .*\ntry: /)
    expect(bridge.stderr).not.toContain('TOPSECRET9')
  })
})

describe('a value of the configuration that is an everyday word', () => {
  const refusal = {
    jsonrpc: '2.0',
    id: null,
    error: { code: -32602, message: 'bad', data: { retry: true } },
  }

  test('the error of the server arrives with its code and its data', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) =>
      x.json(`{"jsonrpc":"2.0","id":${x.rpc.id},"error":${JSON.stringify(refusal.error)}}`, 400),
    )
    const bridge = await BridgeProcess.connected(server.url, { args: ['--header', 'X-Debug: true'] })
    expect((await bridge.call('tools/call')).error).toEqual(refusal.error)
  })

  test('the push stream outlives a refusal that contains it', async () => {
    const server = await ScriptedServer.start()
    let refused = 0
    server.before((x) => x.request.method === 'GET' && refused++ === 0 && x.json(refusal, 400))
    const bridge = await BridgeProcess.connected(`${server.url}?stateful=true`)
    await eventually('a push stream', () => server.listening())
    server.push(notification(1))
    await bridge.waitFor('the push', () => heard(bridge).length === 1)
    expect(bridge.stderr).not.toContain('internal')
  })

  test('every line of the JSON log is JSON', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(`${server.url}?x=true&y=push`, {
      args: ['--log-format', 'json', '--log-level', 'debug'],
    })
    await eventually('a push stream', () => server.listening())
    await bridge.waitFor('its line', () => bridge.stderr.includes('push'))
    bridge.eof()
    await bridge.gone()
    const lines = bridge.stderr.trim().split('\n')
    expect(lines.length).toBeGreaterThan(2)
    for (const line of lines) {
      const { at } = JSON.parse(line) as { readonly at: unknown }
      expect(at).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
    }
  })
})

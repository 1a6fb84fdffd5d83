/**
 * `chamade-mcp call` and `tools`: one tool from the shell.
 */
import fs from 'node:fs'
import { dirname, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { describe, expect, onTestFinished, test } from 'vitest'
import { argumentsOf } from '../../src/commands/call.ts'
import type { Io } from '../../src/commands/command.ts'
import { configured as entriesHere } from '../../src/commands/doctor/entries.ts'
import { stdinText } from '../../src/commands/stdin.ts'
import { type Simulator, startSimulator } from '../../src/simulator/simulator.ts'
import { emptyFolder } from '../support/empty-folder.ts'
import { eventually } from '../support/eventually.ts'
import { type Exchange, ScriptedServer } from '../support/scripted-server.ts'
import { Cli, runCli } from './support.ts'

const KEY = 'chmd_call-test-key'
const env = { CHAMADE_API_KEY: KEY }

async function simulator(): Promise<Simulator> {
  const started = await startSimulator({ keys: [KEY] })
  onTestFinished(() => started.close())
  return started
}

describe('tools', () => {
  test('lists names and what they do', async () => {
    const { mcpUrl } = await simulator()
    const { code, stdout } = await runCli(['tools', '--url', mcpUrl], { env })
    expect(code).toBe(0)
    expect(stdout).toMatch(/^chamade_inbox +Reads new direct messages/m)
  })

  test('shows one with its parameters', async () => {
    const { mcpUrl } = await simulator()
    const { stdout } = await runCli(['tools', 'chamade_inbox', '--url', mcpUrl], { env })
    expect(stdout).toMatch(/^ {2}\[wait\] +integer +seconds to wait/m)
  })

  test('reads every page of a long list', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/list', (x) => {
      const at = Number(x.params.cursor ?? 0)
      const next = at < 2 ? { nextCursor: String(at + 1) } : {}
      x.result({ tools: [{ name: `tool_${at}`, inputSchema: { type: 'object' } }], ...next })
    })
    const { stdout } = await runCli(['tools', '--url', server.url, '--json'])
    expect(JSON.parse(stdout)).toMatchObject([{ name: 'tool_0' }, { name: 'tool_1' }, { name: 'tool_2' }])
  })
})

describe('call', () => {
  test('prints what the tool says and nothing else', async () => {
    const { mcpUrl } = await simulator()
    const { code, stdout, stderr } = await runCli(['call', 'chamade_inbox', 'wait=0', '--url', mcpUrl], {
      env,
    })
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ events: [] })
    expect(stderr).toBe('')
  })

  test('exits 1 when the tool reports an error, and prints it', async () => {
    const { mcpUrl } = await simulator()
    const { code, stdout } = await runCli(['call', 'chamade_dm_chat', 'text=hi', '--url', mcpUrl], { env })
    expect(code).toBe(1)
    expect(stdout).toContain('conversation_id')
  })

  test('takes --arguments from stdin', async () => {
    const { mcpUrl, agents } = await simulator()
    const input = JSON.stringify({ platform: 'discord', to: 'Alice', text: 'On my way' })
    const { code } = await runCli(['call', 'chamade_dm_chat', '--arguments', '-', '--url', mcpUrl], {
      env,
      input,
    })
    expect(code).toBe(0)
    expect(agents).toHaveLength(1)
  })

  test('waits for a stdin that stays open no longer than it may', async () => {
    const stdin = new PassThrough()
    const stop = new AbortController()
    const read = stdinText({ stdin, signal: stop.signal } as unknown as Io)
    stdin.write('{')
    stop.abort('SIGINT')
    await expect(read).rejects.toBe('SIGINT')
  })

  test('says how --arguments are written when they are no JSON object', async () => {
    const url = 'http://127.0.0.1:9/mcp'
    const hint = 'try: write one object, quoted for the shell: --arguments \'{"key": "value"}\'\n'
    const given = await runCli(['call', 'x', '--arguments', '{bad', '--url', url])
    expect(given).toEqual({ code: 2, stdout: '', stderr: `error: --arguments is no JSON\n${hint}` })
    const piped = await runCli(['call', 'x', '--arguments', '-', '--url', url], { input: '{bad' })
    expect(piped.stderr).toBe(`error: what --arguments read from stdin is no JSON\n${hint}`)
  })

  test('names the nearest tool for one that is not there', async () => {
    const { mcpUrl } = await simulator()
    const { code, stderr } = await runCli(['call', 'chamade_inbx', '--url', mcpUrl], { env })
    expect(code).toBe(2)
    expect(stderr).toBe('error: the server has no tool "chamade_inbx"\ntry: did you mean chamade_inbox?\n')
  })

  test('passes on a refusal of the server, exit 1', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.error(-32602, 'no such colour'))
    const { code, stderr } = await runCli(['call', 'echo', '--url', server.url])
    expect(code).toBe(1)
    expect(stderr).toContain('error: the server refused the call: no such colour (-32602)')
  })

  test('cancels the call after --timeout', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', () => undefined)
    const { code, stderr } = await runCli(['call', 'echo', '--timeout', '200ms', '--url', server.url])
    expect(code).toBe(1)
    expect(stderr).toBe(
      'error: echo did not answer within 200 ms; it was cancelled, and may have run\ntry: give it longer with --timeout\n',
    )
    await eventually('the cancellation', () => server.posts('notifications/cancelled').length === 1)
  })

  test.each([['initialize'], ['tools/list']])('--timeout ends the wait for %s too', async (method) => {
    const server = await ScriptedServer.start()
    server.on(method, () => undefined)
    const { code, stderr } = await runCli(['call', 'echo', '--timeout', '500ms', '--url', server.url])
    expect(stderr).toBe(
      `error: ${server.url} did not answer within 500 ms; nothing was run\ntry: give it longer with --timeout\n`,
    )
    expect(code).toBe(1)
  })

  test('what a server says in JSON is shown as it is: no page of which tags are cut', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', (x) => x.error(-32602, 'Map<string, string>, 3 < 5 and 7 > 6', 400))
    const { stderr } = await runCli(['tools', '--url', server.url])
    expect(stderr).toContain('Map<string, string>, 3 < 5 and 7 > 6')
  })

  test.each([['initialize'], ['tools/list']])('a refusal of %s is said as one', async (method) => {
    const server = await ScriptedServer.start()
    const message = 'no \u001b[31mway for Bearer chmd_said-again'
    server.on(method, (x) => x.error(-32602, message))
    for (const args of [
      ['tools'],
      ['call', 'echo'],
      ...(method === 'initialize' ? [['listen', '--for', '5s']] : []),
    ]) {
      const said = await runCli([...args, '--url', server.url], {
        env: { CHAMADE_API_KEY: 'chmd_said-again' },
      })
      expect(said.code).toBe(1)
      expect(said.stderr).toBe(
        `error: the server refused ${method}: no [31mway for Bearer [redacted] (-32602)\n`,
      )
    }
  })

  test.each([
    ['${TOKEN}', 't0ken-of-mine'],
    ['${env:TOKEN}', 't0ken-of-mine'],
    ['${env:NOWHERE:-other}', 'other'],
    ['${NOWHERE:-other}', 'other'],
    ['${env:NOWHERE}', undefined],
  ])('a header with %s is what the variable says, or nothing starts', async (value, sent) => {
    const server = await ScriptedServer.start()
    const args = ['tools', '--url', server.url, '--header', `Authorization: Bearer ${value}`]
    const { code, stderr } = await runCli(args, { env: { TOKEN: 't0ken-of-mine' } })
    const [first] = server.posts('initialize')
    expect(first?.headers.authorization).toBe(sent === undefined ? undefined : `Bearer ${sent}`)
    expect(code).toBe(sent === undefined ? 2 : 0)
    if (sent === undefined)
      expect(stderr).toContain('--header Authorization uses ${NOWHERE}, which is not set')
  })

  test.each([
    ['Authorization', 'Bearer ${TOKEN}', ''],
    ['Authorization', 'Bearer ${TOKEN}', ' \n'],
    ['Authorization', '${TOKEN}', ''],
    ['X-Api-Key', '${TOKEN}', ''],
    ['Authorization', 'Basic ', ''],
  ])(
    '--header %s: %j with TOKEN %j is without a key: it is said, and not sent',
    async (name, value, token) => {
      const server = await ScriptedServer.start()
      const args = ['tools', '--url', server.url, '--header', `${name}: ${value}`]
      const { code, stderr } = await runCli(args, { env: { TOKEN: token } })
      expect(server.requests).toEqual([])
      expect(code).toBe(2)
      expect(stderr).toMatch(new RegExp(`^error: --header ${name} is without a key\ntry: .*may be empty`))
    },
  )

  test('a header that is no key may be empty', async () => {
    const server = await ScriptedServer.start()
    const args = ['tools', '--url', server.url, '--header', 'X-Tenant: ${TENANT}']
    expect((await runCli(args, { env: { TENANT: '' } })).code).toBe(0)
    expect(server.posts('initialize')[0]?.headers['x-tenant']).toBe('')
  })

  test('a header that is refused is what is to be checked', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', (x) => x.error(-32000, 'who are you?', 401))
    const args = ['tools', '--url', server.url, '--header', 'Authorization: Bearer wr0ng-key']
    expect((await runCli(args)).stderr).toMatch(
      /refused the API key from --header .*\ntry: check that header/,
    )
  })

  test('--json gives tools as the server does', async () => {
    const server = await ScriptedServer.start()
    const tool = {
      name: 'echo',
      title: 'Echo',
      inputSchema: { type: 'object' },
      outputSchema: { type: 'object', properties: {} },
      annotations: { readOnlyHint: true },
      _meta: { 'example/x': [1] },
    }
    server.tools = [tool]
    for (const args of [[], ['echo']]) {
      const { stdout } = await runCli(['tools', ...args, '--json', '--url', server.url])
      expect(JSON.parse(stdout)).toEqual(args.length === 0 ? [tool] : tool)
    }
  })

  test('--json keeps the digits of a schema', async () => {
    const server = await ScriptedServer.start()
    const tool = '{"name":"echo","inputSchema":{"type":"object","maximum":12345678901234567890,"x":1.0}}'
    server.on('tools/list', (x) => x.result(`{"tools":[${tool}]}`))
    const { stdout } = await runCli(['tools', 'echo', '--json', '--url', server.url])
    expect(stdout.replaceAll(/\s/g, '')).toBe(tool)
    const all = await runCli(['tools', '--json', '--url', server.url])
    expect(all.stdout.replaceAll(/\s/g, '')).toBe(`[${tool}]`)
  })

  test('a list of tools whose pages go round ends', async () => {
    const server = await ScriptedServer.start()
    const page = (x: Exchange): string => ((x.params.cursor as string | undefined) === 'a' ? 'b' : 'a')
    server.on('tools/list', (x) => x.result({ tools: [{ name: 'echo' }], nextCursor: page(x) }))
    const { code, stdout } = await runCli(['tools', '--url', server.url])
    expect({ code, stdout: stdout.trim() }).toEqual({
      code: 0,
      stdout: expect.stringMatching(/^echo/) as string,
    })
  })

  test('a list of tools without an end is one', async () => {
    const server = await ScriptedServer.start()
    let page = 0
    server.on('tools/list', (x) => x.result({ tools: [], nextCursor: `${++page}` }))
    const { code, stderr } = await runCli(['tools', '--url', server.url])
    expect(stderr).toMatch(/^error: the server's list of tools has no end \(1000 pages\)\n/)
    expect(code).toBe(1)
  })

  test('no name of a tool steers the terminal', async () => {
    const server = await ScriptedServer.start()
    const properties = { 'p\u001b[1m': { type: 'x\u001b[2m' } }
    server.tools = [{ name: 'evil\u001b[31m', inputSchema: { type: 'object', properties } }]
    for (const name of ['evil\u001b[31m', 'evil', undefined]) {
      const args = name === undefined ? [] : [name]
      const { stdout, stderr } = await runCli(['tools', ...args, '--url', server.url])
      expect(stdout + stderr).toContain('evil[31m')
      expect(stdout + stderr).not.toContain('\u001b')
    }
  })

  test('ends its session when it is interrupted', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', () => undefined)
    const cli = new Cli(['call', 'echo', '--url', server.url])
    await eventually('the call is there', () => server.posts('tools/call').length === 1, 10_000)
    cli.child.kill('SIGINT')
    expect(await cli.ended).toEqual({ code: 130, stdout: '', stderr: '' })
    expect(server.of('DELETE')).toHaveLength(1)
  })

  test.each([[['tools']], [['call', 'echo']]])(
    '%j: is interrupted in the middle of its handshake',
    async (args) => {
      const server = await ScriptedServer.start()
      server.on('initialize', () => undefined)
      const cli = new Cli([...args, '--url', server.url])
      await eventually('it asks', () => server.posts('initialize').length === 1, 10_000)
      const at = performance.now()
      cli.child.kill('SIGINT')
      expect(await cli.ended).toEqual({ code: 130, stdout: '', stderr: '' })
      expect(performance.now() - at).toBeLessThan(5_000)
    },
  )

  test.each([[['tools']], [['call', 'echo']], [['listen']]])(
    '%j: says in time what it waits for, why, and for how long',
    async (args) => {
      const server = new ScriptedServer()
      await server.up()
      await server.down()
      const cli = new Cli([...args, '--url', server.url, '--patience', '20s'])
      const seen =
        /127\.0\.0\.1:\d+\/mcp could not be reached for .*: connect ECONNREFUSED .*; trying for 20 s/
      await eventually('it says so', () => seen.test(cli.stderr + cli.stdout), 5_000)
    },
  )

  test('says of a server that is silent that it has not answered, once', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', () => undefined)
    const { code, stderr } = await runCli(['tools', '--url', server.url, '--patience', '2s'])
    expect(code).toBe(1)
    expect(stderr).toMatch(
      /^\S+ warn session 1 opening: 127\S+ has not answered yet; trying for 2 s\nerror: .*\ntry: .*\n$/,
    )
  })

  test('shows blocks that are no text as what they are', async () => {
    const server = await ScriptedServer.start()
    const content = [
      { type: 'image', mimeType: 'image/png', data: Buffer.alloc(30).toString('base64') },
      { type: 'resource_link', uri: 'file:///a.txt', name: 'a' },
      { type: 'resource', resource: { uri: 'x:y', text: 'inside' } },
    ]
    server.on('tools/call', (x) => x.result({ content }))
    const { stdout } = await runCli(['call', 'echo', '--url', server.url])
    expect(stdout).toBe('[image, image/png, 30 bytes]\n[resource_link, file:///a.txt]\ninside\n')
  })
})

describe('arguments', () => {
  const tool = {
    name: 'paint',
    description: '',
    inputSchema: {
      type: 'object',
      additionalProperties: false,
      properties: {
        colour: { type: 'string' },
        coats: { type: 'integer' },
        gloss: { type: 'boolean' },
        rooms: { type: 'array', items: { type: 'string' } },
        extra: { type: 'object' },
      },
    },
  }

  test('become what the schema wants', () => {
    const pairs = ['colour=007', 'coats=2', 'gloss=true', 'rooms=hall,bath', 'extra={"a":1}']
    expect(argumentsOf(pairs, tool)).toEqual({
      colour: '"007"',
      coats: '2',
      gloss: 'true',
      rooms: '["hall","bath"]',
      extra: '{"a":1}',
    })
  })

  test('keep = and : in their values, and take := as JSON', () => {
    expect(argumentsOf(['colour=a=b:c', 'coats:=3', 'rooms:=["x"]'], tool)).toEqual({
      colour: '"a=b:c"',
      coats: '3',
      rooms: '["x"]',
    })
  })

  test.each([
    [{ anyOf: [{ type: 'integer' }, { type: 'null' }] }, '5', '5'],
    [{ anyOf: [{ type: 'integer' }, { type: 'null' }] }, 'null', 'null'],
    [{ type: ['number', 'boolean'] }, 'true', 'true'],
    [{ anyOf: [{ type: 'string' }, { type: 'null' }] }, '5', '"5"'],
    [{ enum: [1, 2] }, '2', '2'],
    [{ enum: ['a', 'b'] }, 'b', '"b"'],
    [{ type: 'array', items: { type: 'integer' } }, '1,2', '[1,2]'],
    [{ type: 'array', items: { enum: ['a', 'b'] } }, 'a,b', '["a","b"]'],
    [{ anyOf: [{ type: 'array', items: { type: 'integer' } }, { type: 'boolean' }] }, 'true', 'true'],
    [{}, '5', '"5"'],
  ])('are what a schema of several kinds wants: %j, %s', (schema, value, json) => {
    const one = { name: 'paint', description: '', inputSchema: { properties: { it: schema } } }
    expect(argumentsOf([`it=${value}`], one)).toEqual({ it: json })
  })

  test.each([
    [{ type: 'array', items: { type: 'string' } }, '[a,b', 'that is no JSON', 'quote it for the shell'],
    [{ type: 'array', items: { type: 'integer' } }, '1,x', 'that is no integer', 'write a number'],
    [{ type: ['null', 'integer'] }, 'x', 'that is no integer', 'write a number'],
    [{ type: ['null', 'boolean'] }, 'x', 'that is no boolean', 'write true or false'],
  ])(
    'that a schema of several values does not take are refused by name: %j, %s',
    (schema, value, text, hint) => {
      const one = { name: 'paint', description: '', inputSchema: { properties: { it: schema } } }
      expect(() => argumentsOf([`it=${value}`], one)).toThrow(
        expect.objectContaining({
          message: expect.stringContaining(text),
          hint: expect.stringContaining(hint),
        }),
      )
    },
  )

  test('come back with all their digits', async () => {
    const server = await ScriptedServer.start()
    server.tools = [{ name: 'echo', inputSchema: { type: 'object' } }]
    const structured = '{"id":12345678901234567890,"x":[1.0,{},[],[{"a:,\\"]":null}]]}'
    server.on('tools/call', (x) => x.result(`{"structuredContent":${structured}}`))
    const { stdout } = await runCli(['call', 'echo', '--url', server.url])
    const lines = JSON.stringify(JSON.parse(structured), undefined, 2)
    expect(stdout).toBe(
      `${lines.replace('12345678901234567000', '12345678901234567890').replace(/\b1,/, '1.0,')}\n`,
    )
    const whole = await runCli(['call', 'echo', '--json', '--url', server.url])
    expect(whole.stdout).toContain('"id": 12345678901234567890')
  })

  test('come back whole, however many escapes there are in them', async () => {
    const server = await ScriptedServer.start()
    server.tools = [{ name: 'echo', inputSchema: { type: 'object' } }]
    const text = 'x\n'.repeat(2_000_000)
    server.on('tools/call', (x) => x.result({ structuredContent: { text } }))
    const { stdout } = await runCli(['call', 'echo', '--url', server.url])
    expect(JSON.parse(stdout)).toEqual({ text })
  })

  test('reach the server with all their digits', async () => {
    const server = await ScriptedServer.start()
    server.tools = [{ name: 'echo', inputSchema: { type: 'object', properties: { n: { type: 'integer' } } } }]
    server.on('tools/call', (x) => x.result({ content: [] }))
    const args = ['n=12345678901234567890', 'id:=123456789012345678', '--arguments', '-']
    const input = '\ufeff{"big":98765432109876543210,"n":1}'
    const { code } = await runCli(['call', 'echo', ...args, '--url', server.url], { input })
    expect(code).toBe(0)
    expect(server.posts('tools/call')[0]?.body.toString()).toContain(
      '"arguments":{"big":98765432109876543210,"n":12345678901234567890,"id":123456789012345678}',
    )
  })

  test.each([
    [['colour'], '"colour" is no argument'],
    [['coats=many'], '"coats=many": that is no integer'],
    [['coats=1.5'], '"coats=1.5": that is no integer'],
    [['coats=Infinity'], '"coats=Infinity": that is no integer'],
    [['gloss=1'], '"gloss=1": that is no boolean'],
    [['extra={a}'], '"extra={a}": that is no JSON'],
    [['size=1'], 'paint has no parameter size'],
  ])('that cannot be meant are refused: %s', (pairs, text) => {
    expect(() => argumentsOf(pairs, tool)).toThrow(text)
  })
})

describe('--entry', () => {
  const { mkdirSync, realpathSync, writeFileSync } = fs

  function configured(entry: object, file = '.mcp.json', root = 'mcpServers'): string {
    const cwd = emptyFolder()
    mkdirSync(dirname(join(cwd, file)), { recursive: true })
    writeFileSync(join(cwd, file), JSON.stringify({ [root]: { chamade: entry } }))
    return cwd
  }
  const ours = { command: 'npx', args: ['-y', '@chamade/mcp-server@3', '--stateful'] }

  test('takes address and key from what init wrote, variables from the shell', async () => {
    const { mcpUrl } = await simulator()
    const cwd = emptyFolder()
    await runCli(['init', '--yes', '--url', mcpUrl], { cwd })
    const { code, stdout } = await runCli(['call', 'chamade_account', '--entry', 'chamade'], { cwd, env })
    expect(code).toBe(0)
    expect(stdout).not.toBe('')
    const without = await runCli(['call', 'chamade_account', '--entry', 'chamade'], { cwd })
    expect(without.code).toBe(1)
    expect(without.stderr).toContain('CHAMADE_API_KEY is the literal text ${CHAMADE_API_KEY}')
  })

  test('of an HTTP entry too, a header and an address given beside it count', async () => {
    const [there, here] = [await ScriptedServer.start(), await ScriptedServer.start()]
    const cwd = configured({ type: 'http', url: `${there.url}?stateful`, headers: { 'X-Own': '1' } })
    const args = ['tools', '--entry', 'chamade', '--header', 'X-Test: 2']
    expect((await runCli(args, { cwd })).code).toBe(0)
    expect(there.posts('tools/list')[0]?.headers).toMatchObject({ 'x-own': '1', 'x-test': '2' })
    expect((await runCli([...args, '--url', here.url], { cwd })).code).toBe(0)
    await runCli(['listen', here.url, '--entry', 'chamade', '--for', '300ms'], { cwd })
    expect(there.posts('initialize')).toHaveLength(1)
    expect(here.posts('initialize')).toHaveLength(2)
  })

  test('reads flags, a URL in the arguments, and HTTP entries', async () => {
    const { mcpUrl } = await simulator()
    const key = { CHAMADE_API_KEY: KEY }
    const header = { Authorization: 'Bearer ${env:CHAMADE_API_KEY}' }
    const folders = [
      configured({ ...ours, args: [...ours.args, '--url', mcpUrl], env: key }),
      configured({
        command: 'cmd',
        args: ['/c', 'npx', '-y', '@chamade/mcp-server@3', mcpUrl, '--stateful'],
        env: key,
      }),
      configured({ command: '/usr/bin/chamade-mcp', args: [mcpUrl, '--stateful'], env: key }),
      configured({
        ...ours,
        args: [...ours.args, '--hold', '5s', '--drop', 'event_type=x', mcpUrl],
        env: key,
      }),
      configured({
        command: 'npx',
        args: ['-p', '@chamade/mcp-server@3', 'chamade-mcp', '--log-level', 'debug', '--url', mcpUrl],
        env: key,
      }),
      configured({ url: `${mcpUrl}?stateful`, headers: header }, '.cursor/mcp.json'),
      configured({ ...ours, env: { ...key, CHAMADE_MCP_URL: mcpUrl } }, '.vscode/mcp.json', 'servers'),
    ]
    for (const cwd of folders) {
      const { code, stderr } = await runCli(['tools', '--entry', 'chamade'], { cwd, env })
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    }
  })

  test('finds what Claude Code starts in a folder of a project: the nearest above, and its own for the repository', async () => {
    const home = emptyFolder()
    const top = realpathSync(emptyFolder())
    const here = join(top, 'repository', 'packages', 'one')
    mkdirSync(here, { recursive: true })
    mkdirSync(join(top, 'repository', '.git'))
    const entry = (n: number): object => ({
      ...ours,
      args: [...ours.args, '--url', `http://127.0.0.1:${n}/`],
    })
    const file = (folder: string, mcpServers: object): void =>
      writeFileSync(join(folder, '.mcp.json'), JSON.stringify({ mcpServers }))
    file(top, { far: entry(1), both: entry(1), own: entry(1) })
    file(join(here, '..'), { both: entry(2) })
    const common = join(top, 'main', '.git')
    mkdirSync(join(common, 'worktrees', 'one'), { recursive: true })
    writeFileSync(join(common, 'worktrees', 'one', 'commondir'), '../..\n')
    const projects = {
      [join(top, 'repository')]: { mcpServers: { own: entry(3) } },
      [join(top, 'main')]: { mcpServers: { own: entry(5) } },
    }
    const mcpServers = { far: entry(4), own: entry(4), user: entry(4) }
    writeFileSync(join(home, '.claude.json'), JSON.stringify({ projects, mcpServers }))
    const place = { platform: process.platform, cwd: here, homedir: home, env: {} }
    const { entries } = await entriesHere(place)
    const first = (name: string): string => JSON.stringify(entries.find((each) => each.name === name)?.entry)
    expect(['far', 'both', 'own', 'user'].map((name) => /127\.0\.0\.1:(\d)/.exec(first(name))?.[1])).toEqual([
      '1',
      '2',
      '3',
      '4',
    ])
    expect(entries.filter(({ name }) => name === 'both')).toHaveLength(1)
    fs.rmSync(join(top, 'repository', '.git'), { recursive: true })
    writeFileSync(join(top, 'repository', '.git'), `gitdir: ${join(common, 'worktrees', 'one')}\n`)
    const inWorktree = (await entriesHere(place)).entries.find(({ name }) => name === 'own')
    expect(JSON.stringify(inWorktree?.entry)).toContain('127.0.0.1:5')
  })

  test('says that the entry has an option that there is not: with it nothing starts', async () => {
    const cwd = configured({ ...ours, args: ['-y', '@chamade/mcp-server@3', '--statful'] })
    const { code, stderr } = await runCli(['tools', '--entry', 'chamade'], { cwd })
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr:
        'error: the entry "chamade" does not start: unknown option --statful\ntry: npx -y @chamade/mcp-server@3 --help\n',
    })
  })

  test.each([
    [['--hold', 'abc'], {}, '--hold abc is no duration'],
    [['--drain', 'x'], {}, '--drain x is no duration'],
    [['--tool-timeout', 'x'], {}, '--tool-timeout x is no duration'],
    [['--only', 'foo'], {}, '--only "foo" has no "="'],
    [['--log-level', 'loud'], {}, '--log-level loud is not a level'],
    [['--log-file', '/nowhere/at/all.log'], {}, 'the log file /nowhere/at/all.log cannot be written'],
    [['--log-file', '.'], {}, 'the log file . cannot be written'],
    [[], { CHAMADE_GAP_INTERVAL: 'abc' }, 'CHAMADE_GAP_INTERVAL=abc is no duration'],
    [[], { CHAMADE_SILENT: 'maybe' }, 'CHAMADE_SILENT=maybe is neither yes nor no'],
    [['--url'], {}, '--url is without a value'],
    [['--stateful=yes'], {}, '--stateful takes no value'],
    [['http://127.0.0.1:1/', 'http://127.0.0.1:2/'], {}, 'it has too many arguments'],
  ])('says that the entry has a setting with which nothing starts: %j %j', async (args, more, text) => {
    const cwd = configured({ ...ours, args: [...ours.args, ...args], env: more })
    const { code, stderr } = await runCli(['tools', '--entry', 'chamade'], { cwd })
    expect(stderr).toMatch(/^error: the entry "chamade" does not start: .*\ntry: /)
    expect(stderr).toContain(text)
    expect(code).toBe(2)
    // The bridge itself, started so.
    expect((await runCli(args, { cwd, env: more })).code).toBe(2)
  })

  test('a log file in a folder that is not here may be where the client starts it', async () => {
    const server = await ScriptedServer.start()
    const cwd = configured({ ...ours, args: [...ours.args, server.url, '--log-file', 'logs/bridge.log'] })
    const { code, stderr } = await runCli(['tools', '--entry', 'chamade'], { cwd })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  })

  test('says of an entry of moot too that it has too many arguments', async () => {
    const env = { CONVO_API_KEY: 'convo_123456', CONVO_API_URL: 'http://127.0.0.1:1' }
    const cwd = configured({ ...ours, args: ['-y', '@chamade/mcp-server@3', 'moot', 'general'], env })
    const { code, stderr } = await runCli(['listen', '--entry', 'chamade', '--for', '50ms'], { cwd })
    expect(stderr).toContain('error: the entry "chamade" does not start: it has too many arguments\n')
    expect(code).toBe(2)
  })

  test('of several of one name it is the one that Claude Code starts: this folder, the project, the user', async () => {
    const cwd = realpathSync(emptyFolder())
    const at = (port: number) => ({
      chamade: { ...ours, env: { CHAMADE_MCP_URL: `http://127.0.0.1:${port}/` } },
    })
    const asked = async () => {
      const args = ['tools', '--entry', 'chamade', '--patience', '100ms']
      return /127\.0\.0\.1:(\d)/.exec((await runCli(args, { cwd, home: cwd })).stderr)?.[1]
    }
    const write = (file: string, value: object) => {
      mkdirSync(dirname(join(cwd, file)), { recursive: true })
      writeFileSync(join(cwd, file), JSON.stringify(value))
    }
    write('.cursor/mcp.json', { mcpServers: at(4) })
    expect(await asked()).toBe('4')
    write('.claude.json', { mcpServers: at(3) })
    expect(await asked()).toBe('3')
    write('.mcp.json', { mcpServers: at(2) })
    expect(await asked()).toBe('3')
    write('.claude/settings.local.json', { enableAllProjectMcpServers: true })
    expect(await asked()).toBe('2')
    write('.claude/settings.local.json', { disabledMcpjsonServers: ['chamade'] })
    expect(await asked()).toBe('3')
    write('.claude.json', { mcpServers: at(3), projects: { [cwd]: { mcpServers: at(1) } } })
    expect(await asked()).toBe('1')
  })

  test('follows the entry where the shell says otherwise, and a flag over both', async () => {
    const { mcpUrl } = await simulator()
    const cwd = configured({ ...ours, env: { CHAMADE_API_KEY: KEY, CHAMADE_MCP_URL: mcpUrl } })
    const elsewhere = { CHAMADE_MCP_URL: 'http://127.0.0.1:9/mcp' }
    const args = ['tools', '--entry', 'chamade', '--patience', '200ms']
    expect((await runCli(args, { cwd, env: elsewhere })).code).toBe(0)
    const { stderr } = await runCli([...args, '--url', 'http://127.0.0.1:1/mcp'], { cwd, env: elsewhere })
    expect(stderr).toContain('127.0.0.1:1')
  })

  test('names variables with and without a default, in the address, the arguments and the headers', async () => {
    const server = await ScriptedServer.start()
    const path = new URL(server.url).pathname
    const url = `\${SOMEWHERE:-http://127.0.0.1:9}${path}`
    const token = 'Bearer ${TOKEN:-other}'
    const shell = { SOMEWHERE: new URL(server.url).origin, TOKEN: 'my-token-1' }
    const folders = [
      configured({ type: 'http', url: `${url}?stateful`, headers: { Authorization: token } }),
      configured({ ...ours, args: [...ours.args, url, '--header', `Authorization: ${token}`] }),
    ]
    for (const cwd of folders) {
      server.requests.length = 0
      const { code, stderr } = await runCli(['tools', '--entry', 'chamade'], { cwd, env: shell })
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(server.requests[0]?.headers.authorization).toBe('Bearer my-token-1')
      await runCli(['tools', '--entry', 'chamade'], { cwd, env: { SOMEWHERE: shell.SOMEWHERE } })
      expect(server.requests.at(-1)?.headers.authorization).toBe('Bearer other')
    }
  })

  test('is followed in what the shell says too, but never in what a flag says', async () => {
    const server = await ScriptedServer.start()
    const cwd = configured({ ...ours, args: ours.args.slice(0, -1), env: { CHAMADE_MCP_URL: server.url } })
    const env = { CHAMADE_STATEFUL: '0' }
    await runCli(['tools', '--entry', 'chamade', '--stateful'], { cwd, env })
    expect(server.requests[0]?.url).toMatch(/\?stateful$/)
  })

  test('says which entries there are', async () => {
    const cwd = configured(ours)
    const { code, stderr } = await runCli(['tools', '--entry', 'nope'], { cwd })
    expect(code).toBe(2)
    expect(stderr).toBe('error: no client here has an entry "nope" for this server\ntry: there is chamade\n')
  })
})

/**
 * The command line itself: help, and what it says of settings that cannot be meant, by the name they were given.
 */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { withEnvironment } from '../../src/commands/command.ts'
import { SERVER_OPTIONS } from '../../src/options.ts'
import { bin } from '../support/bridge-process.ts'
import { emptyFolder } from '../support/empty-folder.ts'
import { eventually } from '../support/eventually.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { Cli, runCli } from './support.ts'

const COMMANDS = ['init', 'doctor', 'listen', 'tools', 'call', 'moot', 'simulate', 'emit']

describe('help', () => {
  test('as a word says what --help says', async () => {
    const [flag, word, twice] = await Promise.all(
      [['--help'], ['help'], ['help', 'help']].map((args) => runCli(args)),
    )
    expect(flag?.code).toBe(0)
    expect(flag?.stdout).toContain('help COMMAND')
    expect(word).toEqual(flag)
    expect(twice).toEqual(flag)
  })

  test.each(COMMANDS)('of %s, before it or behind it, says what --help says', async (name) => {
    const [flag, before, first, behind] = await Promise.all(
      [
        [name, '--help'],
        ['help', name],
        ['--help', name],
        [name, 'help'],
      ].map((args) => runCli(args)),
    )
    expect(flag?.code).toBe(0)
    expect(flag?.stdout).toContain(`Usage: npx -y @chamade/mcp-server@3 ${name} `)
    expect(before).toEqual(flag)
    expect(first).toEqual(flag)
    expect(behind).toEqual(flag)
  })

  test.each(['', ...COMMANDS])(
    'of "%s" has examples that run where npx is all that there is',
    async (name) => {
      const { stdout } = await runCli([...name.split(' ').filter(Boolean), '--help'])
      const examples = stdout.split('\nExamples:\n')[1]?.trimEnd().split('\n') ?? []
      expect(examples).not.toEqual([])
      for (const line of examples) {
        expect(line).toContain(' npx -y @chamade/mcp-server@3 ')
        expect(line).not.toContain('chamade-mcp')
      }
    },
  )

  test.each(COMMANDS)('of %s breaks no line where the next word had room', async (name) => {
    const { stdout } = await runCli([name, '--help'])
    const [, about = ''] = stdout.split('\n\nOptions:')[0]?.split(/\n\n([\s\S]*)/) ?? []
    for (const paragraph of about.split('\n\n').filter((each) => !each.includes('\n  '))) {
      const lines = paragraph.split('\n')
      for (const [at, line] of lines.entries()) {
        const next = lines[at + 1]?.split(' ')[0]
        if (next === undefined || /[.:]$/.test(line)) continue
        expect(line.length + 1 + next.length, `${line}\n${next}`).toBeGreaterThan(100)
      }
    }
  })

  test('of what is no command names the nearest one', async () => {
    const { code, stderr } = await runCli(['help', 'docter'])
    expect(code).toBe(2)
    expect(stderr).toContain('Did you mean doctor?')
  })
})

test.runIf(existsSync('/dev/full')).each([['--help'], ['init --print'], ['emit --help']])(
  '%s: output that could not be written is said, exit 1',
  (args) => {
    const line = `"${process.execPath}" "${bin}" ${args} > /dev/full`
    const { status, stderr } = spawnSync('/bin/sh', ['-c', line], { cwd: emptyFolder(), encoding: 'utf8' })
    expect(status).toBe(1)
    expect(stderr).toMatch(/^error: the output could not be written: ENOSPC.*\ntry: .*\n$/)
  },
)

test.each([
  [['--stateful=maybe'], '--stateful'],
  [['init', '--yes=no'], '--yes'],
  [['--help=moot'], '--help'],
])('%s: a switch takes no value, and says so', async (args, name) => {
  const { code, stderr } = await runCli(args)
  expect(code).toBe(2)
  expect(stderr).toMatch(
    new RegExp(`^error: ${name} takes no value\ntry: npx -y @chamade/mcp-server@3 .*--help\n$`),
  )
})

test.each([
  [['--headers=Authorization: Bearer s3cr3t'], "'--headers'\n(Did you mean --header?)"],
  [['-HX-Api-Key: s3cr3t'], "'-H'"],
  [['doctor', "--Header=X-Api-Key: it's s3cr3t"], "'--Header'\n(Did you mean --header?)"],
  [['call', 'login', '--argument={"password": "s3cr3t"}'], "'--argument'\n(Did you mean --arguments?)"],
  [['--header Authorization: Bearer s3cr3t'], "'--header'"],
  [['--api-key:s3cr3t'], "'--api-key'"],
  [['listen', '--chmd_s3cr3t'], "'--chmd_…'"],
  [['--=s3cr3t'], "'--'"],
])('%j: what is no option is said without its value, which may be a key', async (args, said) => {
  const { code, stdout, stderr } = await runCli(args)
  expect(code).toBe(2)
  expect(stderr.startsWith(`error: unknown option ${said}\ntry: `)).toBe(true)
  expect(stdout + stderr).not.toContain('s3cr3t')
})

test.each([
  [['--url', 'http://127.0.0.1:9/mcp', 'call', 'ping'], 'call'],
  [['--stateful', 'listen'], 'listen'],
  [['--header=X-Api-Key: s3cr3t', 'tools'], 'tools'],
  [['http://127.0.0.1:9/mcp', 'doctor'], 'doctor'],
])('%j: a command that stands behind something is told where it belongs', async (args, name) => {
  const { code, stdout, stderr } = await runCli(args)
  expect(code).toBe(2)
  expect(stdout).toBe('')
  expect(stderr).toMatch(new RegExp(`^error: ${name} comes too late: .*\\ntry: .* ${name} --help\\n$`))
})

test('what is named like a command may be the value of an option', async () => {
  const { code, stderr } = await runCli(['--url', 'tools'])
  expect(code).toBe(2)
  expect(stderr).toContain('error: tools is not a URL')
})

test.each([
  [['--ca', '/nope'], {}, 'the CA certificate /nope cannot be read'],
  [['--cert', '/nope', '--key', '/nope'], {}, 'the client certificate /nope cannot be read'],
  [['--key', '/nope'], {}, 'belong together'],
  [
    [],
    { CHAMADE_CLIENT_CERT: '/nope', CHAMADE_CLIENT_KEY: '/nope' },
    'the client certificate /nope cannot be read',
  ],
])('%j %o is refused whatever the address', async (args, env, text) => {
  for (const url of ['http://127.0.0.1:9/mcp', 'https://127.0.0.1:9/mcp']) {
    const { code, stdout, stderr } = await runCli([url, ...args], {
      env,
      input: '{"jsonrpc":"2.0","id":1,"method":"ping"}\n',
    })
    expect(code).toBe(2)
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^error: /)
    expect(stderr).toContain(text)
  }
})

test.each([
  [{ CHAMADE_API_KEY_FILE: '/nope' }, 'check the path in CHAMADE_API_KEY_FILE'],
  [{ SSL_CERT_FILE: '/nope' }, 'check the path in SSL_CERT_FILE'],
  [{ CHAMADE_CLIENT_CERT: '/nope', CHAMADE_CLIENT_KEY: '/nope' }, 'check the path in CHAMADE_CLIENT_CERT'],
  [{ CHAMADE_CLIENT_KEY: '/nope' }, 'there is only CHAMADE_CLIENT_KEY'],
])('a file that cannot be used is told with the variable that names it: %o', async (env, text) => {
  const { code, stderr } = await runCli([], { env })
  expect(code).toBe(2)
  expect(stderr).toContain(text)
})

test('a key in quotes is refused before it is sent, and not shown', async () => {
  const { code, stderr } = await runCli([], { env: { CHAMADE_API_KEY: '"chmd_s3cret"' } })
  expect(code).toBe(2)
  expect(stderr).toBe(
    'error: the API key from CHAMADE_API_KEY stands in quotes\ntry: leave the quotes away: they are sent with it\n',
  )
})

test('a limit may be set to the never that is its default', async () => {
  const { code } = await runCli(['--tool-timeout', 'never'], { env: { CHAMADE_TOOL_TIMEOUT: '1s' } })
  expect(code).toBe(0)
})

test.each([['tools'], ['call']])(
  '%s: an address in the place of the tool does not ask another server',
  async (name) => {
    const { code, stderr } = await runCli([name, 'http://127.0.0.1:9/mcp?token=s3cret'])
    expect(code).toBe(2)
    expect(stderr).toBe(
      'error: http://127.0.0.1:9/mcp stands where the name of a tool should\ntry: for the address: --url http://127.0.0.1:9/mcp\n',
    )
  },
)

test
  .runIf(process.platform === 'linux')
  .each([
    ['init --print'],
    ['doctor --wait 50ms http://127.0.0.1:9/mcp'],
    ['simulate --port 0 --scenario x.yaml'],
    ['listen --entry chamade'],
  ])('%s in a folder that was removed says so', (line) => {
  const cwd = emptyFolder()
  const command = `rmdir "${cwd}"; exec "${process.execPath}" "${bin}" ${line}`
  const { status, stdout, stderr } = spawnSync('/bin/sh', ['-c', command], { cwd, encoding: 'utf8' })
  expect(stdout).toBe('')
  expect(stderr).toBe('error: this folder is gone\ntry: cd to one that is there\n')
  expect(status).toBe(2)
})

test('https to a port that speaks plain http is told in words', async () => {
  const plain = createServer((socket) =>
    socket.on('error', () => undefined).end('HTTP/1.1 400 Bad Request\r\n\r\n'),
  )
  await once(plain.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void plain.close())
  const url = `https://127.0.0.1:${(plain.address() as AddressInfo).port}/mcp`
  const { code, stderr } = await runCli(['tools', '--url', url, '--patience', '1s'])
  expect(code).toBe(1)
  expect(stderr).toMatch(
    /could not be reached for \S+ m?s: wrong version number \(ERR_SSL_WRONG_VERSION_NUMBER\)\ntry: http:\/\/ in the URL;/,
  )
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'x', version: '1' } }
  const input = `${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params })}\n`
  const { stdout } = await runCli([url, '--patience', '1s'], { input })
  expect(stdout).toContain('. Try: http:// in the URL, then connect again')
})

describe.each([
  ['tools', ['tools', '--url']],
  ['call', ['call', 'echo', '--url']],
  ['listen', ['listen']],
])('%s advises what helps in a shell', (_name, words) => {
  const hintOf = async (url: string, key: string): Promise<string | undefined> => {
    const { code, stderr } = await runCli([...words, url, '--patience', '1s'], {
      env: { CHAMADE_API_KEY: key },
    })
    expect(code).toBe(1)
    return /^try: (.*)$/m.exec(stderr)?.[1]
  }

  test('without a key, and with one that is wrong, or none', async () => {
    const server = await ScriptedServer.start()
    server.before((x) => x.reply(401))
    const advice =
      'set CHAMADE_API_KEY in this shell or the entry that --entry names (or --api-key-file PATH)'
    expect(await hintOf(server.url, '')).toBe(advice)
    expect(await hintOf(server.url, 'chmd_wrong')).toBe(`check that key, or make a new one; ${advice}`)
    expect(await hintOf(server.url, '${CHAMADE_API_KEY}')).toBe('set CHAMADE_API_KEY in this shell')
    expect(await hintOf(server.url, 'put-your-key-here')).toBe('put your key there')
  })

  test('of a server that is down', async () => {
    expect(await hintOf('http://127.0.0.1:9/mcp', '')).toBe('check the URL and your network; nothing was run')
  })
})

test('what is warned of on the way is put for the shell too', async () => {
  const server = await ScriptedServer.start()
  const env = { CHAMADE_API_KEY: '${CHAMADE_API_KEY}' }
  const { stderr } = await runCli(['tools', '--url', server.url], { env })
  expect(stderr).toMatch(
    / warn CHAMADE_API_KEY is the literal .* \(try: set CHAMADE_API_KEY in this shell\)$/m,
  )
  const { stdout } = await runCli(['listen', server.url, '--for', '100ms'], { env })
  expect(stdout).toContain('(try: set CHAMADE_API_KEY in this shell)')
})

test('moot is started by a client, listen --moot from a shell: each is told so what it lacks', async () => {
  const entry = 'the "env" of the server\'s entry in your MCP config'
  const moot = await runCli(['moot'])
  expect(moot.stderr).toContain(`try: set CONVO_API_KEY=convo_… in ${entry} (or`)
  const { stderr } = await runCli(['listen', '--moot'])
  expect(stderr).toContain('try: set CONVO_API_KEY=convo_… in this shell or the entry that --entry names (or')
})

test('listen --moot looks at --ca too', async () => {
  const env = { CONVO_API_KEY: 'convo_x' }
  const { code, stderr } = await runCli(
    ['listen', '--moot', 'http://127.0.0.1:9', '--ca', '/nope', '--for', '1s'],
    { env },
  )
  expect(code).toBe(2)
  expect(stderr).toContain('/nope')
})

test('--header with typographic quotes is refused, and the hint names them', async () => {
  const { code, stdout, stderr } = await runCli([
    'https://mcp.example.com/mcp',
    '--header',
    'X-Key: “TOPSECRET9”',
  ])
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  expect(stderr).toMatch(/error: .*--header X-Key holds characters.*\ntry: .*typographic quotes/)
  expect(stderr).not.toContain('TOPSECRET9')
})

test('SSL_CERT_FILE is for many programs: over plain http it is nothing to fail of', async () => {
  const input = '{"jsonrpc":"2.0","id":1,"method":"server/discover"}\n'
  const { code, stdout } = await runCli(['http://127.0.0.1:9/mcp'], {
    env: { SSL_CERT_FILE: '/nope' },
    input,
  })
  expect(code).toBe(0)
  expect(stdout).toContain('-32601')
})

test.each([
  [['--url', ''], '--url'],
  [['--url=', '--header', 'Authorization: Bearer not-for-chamade'], '--url'],
  [['--api-key-file='], '--api-key-file'],
  [['--header='], '--header'],
  [['--only', ''], '--only'],
  [['--ca='], '--ca'],
  [['listen', '--for='], '--for'],
  [['simulate', '--key', 'a', '--key='], '--key'],
  [['init', '--print', '--url='], '--url'],
  [['moot', '--space='], '--space'],
])('%j: a flag without a value is none that was left away', async (args, flag) => {
  const { code, stdout, stderr } = await runCli(args, { env: { CONVO_API_KEY: 'convo_x' } })
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  expect(stderr).toContain(`error: ${flag} is empty\ntry: `)
})

test.each([[['']], [['listen', ' ']]])('%j: an address of nothing is said to be empty', async (args) => {
  const { code, stderr } = await runCli(args)
  expect(code).toBe(2)
  expect(stderr).toMatch(/^error: the URL is empty\ntry: .*variable/)
})

test.each([
  [['http://127.0.0.1:1/mcp?key=${TOKEN}'], {}, 'the URL'],
  [['listen', '--url', 'http://127.0.0.1:1/${TOKEN}/mcp'], {}, 'the URL'],
  [[], { CHAMADE_MCP_URL: '${TOKEN}' }, 'CHAMADE_MCP_URL'],
  [[], { CHAMADE_URL: 'https://${TOKEN}' }, 'CHAMADE_URL'],
  [[], { CHAMADE_URL: '${TOKEN}' }, 'CHAMADE_URL'],
])('%j, %j: a variable that nobody has expanded is said to be one', async (args, env, where) => {
  const { code, stderr } = await runCli(args, { env })
  expect(code).toBe(2)
  expect(stderr).toContain(`error: ${where} holds the literal text \${TOKEN}: the variable is not set`)
  const inShell = args[0] === 'listen'
  expect(stderr).toContain(`try: set TOKEN ${inShell ? 'in this shell' : 'where you start the client'}`)
})

test.each(
  [
    ['URL'],
    ['URL', '--header', 'X-A: 1', '--header=X-B: 2=3\n', '--stateful'],
    ['--stateful', '--header', 'X-A: ', '--patience', '9s', '--patience=1h', '--url=URL'],
    ['--url', 'URL', 'URL'],
    ['--url', 'nowhere', '--url', 'URL'],
    ['--header', '--url', 'URL'],
    ['URL', '--header', '-'],
    ['URL', '--patience', '-1'],
    ['URL', '--patience=-1'],
    ['URL', '--stateful=yes'],
    ['URL', '--no-gap-notice', '--no-stateful'],
    ['URL', '--gap-notice'],
    ['URL', '--Stateful'],
    ['URL', '--state'],
    ['URL', '--toString'],
    ['URL', '-V'],
    ['URL', '-'],
    ['URL', ''],
    ['wrd'],
  ].map((args) => [args]),
)('%j: options are read as commander reads them', async (args) => {
  const input = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n'
  const run = async (last: readonly string[]) => {
    const server = await ScriptedServer.start()
    const given = [...args.map((arg) => arg.replace('URL', server.url)), ...last]
    const { code, stdout, stderr } = await runCli(given, { input })
    const seen = server.requests.map(({ url, headers }) => [url, headers['x-a'], headers['x-b']])
    return { code, stdout, stderr: stderr.replaceAll(server.url, 'URL').replaceAll(/^\d.*Z /gm, ''), seen }
  }
  // What follows `--` is operands for both; whoever starts us has no use for it, so it is commander's.
  const [quick, slow] = await Promise.all([run([]), run(['--'])])
  expect(quick).toEqual(slow)
})

test.each([
  'Expect: 100-continue',
  'Upgrade: h2c',
  'Keep-Alive: 3',
  'Accept-Encoding: gzip',
  'Content-Encoding: gzip',
])('--header %j is left to the transport, and keeps nothing from its answer', async (header) => {
  const server = await ScriptedServer.start()
  const input = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n'
  const { code, stdout, stderr } = await runCli([server.url, '--header', header], { input })
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({ id: 1, result: {} })
  expect(stderr).toContain(`--header ${header.split(':')[0]} is set by the transport itself`)
  expect(
    server.requests.every(
      ({ headers }) => headers[String(header.split(':')[0]).toLowerCase()] !== header.split(': ')[1],
    ),
  ).toBe(true)
})

/** It hears SIGHUP from then on; the others Node catches from the start. */
function catches(pid: number | undefined): boolean {
  const mask = /^SigCgt:\s*(\w+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '0'
  return (BigInt(`0x${mask}`) & 1n) !== 0n
}

test.runIf(existsSync('/proc/self/status')).each([[['call', 'echo', '--arguments', '-']], [['emit', '-']]])(
  '%j: a stdin that stays open does not keep it from ending',
  async (args) => {
    const cli = new Cli(args, { input: { open: true } })
    await eventually('it hears signals', () => catches(cli.child.pid), 10_000)
    cli.child.kill('SIGHUP')
    expect(await cli.ended).toEqual({ code: 129, stdout: '', stderr: '' })
  },
)

describe.skipIf(process.platform === 'win32')('a log file', () => {
  const input = '{"jsonrpc":"2.0","id":1,"method":"ping"}\n'
  const shell = (line: string, cwd: string) =>
    spawnSync('/bin/sh', ['-c', `"${process.execPath}" "${bin}" http://127.0.0.1:9/mcp ${line}`], {
      cwd,
      input,
      encoding: 'utf8',
      timeout: 20_000,
      killSignal: 'SIGKILL',
    })

  test.each(['--log-file /dev/stdout | cat', '--log-file out > out'])(
    'that is stdout is refused: %s',
    (line) => {
      const { stdout, stderr } = shell(line, emptyFolder())
      expect(stdout).toBe('')
      expect(stderr).toMatch(/^error: the log file \S+ is stdout, which belongs to the protocol\ntry: /)
    },
  )

  test('that is a pipe nobody reads is refused, not waited for', () => {
    const cwd = emptyFolder()
    spawnSync('/bin/sh', ['-c', 'mkfifo pipe'], { cwd })
    const { status, stderr } = shell('--log-file pipe', cwd)
    expect(status).toBe(2)
    expect(stderr).toContain('error: the log file pipe cannot be written (ENXIO')
  })
})

describe('a variable', () => {
  test.each([
    [{ CHAMADE_STATEFUL: 'banana' }, [], 'CHAMADE_STATEFUL=banana is neither yes nor no'],
    [{ CHAMADE_SILENT: '2' }, [], 'CHAMADE_SILENT=2 is neither yes nor no'],
    [{ CONVO_AUTO_SUBSCRIBE: 'maybe', CONVO_API_KEY: 'convo_x' }, ['moot'], 'CONVO_AUTO_SUBSCRIBE=maybe is'],
    [{ CHAMADE_HOLD: 'x' }, [], 'CHAMADE_HOLD=x is no duration'],
    [{ CHAMADE_GAP_INTERVAL: 'x' }, [], 'CHAMADE_GAP_INTERVAL=x is no duration'],
    [{ CHAMADE_DRAIN: 'x' }, [], 'CHAMADE_DRAIN=x is no duration'],
    [{ CHAMADE_PATIENCE: 'x' }, ['tools'], 'CHAMADE_PATIENCE=x is no duration'],
    [{ CHAMADE_PATIENCE: '0' }, [], 'CHAMADE_PATIENCE=0 is too short for any server'],
    [{ CHAMADE_TOOL_TIMEOUT: '0' }, [], 'CHAMADE_TOOL_TIMEOUT=0 is no time'],
    [{ CHAMADE_TOOL_TIMEOUT: 'x' }, [], 'CHAMADE_TOOL_TIMEOUT=x is no duration'],
    [{ CHAMADE_MAX_MESSAGE: 'x' }, [], 'CHAMADE_MAX_MESSAGE=x is no size'],
    [{ CHAMADE_LOG_LEVEL: 'x' }, [], 'CHAMADE_LOG_LEVEL=x is not a level'],
    [{ CHAMADE_LOG_FORMAT: 'x' }, [], 'CHAMADE_LOG_FORMAT=x is not a format'],
    [{ CHAMADE_URL: 'foo' }, [], 'CHAMADE_URL=foo is no http(s) URL'],
    [{ CHAMADE_URL: 'localhost:8484' }, [], 'CHAMADE_URL=localhost:8484 is no http(s) URL'],
    [{ CHAMADE_MCP_URL: 'x' }, [], 'CHAMADE_MCP_URL=x is not a URL'],
    [{ CHAMADE_MCP_URL: 'chmd_my-key' }, [], 'CHAMADE_MCP_URL=chmd_… is not a URL'],
    [{ CHAMADE_MCP_URL: 'ftp://x' }, ['listen'], 'CHAMADE_MCP_URL=ftp://x is neither http nor https'],
    [{ CHAMADE_SIMULATOR_PORT: 'x' }, ['simulate'], 'CHAMADE_SIMULATOR_PORT=x is no port'],
    [{ CHAMADE_INIT_CLIENT: 'emacs' }, ['init', '--yes'], 'CHAMADE_INIT_CLIENT=emacs is not known'],
  ])('that cannot be meant is refused by its name: %o', async (env, args, text) => {
    const { code, stdout, stderr } = await runCli(args, { env })
    expect(code).toBe(2)
    expect(stdout).toBe('')
    expect(stderr).toContain(`error: ${text}`)
    expect(stderr).toMatch(/^try: (?!.*--(?!help))/m)
  })

  test('is not named when the flag was given', async () => {
    const { stderr } = await runCli(['--hold', 'y'], { env: { CHAMADE_HOLD: 'x' } })
    expect(stderr).toContain('error: --hold y is no duration')
    const entry = { command: 'chamade-mcp', args: [], env: { CHAMADE_PATIENCE: 'x' } }
    const cwd = emptyFolder()
    writeFileSync(join(cwd, '.mcp.json'), JSON.stringify({ mcpServers: { chamade: entry } }))
    const line = ['tools', '--entry', 'chamade']
    expect((await runCli(line, { cwd })).stderr).toContain('error: CHAMADE_PATIENCE=x is no duration')
    const flag = await runCli([...line, '--patience', 'y'], { cwd })
    expect(flag.stderr).toContain('error: --patience y is no duration')
  })

  test.each([
    ['1 true TRUE yes Yes on ON', true],
    ['0 false FALSE no No off OFF', undefined],
  ])('of a switch may say %s', (words, value) => {
    for (const word of words.split(' ')) {
      expect(withEnvironment({}, SERVER_OPTIONS, { CHAMADE_STATEFUL: word }).stateful).toBe(value)
    }
  })
})

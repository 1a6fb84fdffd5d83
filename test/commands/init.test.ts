/**
 * `chamade-mcp init` on a real disk.
 */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Io } from '../../src/commands/command.ts'
import { Cancelled, questions } from '../../src/commands/init/questions.ts'
import { init } from '../../src/commands/init.ts'
import { startMootSimulator } from '../../src/simulator/moot/simulator.ts'
import { startSimulator } from '../../src/simulator/simulator.ts'
import { emptyFolder } from '../support/empty-folder.ts'
import { eventually } from '../support/eventually.ts'
import { Cli, runCli } from './support.ts'

const read = (...path: string[]): string => readFileSync(join(...path), 'utf8')

describe('init', () => {
  test('writes the entry and ends with the launch lines', async () => {
    const cwd = emptyFolder()
    const { code, stdout } = await runCli(['init', '--yes'], { cwd })
    expect(code).toBe(0)
    expect(JSON.parse(read(cwd, '.mcp.json'))).toEqual({
      mcpServers: {
        chamade: {
          type: 'stdio',
          command: 'npx',
          args: ['-y', '@chamade/mcp-server@3', '--stateful'],
          env: { CHAMADE_API_KEY: '${CHAMADE_API_KEY}' },
        },
      },
    })
    expect(stdout).toMatch(/^ +claude --dangerously-load-development-channels server:chamade$/m)
    expect(stdout).toMatch(/--continue$/m)
    expect(stdout).toMatch(/--dangerously-skip-permissions/)
    expect(stdout).toContain('Set CHAMADE_API_KEY')
    expect(stdout).toContain('It asks once about the entry: choose to use it, which is not preselected.')
  })

  test('names every entry that pushes in the launch line, under the names they have', async () => {
    const cwd = emptyFolder()
    await runCli(['init', '--yes', '--name', 'my-chamade'], { cwd })
    const { stdout } = await runCli(['init', '--yes', '--moot'], { cwd })
    expect(stdout).toContain(
      'claude --dangerously-load-development-channels server:my-chamade server:moot-channel\n',
    )
  })

  test('ends, for moot, with a line that shows the events of moot', async () => {
    const cwd = emptyFolder()
    const moot = await startMootSimulator({ key: 'convo_init-test' })
    onTestFinished(() => moot.close())
    const { stdout } = await runCli(['init', '--yes', '--moot', '--installed', '--url', moot.url], { cwd })
    expect(stdout).not.toContain('doctor')
    expect(stdout).toContain('with CONVO_API_KEY set in that shell')
    const line = /See that it works: chamade-mcp (.*)$/m.exec(stdout)?.[1] ?? ''
    const cli = new Cli([...line.split(' '), '--count', '1'], { cwd, env: { CONVO_API_KEY: moot.key } })
    await eventually('the stream is up', () => cli.stdout.includes('push stream sprint-planning up'), 10_000)
    moot.publish('sprint-planning', { text: '@MyAgent hello' })
    expect((await cli.ended).code).toBe(0)
  })

  test('keeps what was there beside it, at every change another copy', async () => {
    const cwd = emptyFolder()
    const first = '{ "mcpServers": {} }\n'
    writeFileSync(join(cwd, '.mcp.json'), first)
    await runCli(['init', '--yes'], { cwd })
    const second = read(cwd, '.mcp.json')
    await runCli(['init', '--yes', '--moot'], { cwd })
    expect(read(cwd, '.mcp.json.bak')).toBe(first)
    expect(read(cwd, '.mcp.json.bak2')).toBe(second)
    const { stdout } = await runCli(['init', '--yes'], { cwd })
    expect(stdout).toContain('already as it should be')
    expect(existsSync(join(cwd, '.mcp.json.bak3'))).toBe(false)
  })

  test('only shows with --print', async () => {
    const cwd = emptyFolder()
    const { code, stdout } = await runCli(['init', '--print'], { cwd })
    expect(code).toBe(0)
    expect(stdout).toContain('+      "command": "npx",')
    expect(stdout).toContain("claude mcp add --scope user --env 'CHAMADE_API_KEY=${CHAMADE_API_KEY}'")
    expect(existsSync(join(cwd, '.mcp.json'))).toBe(false)
  })

  test('does not write unasked: without a terminal it wants --yes', async () => {
    const cwd = emptyFolder()
    const { code, stderr } = await runCli(['init'], { cwd })
    expect(code).toBe(2)
    expect(stderr).toMatch(/^error: .*\ntry: .*--yes/)
    expect(existsSync(join(cwd, '.mcp.json'))).toBe(false)
  })

  test('shows what a broken file should hold with --print, as its error advises', async () => {
    const cwd = emptyFolder()
    writeFileSync(join(cwd, '.mcp.json'), '{ "mcpServers": { ')
    const { code, stdout, stderr } = await runCli(['init', '--print', '--simulator'], { cwd })
    expect(stderr).toMatch(/\.mcp\.json is not changed: line 1, column 19: /)
    expect(code).toBe(0)
    const key = /simulate --key (chmd_local_\w+)$/m.exec(stdout)?.[1] ?? 'no key'
    expect(stdout).toContain(`+        "CHAMADE_API_KEY": "${key}"`)
    expect(read(cwd, '.mcp.json')).toBe('{ "mcpServers": { ')
  })

  test('ends, for VS Code, with a line that works although VS Code keeps the key to itself', async () => {
    const cwd = emptyFolder()
    const simulator = await startSimulator({})
    onTestFinished(() => simulator.close())
    const { stdout } = await runCli(['init', '--yes', '--client', 'vscode', '--url', simulator.mcpUrl], {
      cwd,
    })
    expect(read(cwd, '.vscode', 'mcp.json')).toContain('"${input:chamade-api-key}"')
    expect(stdout).toMatch(/doctor --entry chamade\n +with CHAMADE_API_KEY set in that shell\n$/)
    const line = ['doctor', '--entry', 'chamade', '--wait', '50ms', '--json']
    const { code, stdout: report } = await runCli(line, { cwd, env: { CHAMADE_API_KEY: simulator.key } })
    expect(report).toContain('the key from CHAMADE_API_KEY is accepted')
    expect(code).toBe(0)
  })

  test('leaves a broken file as it is, and says where it is broken', async () => {
    const cwd = emptyFolder()
    const broken = '{\n  "mcpServers": {\n    "a": { "command": "x" },,\n  }\n}\n'
    writeFileSync(join(cwd, '.mcp.json'), broken)
    const { code, stderr } = await runCli(['init', '--yes'], { cwd })
    expect(code).toBe(2)
    expect(stderr).toContain('line 3, column 29')
    expect(stderr).toMatch(/^try: /m)
    expect(read(cwd, '.mcp.json')).toBe(broken)
    expect(existsSync(join(cwd, '.mcp.json.bak'))).toBe(false)
  })

  test.each([
    ['a comment', '{\n  // mine\n  "mcpServers": {}\n}\n', 2],
    ['a trailing comma', '{\n  "mcpServers": {\n    "a": { "command": "x" },\n  }\n}\n', 4],
  ])(
    'leaves a file that Claude Code ignores for %s as it is, and says so; so does doctor',
    async (_, lax, line) => {
      const cwd = emptyFolder()
      writeFileSync(join(cwd, '.mcp.json'), lax)
      const { code, stderr } = await runCli(['init', '--yes'], { cwd })
      expect(code).toBe(2)
      expect(stderr).toMatch(
        new RegExp(
          `is not changed: line ${line}, column \\d+: Claude Code takes no comments and no trailing commas`,
        ),
      )
      expect(read(cwd, '.mcp.json')).toBe(lax)
      const report = await runCli(['doctor', '--url', 'http://127.0.0.1:9/', '--json'], { cwd })
      expect(report.stdout).toContain(`.mcp.json is broken (line ${line}: its client takes no comments`)
      mkdirSync(join(cwd, '.vscode'))
      writeFileSync(join(cwd, '.vscode', 'mcp.json'), lax.replace('mcpServers', 'servers'))
      expect((await runCli(['init', '--client', 'vscode', '--yes'], { cwd })).code).toBe(0)
    },
  )

  test('leaves a file that is no UTF-8 as it is, byte for byte', async () => {
    const cwd = emptyFolder()
    const latin = Buffer.from('{"mcpServers":{"x":{"command":"/home/Jos\xe9/x"}}}\n', 'latin1')
    writeFileSync(join(cwd, '.mcp.json'), latin)
    const { code, stderr } = await runCli(['init', '--yes'], { cwd })
    expect(code).toBe(2)
    expect(stderr).toMatch(/^error: .*no UTF-8\ntry: /)
    expect(readFileSync(join(cwd, '.mcp.json'))).toEqual(latin)
  })

  test.skipIf(process.platform === 'win32')(
    'does not wait at a pipe in the place of the file, and says what it is',
    async () => {
      const cwd = emptyFolder()
      execFileSync('/bin/sh', ['-c', 'mkfifo .mcp.json'], { cwd })
      const { code, stderr } = await runCli(['init', '--yes'], { cwd })
      expect(stderr).toMatch(/^error: \S+\.mcp\.json cannot be read: it is no regular file\ntry: /)
      expect(code).toBe(2)
      expect(readdirSync(cwd)).toEqual(['.mcp.json'])
      const reader = await runCli(['tools', '--entry', 'chamade'], { cwd })
      expect(reader.stderr).toMatch(/^error: no client here has an entry "chamade"/)
    },
  )

  test('what the entry said before does not win over what is chosen now', async () => {
    const cwd = emptyFolder()
    const env = {
      CHAMADE_URL: 'https://dev.chamade.example',
      CHAMADE_STATEFUL: '1',
      CHAMADE_API_KEY: 'chmd_x',
      OTHER: '1',
    }
    writeFileSync(join(cwd, '.mcp.json'), JSON.stringify({ mcpServers: { chamade: { command: 'x', env } } }))
    await runCli(['init', '--yes', '--stateless'], { cwd })
    const { mcpServers } = JSON.parse(read(cwd, '.mcp.json'))
    expect(mcpServers.chamade.env).toEqual({ CHAMADE_API_KEY: 'chmd_x', OTHER: '1' })
  })

  test.skipIf(process.platform === 'win32')('follows a link to where nothing is yet', async () => {
    const cwd = emptyFolder()
    const dotfiles = emptyFolder()
    symlinkSync(join(dotfiles, 'new', 'mcp.json'), join(cwd, '.mcp.json'))
    const { code } = await runCli(['init', '--yes'], { cwd })
    expect(code).toBe(0)
    expect(lstatSync(join(cwd, '.mcp.json')).isSymbolicLink()).toBe(true)
    expect(read(dotfiles, 'new', 'mcp.json')).toContain('"chamade"')
  })

  test.skipIf(process.platform === 'win32')(
    'follows a link instead of replacing it, and keeps the mode',
    async () => {
      const cwd = emptyFolder()
      const dotfiles = emptyFolder()
      writeFileSync(join(dotfiles, 'mcp.json'), '{}\n')
      chmodSync(join(dotfiles, 'mcp.json'), 0o640)
      symlinkSync(join(dotfiles, 'mcp.json'), join(cwd, '.mcp.json'))
      const { code } = await runCli(['init', '--yes'], { cwd })
      expect(code).toBe(0)
      expect(lstatSync(join(cwd, '.mcp.json')).isSymbolicLink()).toBe(true)
      expect(read(dotfiles, 'mcp.json')).toContain('@chamade/mcp-server@3')
      expect(statSync(join(dotfiles, 'mcp.json')).mode & 0o777).toBe(0o640)
      expect(read(dotfiles, 'mcp.json.bak')).toBe('{}\n')
    },
  )

  test.skipIf(process.platform !== 'linux')(
    'gives Claude Desktop the key itself, hidden on the screen and from other users',
    async () => {
      const home = emptyFolder()
      const key = 'chmd_plant3d-s3cret'
      const { stdout } = await runCli(['init', '--client', 'claude-desktop', '--yes'], {
        home,
        env: { CHAMADE_API_KEY: key },
      })
      const file = join(home, '.config', 'Claude', 'claude_desktop_config.json')
      expect(JSON.parse(read(file))).toMatchObject({
        mcpServers: { chamade: { env: { CHAMADE_API_KEY: key } } },
      })
      expect(statSync(file).mode & 0o777).toBe(0o600)
      expect(stdout).not.toContain(key)
      expect(stdout).toContain('holds your key')
    },
  )

  test('keeps the key that stands in the entry, and turns an HTTP entry into one that starts the bridge', async () => {
    const cwd = emptyFolder()
    mkdirSync(join(cwd, '.cursor'))
    const entry = {
      url: 'https://mcp.chamade.io/mcp/',
      headers: { Authorization: 'Bearer chmd_from-before' },
    }
    writeFileSync(join(cwd, '.cursor', 'mcp.json'), JSON.stringify({ mcpServers: { chamade: entry } }))
    const { stdout } = await runCli(['init', '--client', 'cursor', '--yes'], { cwd })
    expect(JSON.parse(read(cwd, '.cursor', 'mcp.json'))).toEqual({
      mcpServers: {
        chamade: {
          command: 'npx',
          args: ['-y', '@chamade/mcp-server@3'],
          env: { CHAMADE_API_KEY: 'chmd_from-before' },
        },
      },
    })
    expect(stdout).not.toContain('chmd_from-before')
  })

  test.each([
    [['--print']],
    [['--yes']],
    [['--moot', '--print']],
    [['--moot', '--yes']],
    [['--print', '--api-key-file', 'key']],
    [['--simulator', '--name', 'chamade', '--print']],
  ])('shows nothing of a key that stands in the file: %j', async (args) => {
    const cwd = emptyFolder()
    const [key, convo] = ['chmd_plant3d-s3cret', 'convo_plant3d-s3cret']
    const entries = {
      chamade: { command: 'npx', args: ['-y', '@chamade/mcp-server@3'], env: { CHAMADE_API_KEY: key } },
      'moot-channel': {
        command: 'python',
        args: ['-m', 'adapters.channel_runner'],
        env: { CONVO_API_KEY: convo },
      },
    }
    writeFileSync(join(cwd, '.mcp.json'), JSON.stringify({ mcpServers: entries }, undefined, 2))
    const env = { CHAMADE_API_KEY: key, CONVO_API_KEY: convo }
    for (const each of [env, {}]) {
      const { code, stdout, stderr } = await runCli(['init', ...args], { cwd, env: each })
      expect(code).toBe(0)
      expect(stdout + stderr).not.toContain('plant3d')
      expect(stdout).not.toContain('cannot read variables')
      if (!args.includes('--print')) continue
      if (args.includes('--api-key-file'))
        expect(stdout).toMatch(/claude mcp add .*--env CHAMADE_API_KEY_FILE=\//)
      else if (!args.includes('--simulator'))
        expect(stdout).toMatch(/claude mcp add .*_API_KEY=\$\{\w+_API_KEY\}'/)
    }
  })

  test('says what keeps a key out of the file that holds one, where the client reads variables', async () => {
    const cwd = emptyFolder()
    const entry = { command: 'chamade-mcp', env: { CHAMADE_API_KEY: 'chmd_plant3d-s3cret' } }
    writeFileSync(join(cwd, '.mcp.json'), JSON.stringify({ mcpServers: { chamade: entry } }, undefined, 2))
    const { stdout } = await runCli(['init', '--yes'], { cwd })
    expect(stdout).toContain('To have ${CHAMADE_API_KEY} there, take it out and run init again')
    expect(read(cwd, '.mcp.json')).toContain('chmd_plant3d-s3cret')
  })

  test('makes an entry for plain http that starts, when --allow-http is given', async () => {
    const cwd = emptyFolder()
    const options = ['--allow-http', '--yes']
    await runCli(['init', '--url', 'http://example.com/mcp', ...options], { cwd })
    const moot = ['--moot', '--url', 'http://example.com']
    const { stdout } = await runCli(['init', ...moot, ...options], { cwd })
    expect(stdout).toContain('listen --entry moot-channel\n')
    const { mcpServers } = JSON.parse(read(cwd, '.mcp.json')) as {
      mcpServers: Record<string, { args: string[]; env: Record<string, string> }>
    }
    for (const [name, key] of [
      ['chamade', 'CHAMADE_API_KEY'],
      ['moot-channel', 'CONVO_API_KEY'],
    ] as const) {
      const { args = [], env = {} } = mcpServers[name] ?? {}
      const started = await runCli(args.slice(2), { env: { ...env, [key]: 'convo_test-key' } })
      expect(started).toEqual({ code: 0, stdout: '', stderr: '' })
    }
  })

  test('for all projects, the simulator has the key of the line that makes the entry', async () => {
    const { stdout } = await runCli(['init', '--simulator', '--scope', 'user', '--yes'], {
      cwd: emptyFolder(),
    })
    const key = /claude mcp add .* --env CHAMADE_API_KEY=(chmd_local_[0-9a-f]+) /.exec(stdout)?.[1] ?? ''
    expect(stdout).toContain(`1. Start the simulator: npx -y @chamade/mcp-server@3 simulate --key ${key}\n`)
    expect(stdout).not.toMatch(/it asks once/i)
  })

  test.each([
    ['another address', ['--url', 'http://127.0.0.1:8585/mcp/'], {}, 8585],
    ['a variable of the simulator', [], { CHAMADE_SIMULATOR_PORT: '8585' }, 8484],
  ])('starts the simulator where the entry looks for it: %s', async (_, args, env, port) => {
    const { stdout } = await runCli(['init', '--simulator', ...args, '--print'], { cwd: emptyFolder(), env })
    const line = new RegExp(`1\\. Start the simulator: .* simulate --key chmd_local_\\w+ --port ${port}\\n`)
    expect(stdout).toMatch(line)
  })

  test('makes an entry for the simulator that needs nothing else', async () => {
    const cwd = emptyFolder()
    const { stdout } = await runCli(['init', '--simulator', '--yes'], { cwd })
    const key = /simulate --key (chmd_local_\w+)/.exec(stdout)?.[1]
    expect(JSON.parse(read(cwd, '.mcp.json'))).toMatchObject({
      mcpServers: {
        'chamade-simulator': { env: { CHAMADE_MCP_URL: 'http://127.0.0.1:8484/mcp/', CHAMADE_API_KEY: key } },
      },
    })
  })

  test('writes nothing at all when one of several clients cannot be done', async () => {
    const cwd = emptyFolder()
    const home = emptyFolder()
    const clients = (...names: string[]) => names.flatMap((name) => ['--client', name])
    const expectNothing = async (args: readonly string[], text: string): Promise<void> => {
      const { code, stdout, stderr } = await runCli(['init', '--yes', ...args], { cwd, home })
      expect(code).toBe(2)
      expect(stderr).toContain(text)
      expect(stdout).toBe('')
      expect(existsSync(join(cwd, '.mcp.json'))).toBe(false)
    }
    await expectNothing(
      [...clients('claude-code', 'claude-desktop'), '--scope', 'project'],
      'Claude Desktop has no --scope project',
    )
    mkdirSync(join(cwd, '.cursor'))
    writeFileSync(join(cwd, '.cursor', 'mcp.json'), '{ "mcpServers": [] }')
    await expectNothing(clients('claude-code', 'cursor'), '"mcpServers" should be an object')
    if (process.platform === 'win32' || process.getuid?.() === 0) return
    rmSync(join(cwd, '.cursor', 'mcp.json'))
    chmodSync(join(cwd, '.cursor'), 0o500)
    await expectNothing(clients('claude-code', 'cursor'), 'cannot be written')
  })

  test.each([
    [['--client', 'emacs'], '--client emacs is not known'],
    [['--client', 'claude-desktop', '--scope', 'project'], 'Claude Desktop has no --scope project'],
    [['--name', 'my server'], '--name my server cannot be the name of an entry'],
    [['--url', 'mcp.chamade.io'], '--url mcp.chamade.io is no http(s) URL'],
    [['--url', 'u:p1ant3d@example.com/mcp'], '--url example.com/mcp is no http(s) URL'],
    [['--url', 'https://u:p1ant3d/x@example.com/mcp'], '--url https://example.com/mcp is no http(s) URL'],
    [['--url', 'https://u:p1ant3d@example.com/mcp'], 'the URL holds a user name or password'],
    [['--url', 'https://p1ant3d@moot.example.com', '--moot'], 'the URL holds a user name or password'],
    [['--url', 'http://example.com/mcp'], 'http://example.com is plain http'],
    [['--url', 'http://example.com', '--moot'], 'http://example.com is plain http'],
    [['--space', 'sprint-planning'], '--space goes with --moot'],
    [['--stateful', '--stateless'], '--stateful and --stateless exclude each other'],
    [['--moot', '--simulator'], '--moot and --simulator exclude each other'],
    [['--cleint', 'cursor'], "unknown option '--cleint'"],
  ])('refuses %s with exit code 2 and something to try', async (args, text) => {
    const cwd = emptyFolder()
    const { code, stdout, stderr } = await runCli(['init', '--yes', ...args], { cwd })
    expect(code).toBe(2)
    expect(stderr).toContain(`error: ${text}`)
    expect(stdout + stderr).not.toContain('p1ant3d')
    expect(stderr).toMatch(/^try: |Did you mean --client/m)
    expect(existsSync(join(cwd, '.mcp.json'))).toBe(false)
  })
})

describe('a question', () => {
  /** A terminal in memory: what is typed on `stdin`, and nobody looks. */
  function terminal(): { readonly io: Io; readonly stdin: PassThrough; readonly stdout: PassThrough } {
    const tty = { isTTY: true, setRawMode: () => undefined }
    const stdin = Object.assign(new PassThrough(), tty)
    const stdout = Object.assign(new PassThrough(), tty)
    const signal = new AbortController().signal
    return { io: { stdin, stdout: stdout.resume(), signal, env: {} } as unknown as Io, stdin, stdout }
  }

  test.each([
    ['Ctrl-C', '\u0003'],
    ['Ctrl-D', '\u0004'],
  ])('that is answered with %s ends it all', async (_name, key) => {
    const { io, stdin } = terminal()
    const asked = questions(io).write('some file')
    setImmediate(() => stdin.write(key))
    await expect(asked).rejects.toThrow(Cancelled)
  })

  test.each([
    ['Ctrl-C', '\u0003', 130],
    ['Ctrl-D', '\u0004', 1],
  ])('of init that is answered with %s: its exit code', async (_name, key, code) => {
    const { io, stdin, stdout } = terminal()
    let shown = ''
    stdout.on('data', (chunk: Buffer) => {
      shown += chunk.toString()
    })
    const ended = init.run({ client: 'claude-code' }, [], io)
    await eventually('the question', () => shown.includes('Connect to what?'))
    stdin.write(key)
    expect(await ended).toBe(code)
    expect(shown).toMatch(/Stopped; nothing more was written\.\n$/)
  })
})

test("an environment that names a variable twice is refused: which of them counts is the client's secret", async () => {
  const cwd = emptyFolder()
  const text =
    '{"mcpServers":{"chamade":{"command":"npx","env":{"CHAMADE_API_KEY":"a","CHAMADE_API_KEY":"b"}}}}'
  writeFileSync(join(cwd, '.mcp.json'), text)
  const { code, stderr } = await runCli(['init', '--yes', '--api-key-file', 'key'], { cwd })
  expect(code).toBe(2)
  expect(stderr).toContain('"CHAMADE_API_KEY" stands there twice')
  expect(readFileSync(join(cwd, '.mcp.json'), 'utf8')).toBe(text)
})

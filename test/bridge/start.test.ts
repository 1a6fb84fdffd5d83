/**
 * The compiled code that a start leaves for the next one: used when it fits, made anew when it does not, and
 * never a reason not to start.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { BridgeProcess, bin, root } from '../support/bridge-process.ts'
import { emptyFolder } from '../support/empty-folder.ts'
import { eventually, pause } from '../support/eventually.ts'
import { initializeParams } from '../support/messages.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { listen, withTls } from '../support/tls.ts'

const name = `cli.js.${process.versions.v8}.cache`

describe('the compiled code beside the bundle', () => {
  let folder: string
  let cache: string
  let node: readonly string[]

  beforeEach(() => {
    folder = emptyFolder()
    node = []
    cpSync(join(root, 'bin'), join(folder, 'bin'), { recursive: true })
    cpSync(join(root, 'dist'), join(folder, 'dist'), {
      recursive: true,
      filter: (path) => !path.includes('.cache'),
      preserveTimestamps: true,
    })
    cache = join(folder, 'dist', name)
  })

  /** A bridge that is sent one ping and then EOF. */
  function start(...args: readonly string[]): void {
    const argv = args.length > 0 ? args : ['--url', 'http://127.0.0.1:9/mcp']
    const { status, stdout, stderr, signal } = spawnSync(
      process.execPath,
      [...node, join(folder, 'bin', 'chamade-mcp.js'), ...argv],
      { input: '{"jsonrpc":"2.0","id":1,"method":"ping"}\n', encoding: 'utf8' },
    )
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' })
    if (args.length === 0) expect(stdout).toBe('{"jsonrpc":"2.0","id":1,"result":{}}\n')
  }

  /** A start beside `content` goes well, and leaves about as much as `good` in its place. */
  function expectMadeAnew(content: Buffer, good: Buffer): void {
    start()
    const made = readFileSync(cache)
    expect(made.equals(content)).toBe(false)
    expect(made.length).toBeGreaterThan(good.length / 2)
  }

  /** What the cache is of: the line behind the code. */
  const line = (): string => readFileSync(cache, 'latin1').split('\n').at(-2) ?? ''

  const files = (): readonly string[] =>
    readdirSync(join(folder, 'dist')).filter((name) => name.includes('.cache'))

  test('the first start leaves it, the next one uses it', () => {
    start()
    expect(files()).toEqual([name])
    const { mtimeMs, size } = statSync(cache)
    expect(size).toBeGreaterThan(100_000)
    start()
    expect(statSync(cache).mtimeMs).toBe(mtimeMs)
  })

  test('what a short run left is replaced by a longer one, once', async () => {
    start()
    expect(line()).toMatch(/ soon$/)
    const long = async (): Promise<void> => {
      const bridge = spawn(process.execPath, [
        join(folder, 'bin', 'chamade-mcp.js'),
        '--url',
        'http://127.0.0.1:9/mcp',
      ])
      await pause(1_500)
      bridge.stdin.end()
      await once(bridge, 'exit')
    }
    await long()
    expect(line()).not.toMatch(/ soon$/)
    const { mtimeMs } = statSync(cache)
    await long()
    expect(statSync(cache).mtimeMs).toBe(mtimeMs)
  })

  test('after a large text it is good for the next start all the same', async () => {
    const run = async (text: string): Promise<void> => {
      const bridge = BridgeProcess.start('http://127.0.0.1:9/mcp', {
        command: [process.execPath, join(folder, 'bin', 'chamade-mcp.js')],
      })
      bridge.send(`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"text":"${text}"}}`)
      await bridge.reply(1)
      await pause(1_500)
      bridge.eof()
      await bridge.gone()
    }
    await run('x'.repeat(4_000_000))
    expect(line()).not.toMatch(/ soon$/)
    const { mtimeMs } = statSync(cache)
    await run('')
    expect(statSync(cache).mtimeMs).toBe(mtimeMs)
  })

  test('only a bridge leaves it', () => {
    start('--version')
    start('--help')
    expect(files()).toEqual([])
  })

  test('cut short or empty, it is made anew', () => {
    start()
    const good = readFileSync(cache)
    for (const content of [
      good.subarray(0, good.length / 2),
      good.subarray(0, good.length - 1),
      Buffer.alloc(0),
      Buffer.alloc(good.length),
    ]) {
      writeFileSync(cache, content)
      expectMadeAnew(content, good)
    }
  })

  test('whichever page of it a crash of the machine left empty, it is made anew', () => {
    start()
    const good = readFileSync(cache)
    for (let at = 0; at < good.length; at += 4_096) {
      const content = Buffer.from(good).fill(0, at, Math.min(at + 4_096, good.length))
      writeFileSync(cache, content)
      expectMadeAnew(content, good)
    }
  }, 60_000)

  test.each([
    [
      'another build as long and with the same time',
      (text: string) => text.replace(/\/\/\w{8}/, '//deadbeef'),
      1,
    ],
    ['a text that was changed by hand', (text: string) => text, 2],
  ])('of %s it is made anew', (_, rebuilt, time) => {
    const bundle = join(folder, 'dist', 'cli.js')
    const version = (): string =>
      spawnSync(process.execPath, [join(folder, 'bin', 'chamade-mcp.js'), '--version'], { encoding: 'utf8' })
        .stdout
    const unpack = (text: string, seconds: number): void => {
      writeFileSync(bundle, text)
      utimesSync(bundle, seconds, seconds)
    }
    const text = readFileSync(bundle, 'utf8')
    unpack(text, 1)
    start()
    const before = line()
    const old = version().trim()
    const other = old.replaceAll(/\d/g, '7')
    unpack(rebuilt(text.replaceAll(old, other)), time)
    expect(version()).toBe(`${other}\n`)
    start()
    expect(line()).not.toBe(before)
  })

  test('a clone that was not built: says so, and how it is', () => {
    rmSync(join(folder, 'dist'), { recursive: true })
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(folder, 'bin', 'chamade-mcp.js')], {
      encoding: 'utf8',
    })
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toMatch(/^error: .*ENOENT.*\ntry: .*npm run build.*\n$/)
  })

  test('behind a link the program still runs once', () => {
    renameSync(join(folder, 'dist'), join(folder, 'elsewhere'))
    symlinkSync(join(folder, 'elsewhere'), join(folder, 'dist'))
    const { stdout } = spawnSync(process.execPath, [join(folder, 'bin', 'chamade-mcp.js'), '--version'], {
      encoding: 'utf8',
    })
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })

  test('where it cannot be written, all works without', () => {
    mkdirSync(cache)
    start()
    start()
    expect(files()).toEqual([name])
  })

  test('a run that a signal ended leaves it as well', async () => {
    const bridge = BridgeProcess.start('http://127.0.0.1:9/mcp', {
      command: [process.execPath, join(folder, 'bin', 'chamade-mcp.js')],
    })
    bridge.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
    await bridge.reply(1)
    bridge.signal('SIGTERM')
    expect((await bridge.gone()).code).toBe(143)
    expect(files()).toEqual([name])
  })

  test('it is there while the first answer is awaited: a run may be killed without a word', async () => {
    const port = await listen(createServer(() => undefined))
    const bridge = BridgeProcess.start(`http://127.0.0.1:${port}/mcp`, {
      command: [process.execPath, join(folder, 'bin', 'chamade-mcp.js')],
    })
    bridge.send('{"jsonrpc":"2.0","id":1,"method":"tools/list"}')
    await eventually('what a short run leaves', () => line().endsWith(' soon'))
    bridge.signal('SIGKILL')
    await bridge.gone()
    start()
    expect(files()).toEqual([name])
  })

  test.each(['--no-sparkplug', '--no-flush-bytecode'])('under %s it is used as well', (flag) => {
    node = [flag]
    start()
    const { mtimeMs, ino } = statSync(cache)
    start()
    expect(statSync(cache)).toMatchObject({ mtimeMs, ino })
  })

  test('the collections of a heavy load take nothing out of it', async () => {
    const kept = async (busyS: number): Promise<number> => {
      rmSync(cache, { force: true })
      const load = [
        'let last = []',
        'const fill = () => { last = Array.from({ length: 3e5 }, (_, x) => ({ x })) }',
        `const timer = setInterval(() => { fill(); if (process.uptime() > ${busyS}) clearInterval(timer) }, 5)`,
      ]
      const preload = `data:text/javascript,${load.join(';')}`
      const bridge = BridgeProcess.start('http://127.0.0.1:9/mcp', {
        command: [process.execPath, '--import', preload, join(folder, 'bin', 'chamade-mcp.js')],
      })
      await pause(2_000)
      bridge.eof()
      await bridge.gone()
      return statSync(cache).size
    }
    expect(await kept(0.9)).toBeGreaterThan(0.95 * (await kept(0)))
  })

  test('taken away under a bridge that runs, as npx does for a newer one: a certificate is still called refused', async () => {
    const { url } = await withTls(await ScriptedServer.start())
    const bridge = BridgeProcess.start(url, {
      command: [process.execPath, join(folder, 'bin', 'chamade-mcp.js')],
    })
    bridge.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
    await bridge.reply(1)
    rmSync(join(folder, 'dist', 'system-trust.js'))
    const { error } = await bridge.call('initialize', initializeParams)
    expect(error?.data?.code).toBe('CERTIFICATE_REFUSED')
  })

  test('without the file of the parser the other one does it', async () => {
    rmSync(join(folder, 'dist', 'llhttp_simd.wasm'))
    start('--version')
    const port = await listen(createServer((_, answer) => answer.writeHead(401).end()))
    const bridge = BridgeProcess.start(`http://127.0.0.1:${port}/mcp`, {
      command: [process.execPath, join(folder, 'bin', 'chamade-mcp.js')],
    })
    bridge.send('{"jsonrpc":"2.0","id":1,"method":"tools/list"}')
    expect(JSON.stringify(await bridge.reply(1))).toContain('401')
    bridge.eof()
    await bridge.gone()
  })
})

test('without WebAssembly (--jitless) the bridge starts all the same', async () => {
  const bridge = BridgeProcess.start('http://127.0.0.1:9/mcp', {
    // (V8 itself says that it disables a flag.)
    command: [process.execPath, '--import', 'data:text/javascript,delete globalThis.WebAssembly', bin],
  })
  bridge.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
  expect(await bridge.reply(1)).toEqual({ jsonrpc: '2.0', id: 1, result: {} })
  const long = 'text with \\"quotes\\" '.repeat(10_000)
  bridge.send(`{"jsonrpc":"2.0","id":2,"method":"ping","params":{"long":"${long}"}}`)
  expect(await bridge.reply(2)).toEqual({ jsonrpc: '2.0', id: 2, result: {} })
  bridge.eof()
  expect(await bridge.gone()).toMatchObject({ code: 0 })
  expect(bridge.stderr).toBe('')
})

test('where modules are plain objects, as those of Bun, it starts', async () => {
  const plain = `data:text/javascript,import Module from "node:module"
const { load } = Module.prototype
Module.prototype.load = function (file) {
  Object.defineProperty(this, "constructor", { value: Object })
  return load.call(this, file)
}`.replaceAll('\n', ';')
  const bridge = BridgeProcess.start('http://127.0.0.1:9/mcp', {
    command: [process.execPath, '--import', plain, bin],
  })
  bridge.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
  expect(await bridge.reply(1)).toEqual({ jsonrpc: '2.0', id: 1, result: {} })
  bridge.eof()
  expect(await bridge.gone()).toMatchObject({ code: 0 })
})

test('where a loader gives the text of modules, as NODE_OPTIONS of a project may say, it starts', async () => {
  const giving = `import { readFileSync } from "node:fs"
export async function load(url, context, next) {
  const loaded = await next(url, context)
  return loaded.format === "commonjs" ? { ...loaded, source: readFileSync(new URL(url)) } : loaded
}`
  const loader = `data:text/javascript,${encodeURIComponent(giving)}`
  const bridge = BridgeProcess.start('http://127.0.0.1:9/mcp', {
    command: [process.execPath, '--no-warnings', '--experimental-loader', loader, bin],
  })
  bridge.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
  expect(await bridge.reply(1)).toEqual({ jsonrpc: '2.0', id: 1, result: {} })
  bridge.eof()
  expect(await bridge.gone()).toMatchObject({ code: 0 })
  expect(bridge.stderr).toBe('')
})

const withBun = spawnSync('bun', ['--version']).status === 0

test.skipIf(!withBun)('Bun starts it too, as bunx does where there is no node', async () => {
  const bridge = BridgeProcess.start('http://127.0.0.1:9/mcp', { command: ['bun', bin] })
  bridge.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
  expect(await bridge.reply(1)).toEqual({ jsonrpc: '2.0', id: 1, result: {} })
  bridge.eof()
  expect(await bridge.gone()).toMatchObject({ code: 0 })
})

describe('a host that leaves out what a process usually has', () => {
  const ping = '{"jsonrpc":"2.0","id":1,"method":"ping"}'

  async function answers(command: readonly [string, ...string[]]): Promise<void> {
    const bridge = BridgeProcess.start('http://127.0.0.1:9/mcp', { command })
    bridge.send(ping)
    expect(await bridge.reply(1)).toEqual({ jsonrpc: '2.0', id: 1, result: {} })
    bridge.eof()
    expect(await bridge.gone()).toMatchObject({ code: 0 })
    expect(bridge.stderr).toBe('')
  }

  test('a working folder: it was removed meanwhile', async () => {
    const gone = emptyFolder()
    await answers([
      'sh',
      '-c',
      'cd "$1" && rmdir "$1" && shift && exec "$@"',
      'sh',
      gone,
      process.execPath,
      bin,
    ])
  })

  test('a home: neither HOME nor the list of users knows one', async () => {
    const noHome =
      'data:text/javascript,import os from "node:os";os.homedir=()=>{throw new Error("uv_os_homedir ENOENT")}'
    await answers([process.execPath, '--import', noHome, bin])
  })
})

/** The end: one goodbye, every answer that can still be given, and no orphan. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { describe, expect, onTestFinished, test } from 'vitest'
import { alive, BridgeProcess, baseEnv, bin, root } from '../support/bridge-process.ts'
import { eventually, pause } from '../support/eventually.ts'
import { initialize } from '../support/messages.ts'
import { ScriptedServer } from '../support/scripted-server.ts'
import { drain, hold, stateful } from '../support/settings.ts'

const posix = process.platform !== 'win32'

test('a handshake that waits for the end of a renewal is not begun in the goodbye', async () => {
  const server = await ScriptedServer.start()
  const bridge = await BridgeProcess.connected(server.url)
  server.on('initialize', () => {})
  server.wipe()
  bridge.ask('tools/call')
  await eventually('the renewal', () => server.posts('initialize').length === 2)
  server.on('initialize', (x) => server.welcome(x))
  const waiting = [bridge.ask('initialize', {}), bridge.ask('initialize', {})]
  await bridge.call('server/discover')
  bridge.signal('SIGTERM')
  await bridge.gone()
  for (const id of waiting) expect(bridge.answersTo(id)).toHaveLength(1)
  expect(server.posts('initialize')).toHaveLength(2)
})

describe('EOF', () => {
  test('waits for open requests, then DELETE, exit 0', async () => {
    const server = await ScriptedServer.start()
    let answer = (): void => {}
    server.on('tools/call', (x) => {
      answer = () => x.result({ slow: true })
    })
    const bridge = await BridgeProcess.listening(server)
    const id = bridge.ask('tools/call')
    bridge.eof()
    await eventually('the call', () => server.posts('tools/call').length === 1)
    await pause(200)
    expect(bridge.exit).toBeUndefined()
    expect(server.of('DELETE')).toEqual([])
    answer()
    expect((await bridge.reply(id)).result).toEqual({ slow: true })
    expect((await bridge.gone()).code).toBe(0)
    expect(server.live()).toEqual([])
  })

  test('a DELETE whose connection ends under it, as some servers close theirs behind an answer, is said again', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    let deletes = 0
    server.before((x) => x.request.method === 'DELETE' && ++deletes === 1 && x.reset())
    bridge.eof()
    expect((await bridge.gone()).code).toBe(0)
    expect([deletes, server.live()]).toEqual([2, []])
  })

  test('with nothing open it exits at once', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    const at = performance.now()
    bridge.eof()
    const exit = await bridge.gone()
    expect(exit.code).toBe(0)
    expect(exit.at - at).toBeLessThan(500)
  })

  test('a request that never left is not said to have run', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url, { args: drain(300) })
    await server.down()
    const id = bridge.ask('tools/call')
    bridge.eof()
    expect((await bridge.gone()).code).toBe(1)
    const [answer, ...more] = bridge.answersTo(id)
    expect(answer?.error?.data?.code).toBe('CLOSING')
    expect(answer?.error?.message).toBe('the bridge is shutting down')
    expect(more).toEqual([])
  })

  test('a pipe is told why the server that is away could not be asked', async () => {
    const bridge = BridgeProcess.start('http://127.0.0.1:1/mcp', { args: drain(600) })
    const id = bridge.ask('tools/list')
    bridge.eof()
    expect((await bridge.gone()).code).toBe(1)
    const [answer, ...more] = bridge.answersTo(id)
    expect(answer?.error?.data?.code).toBe('SERVER_UNREACHABLE')
    expect(answer?.error?.message).toMatch(/127\.0\.0\.1:1.*ECONNREFUSED/)
    expect(bridge.stderr).toContain('ECONNREFUSED')
    expect(more).toEqual([])
  })

  test('an initialize of ours that is answered with nonsense in the goodbye takes no answer from the others', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', () => {})
    const bridge = await BridgeProcess.connected(server.url, { args: drain(300) })
    const open = bridge.ask('tools/call')
    await eventually('the call', () => server.posts('tools/call').length === 1)
    let answer = (): void => {}
    server.on('initialize', (x) => {
      answer = () => x.json({ jsonrpc: '2.0', method: 'x' })
    })
    server.wipe()
    const lost = bridge.ask('tools/list')
    await eventually('the renewal', () => server.posts('initialize').length === 2)
    bridge.eof()
    await bridge.reply(lost)
    answer()
    expect((await bridge.gone()).code).toBe(1)
    for (const id of [open, lost]) expect(bridge.answersTo(id)).toHaveLength(1)
    expect(bridge.stderr).not.toMatch(/^error:|Warning/m)
  })

  test('a request that is not answered within the drain gets an error, exit 1', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', () => {})
    const bridge = await BridgeProcess.connected(server.url, { args: drain(300) })
    const id = bridge.ask('tools/call')
    await eventually('the call', () => server.posts('tools/call').length === 1)
    const at = performance.now()
    bridge.eof()
    const exit = await bridge.gone()
    expect(exit.code).toBe(1)
    expect(exit.at - at).toBeGreaterThan(280)
    expect(exit.at - at).toBeLessThan(1_500)
    const [answer, ...more] = bridge.answersTo(id)
    expect(answer?.error?.data?.code).toBe('CLOSING')
    expect(answer?.error?.message).toContain('the request may have run')
    expect(more).toEqual([])
    expect(server.of('DELETE')).toHaveLength(1)
  })

  test('notifications and replies written just before it still arrive', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    server.push({ jsonrpc: '2.0', id: 'q', method: 'roots/list' })
    await bridge.waitFor('the question', () => bridge.received('roots/list').length === 1)
    bridge.send({ jsonrpc: '2.0', id: 'q', result: { roots: [] } })
    for (let n = 0; n < 5; n++) bridge.notify('notifications/n', { n })
    bridge.eof()
    expect((await bridge.gone()).code).toBe(0)
    expect(server.posts('notifications/n')).toHaveLength(5)
    expect(server.replies()).toHaveLength(1)
  })

  test('a DELETE that is never answered delays the exit by one second, not more', async () => {
    const server = await ScriptedServer.start()
    server.before((x) => x.request.method === 'DELETE')
    const bridge = await BridgeProcess.listening(server)
    const at = performance.now()
    bridge.eof()
    const exit = await bridge.gone()
    expect(exit.at - at).toBeLessThan(1_600)
    expect(exit.code).toBe(0)
  })

  test('a server that does not allow DELETE is no reason for an error', async () => {
    const server = await ScriptedServer.start()
    server.deleteStatus = 405
    const bridge = await BridgeProcess.listening(server)
    bridge.eof()
    expect((await bridge.gone()).code).toBe(0)
    expect(bridge.stderr).toBe('')
  })

  test('while the server is away: exit within the drain, no hang', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    await server.down()
    const at = performance.now()
    bridge.eof()
    const exit = await bridge.gone()
    expect(exit.at - at).toBeLessThan(1_500)
    expect(exit.code).toBe(0)
  })
})

describe('a slow reader', () => {
  test('stdin ended, stdout not read for a while: every answer still comes whole, exit 0', async () => {
    const server = await ScriptedServer.start({ sessions: false })
    server.on('tools/call', (x) => x.result({ text: 'x'.repeat(500_000), n: x.params.n }))
    const bridge = await BridgeProcess.connected(server.url)
    bridge.read(false)
    const ids = [...Array(8).keys()].map((n) => bridge.ask('tools/call', { n }))
    bridge.eof()
    await eventually('the calls', () => server.posts('tools/call').length === 8)
    await pause(700)
    expect(bridge.exit).toBeUndefined()
    bridge.read(true)
    for (const [n, id] of ids.entries()) expect((await bridge.reply(id)).result.n).toBe(n)
    expect((await bridge.gone()).code).toBe(0)
  })

  test.runIf(posix)('a signal while stdout is full: exit within 400 ms all the same', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    bridge.read(false)
    for (let n = 0; n < 40; n++)
      server.push({ jsonrpc: '2.0', method: 'notifications/x', params: { t: 'x'.repeat(100_000) } })
    await pause(200)
    const at = performance.now()
    bridge.signal('SIGTERM')
    await eventually('the exit', () => bridge.exit, 3_000)
    expect((bridge.exit?.at ?? 0) - at).toBeLessThan(450)
    expect(server.of('DELETE')).toHaveLength(1)
  })

  test.runIf(posix)('the same with an event held, and a server that does not answer the DELETE', async () => {
    const server = await ScriptedServer.start({ capabilities: { experimental: { 'claude/channel': {} } } })
    let goodbyeAt = 0
    server.before((x) => {
      if (x.request.method === 'DELETE') goodbyeAt = performance.now()
      return x.request.method === 'DELETE'
    })
    server.on('resources/list', (x) => x.result({ t: 'x'.repeat(1_000_000) }))
    const bridge = await BridgeProcess.listening(server, { args: ['--stateful', ...hold(20_000)] })
    bridge.read(false)
    bridge.ask('resources/list')
    await eventually('the request', () => server.posts('resources/list').length === 1)
    await pause(200)
    server.pushChannel('held')
    await pause(200)
    const at = performance.now()
    bridge.signal('SIGTERM')
    await eventually('the exit', () => bridge.exit, 3_000)
    expect((bridge.exit?.at ?? 0) - at).toBeLessThan(450)
    expect(goodbyeAt - at).toBeLessThan(250)
  })
})

describe.runIf(posix)('signals', () => {
  test('before the handshake: exit at once, nothing connected', async () => {
    const server = await ScriptedServer.start()
    const bridge = BridgeProcess.start(server.url, stateful)
    bridge.send({ jsonrpc: '2.0', id: 1, method: 'server/discover' })
    await bridge.reply(1)
    const at = performance.now()
    bridge.signal('SIGINT')
    const exit = await bridge.gone()
    expect(exit.code).toBe(130)
    expect(exit.at - at).toBeLessThan(400)
    expect(server.requests).toEqual([])
  })

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    '%s: DELETE, exit within 400 ms, 128 + n',
    async (name) => {
      const server = await ScriptedServer.start()
      const bridge = await BridgeProcess.listening(server)
      const at = performance.now()
      bridge.signal(name)
      const exit = await bridge.gone()
      expect(exit.at - at).toBeLessThan(400)
      expect(exit.code).toBe({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }[name])
      expect(server.of('DELETE')).toHaveLength(1)
      expect(server.live()).toEqual([])
    },
  )

  test('one after the other and twice (as Claude Code and npx do): one shutdown, one DELETE', async () => {
    const server = await ScriptedServer.start()
    server.before(async (x) => {
      if (x.request.method !== 'DELETE') return false
      await pause(150)
      return false
    })
    const bridge = await BridgeProcess.listening(server)
    const at = performance.now()
    for (const name of ['SIGINT', 'SIGINT', 'SIGTERM', 'SIGHUP', 'SIGTERM'] as const) {
      if (bridge.exit === undefined) bridge.signal(name)
      await pause(20)
    }
    const exit = await bridge.gone()
    expect(exit.at - at).toBeLessThan(400)
    expect(exit.code).toBe(130)
    expect(server.of('DELETE')).toHaveLength(1)
    expect(server.live()).toEqual([])
  })

  test('open requests are answered before the exit', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', () => {})
    const bridge = await BridgeProcess.listening(server)
    const ids = [bridge.ask('tools/call'), bridge.ask('tools/call')]
    await eventually('the calls', () => server.posts('tools/call').length === 2)
    const at = performance.now()
    bridge.signal('SIGTERM')
    const exit = await bridge.gone()
    expect(exit.at - at).toBeLessThan(400)
    for (const id of ids) {
      const { error } = await bridge.reply(id)
      expect(error?.data?.code).toBe('CLOSING')
      expect(error?.message).toContain('may have run')
    }
  })

  test('a server that hangs, on DELETE and everything else, does not delay it', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    server.before(() => true)
    bridge.ask('tools/call')
    await eventually('the call', () => server.posts('tools/call').length === 1)
    const at = performance.now()
    bridge.signal('SIGINT')
    expect((await bridge.gone()).at - at).toBeLessThan(450)
  })

  test('during an initialize that is under way: its session is deleted', async () => {
    const server = await ScriptedServer.start()
    server.on('initialize', async (x) => {
      await pause(120)
      server.welcome(x)
    })
    const bridge = BridgeProcess.start(server.url, stateful)
    bridge.send(initialize())
    await eventually('the initialize', () => server.posts('initialize').length === 1)
    const at = performance.now()
    bridge.signal('SIGINT')
    expect((await bridge.gone()).at - at).toBeLessThan(450)
    await eventually('the goodbye', () => server.sessions.size === 1 && server.live().length === 0)
  })

  test('during a renewal: its session is deleted', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.connected(server.url)
    await bridge.call('ping')
    server.wipe()
    server.on('notifications/initialized', () => {})
    bridge.ask('tools/call')
    await eventually('the renewal', () => server.posts('notifications/initialized').length === 2)
    bridge.signal('SIGTERM')
    await bridge.gone()
    expect([...server.sessions.values()].map((session) => session.endedBy)).toEqual(['wipe', 'delete'])
  })

  test('while it is reconnecting to a server that is away', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    await server.down()
    await pause(100)
    const at = performance.now()
    bridge.signal('SIGINT')
    expect((await bridge.gone()).at - at).toBeLessThan(450)
  })

  test('to the whole process group, with a shell in between that forwards nothing', async () => {
    const server = await ScriptedServer.start()
    const bridge = BridgeProcess.start(undefined, {
      command: ['/bin/sh', '-c', `"${process.execPath}" "${bin}" --stateful --url "${server.url}"; exit $?`],
      detached: true,
    })
    await bridge.handshake()
    await eventually('the push stream', () => server.listening())
    bridge.signal('SIGINT')
    await bridge.gone()
    await eventually('the goodbye', () => server.live().length === 0, 1_000)
    expect(server.of('DELETE')).toHaveLength(1)
  })

  test('after EOF, in the middle of the drain', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', () => {})
    const bridge = await BridgeProcess.listening(server)
    bridge.ask('tools/call')
    await eventually('the call', () => server.posts('tools/call').length === 1)
    bridge.eof()
    await pause(50)
    const at = performance.now()
    bridge.signal('SIGTERM')
    expect((await bridge.gone()).at - at).toBeLessThan(450)
    expect(server.of('DELETE')).toHaveLength(1)
  })

  test('after EOF, in the middle of a goodbye that is not answered', async () => {
    const server = await ScriptedServer.start()
    server.before((x) => x.request.method === 'DELETE')
    const bridge = await BridgeProcess.listening(server)
    bridge.eof()
    await eventually('the goodbye', () => server.of('DELETE').length === 1)
    const at = performance.now()
    bridge.signal('SIGTERM')
    expect((await bridge.gone()).at - at).toBeLessThan(450)
  })
})

describe('the client is gone', () => {
  test('stdout closed: exit within two seconds of the next write, with a goodbye', async () => {
    const server = await ScriptedServer.start()
    const bridge = await BridgeProcess.listening(server)
    bridge.closeStdout()
    await pause(50)
    expect(bridge.exit).toBeUndefined()
    const at = performance.now()
    server.push({ jsonrpc: '2.0', method: 'notifications/x' })
    const exit = await bridge.gone()
    expect(exit.at - at).toBeLessThan(2_000)
    expect(exit.code).toBe(1)
    expect(server.of('DELETE')).toHaveLength(1)
  })

  test('stdout closed and stdin ended: no drain for nobody', async () => {
    const server = await ScriptedServer.start()
    server.on('tools/call', (x) => x.stream().send({ jsonrpc: '2.0', method: 'notifications/progress' }))
    const bridge = await BridgeProcess.connected(server.url)
    bridge.closeStdout()
    const at = performance.now()
    bridge.ask('tools/call')
    bridge.eof()
    expect((await bridge.gone()).at - at).toBeLessThan(2_000)
  })

  test.runIf(posix)(
    'killed with SIGKILL while a request is open: the bridge is gone soon, its session deleted',
    async () => {
      const server = await ScriptedServer.start()
      server.on('tools/call', () => {})
      const script = `
      const { spawn } = require('node:child_process')
      const child = spawn(process.execPath, [${JSON.stringify(bin)}, '--stateful', '--url', ${JSON.stringify(server.url)}],
        { stdio: ['pipe', 'pipe', 'inherit'] })
      const say = (m) => child.stdin.write(JSON.stringify({ jsonrpc: '2.0', ...m }) + '\\n')
      child.stdout.once('data', () => {
        say({ method: 'notifications/initialized' })
        say({ id: 1, method: 'tools/call' })
      })
      say({ id: 0, method: 'initialize', params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 't', version: '1' } } })
      process.stdout.write(child.pid + '\\n')
      setInterval(() => {}, 1000)`
      const host = spawn(process.execPath, ['-e', script], {
        env: baseEnv,
        cwd: root,
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      onTestFinished(() => {
        host.kill('SIGKILL')
      })
      let output = ''
      host.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString()
      })
      const pid = await eventually('the pid', () =>
        output.includes('\n') ? Number(output.trim()) : undefined,
      )
      onTestFinished(() => {
        if (alive(pid)) process.kill(pid, 'SIGKILL')
      })
      await eventually('the open call', () => server.posts('tools/call').length === 1)
      host.kill('SIGKILL')
      await eventually('the end of the bridge', () => !alive(pid), 4_000)
      expect(server.live()).toEqual([])
    },
  )
})

describe('piped use', () => {
  const lines = [
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"pipe","version":"1"}}}',
    '{"jsonrpc":"2.0","method":"notifications/initialized"}',
    '{"jsonrpc":"2.0","id":2,"method":"tools/list"}',
    '{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"n":1.0}}',
  ]

  test.each([[[]], [['--stateful']]])(
    'a script on stdin (%j): every answer is printed, exit 0',
    async (args) => {
      const server = await ScriptedServer.start()
      const bridge = BridgeProcess.start(server.url, { args })
      bridge.write(`${lines.join('\n')}\n`)
      bridge.eof()
      expect((await bridge.gone()).code).toBe(0)
      expect(bridge.replies.map((each) => each?.id).sort()).toEqual([1, 2, 3])
      expect(bridge.replies.every((each) => each?.result !== undefined)).toBe(true)
      expect(bridge.stderr).toBe('')
      expect(server.live()).toEqual([])
    },
  )

  test.runIf(existsSync('/dev/full'))(
    'answers that do not fit on the disk: exit 1, and it says so',
    async () => {
      const server = await ScriptedServer.start()
      const line = `"${process.execPath}" "${bin}" --url "${server.url}" > /dev/full; exit $?`
      const bridge = BridgeProcess.start(undefined, { command: ['/bin/sh', '-c', line] })
      bridge.send(lines[2] ?? '')
      bridge.eof()
      expect((await bridge.gone()).code).toBe(1)
      expect(bridge.stderr).toMatch(/^error: the output could not be written: ENOSPC.*\ntry: .*\n$/)
      expect(server.live()).toEqual([])
    },
  )

  test('behind a real pipe and a shell, 400 answers of 10 kB come whole', async () => {
    const server = await ScriptedServer.start({ sessions: false })
    server.on('tools/call', (x) => x.result({ text: 'x'.repeat(10_000), n: x.params.n }))
    const calls = [...Array(400).keys()].map(
      (n) => `{"jsonrpc":"2.0","id":${n + 10},"method":"tools/call","params":{"n":${n}}}`,
    )
    const bridge = BridgeProcess.start(server.url)
    bridge.write(`${[...lines.slice(0, 2), ...calls].join('\n')}\n`)
    bridge.eof()
    expect((await bridge.gone(15_000)).code).toBe(0)
    expect(bridge.replies).toHaveLength(401)
    expect(new Set(bridge.replies.map((each) => each?.id)).size).toBe(401)
  })
})

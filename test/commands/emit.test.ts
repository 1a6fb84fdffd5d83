/**
 * What `chamade-mcp emit` says of events that cannot be meant, and what it adds to those that leave something out.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { announce } from '../../src/simulator/beacon.ts'
import { done, home, introduced, run } from '../simulator/program.ts'
import { emptyFolder } from '../support/empty-folder.ts'
import { runCli } from './support.ts'

let at = ''

beforeEach(async () => {
  at = await home()
  await introduced(run(at, ['simulate', '--port', '0']))
})

test('a fault without a name: says so, and lists them', async () => {
  const { code, errors } = await done(at, ['emit', 'fault'])
  expect(code).toBe(2)
  expect(errors).toMatch(/^error: emit fault needs a name\ntry: one of .*half-open.*; in a moot .*freeze/)
})

test.each([
  [['say', 'hi', '--platform', 'slack'], 'emit say has no --platform', '--from, --space, --port, --json'],
  [['fault', 'down', '--ms', '5'], 'fault "down" has no "ms"; it has fault, seconds', 'emit --help'],
  [['status', 'paused', '--from', 'Bob'], 'emit status has no --from', '--space, --port'],
  [['constructor'], 'there is nothing like "constructor" to emit', 'dm, call'],
  [['-', '--agent', 'agent-2'], 'an event read from stdin says all itself: it has no --agent', '--from'],
])('%j: an option that would say nothing is refused', async (words, text, hint) => {
  const { code, output, errors } = await done(at, ['emit', ...words], '{"type":"call"}')
  expect(code).toBe(2)
  expect(output).toBe('')
  expect(errors).toContain(`error: ${text}`)
  expect(errors).toContain(hint)
})

test('the examples of its help fit on a terminal of 80 columns', async () => {
  const { output } = await done(at, ['emit', '--help'])
  const examples = output.split('Examples:\n')[1]?.trimEnd().split('\n') ?? []
  expect(examples.length).toBeGreaterThan(2)
  for (const line of examples) expect(line.length, line).toBeLessThanOrEqual(80)
})

describe('events on stdin', () => {
  test('without a sender come from --from, or from Alice as on the command line', async () => {
    const lines = '{"type":"dm","text":"hi"}\n{"type":"dm","text":"ho","from":"Carol"}\n{"type":"call"}\n'
    const usual = await done(at, ['emit'], lines)
    expect(usual.code).toBe(0)
    expect(usual.output).toMatch(/from Alice .*"hi"\n.*from Carol .*"ho"\n.*Incoming call: SIP Alice/)
    const told = await done(at, ['emit', '--from', 'Bob'], lines)
    expect(told.output).toMatch(/from Bob .*"hi"\n.*from Carol .*"ho"\n.*Incoming call: SIP Bob/)
  })

  test('may begin with a byte order mark, as programs of Windows write one', async () => {
    const { code, output } = await done(
      at,
      ['emit'],
      '\ufeff{"type":"dm","text":"hi"}\r\n{"type":"call"}\r\n',
    )
    expect(code).toBe(0)
    expect(output).toMatch(/"hi"\n.*Incoming call/)
  })

  test.each([
    ['{"dm":1}', 'the event on stdin has neither "type" nor "fault"'],
    ['[{"type":"call"},3]', 'event 2 on stdin is no object'],
    ['{"type":"call"}\n\n{"type":"dm"', 'line 3 of stdin is no JSON'],
  ])('%j: nothing is emitted, and it says what is wrong', async (input, text) => {
    const { code, output, errors } = await done(at, ['emit'], input)
    expect(code).toBe(2)
    expect(output).toBe('')
    expect(errors).toContain(`error: ${text}\ntry: {"type":"dm"`)
  })

  test('that the simulator refuses are named by their line', async () => {
    const { code, output, errors } = await done(at, ['emit'], '{"type":"call"}\n{"type":"cat"}\n')
    expect(code).toBe(2)
    expect(output).toContain('Incoming call')
    expect(errors).toContain('error: line 2 of stdin: there is no event "cat"')
  })
})

test('a simulator that goes away in the middle is said to have done so', async () => {
  const server = createServer((request, response) => {
    if (request.method === 'GET') response.end('{}')
    else request.socket.destroy()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void server.close())
  const home = emptyFolder()
  const { port } = server.address() as AddressInfo
  const url = `http://127.0.0.1:${port}`
  await announce(home, port, { system: 'chamade', url, token: 'x', startedAt: new Date().toISOString() })
  const { code, stderr } = await runCli(['emit', 'fault', 'restart'], { home })
  expect(code).toBe(1)
  expect(stderr).toMatch(/^error: the simulator at http:\/\/127\.0\.0\.1:\d+ did not answer: .+\ntry: /)
  expect(stderr).not.toContain('internal')
})

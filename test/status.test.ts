/** What stands in the log, and what never does. */
import { expect, test } from 'vitest'
import { type Level, redactor, SESSIONS_KNOWN, type Status, statusLog } from '../src/status.ts'

/** A log of what is worth a warning, or at least `level`. */
function warnings(level: Level = 'warn') {
  const lines: string[] = []
  const write = (line: string): unknown => lines.push(line)
  return { lines, log: statusLog({ write, level, format: 'text', redact: (text) => text }) }
}

test('a secret that begins another leaves nothing of it standing', () => {
  const redact = redactor()
  for (const secret of ['chmd', 'chmd_0123456789', 'chmd_0123']) redact.add(secret)
  expect(redact('Bearer chmd_0123456789, chmd_01234, chmd')).toBe(
    'Bearer [redacted], [redacted]4, [redacted]',
  )
})

test.each([
  ['JSON', JSON.stringify({ 'k/+="é&': '' }).slice(2, -5)],
  ['JSON of PHP', 'k\\/+=\\"\\u00e9&'],
  ['JSON of Gson', 'k/+\\u003d\\"\\u00E9\\u0026'],
  ['a URL', encodeURIComponent('k/+="é&')],
  ['a URL in small letters', 'k%2f%2b%3d%22%c3%a9%26'],
  ['a page', 'k/+=&quot;&#233;&amp;'],
  ['a page of a template', 'k&#x2F;&#x2b;&#61;&#34;&#xE9;&#38;'],
])('a secret is known as %s spells it', (_, spelled) => {
  const redact = redactor()
  redact.add('k/+="é&')
  expect(redact(`no ${spelled}, no more`)).toBe('no [redacted], no more')
})

test('what a server says at length is not all in the log', () => {
  const { log, lines } = warnings()
  log({ kind: 'note', level: 'warn', text: 'x'.repeat(100_000) })
  expect(lines.join('').length).toBeLessThan(2_100)
})

test('nothing that turns the direction of writing is in the log', () => {
  const { log, lines } = warnings()
  log({ kind: 'note', level: 'warn', text: 'of\u202etxt.exe' })
  expect(lines.join('')).toMatch(/ warn of txt\.exe\n$/)
})

test('a secret that is learned late is cut out from then on', () => {
  const redact = redactor()
  redact.add('chmd_0123456789')
  expect(redact('chmd_0123456789 chmd_renewed')).toBe('[redacted] chmd_renewed')
  redact.add('chmd_renewed')
  expect(redact('chmd_0123456789 chmd_renewed')).toBe('[redacted] [redacted]')
})

test('of the ids of sessions the last are known, and one that is named again stays', () => {
  const redact = redactor()
  redact.add('chmd_0123456789')
  redact.addSession('session/in/use')
  for (let n = 0; n < 3 * SESSIONS_KNOWN; n++) {
    redact.addSession('session/in/use')
    redact.addSession(`passing-${n}-`)
  }
  expect(redact('chmd_0123456789, session%2Fin%2Fuse, passing-0-')).toBe('[redacted], [redacted], passing-0-')
  const last = Array.from({ length: SESSIONS_KNOWN - 1 }, (_, i) => `passing-${3 * SESSIONS_KNOWN - 1 - i}-`)
  expect(redact(last.join(' '))).toBe(last.map(() => '[redacted]').join(' '))
})

test('a stream that comes and goes brings up no other one that stays down', () => {
  const { log, lines } = warnings()
  const push = { kind: 'push', at: 0, generation: 1 } as const
  const refused = { ...push, stream: 'b', state: 'retrying', reason: 'HTTP 403', severe: true } as const
  for (let n = 0; n < 3; n++) {
    log(refused)
    log({ ...push, stream: 'a', state: 'down', reason: 'cut' })
    log({ ...push, stream: 'a', state: 'retrying', reason: 'cut', delayMs: 0 })
    log({ ...push, stream: 'a', state: 'up', continuous: true })
  }
  expect(lines).toHaveLength(1)
  log({ ...push, stream: 'b', state: 'up', continuous: true })
  log(refused)
  expect(lines).toHaveLength(3)
})

test('who was warned that something is down reads that it is up again, and nobody else does', () => {
  const { log, lines } = warnings()
  const push = { kind: 'push', at: 0, generation: 1 } as const
  const session = { kind: 'session', generation: 2 } as const
  const facts: Status[] = [
    { ...push, state: 'retrying', reason: 'ECONNREFUSED' },
    { ...push, state: 'up', downMs: 5, attempts: 1 },
    { ...session, state: 'live', afterMs: 5 },
    { ...push, state: 'retrying', reason: 'HTTP 400', severe: true, delayMs: 0 },
    { ...session, state: 'lost', reason: 'HTTP 502' },
    { ...session, state: 'live', afterMs: 5 },
    { ...push, state: 'up', downMs: 5, attempts: 1 },
    { ...session, state: 'live', afterMs: 5 },
    { ...push, state: 'up', downMs: 5, attempts: 1 },
  ]
  facts.forEach(log)
  expect(lines.map((line) => line.replace(/^\S+ /, ''))).toEqual([
    'warn push stream still down: HTTP 400; trying again in 0 ms\n',
    'warn session 2 lost: HTTP 502\n',
    'warn session 2 live after 5 ms\n',
    'warn push stream up again after 5 ms, 1 attempt\n',
  ])
})

test('of a stream that stays away the first failure is said, and not each', () => {
  const { log, lines } = warnings('info')
  const push = { kind: 'push', at: 0, generation: 1 } as const
  for (let n = 0; n < 2; n++) {
    for (const delayMs of [0, 250, 500]) log({ ...push, state: 'retrying', reason: 'ECONNREFUSED', delayMs })
    expect(lines.splice(0)).toEqual([
      expect.stringContaining('still down: ECONNREFUSED; trying again in 0 ms'),
    ])
    log({ ...push, state: 'up', downMs: 5, attempts: 3 })
    expect(lines.splice(0)).toEqual([expect.stringContaining('up again')])
  }
})

test('who was warned that there is no push stream reads that there is one after all', () => {
  const { log, lines } = warnings()
  const push = { kind: 'push', at: 0, generation: 1 } as const
  log({ ...push, state: 'not-offered', reason: 'HTTP 405', severe: true })
  log({ ...push, generation: 2, state: 'up', continuous: true })
  expect(lines).toHaveLength(2)
})

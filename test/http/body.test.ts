/** When a body ended, as far as its reader can tell. */
import { expect, onTestFinished, test, vi } from 'vitest'
import { Body } from '../../src/http/body.ts'
import { pause } from '../support/eventually.ts'

const piece = Buffer.alloc(64 * 1024)

function filled(): Body {
  const body = new Body({ pause: () => undefined, resume: () => undefined, abort: () => undefined })
  fill(body)
  return body
}

/** More than it takes without pausing the socket. */
function fill(body: Body): void {
  for (let i = 0; i < 4; i++) body.push(piece)
}

const ends = [
  ['breaks', (body: Body) => body.fail(new Error('reset'))],
  ['ends', (body: Body) => body.end()],
] as const

test.each(ends)(
  'one that %s behind a reader who held up the socket ended when that began',
  async (_, end) => {
    const body = filled()
    const stoppedAt = Date.now()
    await pause(200)
    await body.read()
    body.push(piece)
    end(body)
    expect(body.endedAt).toBeLessThanOrEqual(stoppedAt)
  },
)

test.each(ends)('one that %s behind a reader who took every burst at once ended then', async (_, end) => {
  const body = filled()
  for (let i = 0; i < 10; i++) {
    await body.read()
    fill(body)
    await pause(5)
  }
  await body.read()
  const before = Date.now()
  end(body)
  expect(body.endedAt).toBeGreaterThanOrEqual(before)
})

test.each(['ETIMEDOUT', 'ECONNRESET'])(
  'one that the system gives up (%s) ended when it was last heard',
  async (code) => {
    const body = new Body({ pause: () => undefined, resume: () => undefined, abort: () => undefined })
    body.push(Buffer.from(':\n'))
    await body.read()
    const heardAt = Date.now()
    await pause(50)
    body.fail(Object.assign(new Error(`read ${code}`), { code, syscall: 'read' }))
    expect(body.endedAt).toBeLessThanOrEqual(heardAt)
  },
)

test('one that the system gives up long after it was heard ended no longer ago than a probe takes', () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  onTestFinished(() => void vi.useRealTimers())
  const body = new Body({ pause: () => undefined, resume: () => undefined, abort: () => undefined })
  body.push(Buffer.from(':\n'))
  vi.setSystemTime(Date.now() + 3_600_000)
  body.fail(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' }))
  expect(body.endedAt).toBe(Date.now() - 30_000)
})

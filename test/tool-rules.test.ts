/** A call that is given up, and what comes for it in that moment. */
import { expect, onTestFinished, test } from 'vitest'
import { errors } from '../src/errors.ts'
import { compose, success } from '../src/protocol.ts'
import type { OpenUpstream } from '../src/sides.ts'
import { withToolRules } from '../src/tool-rules.ts'
import { pause } from './support/eventually.ts'

test.each([
  ['answer', undefined],
  ['failure', errors.mayHaveRun('tools/call', 'example.com', 'it was cut')],
])('a call given up by --tool-timeout just as its %s comes may have run', async (_, failure) => {
  const delivered: unknown[] = []
  const open: OpenUpstream = ({ deliver }) => {
    let end = (): void => undefined
    return {
      send: (message) => {
        if (message.kind === 'request') {
          return new Promise((resolve, reject) => {
            end = () => {
              if (failure !== undefined) return reject(failure)
              void deliver(success('1', '{}'), 'answer')
              resolve()
            }
          })
        }
        end()
        return Promise.resolve()
      },
      close: () => Promise.resolve(),
    }
  }
  const outlet = { deliver: (message: unknown) => void delivered.push(message), report: () => undefined }
  const upstream = withToolRules(open, { ignore: [], timeoutMs: 20 })(outlet)
  const call = compose({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'pay' } })
  await expect(upstream.send(call)).rejects.toThrow(/may (still )?have run/)
  expect(delivered).toEqual([])
})

test('silence does not count while the client takes nothing of what comes before the answer', async () => {
  const delivered: string[] = []
  let take: () => void = () => undefined
  const open: OpenUpstream = ({ deliver }) => ({
    send: async (message) => {
      if (message.kind !== 'request') return
      const params = { progressToken: 1, progress: 1 }
      await deliver(compose({ jsonrpc: '2.0', method: 'notifications/progress', params }), 'answer')
      void deliver(success('1', '{}'), 'answer')
    },
    close: () => Promise.resolve(),
  })
  const upstream = withToolRules(open, { ignore: [], timeoutMs: 20 })({
    deliver: (message) => {
      delivered.push(message.kind)
      return message.kind === 'notification' ? new Promise<void>((resolve) => (take = resolve)) : undefined
    },
    report: () => undefined,
  })
  const called = upstream.send(
    compose({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name: 'pay', _meta: { progressToken: 1 } },
    }),
  )
  await pause(100)
  take()
  await called
  expect(delivered).toEqual(['notification', 'response'])
})

test('what the client takes a moment for keeps no other call from being given up', async () => {
  const open: OpenUpstream = ({ deliver }) => ({
    send: (message) => {
      if (message.kind === 'request' && message.id === '2') void deliver(success('2', '{}'), 'answer')
      return message.kind === 'request' && message.id === '1'
        ? new Promise(() => undefined)
        : Promise.resolve()
    },
    close: () => Promise.resolve(),
  })
  const upstream = withToolRules(open, { ignore: [], timeoutMs: 200 })({
    deliver: () => new Promise((resolve) => setImmediate(resolve)),
    report: () => undefined,
  })
  const call = (id: number): Promise<void> =>
    upstream.send(compose({ jsonrpc: '2.0', id, method: 'tools/call', params: { name: 'pay' } }))
  const others = setInterval(() => void call(2), 20)
  onTestFinished(() => clearInterval(others))
  await expect(call(1)).rejects.toThrow(/no answer to pay/)
})

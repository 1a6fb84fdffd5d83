/** A call that is given up, and what comes for it in that moment. */
import { expect, test } from 'vitest'
import { errors } from '../src/errors.ts'
import { compose, success } from '../src/protocol.ts'
import type { OpenUpstream } from '../src/sides.ts'
import { withToolRules } from '../src/tool-rules.ts'

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

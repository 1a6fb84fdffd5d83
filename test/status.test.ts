/** What stands in the log, and what never does. */
import { expect, test } from 'vitest'
import { redactor } from '../src/status.ts'

test('a secret that begins another leaves nothing of it standing', () => {
  const redact = redactor()
  for (const secret of ['chmd', 'chmd_0123456789', 'chmd_0123']) redact.add(secret)
  expect(redact('Bearer chmd_0123456789, chmd_01234, chmd')).toBe(
    'Bearer [redacted], [redacted]4, [redacted]',
  )
})

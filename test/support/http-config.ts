/** Settings of the far side for tests without a process around it: no key, nothing redacted, the usual times. */
import { DEFAULT_TIMING, type HttpConfig, SYSTEM } from '../../src/http/config.ts'

export function httpConfig(url: string, more: Partial<HttpConfig> = {}): HttpConfig {
  const headers = {}
  return {
    ...DEFAULT_TIMING,
    ...SYSTEM,
    url,
    stateful: true,
    credentials: { source: undefined, headers: () => headers, renew: async () => false },
    version: '0',
    maxMessageBytes: 1 << 20,
    redact: Object.assign((text: string) => text, { add: () => undefined, addSession: () => undefined }),
    ...more,
  }
}

/**
 * The messages that many tests write, and what of them came to the client.
 *
 * Not a client and not a server: they are written by the one and sent by the other. The one rule: a message that a
 * test is about stands in that test.
 */
import type { BridgeProcess } from './bridge-process.ts'

/** What a client says of itself. */
export const initializeParams = {
  protocolVersion: '2025-11-25',
  capabilities: {},
  clientInfo: { name: 'test', version: '1' },
}

export function initialize(id: string | number = 0) {
  return { jsonrpc: '2.0', id, method: 'initialize', params: initializeParams }
}

export const initialized = { jsonrpc: '2.0', method: 'notifications/initialized' }

/** A notification of the server that can be told from others by its `n`. */
export function notification(n: string | number, more: object = {}): string {
  return JSON.stringify({ jsonrpc: '2.0', method: 'notifications/n', params: { n, ...more } })
}

/** The `n` of those that arrived, in order. */
export function heard(bridge: BridgeProcess): unknown[] {
  return bridge.received('notifications/n').map((each) => each.params?.n)
}

/** Head of an event stream that a test writes by hand. */
export const sse = { 'content-type': 'text/event-stream' }

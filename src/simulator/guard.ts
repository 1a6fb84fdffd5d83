/**
 * Keeps other people's web pages out: Host must name this machine, Origin (if a browser sends one) must be ours.
 *
 * Not authentication; keys do that. The one rule: no CORS header is ever sent.
 *
 * [MCP 2025-11-25 transports, security] servers MUST validate Origin, SHOULD bind to localhost.
 */
import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'

const ANY = new Set(['0.0.0.0', '::'])

/** Why this request is refused, or undefined. `host` is what we listen on. */
export function forbidden(req: IncomingMessage, host: string, port: number): string | undefined {
  const named = req.headers.host ?? ''
  if (!isOurs(named, host, port)) return `Forbidden: this server is not "${named}"`
  const { origin } = req.headers
  if (origin === undefined) return undefined
  const asked = URL.canParse(origin) ? new URL(origin) : undefined
  if (asked?.protocol === 'http:' && isOurs(asked.host, host, port)) return undefined
  return `Forbidden: pages of "${origin}" may not use this server`
}

function isOurs(named: string, host: string, port: number): boolean {
  if (!URL.canParse(`http://${named}`)) return false
  const url = new URL(`http://${named}`)
  if (url.host.toLowerCase() !== named.toLowerCase() && `${url.hostname}:80` !== named) return false
  if (Number(url.port === '' ? 80 : url.port) !== port) return false
  const name = url.hostname.replace(/^\[|\]$/g, '')
  if (name === 'localhost' || name === '127.0.0.1' || name === '::1') return true
  if (name === host.toLowerCase()) return true
  // Listening everywhere was asked for: any address is ours then, any name is not (it could be rebound).
  return ANY.has(host) && isIP(name) !== 0
}

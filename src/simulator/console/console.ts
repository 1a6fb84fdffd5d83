/**
 * The web console over HTTP: one page, everything in it.
 *
 * Not the page itself (page.ts, script.ts, style.ts). The one rule: the page can load nothing but itself and talk to nobody but
 * this simulator, and no other page may frame it.
 */
import { createHash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { PAGE } from './page.ts'
import { SCRIPT } from './script.ts'
import { STYLE } from './style.ts'

const POLICY = [
  "default-src 'none'",
  `script-src '${hashOf(SCRIPT)}'`,
  `style-src '${hashOf(STYLE)}'`,
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

export function sendConsole(res: ServerResponse): void {
  res.writeHead(200, {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': POLICY,
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cache-Control': 'no-store',
  })
  res.end(PAGE)
}

function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`
}

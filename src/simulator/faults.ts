/**
 * The weather: what goes wrong on demand, and until when.
 *
 * Not the breaking itself where that needs connections (breakage.ts does it); here is what holds for the requests to
 * come. The one rule: what lasts ends by itself or by `clear`, and a fault touches only `/mcp`, but for `refuse`.
 */
import type { ServerResponse } from 'node:http'

export const FAULTS = {
  restart: 'a redeploy: sessions wiped, connections cut',
  down: 'connections are cut on arrival, sessions wiped (for 5 s)',
  refuse: 'nothing listens, not even the console; sessions wiped (for 5 s)',
  drop: 'cuts every push stream; sessions stay',
  'half-open': 'open push streams go silent without closing',
  slow: 'answers and pushes come --ms later (for 30 s)',
  '503': 'HTTP 503 with Retry-After (for 5 s)',
  '429': 'HTTP 429 with Retry-After (for 5 s)',
  '502': 'HTTP 502 with an HTML page, as a proxy gives (for 5 s)',
  'bad-key': 'every key is refused with 401 (for 10 s)',
  'forget-404': 'sessions forgotten, connections stay; the next use is 404',
  'forget-400': 'the same, but the next use is 400',
  'hold-stream': 'cuts the push streams and refuses new ones with 409 (for 5 s)',
  clear: 'ends every fault (during refuse only a scenario can say it)',
} as const

export type FaultName = keyof typeof FAULTS

export function isFault(name: string): name is FaultName {
  return Object.hasOwn(FAULTS, name)
}

export interface FaultOptions {
  readonly seconds?: number | undefined
  readonly ms?: number | undefined
}

/** Faults that hold for a time, with the seconds they last unless told. */
const LASTING = {
  down: 5,
  refuse: 5,
  slow: 30,
  '503': 5,
  '429': 5,
  '502': 5,
  'bad-key': 10,
  'hold-stream': 5,
} as const
type Lasting = keyof typeof LASTING

/** The amounts that mean something to it. */
export function amountsOf(name: FaultName): readonly (keyof FaultOptions)[] {
  if (name === 'slow') return ['seconds', 'ms']
  return Object.hasOwn(LASTING, name) ? ['seconds'] : []
}

export class Faults {
  readonly #until = new Map<Lasting, number>()
  #slowMs = 0
  #lastPushDue = 0
  /** Status of a request whose session is not known. */
  forgottenAs: 404 | 400 = 404

  /** Starts a fault that lasts; gives its length in milliseconds. */
  start(name: Lasting, options: FaultOptions = {}): number {
    const lengthMs = Math.max(0, options.seconds ?? LASTING[name]) * 1_000
    this.#until.set(name, performance.now() + lengthMs)
    if (name === 'slow') this.#slowMs = Math.max(0, options.ms ?? 2_000)
    return lengthMs
  }

  clear(): void {
    this.#until.clear()
    this.forgottenAs = 404
  }

  on(name: Lasting): boolean {
    return this.leftMs(name) > 0
  }

  /** Faults that hold now, with the milliseconds they have left. */
  get active(): Readonly<Record<string, number>> {
    const names = [...this.#until.keys()].filter((name) => this.on(name))
    return Object.fromEntries(names.map((name) => [name, Math.round(this.leftMs(name))]))
  }

  /** True while the server still holds old streams open. */
  get streamsHeld(): boolean {
    return this.on('hold-stream')
  }

  /** Milliseconds an answer has to wait. */
  get answerDelayMs(): number {
    return this.on('slow') ? this.#slowMs : 0
  }

  /** Milliseconds the next push has to wait; never less than what is still due of the one before it. */
  pushDelayMs(): number {
    const now = performance.now()
    this.#lastPushDue = Math.max(this.#lastPushDue, now + this.answerDelayMs)
    return this.#lastPushDue - now
  }

  leftMs(name: Lasting): number {
    return Math.max(0, (this.#until.get(name) ?? 0) - performance.now())
  }

  /** Answers in place of the server when a fault says so. */
  answer(res: ServerResponse): boolean {
    if (this.on('down')) {
      res.socket?.resetAndDestroy()
      return true
    }
    if (this.on('502')) {
      res.writeHead(502, { 'Content-Type': 'text/html' }).end(BAD_GATEWAY)
      return true
    }
    for (const name of ['503', '429'] as const) {
      if (!this.on(name)) continue
      const retryAfter = String(Math.ceil(this.leftMs(name) / 1_000))
      res.writeHead(Number(name), { 'Content-Type': 'text/plain', 'Retry-After': retryAfter })
      res.end(name === '503' ? 'deploying, back in a moment' : 'too many requests')
      return true
    }
    return false
  }
}

const BAD_GATEWAY = `<html>
<head><title>502 Bad Gateway</title></head>
<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body>
</html>
`

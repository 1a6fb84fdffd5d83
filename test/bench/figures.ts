/**
 * What is measured, in which unit, against whom, and how good it should be. Data only.
 *
 * Not a gate: a missed target is printed, and the run still ends with 0. The one rule: targets are ratios to
 * something measured in the same round wherever that is possible, because machines differ and neighbours are noisy.
 */

/** `bare` is `node -e 0`: what Node itself costs. */
export type Reference = 'bare' | 'floor' | 'mcp-remote'

export interface Target {
  readonly atMost?: number
  readonly atLeast?: number
  /** Without it the target is the figure itself, in its unit. */
  readonly of?: Reference
}

export interface Figure {
  readonly title: string
  readonly unit: 'ms' | 'MB' | '/s' | 'us' | 's' | ''
  readonly target?: Target
}

/** In the order of the table. */
export const FIGURES = {
  'start.ms': { title: 'spawn → `initialize` answered', unit: 'ms', target: { atMost: 2, of: 'bare' } },
  'start.cpu': { title: 'CPU until then', unit: 'ms', target: { atMost: 2, of: 'bare' } },
  'tls.ms': { title: 'the same over TLS', unit: 'ms' },
  'list.ms': { title: 'first `tools/list` after that', unit: 'ms' },
  'json.p50': { title: 'call, JSON answer, p50', unit: 'ms', target: { atMost: 1.1, of: 'floor' } },
  'json.p99': { title: 'call, JSON answer, p99', unit: 'ms', target: { atMost: 1.5, of: 'floor' } },
  'sse.p50': { title: 'call, SSE answer, p50', unit: 'ms', target: { atMost: 1.1, of: 'floor' } },
  'sse.p99': { title: 'call, SSE answer, p99', unit: 'ms', target: { atMost: 1.5, of: 'floor' } },
  'load.rate': { title: '64 calls in flight', unit: '/s', target: { atLeast: 2, of: 'floor' } },
  'load.cpu': { title: 'CPU of a call in that load', unit: 'us', target: { atMost: 0.8, of: 'floor' } },
  'push.p50': { title: 'pushed event at 50/s, p50', unit: 'ms', target: { atMost: 1.25, of: 'floor' } },
  'burst.rate': { title: 'events in a burst of 20,000', unit: '/s', target: { atLeast: 1, of: 'floor' } },
  'rss.idle': { title: 'RSS idle', unit: 'MB', target: { atMost: 52 } },
  'rss.load': { title: 'RSS after the load', unit: 'MB', target: { atMost: 62 } },
  'rss.peak': { title: 'RSS peak', unit: 'MB', target: { atMost: 75 } },
  'big.json.ms': { title: '10 MB answer, JSON', unit: 'ms', target: { atMost: 1.2, of: 'floor' } },
  'big.json.peak': { title: 'RSS peak of it', unit: 'MB', target: { atMost: 100 } },
  'big.sse.ms': { title: '10 MB answer, SSE', unit: 'ms', target: { atMost: 1.2, of: 'floor' } },
  'big.sse.peak': { title: 'RSS peak of it', unit: 'MB', target: { atMost: 100 } },
  'exit.ms': { title: 'stdin EOF → exit, nothing open', unit: 'ms', target: { atMost: 20 } },
  'cut.ms': { title: 'push stream cut → push again', unit: 'ms', target: { atMost: 20 } },
  'forget.ms': { title: 'session forgotten (404) → call answered', unit: 'ms', target: { atMost: 10 } },
  'deaf.ms': { title: 'cut and forgotten, idle client → push again', unit: 'ms' },
  'install.packages': { title: 'packages installed', unit: '', target: { atMost: 1 } },
  'install.mb': { title: 'installed size', unit: 'MB', target: { atMost: 3 } },
  'install.hot': { title: 'of it loaded at start', unit: 'MB', target: { atMost: 0.25 } },
  'install.s': { title: '`npm install`', unit: 's', target: { atMost: 1 } },
  'npx.s': {
    title: "`npx`, package in npm's cache only → answered",
    unit: 's',
    target: { atMost: 0.35, of: 'mcp-remote' },
  },
} as const satisfies Readonly<Record<string, Figure>>

export type FigureName = keyof typeof FIGURES

/** What one measure of one contestant found in one round. What could not be measured is left out. */
export type Found = Partial<Record<FigureName, number>>

export function figureOf(name: FigureName): Figure {
  return FIGURES[name]
}

export const FIGURE_NAMES = Object.keys(FIGURES) as readonly FigureName[]

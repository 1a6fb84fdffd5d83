/**
 * `npm run bench`: how long, how much, against whom.
 *
 *   --quick            fewer rounds and smaller sizes, under a minute
 *   --peers            also mcp-remote and supergateway, installed into a temp folder on first use
 *   --only NAME        only these measures (repeatable): start tls latency load push burst big exit cut forget
 *                      deaf install growth
 *   --rounds N         rounds; each contestant takes its turn in each
 *   --node FILE        the Node that runs the contestants (default: this one)
 *   --json             the samples instead of tables
 *   --write-readme     puts the tables between the README's bench marks
 *
 * It never fails a test run: a missed target is printed and the exit code stays 0.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Contestant, contestants, ROOT } from './contestants.ts'
import type { Found } from './figures.ts'
import { GROWTH_SIZES, growthTable, measureGrowth } from './growth.ts'
import { measureInstall } from './install.ts'
import { type Bench, MEASURES, measureBare } from './measures.ts'
import { replaceBetweenMarks, table, verdicts } from './results.ts'
import { ServerProcess } from './server-process.ts'

const FULL = { latencyCalls: 2_000, loadCalls: 8_000, pushes: 100, burst: 20_000, bigCalls: 5 }
const QUICK = { latencyCalls: 400, loadCalls: 3_000, pushes: 25, burst: 20_000, bigCalls: 2 }
const FULL_ROUNDS = 5
const QUICK_ROUNDS = 2

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    peers: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true },
    rounds: { type: 'string' },
    node: { type: 'string', default: process.execPath },
    json: { type: 'boolean', default: false },
    'write-readme': { type: 'boolean', default: false },
  },
})

const rounds = Number(options.rounds ?? (options.quick ? QUICK_ROUNDS : FULL_ROUNDS))
const wanted = (name: string): boolean =>
  options.only === undefined
    ? !(options.quick && ['install', 'tls'].includes(name))
    : options.only.includes(name)
const say = (text: string): void => void process.stderr.write(`${text}\n`)

const server = await ServerProcess.start()
try {
  const bench: Bench = { server, sizes: options.quick ? QUICK : FULL, node: options.node }
  const field = contestants({ node: options.node, peers: options.peers })
  const samples = await runRounds(bench, field)
  if (wanted('install')) {
    const found = await measureInstall({ url: server.url, peers: options.peers, say })
    for (const [name, figures] of Object.entries(found)) Object.assign(samples[name]?.[0] ?? {}, figures)
  }
  const ours = field.find(({ name }) => name === 'ours')
  const growth =
    ours !== undefined && wanted('growth')
      ? await measureGrowth(bench, ours, options.quick ? GROWTH_SIZES.quick : GROWTH_SIZES.full, say)
      : []
  if (options.json) {
    const judged = verdicts(samples)
    process.stdout.write(
      `${JSON.stringify({ machine: machine(), samples, verdicts: judged, growth }, null, 2)}\n`,
    )
  } else {
    const text = [machine(), table(samples), growthTable(growth)].filter((part) => part !== '').join('\n\n')
    process.stdout.write(`${text}\n`)
    if (options['write-readme']) {
      const readme = join(ROOT, 'README.md')
      writeFileSync(readme, replaceBetweenMarks(readFileSync(readme, 'utf8'), text))
    }
  }
} finally {
  server.stop()
}

/** Every measure in every round, the contestants taking turns; who goes first changes from round to round. */
async function runRounds(bench: Bench, field: readonly Contestant[]): Promise<Record<string, Found[]>> {
  const samples: Record<string, Found[]> = {}
  /** Who cannot do it (the SDK never hears again, the floor knows no 404) is not waited for in every round. */
  const unable = new Set<string>()
  for (const name of [...field.map((contestant) => contestant.name), 'bare']) samples[name] = []
  for (let round = 0; round < rounds; round++) {
    for (const list of Object.values(samples)) list.push({})
    for (const [name, measure] of Object.entries(MEASURES)) {
      if (!wanted(name)) continue
      keep('bare', await measureBare(bench.node, name))
      for (let i = 0; i < field.length; i++) {
        const contestant = field[(i + round) % field.length]
        if (contestant === undefined) continue
        if (contestant.cannot?.includes(name) || unable.has(`${contestant.name} ${name}`)) continue
        try {
          keep(contestant.name, await measure(bench, contestant))
        } catch (error) {
          if (round === 0) say(`${contestant.name}, ${name}: ${excerpt(error)}`)
        }
      }
    }
    say(`round ${round + 1} of ${rounds}`)
  }
  return samples

  function keep(name: string, found: Found): void {
    Object.assign(samples[name]?.at(-1) ?? {}, found)
  }
}

function excerpt(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 200)
}

/** One line: when, which Node, what machine. */
function machine(): string {
  const node = execFileSync(options.node, ['--version']).toString().trim()
  const model = cpus()[0]?.model.trim() || 'unknown processor'
  const date = new Date().toISOString().slice(0, 10)
  const kind = `${process.platform} ${process.arch}, ${cpus().length} cores (${model})`
  return `Measured ${date} with Node ${node} on ${kind}; medians of ${rounds} interleaved rounds, ratios taken round by round.`
}

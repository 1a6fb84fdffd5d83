/**
 * Whatever happens in whatever order: what the backend has, the agent hears once, in the backend's order.
 *
 * Random weather over real sockets. A failure prints the seed and the shortest story that fails.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { startMootSimulator } from '../../src/simulator/moot/simulator.ts'
import { fairWeather } from '../../src/simulator/moot/weather.ts'
import { eventually, pause } from '../support/eventually.ts'
import { configFrom, FeedClient, type Simulator } from './feed-client.ts'

const SPACES = ['sprint-planning', 'second'] as const

type Step =
  | { readonly kind: 'say'; readonly space: number; readonly count: number }
  | { readonly kind: 'wait'; readonly ms: number }
  | {
      readonly kind:
        | 'cut'
        | 'close'
        | 'stop'
        | 'listen'
        | 'restart'
        | 'freeze'
        | 'slow-client'
        | 'quick-client'
    }
  | { readonly kind: 'hang'; readonly path: string }
  | { readonly kind: 'fail'; readonly path: string; readonly times: number }
  | { readonly kind: 'clear' }
  | { readonly kind: 'pages'; readonly newest: boolean }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('say'),
      space: fc.nat(1),
      count: fc.integer({ min: 1, max: 230 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('wait'), ms: fc.nat(30) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'cut',
        'close',
        'stop',
        'listen',
        'restart',
        'freeze',
        'slow-client',
        'quick-client',
      ),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('hang'),
      path: fc.constantFrom('since=', 'limit=', '/me', '/join'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('fail'),
      path: fc.constantFrom('/events', '/me', '/join', '/status'),
      times: fc.integer({ min: 1, max: 4 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('clear') }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pages'), newest: fc.boolean() }) },
) as fc.Arbitrary<Step>

class Story {
  readonly said: number[] = [0, 0]
  readonly #moot: Simulator
  readonly #client: FeedClient
  #up = true
  #open = (): void => undefined

  constructor(moot: Simulator, client: FeedClient) {
    this.#moot = moot
    this.#client = client
  }

  async run(step: Step): Promise<void> {
    const moot = this.#moot
    switch (step.kind) {
      case 'say':
        for (let i = 0; i < step.count; i++) this.say(step.space)
        return
      case 'wait':
        return pause(step.ms)
      case 'cut':
        return moot.sockets.drop('cut')
      case 'close':
        return moot.sockets.drop({ code: 1012 })
      case 'stop':
        this.#up = false
        return moot.stop()
      case 'listen':
        if (!this.#up) await moot.listen()
        this.#up = true
        return
      case 'restart':
        if (this.#up) await moot.restart()
        return
      case 'freeze':
        return moot.sockets.freeze()
      case 'slow-client':
        this.#client.gate ??= new Promise((resolve) => {
          this.#open = resolve
        })
        return
      case 'quick-client':
        this.#client.gate = undefined
        return this.#open()
      case 'hang':
        moot.weather.hangPath = step.path
        return
      case 'fail':
        moot.weather.failures.push({ path: step.path, status: 503, times: step.times })
        return
      case 'clear':
        Object.assign(moot.weather, fairWeather())
        return
      case 'pages':
        moot.weather.newestPages = step.newest
        return
      default:
        return step satisfies never
    }
  }

  say(space: number): void {
    const number = this.said[space] ?? 0
    this.said[space] = number + 1
    this.#moot.publish(SPACES[space] ?? '', { text: `@MyAgent ${number}` })
  }

  /** Fair weather again, and everybody back. */
  async end(): Promise<void> {
    await this.run({ kind: 'quick-client' })
    await this.run({ kind: 'clear' })
    await this.run({ kind: 'listen' })
    // A frozen connection is found by its pings.
    await eventually('both spaces are followed', () =>
      SPACES.every((space) => this.#moot.sockets.count(space) === 1),
    )
    this.say(0)
    this.say(1)
  }
}

async function happens(steps: readonly Step[], shared: boolean): Promise<void> {
  const moot = await startMootSimulator()
  moot.space(SPACES[1])
  const channel = shared ? { CONVO_CHANNEL_URL: moot.channelUrl } : {}
  const env = { CONVO_API_URL: moot.url, CONVO_API_KEY: moot.key, ...channel }
  const client = new FeedClient(configFrom(env, { limits: { pingMs: 100, httpMs: 200, maxQueued: 5_000 } }))
  const story = new Story(moot, client)
  try {
    await client.initialize()
    await client.tool('subscribe')
    for (const each of steps) await story.run(each)
    await story.end()
    const heard = (space: string): number[] =>
      client.told
        .filter(({ meta }) => meta.space_id === space)
        .map(({ content }) => Number(content.split(' ').at(-1)))
    for (const [i, space] of SPACES.entries()) {
      const count = story.said[i] ?? 0
      await eventually(
        `${count} in ${space}, not ${heard(space).length}\n${client.log}`,
        () => heard(space).length >= count,
      )
      expect(heard(space)).toEqual(Array.from({ length: count }, (_, n) => n))
    }
  } finally {
    await client.upstream.close(200)
    await moot.close()
  }
}

describe('no event is lost, doubled or out of order, whatever happens', () => {
  for (const shared of [false, true]) {
    test(`over ${shared ? 'the shared socket' : 'one socket a space'}`, async () => {
      const stories = fc.array(step, { minLength: 3, maxLength: 14 })
      const property = fc.asyncProperty(stories, (steps) => happens(steps, shared))
      const runs = Number(process.env.CHAOS_RUNS ?? 15)
      await fc.assert(property, { numRuns: runs, endOnFailure: runs <= 15, interruptAfterTimeLimit: 100_000 })
    }, 120_000)
  }
})

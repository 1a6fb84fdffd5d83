/**
 * What is told of one stream: up, down, retrying, and each new reason once with its hint.
 *
 * No sockets, no waiting. The one rule: `down` is told only of a stream that was up.
 */
import type { Clock } from '../retry.ts'
import type { Status } from '../status.ts'
import { type Refusal, reasonOfRefusal } from './refusal.ts'

export class StreamStatus {
  readonly #stream: string
  readonly #what: string
  readonly #report: (status: Status) => void
  readonly #clock: Clock
  /** Uptime at which the stream was asked for. */
  readonly #askedAt: number
  #state: 'new' | 'up' | 'down' = 'new'
  /** Uptime at which the last break began. */
  #downAt: number | undefined
  /** What was missed in it is being fetched. */
  #mending = false
  #attempts = 0
  #told: string | undefined
  /** Why it is not up, one clause; undefined while it is. */
  problem: string | undefined = 'it is connecting'

  /** `stream`: the id of a space, or what stands for several. `what`: what failed, where it is refused. */
  constructor(
    stream: string,
    report: (status: Status) => void,
    clock: Clock,
    what = `the feed of space ${stream}`,
  ) {
    this.#stream = stream
    this.#what = what
    this.#report = report
    this.#clock = clock
    this.#askedAt = clock.uptime()
  }

  get isUp(): boolean {
    return this.#state === 'up'
  }

  /** `from`: uptime from which on a stream that is continuous at its first `up` has missed nothing. */
  up(continuous: boolean, reason?: string, from?: number): void {
    // Said of a stream that is up: only now it turned out that its last break can't be filled.
    const late = this.#state === 'up' && !continuous && this.#downAt !== undefined
    const downMs = Math.round(this.#clock.uptime() - (this.#downAt ?? 0))
    const after = this.#state === 'down' || late ? { downMs, attempts: this.#attempts + 1 } : {}
    const first = this.#state === 'new' ? this.#awaited(continuous ? from : undefined) : {}
    this.#say({ state: 'up', continuous, ...after, ...first, ...(reason === undefined ? {} : { reason }) })
    this.#state = 'up'
    this.#mending = continuous
    this.#attempts = 0
    this.#told = undefined
    this.problem = undefined
  }

  /** All that was missed is told: what is missed from now on is of another break. */
  mended(): void {
    this.#mending = false
  }

  /** `since`: from when on something may have been missed, ms since 1970; while that is mended, from before on. */
  down(reason: string, since = this.#clock.now()): void {
    this.problem = reason
    if (this.#state !== 'up') return
    this.#state = 'down'
    const [now, uptime] = [this.#clock.now(), this.#clock.uptime()]
    const before = this.#mending ? this.#downAt : undefined
    this.#downAt = before ?? uptime - Math.max(0, now - since)
    this.#say({ state: 'down', reason }, before === undefined ? since : Math.round(now - (uptime - before)))
  }

  retrying(refusal: Refusal, delayMs: number): void {
    const { error, lasting } = refusal
    this.#attempts++
    this.down(error.message)
    const reason = reasonOfRefusal(refusal)
    if (lasting && this.#told !== reason) this.#report({ kind: 'failed', what: this.#what, error })
    this.#told = reason
    this.#say({ state: 'retrying', reason: error.message, delayMs, ...(lasting ? { severe: true } : {}) })
  }

  /** Nobody wants it any more: it is neither up nor missed. */
  ended(reason: string): void {
    if (this.#state === 'new' && this.#attempts === 0) return
    this.#say({ state: 'not-offered', reason })
  }

  #awaited(from: number | undefined): { awaitedMs: number; coveredMs?: number } {
    const now = this.#clock.uptime()
    const awaitedMs = Math.round(now - this.#askedAt)
    return from === undefined ? { awaitedMs } : { awaitedMs, coveredMs: Math.round(now - from) }
  }

  #say(
    fact: {
      state: 'up' | 'down' | 'retrying' | 'not-offered'
      continuous?: boolean
      downMs?: number
      attempts?: number
      awaitedMs?: number
      coveredMs?: number
      reason?: string
      delayMs?: number
      severe?: boolean
    },
    at = this.#clock.now(),
  ): void {
    this.#report({ kind: 'push', stream: this.#stream, at, generation: 1, ...fact })
  }
}

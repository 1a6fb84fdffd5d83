/**
 * Which state the session is in, and who waits for the next one.
 *
 * Not how a state comes about: session.ts opens, renews and closes. The one rule: the state changes only through
 * `become`, and only along NEXT: what comes too late changes nothing.
 */
import type { BridgeError } from '../errors.ts'
import type { Signal } from '../retry.ts'
import type { SessionHeaders } from './round-trip.ts'

export interface Live extends SessionHeaders {
  readonly state: 'live'
  /** Counts sessions of this process from 1. */
  readonly generation: number
}

export type Session =
  /** `cause`: why the last attempt to open one failed. */
  | { readonly state: 'new' | 'opening'; readonly cause?: BridgeError | undefined }
  | Live
  /** The server forgot `generation`; one attempt at the next is under way. `cause`: why the one before it failed. */
  | {
      readonly state: 'reopening'
      readonly generation: number
      readonly since: number
      readonly cause?: BridgeError | undefined
    }
  /** That attempt failed. Left by the next attempt. */
  | {
      readonly state: 'lost'
      readonly generation: number
      readonly since: number
      readonly cause: BridgeError
      readonly attemptEndedAt: number
    }
  | { readonly state: 'closed' }

const NEXT: Readonly<Record<Session['state'], readonly Session['state'][]>> = {
  new: ['opening', 'closed'],
  opening: ['live', 'new', 'closed'],
  live: ['reopening', 'new', 'closed'],
  reopening: ['live', 'lost', 'new', 'closed'],
  lost: ['reopening', 'new', 'closed'],
  closed: [],
}

export class SessionState {
  #current: Session = { state: 'new' }
  /** For the next change. */
  readonly #waiters = new Set<() => void>()

  get current(): Session {
    return this.#current
  }

  get live(): Live | undefined {
    return this.#current.state === 'live' ? this.#current : undefined
  }

  /** False, and nothing has changed, when no way leads there from here. */
  become(next: Session): boolean {
    if (!NEXT[this.#current.state].includes(next.state)) return false
    this.#current = next
    for (const wake of [...this.#waiters]) wake()
    return true
  }

  /** Resolves at the next change of state, or when `signal` is aborted. */
  changed(signal: Signal): Promise<void> {
    if (signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiters.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      this.#waiters.add(done)
      signal.addEventListener('abort', done, { once: true })
    })
  }
}

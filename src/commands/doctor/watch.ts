/**
 * One push stream, watched: when its bytes came, and what ended it.
 */
import type { RawReply } from './probe.ts'

export interface Watched {
  readonly openedAt: number
  /** Uptime in ms at which each piece came. */
  readonly arrivals: readonly number[]
  /** What the pieces held: comments only, or events too. */
  readonly events: number
  /** How it ended; undefined while it is open. */
  readonly ended: { readonly at: number; readonly how: string } | undefined
  /** Resolves at the next piece or the end. */
  changed(): Promise<void>
  stop(): void
}

export function watch(reply: RawReply): Watched {
  const arrivals: number[] = []
  const state: { ended: { at: number; how: string } | undefined; events: number } = {
    ended: undefined,
    events: 0,
  }
  let wake: () => void = () => undefined
  let next = new Promise<void>((resolve) => {
    wake = resolve
  })
  const tell = (): void => {
    const awake = wake
    next = new Promise((resolve) => {
      wake = resolve
    })
    awake()
  }
  const end = (how: string): void => {
    state.ended ??= { at: performance.now(), how }
    tell()
  }
  reply.body.on('data', (chunk: Buffer) => {
    arrivals.push(performance.now())
    if (/^data:/m.test(chunk.toString('latin1'))) state.events++
    tell()
  })
  reply.body.on('end', () => end('ended cleanly'))
  reply.body.on('error', (error: NodeJS.ErrnoException) => end(`broke (${error.code ?? error.message})`))
  reply.body.on('close', () => end('was closed'))
  return {
    openedAt: performance.now(),
    arrivals,
    get events() {
      return state.events
    },
    get ended() {
      return state.ended
    },
    changed: () => next,
    stop: () => reply.body.destroy(),
  }
}

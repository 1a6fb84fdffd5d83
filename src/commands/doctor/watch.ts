/**
 * One push stream, watched: when its bytes came, and what ended it.
 */
import type { RawReply } from './probe.ts'

/** What helps where its bytes are held back. */
export const BUFFERED =
  'switch off response buffering for text/event-stream (nginx: proxy_buffering off; X-Accel-Buffering: no)'

export interface Watched {
  readonly openedAt: number
  /** Uptime in ms at which each piece came. */
  readonly arrivals: readonly number[]
  /** How it ended; undefined while it is open. */
  readonly ended: { readonly at: number; readonly how: string } | undefined
  /** Resolves at the next piece or the end. */
  changed(): Promise<void>
  stop(): void
}

export function watch(reply: RawReply): Watched {
  const arrivals: number[] = []
  let ended: Watched['ended']
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
    ended ??= { at: performance.now(), how }
    tell()
  }
  reply.body.on('data', () => {
    arrivals.push(performance.now())
    tell()
  })
  reply.body.on('end', () => end('ended cleanly'))
  reply.body.on('error', (error: NodeJS.ErrnoException) => end(`broke (${error.code ?? error.message})`))
  reply.body.on('close', () => end('was closed'))
  return {
    openedAt: performance.now(),
    arrivals,
    get ended() {
      return ended
    },
    changed: () => next,
    stop: () => reply.body.destroy(),
  }
}

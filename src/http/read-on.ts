/**
 * What still comes on a stream whose answer has been read, or that was to have none.
 *
 * Not a resume: nobody waits for it. The one rule: such a stream is to end soon, and then its connection can be kept;
 * one that does not is cut off. (A client that reads slowly is no fault of it.)
 */
import { later, systemClock } from '../retry.ts'
import type { EventReader, ServerEvent } from './events.ts'

/** How long a server may be waited for, in all. */
const LINGER_MS = 250

/**
 * Hands each message text on; `take` gives false when no more is wanted. `onTooLong` is told of an event that was not
 * taken. Never rejects.
 */
export async function readOn(
  events: EventReader,
  take: (text: Buffer) => Promise<boolean>,
  onTooLong: (why: string) => void,
): Promise<void> {
  let leftMs = LINGER_MS
  const next = async (): Promise<ServerEvent | undefined> => {
    const from = systemClock.uptime()
    const callOff = later(leftMs, () => events.destroy())
    const event = await events.next()
    callOff()
    leftMs -= systemClock.uptime() - from
    return event
  }
  try {
    for (let event = await next(); event !== undefined; event = events.take() ?? (await next())) {
      if (event.kind === 'too-long') onTooLong(event.why)
      if (event.kind !== 'message' || event.data.length === 0) continue
      if (!(await take(event.data))) break
    }
  } catch {
    // It broke: nobody waits for it.
  }
  events.destroy()
}

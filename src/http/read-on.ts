/**
 * What still comes on a stream whose answer has been read, or that was to have none.
 *
 * Not a resume: nobody waits for it. The one rule: such a stream is to end soon, and then its connection can be kept;
 * one that does not is cut off.
 */
import { later } from '../retry.ts'
import type { EventReader } from './events.ts'

/** How long a server may take to end it. */
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
  const callOff = later(LINGER_MS, () => events.destroy())
  try {
    for (let event = await events.next(); event !== undefined; event = await events.next()) {
      if (event.kind === 'too-long') onTooLong(event.why)
      if (event.kind !== 'message' || event.data.length === 0) continue
      if (!(await take(event.data))) break
    }
  } catch {
    // It broke: nobody waits for it.
  }
  callOff()
  events.destroy()
}

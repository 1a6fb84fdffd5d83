/**
 * A frame of the server, whichever socket it came on.
 *
 * Not what becomes of it. The one rule: what says less than it should is taken for what it most likely means, and
 * its content stays out of the log.
 */
import type { Status } from '../status.ts'
import { isRecord, text } from './filter.ts'

export interface Frame {
  readonly type: string
  readonly data: unknown
  readonly spaceId: string | undefined
  /** All of it. */
  readonly whole: Readonly<Record<string, unknown>>
}

/** Undefined when it is no JSON object with a `type`. */
export function readFrame(frameText: string): Frame | undefined {
  let value: unknown
  try {
    value = JSON.parse(frameText)
  } catch {
    return undefined
  }
  if (!isRecord(value) || typeof value.type !== 'string') return undefined
  const inner = isRecord(value.data) ? text(value.data.space_id) : undefined
  return { type: value.type, data: value.data, spaceId: text(value.space_id) ?? inner, whole: value }
}

/** For the log: what came instead of a frame. */
export function malformedFrame(frameText: string, where: string): Status {
  return {
    kind: 'dropped',
    what: `a frame of ${frameText.length} characters from ${where}`,
    why: 'it is no JSON object with a type',
  }
}

/** Is it of a space, and no answer to a question? */
export function isNews({ type }: Frame): boolean {
  return type === 'context_event' || type === 'space_update'
}

/** What an `error` frame says, wherever it says it. */
export function wordsIn({ whole, data }: Frame): Readonly<Record<string, unknown>> {
  return isRecord(data) ? { ...whole, ...data } : whole
}

/** A number in an `error` frame that is an HTTP status or its 44xx twin. */
export function statusIn(frame: Frame): number | undefined {
  const { code, status } = wordsIn(frame)
  const number = Number(code ?? status)
  return number > 4400 && number < 4500 ? number - 4000 : number >= 400 && number < 600 ? number : undefined
}

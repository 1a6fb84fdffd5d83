/**
 * What a reply says, short enough to compare: is a refusal about the message, the session, or somebody in between?
 *
 * No call, no state. The one rule: the words of a server are compared, never read; only statuses and codes are.
 */
import { gist } from '../errors.ts'
import { type Response, RPC, textMember } from '../protocol.ts'
import type { Outcome, Refused } from './outcome.ts'

/** `ok`, `no-such-session`, `unavailable`, or the refusal itself: `HTTP 400, -32000`. Equal ones say the same. */
export type Signature = string

export function signatureOf(outcome: Outcome): Signature {
  switch (outcome.kind) {
    case 'accepted':
      return 'ok'
    case 'refused':
      return refusalSignature(outcome)
    case 'unavailable':
      return outcome.status === undefined ? 'unavailable' : `HTTP ${outcome.status}`
    case 'unauthorized':
    case 'not-offered':
      return `HTTP ${outcome.status}`
    default:
      return outcome.kind
  }
}

export function refusalSignature({ status, code, message }: Refused): Signature {
  if (code === undefined) return `HTTP ${status}`
  return status === 200 ? inWords(code, message) : `HTTP ${status}, ${code}`
}

/** Of a reply with 200 the words count too. */
function inWords(code: string, message = 'no message'): Signature {
  return `HTTP 200, ${code}, ${gist(message)}`
}

/** The JSON-RPC error code in it, if any. */
function codeOf(said: Signature): string | undefined {
  return /^HTTP \d+, (-?\d+)/.exec(said)?.[1]
}

/** That the method is unknown: of the session it says nothing. */
export function isOfMethod(said: Signature): boolean {
  return codeOf(said) === String(RPC.methodNotFound)
}

/** A gateway says that there is nobody behind it just now. */
export function isGatewayFailure(said: Signature): boolean {
  return /^HTTP 5(0[234]|2[0-4])/.test(said)
}

/** The key is refused, or a server is not there: it may be said to anybody, session or not. */
export function mayBeToAnybody(said: Signature): boolean {
  return /^HTTP (40[13]|50[0234]|52[0-4])$/.test(said)
}

/** Nobody who knows of sessions has spoken. */
export function isUndecided(said: Signature): boolean {
  return said === 'unavailable' || isGatewayFailure(said)
}

/** A page, a redirect, or an odd 5xx: somebody in front of the server speaks, who knows of no sessions. */
export function isSaidInFront(said: Signature): boolean {
  return /^HTTP ([23]\d\d$|5(?!00|0[234]|2[0-4]))/.test(said)
}

/** A refusal that some servers give instead of 404 when a session is gone. */
export function mayMeanSession(status: number): boolean {
  return status >= 400 && status <= 500 && status !== 404
}

/** It took too long, comes too early or too often: said again later it may be taken. */
export function isOfTheMoment(said: Signature): boolean {
  return /^HTTP 4(08|2[59])/.test(said)
}

/**
 * May what was said to a ping be meant for its session? A 4xx (but for those about the key or the moment), an error
 * of -32000 to -32099, or the very status that `refusal` had. Not: that the method is unknown.
 */
export function isSessionRefusal(said: Signature, refusal = ''): boolean {
  const status = /^HTTP (\d+)/.exec(said)?.[1]
  if (status === undefined || isOfMethod(said)) return false
  if (status === '200') return /^-320\d\d$/.test(codeOf(said) ?? '')
  return /^4(?!0[138]|2[59])/.test(status) || refusal.startsWith(`HTTP ${status}`)
}

/**
 * The same for a JSON-RPC response that came with 200. There the message counts too: a tool has codes of its own,
 * and what it said must not be taken for the transport's refusal.
 */
export function responseSignature(response: Response): Signature {
  const { raw, error } = response
  if (error === undefined) return 'ok'
  const code = textMember(raw, error, 'code') ?? 'no code'
  return inWords(code, textMember(raw, error, 'message'))
}

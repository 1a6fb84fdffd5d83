/**
 * What a reply means: the vocabulary between one call and those who decide what to do about it.
 *
 * No call, no state; round-trip.ts, exchange.ts and meaning.ts say which it is. The one rule: every text in it is short and safe to show.
 */
import type { Accepted, Answer, Stream } from './round-trip.ts'

export type Outcome =
  | Accepted
  | Answer
  | Stream
  /** 404 to a call that carried a session id, but for an unknown method's: [MCP] start a new session. */
  | ({ readonly kind: 'no-such-session' } & Pick<Refused, 'text' | 'rpcError' | 'id'>)
  | Unauthorized
  /** 405, or 204 to a GET: the server doesn't do this method here. */
  | { readonly kind: 'not-offered'; readonly status: number }
  /** The server's decision about this call; `rpcError` is its own JSON-RPC error object, as JSON text. */
  | Refused
  /** It did not get through, or the server cannot serve now. `sent`: some byte of it may have reached the server. */
  | Unavailable

export interface Unauthorized {
  readonly kind: 'unauthorized'
  readonly status: number
  readonly wantsOauth: boolean
  /** What its body says. */
  readonly text: string
}

export interface Refused {
  readonly kind: 'refused'
  readonly status: number
  readonly text: string
  readonly rpcError: string | undefined
  /** Of the request that the server's JSON-RPC error names. */
  readonly id?: string | undefined
  /** `code` and `message` of the server's JSON-RPC error, as they stand there. */
  readonly code?: string | undefined
  readonly message?: string | undefined
  readonly location?: string | undefined
  /** A page for people, in the place of an answer. */
  readonly isPage?: boolean
}

export interface Unavailable {
  readonly kind: 'unavailable'
  readonly sent: boolean
  readonly why: string
  readonly cause: unknown
  readonly status: number | undefined
  readonly retryAfterMs: number | undefined
  /** The server's own JSON-RPC error object, as JSON text. */
  readonly rpcError?: string | undefined
}

/** It got through, and was taken. */
export type Success = Accepted | Answer | Stream

export function isSuccess(outcome: Outcome): outcome is Success {
  return outcome.kind === 'accepted' || outcome.kind === 'answer' || outcome.kind === 'stream'
}

/** A few words for an error. */
export function sayOutcome(outcome: Outcome): string {
  switch (outcome.kind) {
    case 'no-such-session':
      return 'the session was lost'
    case 'unavailable':
      return outcome.why
    case 'refused':
    case 'unauthorized':
      return `HTTP ${outcome.status}${outcome.text === '' ? '' : `: ${outcome.text}`}`
    case 'not-offered':
      return `HTTP ${outcome.status}`
    default:
      return outcome.kind
  }
}

/**
 * What an HTTP Upstream is told. Built and checked by `src/config.ts`; every duration in milliseconds.
 */
import type { SecureContext } from 'node:tls'
import type { Dispatcher } from 'undici'
import { type BackoffOptions, type Clock, DEFAULT_BACKOFF, systemClock } from '../retry.ts'
import type { Redactor } from '../status.ts'

/** What a call is allowed in with. Today a constant or a key file read again; OAuth later. */
export interface Credentials {
  /** Where the credential comes from, for texts ("CHAMADE_API_KEY"); undefined when there is none. */
  readonly source: string | undefined
  /** What is wrong with it, when that is known ("CHAMADE_API_KEY is the literal text ${CHAMADE_API_KEY}"). */
  readonly problem?: { readonly text: string; readonly hint: string }
  /** How one is given to this server, where that is not the usual way; for the text that there is none. */
  readonly advice?: string
  /** Headers of every call. Names in lower case. */
  headers(): Readonly<Record<string, string>>
  /** After a 401 or 403 to a call with the headers `used`: true when `headers` differ now, so that one more try makes sense. */
  renew(used: Readonly<Record<string, string>>): Promise<boolean>
}

/** What `tls.connect` is given: one context for all connections, since reading 140 certificates takes 50 ms. */
export interface Tls {
  readonly secureContext: SecureContext
}

export interface HttpConfig extends HttpTiming {
  /** The endpoint, its query as it will be sent. */
  readonly url: string
  /** Push was asked for: its absence is worth a warning. */
  readonly stateful: boolean
  readonly credentials: Credentials
  /** Ours, for the User-Agent, and for when we shake hands for ourselves. */
  readonly version: string
  /** Longest answer or event, bytes. */
  readonly maxMessageBytes: number
  /** Whom we trust and who we are, where that differs from Node's own. */
  readonly tls?: Tls
  /** The same for a server that Node does not trust, made when that turns out. */
  readonly tlsLater?: () => Promise<Tls | undefined>
  /**
   * `open` takes the place of a connection of our own, and is told how long each step to get there may take; `url` may
   * hold credentials, `variable` names it.
   */
  readonly proxy?: {
    readonly open: (stepMs?: number) => Dispatcher
    readonly url: URL
    readonly variable: string
  }
  /** Told every session id; cuts secrets out of what is quoted from the server. */
  readonly redact: Redactor
  readonly clock: Clock
  readonly random: () => number
}

export interface HttpTiming {
  /** How long a client's `initialize`, or its request while the server is away, waits for the server. */
  readonly patienceMs: number
  /** How long what follows a notification waits for its response headers. */
  readonly barrierMs: number
  /** A notification, or a message of ours, that has no answer by then has failed. */
  readonly privateLimitMs: number
  /** A cancelled request may still be answered for so long. */
  readonly cancelGraceMs: number
  /** A GET that has no response headers by then is made anew; for the push stream twice as long each time. */
  readonly headersMs: number
  /** A cursor that has brought nothing for so long is tried without. */
  readonly cursorDoubtMs: number
  /** A server that takes our old push stream for open for so long will not notice that it is gone. */
  readonly conflictMs: number
  /** How long a broken answer is sought again. */
  readonly resumeMs: number
  /** A resumed stream of an answer that is silent for so long is asked for again; twice as long each time. */
  readonly resumedSilenceMs: number
  /**
   * A push stream without a known cadence is checked by a ping after so much silence; one that was resumed, and brought
   * no event since, by a second GET.
   */
  readonly idlePingMs: number
  /** An attempt to make a new session that fails is not repeated sooner for a client's request. */
  readonly reopenSpacingMs: number
  /** The shortest silence of a push stream that can be suspect. */
  readonly minSilenceMs: number
  /** Wall time that passes between two looks at the clock and is taken for sleep. */
  readonly clockJumpMs: number
  readonly backoff: BackoffOptions
}

/** How long each step on the way to a server may take. */
export const CONNECT_TIMEOUT_MS = 10_000

/** Node gives each but the last of a name's addresses 250 ms: too few on a long way (a satellite, a busy cell). */
export const LONG_WAY_MS = 2_500

export const DEFAULT_TIMING: HttpTiming = {
  patienceMs: 25_000,
  barrierMs: 2_000,
  privateLimitMs: 30_000,
  cancelGraceMs: 5_000,
  headersMs: 15_000,
  cursorDoubtMs: 5_000,
  conflictMs: 30_000,
  resumeMs: 25_000,
  resumedSilenceMs: 15_000,
  idlePingMs: 30_000,
  reopenSpacingMs: 1_000,
  minSilenceMs: 5_000,
  clockJumpMs: 5_000,
  backoff: DEFAULT_BACKOFF,
}

/** The last attempt within a patience may take so long beyond it. */
export const LAST_ATTEMPT_MS = 1_000

/** A stream that ended before its answer, and again brought nothing, is not asked for more often. */
export const POLL_FLOOR_MS = 100

/** What a gateway says of all that is asked in a session is not taken for the session's end before. */
export const GATEWAY_AFTER_MS = 5_000
/** What it said longer ago than this is another story. */
export const GATEWAY_STALE_MS = 60_000

/** Idle connections close after this, whatever the server allows. */
export const KEEP_ALIVE_MS = 4_000

export const SYSTEM = { clock: systemClock, random: Math.random } as const

/**
 * Does a session live, though nobody said 404? One private `ping` in it decides.
 *
 * Not what follows from it: session.ts is told that the session is lost. The one rule: of a server that refuses every
 * ping nothing is learned by one.
 */
import { METHOD } from '../protocol.ts'
import { firstOf, MAX_WAIT_MS, type Signal, sleep } from '../retry.ts'
import type { OwnCalls } from './own-calls.ts'
import type { SessionHeaders } from './round-trip.ts'
import type { Live } from './session-state.ts'
import {
  isOfMethod,
  isOfTheMoment,
  isSaidInFront,
  isSessionRefusal,
  isUndecided,
  mayBeToAnybody,
  type Signature,
} from './signature.ts'

const PING_LIMIT_MS = 10_000
/** How long a refused message waits for the ping that decides what the refusal means. */
const REFUSED_LIMIT_MS = 3_000
/** A ping that a gateway could not pass on is sent again after so long. */
const AGAIN_MS = 300
/** That pings are refused in words is taken for granted for so long. */
const LEARNED_MS = 10_000

/** The session whose pulse it is: which is live, and what is to be told of it. */
interface Life {
  readonly live: Live | undefined
  served(live: Live): void
  lose(live: Live, reason: string): void
  giveUp(live: Live, reason: string): void
  /** Would the server begin a session now? */
  opens(): Promise<boolean>
}

export class Pulse {
  readonly #calls: OwnCalls
  readonly #life: Life
  /** The deciding ping under way: all who were refused meanwhile wait for the same one. */
  #deciding: { readonly session: SessionHeaders; readonly said: Promise<Signature> } | undefined
  /** The last session that was given up, and what was said for that. */
  #ended: { readonly live: Live; readonly said: Signature } | undefined
  #lostByPingAlone = false
  #refusesAnybody = false
  #askingToOpen: Promise<boolean> | undefined
  /** A ping was refused in a session just made. */
  #refusesPings = false
  /** Uptime when that was learned; in the midst of a deploy it may have been another process that said it. */
  #learnedAt = 0

  constructor(calls: OwnCalls, life: Life) {
    this.#calls = calls
    this.#life = life
  }

  /** What was said in the place of 404 is said to whoever asks, with a session or without. */
  get refusesAnybody(): boolean {
    return this.#refusesAnybody
  }

  /** Somebody who asked was served. */
  served(): void {
    this.#refusesAnybody = false
  }

  /**
   * Is the session gone, though the server said something other than 404? True when it is, and `refusal` was said for
   * that: a ping is refused with the same status and code. For a refused GET any refusal of the ping will do that may
   * mean the session (`inAnyWords`). A message does not wait for the ping long, and no longer than until `signal` is
   * aborted; a word that comes later counts all the same.
   */
  async gone(live: Live, refusal: Signature, inAnyWords = false, signal?: Signal): Promise<boolean> {
    if (this.#life.live !== live) return true
    if (live.id === undefined && (inAnyWords || !wantsSession(live, refusal))) return false
    const word = inAnyWords ? this.#decide(live) : this.#word(live, refusal)
    const decided = word.then(async (said) => {
      // (Of a server that refuses every ping nothing is learned by words: they may be those of any failure.)
      const isInWords = said.startsWith('HTTP 200')
      const isKnown = isInWords && this.#refusesPings && performance.now() - this.#learnedAt < LEARNED_MS
      const isSame = said === refusal && !isOfMethod(said) && !isKnown
      const isRefused = isSame || (inAnyWords && isSessionRefusal(said, refusal))
      const isOfServer = !isSaidInFront(said) && !isOfTheMoment(said)
      const isGone = said === 'no-such-session' || (isRefused && isOfServer)
      if (isGone && mayBeToAnybody(said) && (await this.#isToAnybody(live))) return this.#life.live !== live
      if (isGone && isInWords) this.#lostByPingAlone = true
      if (isGone) this.#ended = { live, said }
      if (said === 'no-such-session') this.#life.lose(live, '404 to a ping')
      else if (isGone) this.#life.giveUp(live, `the server refuses it (${said})`)
      // (That it knows no ping is said by a server that serves.)
      else if (said === 'ok' || isOfMethod(said)) this.#life.served(live)
      return isGone || (isUndecided(said) && this.#life.live !== live)
    })
    const limitMs = inAnyWords ? MAX_WAIT_MS : REFUSED_LIMIT_MS
    const first = await firstOf([decided], limitMs, ...(signal === undefined ? [] : [signal]))
    return first?.result ?? false
  }

  /** Was `said` what `live` was given up for? */
  endedBy(live: Live, said: Signature): boolean {
    return this.#ended?.live === live && this.#ended.said === said
  }

  /**
   * Is there life in a session whose stream is silent? One that is gone (404, or refused in words of the server's own) is
   * renewed. `failed`: no answer in time, or none that counts.
   */
  async check(live: Live): Promise<'alive' | 'lost' | 'failed'> {
    const said = await this.#ping(live)
    if (said === 'no-such-session') {
      this.#life.lose(live, '404 to a ping')
      return 'lost'
    }
    if (isUndecided(said) || isSaidInFront(said)) return 'failed'
    if (isSessionRefusal(said) && !this.#refusesPings) {
      this.#lostByPingAlone = true
      this.#life.giveUp(live, 'the server refuses a ping')
      return 'lost'
    }
    this.#life.served(live)
    return 'alive'
  }

  /** The same of one whose stream serves nobody, which may be as it should: only 404 says that the session is gone. */
  async look(live: Live): Promise<void> {
    if (live.id === undefined || this.#refusesPings) return
    if ((await this.#ping(live)) !== 'no-such-session') return
    this.#lostByPingAlone = true
    this.#life.lose(live, '404 to a ping')
  }

  /** A session was made in the place of another: if that one refused a ping, is that what this server says to any? */
  renewed(fresh: Live): void {
    if (!this.#lostByPingAlone) return
    this.#lostByPingAlone = false
    void this.#ping(fresh).then((said) => {
      this.#refusesPings = said === 'no-such-session' || isSessionRefusal(said)
      this.#learnedAt = performance.now()
    })
  }

  /** What a ping says; one that did not come to the server (a gateway with nobody behind it) is sent again. */
  async #word(live: Live, refusal: Signature): Promise<Signature> {
    for (let left = REFUSED_LIMIT_MS / AGAIN_MS; ; left--) {
      const said = await this.#decide(live)
      if (said === refusal || !isUndecided(said)) return said
      if (left <= 0 || this.#life.live !== live || this.#calls.ended.aborted) return said
      await sleep(AGAIN_MS, this.#calls.ended)
    }
  }

  #decide(session: SessionHeaders): Promise<Signature> {
    if (this.#deciding?.session === session) return this.#deciding.said
    const mine = { session, said: this.#ping(session) }
    this.#deciding = mine
    void mine.said.finally(() => {
      if (this.#deciding === mine) this.#deciding = undefined
    })
    return mine.said
  }

  /** What is refused alike to whoever comes without a session is not said of this one. */
  async #isToAnybody(live: Live): Promise<boolean> {
    this.#askingToOpen ??= this.#life.opens().finally(() => {
      this.#askingToOpen = undefined
    })
    this.#refusesAnybody = !(await this.#askingToOpen)
    // (Where it opens, what was said before may be over for this one too.)
    return this.#refusesAnybody || (await this.#decide(live)) === 'ok'
  }

  async #ping(session: SessionHeaders): Promise<Signature> {
    const { said } = await this.#calls.ask(session, METHOD.ping, undefined, PING_LIMIT_MS)
    if (said === 'ok') this.#refusesPings = false
    return said
  }
}

/**
 * [MCP 2025-11-25 transports, Session Management] 400: the id is missing. So says a server that gave none, and was
 * replaced by one that does; the first session alone is made anew for it: one that again gets no id wants none.
 */
function wantsSession(live: Live, refusal: Signature): boolean {
  return live.generation === 1 && refusal.startsWith('HTTP 400')
}

/**
 * Does a session live, though nobody said 404? One private `ping` in it decides.
 *
 * Not what follows from it (session.ts). The one rule: of a server that refuses every ping nothing is learned by one.
 */
import { METHOD } from '../protocol.ts'
import type { OwnCalls } from './own-calls.ts'
import type { SessionHeaders } from './round-trip.ts'
import { isGatewayFailure, isSaidInFront, isSessionRefusal, type Signature } from './signature.ts'

/** `refused`: gone, the server said so in words of its own. `failed`: no answer in time, or none that counts. */
export type Pulse = 'alive' | 'lost' | 'refused' | 'failed'

const PING_LIMIT_MS = 10_000

export class PulseTaker {
  readonly #calls: OwnCalls
  /** The deciding ping under way: all who were refused meanwhile wait for the same one. */
  #deciding: { readonly session: SessionHeaders; readonly said: Promise<Signature> } | undefined
  /** A ping was refused in a session just made. */
  #refusesPings = false

  constructor(calls: OwnCalls) {
    this.#calls = calls
  }

  /**
   * After a `refusal` in the session: what a ping says that confirms it, else undefined. A POST is refused in the
   * words of the ping, and otherwise for a reason of its own; a GET may have words of its own (`inAnyWords`).
   */
  async confirms(
    session: SessionHeaders,
    refusal: Signature,
    inAnyWords: boolean,
  ): Promise<Signature | undefined> {
    let deciding = this.#deciding
    if (deciding?.session !== session) {
      const mine = { session, said: this.#ping(session) }
      deciding = mine
      this.#deciding = mine
      void mine.said.finally(() => {
        if (this.#deciding === mine) this.#deciding = undefined
      })
    }
    const said = await deciding.said
    const isRefused = said === refusal || (inAnyWords && isSessionRefusal(said, refusal))
    return said === 'no-such-session' || (isRefused && !isSaidInFront(said)) ? said : undefined
  }

  /** Of a session whose stream is silent. */
  async of(session: SessionHeaders): Promise<Pulse> {
    const said = await this.#ping(session)
    if (said === 'no-such-session') return 'lost'
    if (said === 'unavailable' || isGatewayFailure(said) || isSaidInFront(said)) return 'failed'
    return isSessionRefusal(said) && !this.#refusesPings ? 'refused' : 'alive'
  }

  /** Of a session just made in the place of one that refused a ping: is that what this server says to any? */
  async learn(fresh: SessionHeaders): Promise<void> {
    this.#refusesPings = isSessionRefusal(await this.#ping(fresh))
  }

  async #ping(session: SessionHeaders): Promise<Signature> {
    const said = await this.#calls.ask(session, METHOD.ping, undefined, PING_LIMIT_MS)
    if (said === 'ok') this.#refusesPings = false
    return said
  }
}

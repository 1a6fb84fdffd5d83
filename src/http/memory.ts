/**
 * What the client was told and what it has set: a new session is made like the one before.
 *
 * Not a cache of answers: the capabilities it saw, one log level, and the resources it watches.
 * The one rule: only what succeeded is remembered.
 */
import { isDeepStrictEqual } from 'node:util'
import { isString, stringAt, textAt } from '../json.ts'
import {
  composeNotification,
  METHOD,
  type Message,
  member,
  type Request,
  type Response,
  stringMember,
  valueAt,
} from '../protocol.ts'
import { type Clock, sleep } from '../retry.ts'
import type { Outlet } from '../sides.ts'
import type { OwnCalls, Reply } from './own-calls.ts'
import type { Live } from './session-state.ts'
import { isOfTheMoment, isUndecided } from './signature.ts'

/** The part of an `initialize` result that must stay the same for the client. */
export interface Seen {
  readonly protocolVersion: string
  readonly capabilities: unknown
}

/** A request that sets something; `params` is JSON text, `generation` that of the session it was said in. */
interface Setting {
  readonly method: string
  readonly params: Buffer
  readonly generation: number
  /** The resource that it is about. */
  readonly uri?: string
}

/** What could not be set, and what the server said to it. */
interface Unset extends Reply {
  readonly setting: Setting
}

const RESTORE_LIMIT_MS = 10_000
/** Within that, what a gateway or a cut kept from a session just made is said so often, after a pause. */
const RESTORE_TRIES = 3
const AGAIN_MS = 300
/** What it did not take then is said again while it is live, ever later. */
const LATE_MS = 1_000
const LATEST_MS = 30_000

export class Memory {
  readonly #calls: OwnCalls
  readonly #outlet: Outlet
  readonly #clock: Clock
  readonly #live: () => Live | undefined
  #level: Setting | undefined
  readonly #subscriptions = new Map<string, Setting>()
  /** What turned out to be set while the next session was being told what was. */
  #meanwhile: Setting[] = []
  /** What the session that is being made did not take, and may take later. */
  #owed: readonly Unset[] = []
  /** Handshakes of the client: what was set before the present one is of no interest any more. */
  #handshakes = 0

  constructor(calls: OwnCalls, outlet: Outlet, clock: Clock, live: () => Live | undefined) {
    this.#calls = calls
    this.#outlet = outlet
    this.#clock = clock
    this.#live = live
  }

  /**
   * A request of the client succeeded in `session`, which may have been left meanwhile: then the one that is live is
   * told too, and so is the next one.
   */
  keep(request: Request, session: Live): void {
    const setting = this.#remember(request, session.generation)
    const now = this.#live()
    if (setting === undefined || now === session) return
    if (now === undefined) this.#meanwhile.push(setting)
    else void this.#setIn(now, [setting])
  }

  /** The client starts anew. */
  forget(): void {
    this.#handshakes++
    this.#level = undefined
    this.#subscriptions.clear()
    this.#meanwhile = []
  }

  /** Sets in `next`, which is not live yet, what was set. False when it is gone already. */
  async restore(next: Live): Promise<boolean> {
    this.#meanwhile = []
    const level = this.#level === undefined ? [] : [this.#level]
    const failed = await this.#tell(next, [...level, ...this.#subscriptions.values()], RESTORE_TRIES)
    this.#report(failed)
    this.#owed = failed
    // (A 404 may be about a resource: then the session knows itself.)
    if (!failed.some(({ said }) => said === 'no-such-session')) return true
    const { said } = await this.#calls.ask(next, METHOD.ping, undefined, RESTORE_LIMIT_MS)
    return said !== 'no-such-session'
  }

  /** It is live: what turned out to be set since `restore` began is set in it too, and what it did not take then. */
  catchUp(live: Live): void {
    void this.#setIn(live, this.#meanwhile, this.#owed)
  }

  async #setIn(live: Live, settings: readonly Setting[], owed: readonly Unset[] = []): Promise<void> {
    const failed = await this.#tell(live, settings)
    this.#report(failed)
    await Promise.all([...owed, ...failed].filter(mayPass).map((each) => this.#tellLate(live, each)))
  }

  /** Until the session has taken it, is left, or the client has set it anew. A watched resource may have changed by then. */
  async #tellLate(live: Live, { setting, retryAfterMs = 0 }: Unset): Promise<void> {
    const { method, uri } = setting
    const isWanted = (): boolean =>
      this.#live() === live && this.#isSet(setting) && !this.#calls.ended.aborted
    let toldMs = retryAfterMs
    for (let waitMs = LATE_MS; ; waitMs = Math.min(2 * waitMs, LATEST_MS)) {
      await sleep(Math.max(waitMs, toldMs), this.#calls.ended)
      if (!isWanted()) return
      const [failed] = await this.#tell(live, [setting])
      if (failed === undefined) {
        if (method === METHOD.subscribe && uri !== undefined && isWanted())
          void this.#outlet.deliver(updated(uri), 'answer')
        return
      }
      if (!mayPass(failed)) return this.#report([failed])
      toldMs = failed.retryAfterMs ?? 0
    }
  }

  /** Is it still as the client wants it? */
  #isSet(setting: Setting): boolean {
    const { method, uri = '' } = setting
    const kept = this.#subscriptions.get(uri)
    return this.#level === setting || kept === (method === METHOD.unsubscribe ? undefined : setting)
  }

  /** What the client may have missed meanwhile: lists that can have changed, resources that it watches. */
  toTell(seen: Seen | undefined): Message[] {
    const lists = ['tools', 'prompts', 'resources'].filter((list) =>
      declares(seen?.capabilities, list, 'listChanged'),
    )
    return [
      ...lists.map((list) => composeNotification(`notifications/${list}/list_changed`)),
      ...[...this.#subscriptions.keys()].map(updated),
    ]
  }

  /** More than one of `tries` only before `session` is live: later they might undo what the client sets meanwhile. */
  async #tell(session: Live, settings: readonly Setting[], tries = 1): Promise<readonly Unset[]> {
    const handshake = this.#handshakes
    const until = this.#clock.uptime() + RESTORE_LIMIT_MS
    const leftMs = (): number => until - this.#clock.uptime()
    const again = async (setting: Setting): Promise<Unset[]> => {
      const { method, params } = setting
      for (let tried = 1; ; tried++) {
        const reply = await this.#calls.ask(session, method, params, leftMs())
        const { said, retryAfterMs } = reply
        if (said === 'ok') return []
        // (In the midst of a redeploy the old server may be asked, that knows no new sessions.)
        const isAway = isUndecided(said) || said === 'no-such-session'
        const isOver = tried === tries || leftMs() <= AGAIN_MS
        if (isOver || !isAway || retryAfterMs !== undefined) return [{ ...reply, setting }]
        await sleep(AGAIN_MS, this.#calls.ended)
      }
    }
    const failed = (await Promise.all(settings.map(again))).flat()
    return this.#calls.ended.aborted || handshake !== this.#handshakes ? [] : failed
  }

  #report(failed: readonly Unset[]): void {
    if (failed.length === 0) return
    const which = failed.map(({ setting, said }) => `${setting.method} (${said})`).join(', ')
    const text = `the new session did not accept what was set before: ${which}`
    this.#outlet.report({ kind: 'note', level: 'warn', text })
  }

  /** Undefined when the client has set the same in a later session since. */
  #remember(request: Request, generation: number): Setting | undefined {
    if (request.params === undefined) return undefined
    const { method } = request
    const params = Buffer.from(textAt(request.raw, request.params))
    if (method === METHOD.setLevel) {
      const kept = { method, params, generation }
      if (isOlder(kept, this.#level)) return undefined
      this.#level = kept
      return kept
    }
    const uri = member(request.raw, request.params, 'uri')
    if (uri === undefined || !isString(request.raw, uri)) return undefined
    const kept = { method, params, generation, uri: stringAt(request.raw, uri) }
    if (isOlder(kept, this.#subscriptions.get(kept.uri))) return undefined
    if (method === METHOD.subscribe) this.#subscriptions.set(kept.uri, kept)
    else this.#subscriptions.delete(kept.uri)
    return kept
  }
}

/** What a client is told by this `initialize` result. */
export function seenIn(response: Response): Seen {
  const result = response.result
  const capabilities = member(response.raw, result, 'capabilities')
  return {
    protocolVersion: stringMember(response.raw, result, 'protocolVersion') ?? '',
    capabilities: capabilities === undefined ? {} : valueAt(response.raw, capabilities),
  }
}

/** What is different for the client, as a clause; undefined when nothing is. */
export function difference(seen: Seen | undefined, now: Seen): string | undefined {
  if (seen === undefined) return undefined
  const parts: string[] = []
  if (seen.protocolVersion !== now.protocolVersion) {
    parts.push(`the server now speaks ${now.protocolVersion}, not ${seen.protocolVersion}`)
  }
  if (!isDeepStrictEqual(seen.capabilities, now.capabilities)) {
    parts.push('the server now declares other capabilities')
  }
  return parts.length === 0 ? undefined : parts.join(' and ')
}

/** The server, or somebody in front of it, may say otherwise later. */
function mayPass({ said }: Unset): boolean {
  return isUndecided(said) || isOfTheMoment(said) || said === 'no-such-session' || said === 'HTTP 500'
}

function updated(uri: string): Message {
  return composeNotification(METHOD.resourceUpdated, { uri })
}

function isOlder(kept: Setting, other: Setting | undefined): boolean {
  return other !== undefined && other.generation > kept.generation
}

function declares(capabilities: unknown, ...path: readonly string[]): boolean {
  let at = capabilities
  for (const key of path) {
    if (typeof at !== 'object' || at === null) return false
    at = (at as Record<string, unknown>)[key]
  }
  return at === true
}

/**
 * Does what a fault says: to the sessions, the streams, the port, and the requests to come.
 *
 * Not the list of faults and not their clock (faults.ts). The one rule: the journal has the fault before its effects.
 */
import type { Endpoint } from './endpoint.ts'
import type { FaultName, FaultOptions, Faults } from './faults.ts'
import type { Journal } from './journal.ts'
import type { Listener } from './listener.ts'

export interface Breakable {
  readonly faults: Faults
  readonly endpoint: Endpoint
  readonly listener: Listener
  readonly journal: Journal
}

/** Breaks it; gives one line that says what was done. */
export function breakIt(what: Breakable, name: FaultName, { seconds, ms }: FaultOptions): string {
  const { faults, endpoint, listener } = what
  const sessions = endpoint.sessions.length
  const streams = endpoint.sessions.filter((session) => session.streamOpen).length
  const tell = (text: string, effect: () => void): string => {
    what.journal.record({ kind: 'fault', text })
    effect()
    return text
  }
  const restart = (): void => {
    // Connections first: a stream that ended in order would tell the client that nothing was lost.
    listener.cutMcp()
    endpoint.forgetSessions()
  }
  switch (name) {
    case 'restart':
      return tell('restarted: sessions wiped, connections cut', restart)
    case 'down': {
      const lengthMs = faults.start('down', { seconds })
      return tell(`down for ${lengthMs / 1_000} s: sessions wiped, connections cut`, restart)
    }
    case 'refuse': {
      const lengthMs = faults.start('refuse', { seconds })
      return tell(`connections refused for ${lengthMs / 1_000} s, sessions wiped`, () => {
        restart()
        listener.pause(lengthMs)
      })
    }
    case 'drop':
      return tell(`dropped ${streams} push stream(s)`, () => endpoint.dropStreams())
    case 'half-open':
      return tell(`${streams} push stream(s) are half-open: they stay, and say nothing more`, () =>
        endpoint.muteStreams(),
      )
    case 'forget-404':
    case 'forget-400': {
      faults.forgottenAs = name === 'forget-404' ? 404 : 400
      return tell(`forgot ${sessions} session(s); using one is answered with ${faults.forgottenAs}`, () =>
        endpoint.forgetSessions(),
      )
    }
    case 'hold-stream': {
      const lengthMs = faults.start('hold-stream', { seconds })
      return tell(`dropped ${streams} push stream(s); new ones get 409 for ${lengthMs / 1_000} s`, () =>
        endpoint.dropStreams(),
      )
    }
    case 'clear':
      return tell('all faults cleared', () => {
        faults.clear()
        listener.resume()
      })
    default: {
      const lengthMs = faults.start(name, { seconds, ms })
      return tell(`${name} for ${lengthMs / 1_000} s`, () => undefined)
    }
  }
}

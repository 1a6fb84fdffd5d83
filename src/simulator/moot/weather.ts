/**
 * What goes wrong on demand in the moot simulator, and until it is set otherwise.
 *
 * Only the settings; the sockets and routes act on them. The one rule: a fault never touches the store.
 */
export interface Weather {
  /** Every call and handshake is refused: `403 Tenant is suspended`. */
  suspended: boolean
  /** Every key is refused with 401. */
  badKeys: boolean
  /** Where a socket with a bad token or a space it may not see is refused: at the handshake, or by a close code 44xx. */
  refuseBy: 'handshake' | 'close'
  /** Handshakes get this status, so many times. */
  handshakeStatus: number | undefined
  handshakeTimes: number
  handshakeRetryAfterS: number | undefined
  /** Handshakes are never answered. */
  hangHandshakes: boolean
  /** REST calls are never answered. */
  hangHttp: boolean
  /** REST calls whose path and query hold this are never answered. */
  hangPath: string | undefined
  /** REST calls whose path holds `path` get `status`, `times` times. */
  failures: { path: string; status: number; times: number; retryAfterS?: number | undefined }[]
  /** A full page of `?since=` holds the newest events, not the oldest. */
  newestPages: boolean
  /** `GET …/events` gives the newest event first. */
  newestFirst: boolean
  /** The channel socket says nothing to `subscribe`. */
  quietChannel: boolean
  /** What comes then over the channel socket is dealt with once this has resolved. */
  slowChannel: Promise<void> | undefined
}

export function fairWeather(): Weather {
  return {
    suspended: false,
    badKeys: false,
    refuseBy: 'handshake',
    handshakeStatus: undefined,
    handshakeTimes: Number.POSITIVE_INFINITY,
    handshakeRetryAfterS: undefined,
    hangHandshakes: false,
    hangHttp: false,
    hangPath: undefined,
    failures: [],
    newestPages: false,
    newestFirst: false,
    quietChannel: false,
    slowChannel: undefined,
  }
}

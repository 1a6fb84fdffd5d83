/**
 * The way to a moot: through a proxy if the environment names one, trusting whom the user trusts.
 *
 * Not a connection: what is made here is handed to undici, by backend.ts for calls and by connection.ts for sockets.
 * The one rule: what is limited on the direct way is limited through a proxy as well, and so is each step to get there.
 */
import type { SecureContext } from 'node:tls'
import { Agent, type Dispatcher, Pool, ProxyAgent } from 'undici'
import { askedOnce, loginOf, type NamedProxy } from '../proxy.ts'
import { ADDRESS_MS } from './config.ts'

export interface Way {
  /** Whom to trust, the proxy included; undefined: as Node does. */
  readonly secureContext?: SecureContext | undefined
  readonly proxy?: NamedProxy | undefined
  /** For each step: a connection, the tunnel, the TLS handshake. */
  readonly connectMs: number
}

/**
 * What calls or sockets are dispatched with. `plain`: how the proxy is asked for what is not encrypted. Calls are
 * forwarded, as those to an MCP server are; a WebSocket takes a tunnel, because few proxies forward an upgrade.
 */
export function dispatcherFor(way: Way, limits: Agent.Options, plain: 'forwarded' | 'tunnelled'): Dispatcher {
  const { secureContext, proxy, connectMs } = way
  const dialing = {
    timeout: connectMs,
    autoSelectFamilyAttemptTimeout: ADDRESS_MS,
    ...(secureContext === undefined ? {} : { secureContext }),
  }
  if (proxy === undefined) return new Agent({ ...limits, connect: dialing, allowH2: false })
  return new ThroughProxy({
    ...limits,
    allowH2: false,
    uri: proxy.url.href,
    ...loginOf(proxy.url),
    proxyTunnel: plain === 'tunnelled',
    requestTls: dialing,
    proxyTls: dialing,
    // (A proxy that forwards is given no limits by undici.)
    factory: (origin, options) => new Pool(origin, { ...limits, ...options }),
    clientFactory: (origin, options) =>
      askedOnce(new Pool(origin, { ...options, headersTimeout: connectMs })),
  })
}

/** undici's own forgets what it was told of WebSockets. */
class ThroughProxy extends ProxyAgent {
  readonly #webSocket: Agent.Options['webSocket']

  constructor(options: ProxyAgent.Options) {
    super(options)
    this.#webSocket = options.webSocket
  }

  /** Asked for by undici's WebSocket. */
  get webSocketOptions(): Agent.Options['webSocket'] {
    return this.#webSocket
  }
}

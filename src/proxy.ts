/**
 * Which proxy the environment names for an address, and how a proxy is asked for a tunnel.
 *
 * Not the way through it: a server over HTTP and a moot have each their own (`network.ts` of `http/` and of `feed/`).
 * The one rule: a proxy that is set is never passed by, whatever is wrong with it.
 */
import type { Dispatcher } from 'undici'
import { invalid } from './errors.ts'
import { isLoopback } from './loopback.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** A proxy that the environment names. */
export interface NamedProxy {
  /** With the credentials, if it has some. */
  readonly url: URL
  /** The variable that names it. */
  readonly variable: string
}

/**
 * The proxy for `url`, an address of http or of a WebSocket, from HTTPS_PROXY, HTTP_PROXY or ALL_PROXY and NO_PROXY in
 * either case; undefined for none. Throws CONFIG_INVALID when what is set is no proxy URL.
 */
export function proxyFor(url: URL, env: Environment): NamedProxy | undefined {
  const find = (name: string): string | undefined => [name.toLowerCase(), name].find((each) => env[each])
  const variable = find(isEncrypted(url) ? 'HTTPS_PROXY' : 'HTTP_PROXY') ?? find('ALL_PROXY')
  if (variable === undefined || exempt(url, env[find('NO_PROXY') ?? ''] ?? '')) return undefined
  const named = env[variable] ?? ''
  const text = named.includes('://') ? named : `http://${named}`
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw invalid(
      `the proxy in ${variable} is not an http or https URL`,
      `set ${variable} to http://host:port, or unset it`,
    )
  }
  // Host and port are all that is asked of it: undici takes no path, other programs do without one.
  const proxy = new URL('/', text)
  try {
    decodeURIComponent(proxy.username + proxy.password)
  } catch {
    throw invalid('the user name or password in the proxy URL is not percent-encoded', 'write % as %25 in it')
  }
  // What is sent to this machine stays on it.
  return isLoopback(url.hostname) && !isLoopback(proxy.hostname) ? undefined : { url: proxy, variable }
}

/** How a proxy is shown the login in its URL, as an option of undici's, which itself passes over one without a password. */
export function loginOf({ username, password }: URL): { readonly token?: string } {
  if (username === '' && password === '') return {}
  const login = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return { token: `Basic ${Buffer.from(login).toString('base64')}` }
}

/** What a proxy did that was asked for a tunnel, by undici's code: its own words don't name the proxy. */
const PROXY_DID: Readonly<Record<string, string>> = {
  UND_ERR_SOCKET: 'the proxy hung up',
  UND_ERR_HEADERS_TIMEOUT: 'the proxy did not answer',
}

/**
 * `connection`, to a proxy, that says of a proxy which hangs up that it did. undici takes that for a connection to be
 * opened again, and asks for one tunnel after the other without end (nodejs/undici#3897, mended by its #5441).
 */
export function askedOnce<Connection extends Pick<Dispatcher, 'connect'>>(
  connection: Connection,
): Connection {
  const ask = connection.connect.bind(connection) as (
    tunnel: Dispatcher.ConnectOptions,
  ) => Promise<Dispatcher.ConnectData>
  const connect = (tunnel: Dispatcher.ConnectOptions): Promise<Dispatcher.ConnectData> =>
    ask(tunnel).catch((cause: NodeJS.ErrnoException) => {
      const did = PROXY_DID[cause.code ?? '']
      throw did === undefined ? cause : new Error(did, { cause })
    })
  return Object.assign(connection, { connect })
}

/** NO_PROXY: a list of hosts, domains with or without a leading dot or `*.`, IPv6 with or without brackets, each with or without a port; `*` for all. */
function exempt(url: URL, noProxy: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase()
  const port = url.port === '' ? (isEncrypted(url) ? '443' : '80') : url.port
  return noProxy
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .some((entry) => {
      if (entry === '*') return true
      const match = /^\[([^\]]+)\](?::(\d+))?$/.exec(entry) ??
        /^([^:]+)(?::(\d+))?$/.exec(entry) ?? [entry, entry]
      const name = (match[1] ?? entry).toLowerCase().replace(/^\*?\./, '')
      if (match[2] !== undefined && match[2] !== port) return false
      return host === name || host.endsWith(`.${name}`)
    })
}

function isEncrypted({ protocol }: URL): boolean {
  return protocol === 'https:' || protocol === 'wss:'
}

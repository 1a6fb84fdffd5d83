/**
 * The way to the server: through a proxy if the environment names one, trusting whom the user trusts.
 *
 * Not a connection: what is made here is handed to the exchange. Loaded only where a setting asks for it.
 * The one rule: a proxy or a certificate that does not work is said by name, never worked around.
 */
import tls from 'node:tls'
import type { Dispatcher } from 'undici'
import connect from 'undici/lib/api/api-connect.js'
import request from 'undici/lib/api/api-request.js'
import Client from 'undici/lib/dispatcher/client.js'
import DispatcherBase from 'undici/lib/dispatcher/dispatcher.js'
import ProxyAgent from 'undici/lib/dispatcher/proxy-agent.js'
import { invalid, reasonOf } from '../errors.ts'
import { extraCertificates, pem } from '../pem.ts'
import { askedOnce, loginOf } from '../proxy.ts'
import { systemCertificates } from '../system-trust.ts'
import { CONNECT_TIMEOUT_MS, KEEP_ALIVE_MS, type Tls } from './config.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** Paths of PEM files. `ca` adds to the certificates that are trusted anyway. */
export interface TlsFiles {
  readonly ca: readonly string[]
  readonly cert: string | undefined
  readonly key: string | undefined
  /** The flag or the variable that each was set with, for error texts. */
  readonly setBy: Readonly<Record<'ca' | 'cert' | 'key', string>>
}

/**
 * A way through `proxy`, for one call at a time: a tunnel for https, plain forwarding for http. `stepMs`: how long each
 * step to get there may take (a connection, the tunnel, the TLS handshake); nothing has been sent to the server till then.
 */
export function throughProxy(proxy: URL, options: Tls | undefined, stepMs = CONNECT_TIMEOUT_MS): Dispatcher {
  const dials = { ...options, timeout: stepMs }
  // A tunnel is asked for with `connect`, which undici hangs on its dispatchers only in its index; `doctor` asks with
  // `request`.
  DispatcherBase.prototype.connect ??= connect
  DispatcherBase.prototype.request ??= request
  return new ProxyAgent({
    uri: proxy.href,
    ...loginOf(proxy),
    proxyTunnel: false,
    factory: (origin, limits) => new Client(origin, { ...limits, keepAliveMaxTimeout: KEEP_ALIVE_MS }),
    clientFactory: (origin, limits) => askedOnce(new Client(origin, { ...limits, headersTimeout: stepMs })),
    requestTls: dials,
    proxyTls: dials,
    headersTimeout: 0,
    bodyTimeout: 0,
  })
}

/** Reads the files. Undefined when there is nothing to set. Throws CONFIG_INVALID for what cannot be read. */
export function tlsOptions(files: TlsFiles, env: Environment): Tls | undefined {
  if ((files.cert === undefined) !== (files.key === undefined)) {
    const only = files.cert === undefined ? files.setBy.key : files.setBy.cert
    throw invalid(
      `--cert and --key belong together, and there is only ${only}`,
      'give both: --cert client.pem --key client.key',
    )
  }
  if (files.ca.length === 0 && files.cert === undefined) return undefined
  // Naming certificates takes the place of Node's own, NODE_EXTRA_CA_CERTS among them: add those again.
  const { setBy } = files
  const ca = [
    ...tls.rootCertificates,
    ...files.ca.map((path) => pem(path, 'CA certificate', setBy.ca)),
    ...extraCertificates(env),
    ...systemCertificates(),
  ]
  const cert = files.cert === undefined ? {} : { cert: pem(files.cert, 'client certificate', setBy.cert) }
  const key = files.key === undefined ? {} : { key: pem(files.key, 'client key', setBy.key) }
  try {
    return {
      secureContext: tls.createSecureContext({ ca, ...cert, ...key }),
    }
  } catch (cause) {
    throw invalid(
      `the certificates cannot be used: ${reasonOf(cause)}`,
      'check that the files hold PEM, and that the key is the one of the certificate, without a passphrase',
    )
  }
}

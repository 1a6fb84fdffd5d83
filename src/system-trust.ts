/**
 * Whom the operating system trusts: companies put the certificate there that their proxies and servers sign with.
 *
 * Not of every start: with `node:tls` 140 certificates are read, so it is loaded when it is asked. The one rule: that
 * is only when Node by itself trusts nobody who vouches for a server.
 */
import { getBuiltinModule } from 'node:process'

const UNTRUSTED: readonly (string | undefined)[] = [
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]

/** True when the error says that nobody we trust vouches for the server's certificate. */
export function isUntrusted(cause: unknown): boolean {
  return UNTRUSTED.includes((cause as NodeJS.ErrnoException | undefined)?.code)
}

let systemTrusted = false

export function isSystemTrusted(): boolean {
  return systemTrusted
}

/**
 * Trusts the certificates of the operating system from now on, where Node can (22.19, 24.5). True when that may change
 * something for an attempt; `wereTrusted` when it began?
 */
export function trustSystem(wereTrusted = systemTrusted): boolean {
  const { setDefaultCACertificates, getCACertificates } = tls()
  if (wereTrusted || setDefaultCACertificates === undefined || getCACertificates === undefined) return false
  if (!systemTrusted) {
    setDefaultCACertificates([...getCACertificates('default'), ...getCACertificates('system')])
    systemTrusted = true
  }
  return true
}

/** For a list of certificates that takes the place of Node's own. */
export function systemCertificates(): string[] {
  return tls().getCACertificates?.('system') ?? []
}

/** Parts of `node:tls` that Node 20 has not got. */
interface TlsOfLaterNodes {
  readonly getCACertificates?: (type: 'default' | 'system') => string[]
  readonly setDefaultCACertificates?: (certificates: readonly string[]) => void
}

function tls(): TlsOfLaterNodes {
  return getBuiltinModule('node:tls') as TlsOfLaterNodes
}

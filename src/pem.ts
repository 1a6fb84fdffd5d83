/**
 * Certificates and keys in files: what is read, and what is said of a file that can't be.
 */
import { readFileSync } from 'node:fs'
import { getBuiltinModule } from 'node:process'
import { invalid, reasonOf } from './errors.ts'

/** What `what` names holds: blocks that begin so. */
const KEY = /-----BEGIN [\w ]*PRIVATE KEY-----/
const CERTIFICATE = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----/

/**
 * The text of `path`, which `setBy` named as `what`: "… key", or certificates. Throws CONFIG_INVALID where it can't be
 * read, or holds none.
 */
export function pem(path: string, what: string, setBy: string): string {
  const text = textOf(path, what, setBy)
  const isKey = what.endsWith(' key')
  if ((isKey ? KEY : CERTIFICATE).test(text) && (isKey || isReadable(text))) return text
  if (!text.includes('-----BEGIN ')) {
    throw invalid(
      `the ${what} ${path} is not PEM`,
      'convert it: openssl x509 -inform der -in FILE -out FILE.pem',
    )
  }
  throw invalid(
    `the ${what} ${path} holds no ${isKey ? 'private key' : 'certificate that can be read'}`,
    `check the path in ${setBy}`,
  )
}

function textOf(path: string, what: string, setBy: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw invalid(
      `the ${what} ${path} cannot be read (${reasonOf(cause)})`,
      `check the path in ${setBy} and its permissions`,
    )
  }
}

/** OpenSSL passes over what it cannot read, without a word. (Not imported: few name a certificate.) */
function isReadable(text: string): boolean {
  try {
    return new (getBuiltinModule('node:crypto').X509Certificate)(text).fingerprint256 !== ''
  } catch {
    return false
  }
}

/** Those of NODE_EXTRA_CA_CERTS; of a file that can't be read Node has said that it is ignored. */
export function extraCertificates(env: Readonly<Record<string, string | undefined>>): string[] {
  const { NODE_EXTRA_CA_CERTS: path = '' } = env
  try {
    return path === '' ? [] : [readFileSync(path, 'utf8')]
  } catch {
    return []
  }
}

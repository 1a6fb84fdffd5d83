/**
 * Certificates and keys in files: what is read, and what is said of a file that can't be.
 */
import { readFileSync } from 'node:fs'
import { invalid, reasonOf } from './errors.ts'

/** The text of `path`, which `setBy` named as `what`. Throws CONFIG_INVALID where it can't be read or is no PEM. */
export function pem(path: string, what: string, setBy: string): string {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    throw invalid(
      `the ${what} ${path} cannot be read (${reasonOf(cause)})`,
      `check the path in ${setBy} and its permissions`,
    )
  }
  if (!text.includes('-----BEGIN ')) {
    throw invalid(
      `the ${what} ${path} is not PEM`,
      'convert it: openssl x509 -inform der -in FILE -out FILE.pem',
    )
  }
  return text
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

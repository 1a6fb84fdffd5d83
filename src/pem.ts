/**
 * Certificates and keys in files.
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

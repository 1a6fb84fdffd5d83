/**
 * Which names are this machine: nothing sent there leaves it, so a key may go there in the clear.
 *
 * The one rule: no name is looked up. What is not known to stay here does not.
 */

/** `hostname` as in a URL, or an address. */
export function isLoopback(hostname: string): boolean {
  return (
    hostname === 'localhost' ||
    hostname.endsWith('.localhost') ||
    hostname === '[::1]' ||
    hostname === '::1' ||
    /^127(\.\d{1,3}){3}$/.test(hostname)
  )
}

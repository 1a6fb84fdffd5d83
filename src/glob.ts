/**
 * Globs: `*` for any characters, `?` for one. Case counts.
 *
 * Not a regular expression: whatever the pattern, a text takes at most its length times the pattern's; a regular
 * expression of several stars can take for ever.
 */

/** Does the whole of a text match `pattern`? */
export function globMatcher(glob: string): (text: string) => boolean {
  const pattern = [...glob]
  return (whole) => {
    const text = [...whole]
    let at = 0
    let p = 0
    let star = -1
    let resume = 0
    while (at < text.length) {
      if (pattern[p] === '*') {
        star = p++
        resume = at
      } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === text[at])) {
        p++
        at++
      } else if (star >= 0) {
        // What the last star stands for is one character longer.
        p = star + 1
        at = ++resume
      } else {
        return false
      }
    }
    while (pattern[p] === '*') p++
    return p === pattern.length
  }
}

/**
 * JSON laid out for people.
 *
 * The one rule: no token is changed, so that numbers keep their digits.
 */

/** Valid JSON on lines, each token as it is. */
export function indented(json: string): string {
  let text = ''
  let depth = 0
  let opened = false
  const line = (): string => `\n${'  '.repeat(depth)}`
  for (const token of tokens(json)) {
    const closes = token === '}' || token === ']'
    if (closes) depth--
    if (opened !== closes) text += line()
    opened = token === '{' || token === '['
    if (opened) depth++
    text += token === ':' ? ': ' : token
    if (token === ',') text += line()
  }
  return text
}

function* tokens(json: string): Generator<string> {
  const other = /[{}[\],:]|[^\s{}[\],:"]+/y
  for (let at = 0; at < json.length; ) {
    let end = at + 1
    if (json[at] === '"') {
      // (An expression for strings would need a stack as deep as one has escapes.)
      while (json[end] !== '"') end += json[end] === '\\' ? 2 : 1
      yield json.slice(at, ++end)
    } else {
      other.lastIndex = at
      const [token] = other.exec(json) ?? []
      if (token !== undefined) yield token
      end = at + (token?.length ?? 1)
    }
    at = end
  }
}

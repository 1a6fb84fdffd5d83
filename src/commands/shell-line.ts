/**
 * How our program is started: by an entry, and by who was told what to run.
 *
 * The one rule: a line that is printed runs as it stands, also where npx is all that there is.
 */
const PACKAGE = '@chamade/mcp-server@3'

/** Word by word; `installed`: from the PATH, where `npm install -g` has put it. */
export function program(installed: boolean): readonly string[] {
  return installed ? ['chamade-mcp'] : ['npx', '-y', PACKAGE]
}

/** One of our commands, for a shell of any platform. */
export function shellLine(words: string, installed = false): string {
  return [...program(installed), words].join(' ')
}

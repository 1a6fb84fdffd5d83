/**
 * How the commands for people write: colour only where somebody looks, one line where one line is meant.
 *
 * Not a logger and not for `connect`: stdout of that one belongs to the protocol. The one rule: text from
 * outside never steers the terminal.
 */

/** Colours a text, or gives it back as it is. */
export type Paint = (text: string) => string

export interface Palette {
  readonly bold: Paint
  readonly dim: Paint
  readonly red: Paint
  readonly green: Paint
  readonly yellow: Paint
  readonly blue: Paint
  readonly cyan: Paint
  readonly magenta: Paint
}

export type Env = Readonly<Record<string, string | undefined>>

/** Is a person looking at this stream who wants colour? `NO_COLOR` and `FORCE_COLOR` as everywhere. */
export function wantsColour(stream: { readonly isTTY?: boolean }, env: Env): boolean {
  if (env.NO_COLOR !== undefined && env.NO_COLOR !== '') return false
  if (env.FORCE_COLOR !== undefined && env.FORCE_COLOR !== '0') return true
  return stream.isTTY === true && env.TERM !== 'dumb'
}

export function palette(colour: boolean): Palette {
  const paint =
    (code: number, end: number): Paint =>
    (text) =>
      colour && text !== '' ? `\u001b[${code}m${text}\u001b[${end}m` : text
  return {
    bold: paint(1, 22),
    dim: paint(2, 22),
    red: paint(31, 39),
    green: paint(32, 39),
    yellow: paint(33, 39),
    blue: paint(34, 39),
    magenta: paint(35, 39),
    cyan: paint(36, 39),
  }
}

/** `text` without anything a terminal would obey; line ends stay. */
export function harmless(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Bidi_C}]/gu, (c) => (c === '\n' || c === '\t' ? c : ''))
}

/**
 * How doctor tells: a list that grows on a terminal, the same without cursor movements elsewhere, or JSON.
 *
 * The one rule: every text passes the redactor, so that a report can be pasted into an issue.
 */
import type { Io } from '../command.ts'
import { harmless, type Palette, palette, wantsColour } from '../terminal.ts'
import type { Result, State } from './check.ts'

export interface Report {
  group(title: string): void
  running(name: string, text: string): void
  result(result: Result): void
  /** The running check was broken off. */
  stopped(): void
  /** `stopped`: before all were run. */
  end(results: readonly Result[], stopped: boolean): void
}

const NAME_WIDTH = 16

/** For people. */
export class ListReport implements Report {
  readonly #io: Io
  readonly #paint: Palette
  readonly #redact: (text: string) => string
  readonly #live: boolean

  constructor(io: Io, redact: (text: string) => string, head: string) {
    this.#io = io
    this.#redact = redact
    this.#paint = palette(wantsColour(io.stdout, io.env))
    this.#live = io.stdout.isTTY === true && io.env.TERM !== 'dumb'
    this.#write(`${this.#paint.bold(head)}\n`)
  }

  group(title: string): void {
    this.#write(`\n${this.#paint.bold(title)}\n`)
  }

  running(name: string, text: string): void {
    if (!this.#live) return
    const width = Math.max(20, (this.#io.stdout.columns ?? 80) - 1)
    const line = `  … ${name.padEnd(NAME_WIDTH)} ${text}`.slice(0, width)
    this.#write(`\r\u001b[2K${this.#paint.dim(line)}`)
  }

  result({ name, state, text, advice }: Result): void {
    if (this.#live) this.#write('\r\u001b[2K')
    const { dim } = this.#paint
    const shown = state === 'skip' ? dim(harmless(text)) : harmless(text)
    this.#write(`  ${this.#mark(state)} ${this.#paint.bold(name.padEnd(NAME_WIDTH))} ${shown}\n`)
    if (advice !== undefined)
      this.#write(`${' '.repeat(NAME_WIDTH + 5)}${this.#paint.cyan(`→ ${harmless(advice)}`)}\n`)
  }

  stopped(): void {
    if (this.#live) this.#write('\r\u001b[2K')
  }

  end(results: readonly Result[], stopped: boolean): void {
    const { red, yellow, green } = this.#paint
    const failed = results.filter(({ state }) => state === 'fail').length
    const warned = results.filter(({ state }) => state === 'warn').length
    const parts = [
      ...(failed > 0 ? [red(`${failed} problem${failed === 1 ? '' : 's'}`)] : []),
      ...(warned > 0 ? [yellow(`${warned} warning${warned === 1 ? '' : 's'}`)] : []),
    ]
    if (stopped) parts.push(yellow('stopped before all was looked at'))
    this.#write(`\n${parts.length === 0 ? green('all is well') : parts.join(', ')}\n`)
  }

  #mark(state: State): string {
    const { green, yellow, red, dim } = this.#paint
    return { ok: green('✓'), warn: yellow('!'), fail: red('✗'), skip: dim('-') }[state]
  }

  #write(text: string): void {
    this.#io.stdout.write(this.#redact(text))
  }
}

/** For programs: one object at the end. */
export class JsonReport implements Report {
  readonly #io: Io
  readonly #redact: (text: string) => string
  readonly #head: object

  constructor(io: Io, redact: (text: string) => string, head: object) {
    this.#io = io
    this.#redact = redact
    this.#head = head
  }

  group(): void {}
  running(): void {}
  result(): void {}
  stopped(): void {}

  end(results: readonly Result[], stopped: boolean): void {
    const ok = !stopped && results.every(({ state }) => state !== 'fail')
    const whole = { ...this.#head, ok, ...(stopped ? { stopped } : {}), checks: results }
    this.#io.stdout.write(`${this.#redact(JSON.stringify(whole, undefined, 2))}\n`)
  }
}

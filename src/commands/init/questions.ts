/**
 * What `init` asks when a person sits at a terminal and has not said it by flags.
 *
 * The one rule: Esc, Ctrl-C or Ctrl-D at any question means that nothing is written.
 */
import * as clack from '@clack/prompts'
import type { Io } from '../command.ts'
import { CLIENTS, type Client } from './clients.ts'

/** Esc, Ctrl-C or Ctrl-D. */
export class Cancelled extends Error {
  /** By Ctrl-C, which is no signal while a question is asked. */
  readonly interrupted: boolean

  constructor(interrupted: boolean) {
    super()
    this.interrupted = interrupted
  }
}

export interface Questions {
  clients(): Promise<readonly Client[]>
  system(): Promise<'chamade' | 'moot' | 'simulator'>
  /** The key itself, or undefined for "later". */
  key(client: Client, variable: string): Promise<string | undefined>
  write(file: string): Promise<boolean>
}

export function questions(io: Io): Questions {
  // At Ctrl-D readline stops reading, and the question would stay unanswered.
  const left = new AbortController()
  let interrupted = false
  io.stdin.on('keypress', (_text, key?: { readonly name?: string; readonly ctrl?: boolean }) => {
    if (key?.ctrl !== true) return
    if (key.name === 'd') left.abort()
    interrupted ||= key.name === 'c'
  })
  const answer = <T>(value: T): Exclude<T, symbol> => {
    if (clack.isCancel(value)) throw new Cancelled(interrupted)
    return value as Exclude<T, symbol>
  }
  const streams = { input: io.stdin, output: io.stdout, signal: AbortSignal.any([io.signal, left.signal]) }
  return {
    async clients() {
      const names = answer(
        await clack.multiselect({
          ...streams,
          message: 'Which clients? (space selects, enter goes on)',
          options: CLIENTS.map(({ name, title }) => ({ value: name, label: title })),
          initialValues: ['claude-code' as const],
          required: true,
        }),
      )
      return CLIENTS.filter(({ name }) => names.includes(name))
    },
    async system() {
      return answer(
        await clack.select({
          ...streams,
          message: 'Connect to what?',
          options: [
            { value: 'chamade' as const, label: 'Chamade', hint: 'calls and messages, mcp.chamade.io' },
            { value: 'simulator' as const, label: 'the local simulator', hint: 'no account needed' },
            { value: 'moot' as const, label: 'moot', hint: 'spaces and agents, mootup.io' },
          ],
        }),
      )
    },
    async key(client, variable) {
      const key = answer(
        await clack.password({
          ...streams,
          message: `${client.title} cannot read ${variable} from your shell. Your key (empty: put it in later)`,
        }),
      )
      return key === undefined || key.trim() === '' ? undefined : key.trim()
    },
    async write(file) {
      return answer(await clack.confirm({ ...streams, message: `Write ${file}?` }))
    },
  }
}

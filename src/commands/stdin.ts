/** What a command is given on stdin, whole. */
import { addAbortSignal } from 'node:stream'
import type { Io } from './command.ts'

/** All that comes until the end; throws the signal's reason when that comes first. */
export async function stdinText({ stdin, signal }: Io): Promise<string> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of addAbortSignal(signal, stdin)) chunks.push(Buffer.from(chunk as Buffer))
  } catch (error) {
    throw signal.aborted ? signal.reason : error
  }
  // Programs of Windows begin with a byte order mark.
  return Buffer.concat(chunks)
    .toString('utf8')
    .replace(/^\uFEFF/, '')
}

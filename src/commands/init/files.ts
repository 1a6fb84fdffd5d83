/**
 * Reading and replacing a client's file on the disk.
 *
 * The one rule: at every moment there is a whole file. The new text is written beside it and put in its place;
 * the text before is kept as a backup; a link (dotfiles are often links) is followed, not replaced.
 */
import { isUtf8 } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import {
  access,
  copyFile,
  mkdir,
  open,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
} from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { BridgeError, invalid, reasonOf } from '../../errors.ts'

/** The text of `file`, or undefined when there is none. */
export async function textOf(file: string): Promise<string | undefined> {
  let bytes: Buffer
  try {
    bytes = await bytesOf(file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unusable(file, 'read', error)
  }
  // What is no UTF-8 would be written back as something else.
  if (isUtf8(bytes)) return bytes.toString('utf8')
  throw invalid(
    `${file} is not changed: it holds text that is no UTF-8`,
    'save it as UTF-8, or use --print and put the entry in by hand',
  )
}

/** A pipe would be waited at for ever, and a device put out of its place. */
export async function bytesOf(file: string): Promise<Buffer> {
  if (!(await stat(file)).isFile()) throw new Error('it is no regular file')
  return await readFile(file)
}

/** Throws when a file could not be put there: the nearest folder above it that exists takes none. */
export async function mayBeWritten(file: string): Promise<void> {
  const real = await target(file)
  for (let folder = dirname(real); ; folder = dirname(folder)) {
    try {
      return await access(folder, constants.W_OK | constants.X_OK)
    } catch (error) {
      const missing = (error as NodeJS.ErrnoException).code === 'ENOENT'
      if (!missing || dirname(folder) === folder) throw unusable(file, 'written', error)
    }
  }
}

/**
 * Puts `after` in the place of `before` (undefined: there was no file). Gives the path of the backup.
 * Refuses when the file is no longer what `before` says. A new file that holds a `secret` is for its owner only.
 */
export async function replaceText(
  file: string,
  before: string | undefined,
  after: string,
  secret: boolean,
): Promise<string | undefined> {
  if ((await textOf(file)) !== before) {
    throw invalid(`${file} is not changed: somebody else changed it meanwhile`, 'run init again')
  }
  try {
    const real = await target(file)
    await mkdir(dirname(real), { recursive: true })
    const backup = before === undefined ? undefined : await backUp(real)
    await writeBeside(
      real,
      after,
      before === undefined ? (secret ? 0o600 : 0o666) : (await stat(real)).mode & 0o777,
    )
    return backup
  } catch (error) {
    throw unusable(file, 'written', error)
  }
}

/** Where a link leads, though nothing may be there yet. */
async function target(file: string): Promise<string> {
  const real = await realpath(file).catch(() => undefined)
  if (real !== undefined) return real
  const link = await readlink(file).catch(() => undefined)
  return link === undefined ? file : await target(resolve(dirname(file), link))
}

async function writeBeside(file: string, text: string, mode: number): Promise<void> {
  const beside = `${file}.${randomBytes(4).toString('hex')}.tmp`
  const handle = await open(beside, 'wx', mode)
  try {
    await handle.writeFile(text)
    await handle.sync()
    await handle.close()
    await rename(beside, file)
  } catch (error) {
    await handle.close().catch(() => undefined)
    await rm(beside, { force: true })
    throw error
  }
}

/** A copy under the first free name: `FILE.bak`, `FILE.bak2`, … */
async function backUp(file: string): Promise<string> {
  for (let n = 1; ; n++) {
    const backup = `${file}.bak${n === 1 ? '' : n}`
    try {
      await copyFile(file, backup, constants.COPYFILE_EXCL)
      return backup
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
}

function unusable(file: string, what: string, cause: unknown): BridgeError {
  return new BridgeError('CONFIG_INVALID', `${file} cannot be ${what}: ${reasonOf(cause)}`, {
    hint: 'check the path and its permissions, or use --print and put the entry in by hand',
    cause,
  })
}

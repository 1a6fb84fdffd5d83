/**
 * Builds `dist/` once before the tests when `src/` is newer: the tests spawn the bin that users run.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

export default function setup(): void {
  const built = join(root, 'dist', 'cli.js')
  const sources = [
    join(root, 'rolldown.config.mjs'),
    join(root, 'package.json'),
    ...filesIn(join(root, 'src')),
  ]
  const newest = Math.max(...sources.map((file) => statSync(file).mtimeMs))
  if (existsSync(built) && statSync(built).mtimeMs > newest) return
  if (!existsSync(join(root, 'src', 'cli.ts'))) return
  execFileSync('npm', ['run', 'build'], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  })
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}

/** A place for the files of one test. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

/** An empty folder, gone when the test ends. */
export function emptyFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'chamade-mcp-test-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

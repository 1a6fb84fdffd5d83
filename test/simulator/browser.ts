/** Debian's Chromium (or another one), driven by playwright-core. Says so when there is none. */
import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

const PLACES = [
  process.env.CHROMIUM_PATH,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]

/** Path of a browser, or undefined. */
export const browserPath: string | undefined = PLACES.find(
  (path) => path !== undefined && path !== '' && existsSync(path),
)

if (browserPath === undefined) {
  console.warn('console tests skipped: no Chromium found (apt-get install chromium, or set CHROMIUM_PATH)')
}

export function launch(executablePath: string): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-lcd-text'],
  })
}

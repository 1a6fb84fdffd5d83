/** The console in a real browser, the real bridge behind it. */
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Simulator } from '../../src/simulator/simulator.ts'
import { BridgeProcess } from '../support/bridge-process.ts'
import { eventually } from './agent.ts'
import { browserPath, launch } from './browser.ts'
import { simulators } from './world.ts'

const start = simulators()

describe('over HTTP', () => {
  it('serves one page that can load nothing and be framed by nobody', async () => {
    const simulator = await start()
    const answer = await fetch(simulator.url)
    const policy = answer.headers.get('content-security-policy') ?? ''
    expect(policy).toContain("default-src 'none'")
    expect(policy).toContain("frame-ancestors 'none'")
    expect(policy).not.toContain('unsafe')
    const page = await answer.text()
    expect(page).not.toMatch(/(src|href)="(?!#|data:)/)
    expect(page).not.toContain(simulator.token)
    expect(page).not.toContain(simulator.key)
  })
})

describe.skipIf(browserPath === undefined)('in a browser', () => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(browserPath ?? '')
  }, 60_000)

  afterAll(() => browser.close())

  interface Visit {
    readonly page: Page
    /** What the page complained about: script errors, refused loads. */
    readonly complaints: string[]
    /** Requests that left the simulator's origin. */
    readonly strangers: string[]
  }

  async function visit(
    simulator: Simulator,
    options: Parameters<Browser['newContext']>[0] = {},
  ): Promise<Visit> {
    const context = await browser.newContext(options)
    const page = await context.newPage()
    const complaints: string[] = []
    const strangers: string[] = []
    page.on('pageerror', (error) => complaints.push(error.message))
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text())
    })
    page.on('request', (request) => {
      if (!request.url().startsWith(simulator.url) && !request.url().startsWith('data:'))
        strangers.push(request.url())
    })
    await page.goto(simulator.consoleUrl)
    await page
      .getByRole('status')
      .getByText(/listen/)
      .waitFor()
    return { page, complaints, strangers }
  }

  function bridgeTo(simulator: Simulator): Promise<BridgeProcess> {
    return BridgeProcess.connected(simulator.mcpUrl, {
      args: ['--stateful'],
      env: { CHAMADE_API_KEY: simulator.key },
    })
  }

  it('a message typed in the page leaves the bridge; the answer, a restart and the next message show', async () => {
    const simulator = await start()
    const bridge = await bridgeTo(simulator)
    const { page, complaints, strangers } = await visit(simulator)
    await page.getByText('1 stream listens').waitFor()
    expect(page.url()).not.toContain(simulator.token)

    // By keyboard alone.
    await page.getByLabel('Message').focus()
    await page.keyboard.type('Can you check the test results?')
    await page.keyboard.press('Enter')
    await bridge.call('tools/list')
    const asked = 'New message from Alice on Discord: "Can you check the test results?"'
    await bridge.waitFor('the message on stdout', () => bridge.channel().includes(asked))
    await page.locator('#timeline').getByText(asked).waitFor()

    await bridge.call('tools/call', {
      name: 'chamade_dm_chat',
      arguments: {
        conversation_id: 'discord:alice',
        text: 'All 42 tests passing. The auth migration looks good.',
      },
    })
    await page.locator('#chat .agent').getByText('All 42 tests passing').waitFor()
    await page.getByText(/answered by chamade_dm_chat after/).waitFor()

    await page.getByRole('button', { name: 'Restart' }).focus()
    await page.keyboard.press('Enter')
    await page.locator('#timeline').getByText('restarted: sessions wiped').waitFor()
    await bridge.waitFor(
      'the gap notice',
      () => bridge.received('notifications/claude/channel').some((each) => isGap(each.params)),
      10_000,
    )
    await page.locator('#sessions').getByText('s2').waitFor()
    await page.getByText('1 stream listens').waitFor()
    await page.getByLabel('Message').fill('And the deploy?')
    const note = { name: 'log.txt', mimeType: 'text/plain', buffer: Buffer.from('deployed') }
    await page.getByLabel('Files').setInputFiles(note)
    await page.getByLabel('Message').focus()
    await page.keyboard.press('Enter')
    await bridge.waitFor('the next message', () =>
      bridge.channel().some((each) => each.includes('And the deploy?')),
    )
    await page.locator('#chat').getByText('log.txt').waitFor()
    expect(complaints).toEqual([])
    expect(strangers).toEqual([])
  })

  it('rings, and lets a caller speak once the agent has picked up', async () => {
    const simulator = await start()
    const bridge = await bridgeTo(simulator)
    const { page, complaints } = await visit(simulator)
    await page.getByText('1 stream listens').waitFor()
    await bridge.call('tools/list')
    await page.getByRole('button', { name: 'Ring', exact: true }).click()
    await bridge.waitFor('the ringing', () => bridge.channel().some((each) => each.includes('"ringing"')))
    expect(await page.getByRole('button', { name: 'Say' }).isDisabled()).toBe(true)
    const call_id = simulator.agents[0]?.calls.latest()?.id
    await bridge.call('tools/call', { name: 'chamade_call_accept', arguments: { call_id } })
    await page.locator('#calls').getByText('active').waitFor()
    await page.getByRole('textbox', { name: 'Line' }).fill('Are you open on Sunday?')
    await page.getByRole('button', { name: 'Say' }).click()
    await bridge.waitFor('the line', () =>
      bridge.channel().includes('Transcript: [Alice] Are you open on Sunday?'),
    )
    await bridge.call('tools/call', {
      name: 'chamade_call_say',
      arguments: { call_id, text: 'Yes, from ten to four.' },
    })
    await page.locator('#calls').getByText('Yes, from ten to four.').waitFor()
    await page.getByRole('button', { name: 'Hang up' }).click()
    await page.locator('#calls').getByText('ended').waitFor()
    expect(complaints).toEqual([])
  })

  it('shows what others wrote as text, never as markup', async () => {
    const simulator = await start()
    const { page, complaints } = await visit(simulator)
    const nasty = '<img src=x onerror="document.title=1"><b>bold</b>'
    simulator.publish({ type: 'dm', from: nasty, text: nasty })
    await page.locator('#chat').getByText(nasty).waitFor()
    expect(await page.locator('#chat img, #timeline img').count()).toBe(0)
    expect(complaints).toEqual([])
  })

  it('asks for the token when it has none, and says what is wrong', async () => {
    const simulator = await start()
    const page = await (await browser.newContext()).newPage()
    await page.goto(simulator.url)
    await page.getByLabel('Control token').fill(simulator.token)
    await page.getByRole('button', { name: 'Open', exact: true }).click()
    await page.getByText('nobody listens').first().waitFor()
    await page.getByRole('button', { name: 'Hang up' }).waitFor()
    expect(await page.getByRole('button', { name: 'Hang up' }).isDisabled()).toBe(true)
    simulator.fault('503', { seconds: 60 })
    await page.getByText(/broken: 503/).waitFor()
    await page.getByRole('button', { name: 'Clear all' }).click()
    await eventually(() => !simulator.faults.on('503'))
  })

  it('says that a token is wrong, and takes the whole address for the right one', async () => {
    const simulator = await start()
    const page = await (await browser.newContext()).newPage()
    await page.goto(simulator.url)
    await page.getByLabel('Control token').fill('wrong')
    await page.keyboard.press('Enter')
    await page.getByRole('alert').getByText('not the token').waitFor()
    await page.getByLabel('Control token').fill(simulator.consoleUrl)
    await page.keyboard.press('Enter')
    await page.getByText('nobody listens').first().waitFor()
    expect(await page.getByRole('alert').isVisible()).toBe(false)
  })

  it('takes the address of the simulator that was started again, in the same tab', async () => {
    const first = await start()
    const { page } = await visit(first)
    await first.close()
    const second = await start({ port: Number(new URL(first.url).port) })
    await page.getByRole('status').getByText('locked').waitFor()
    await page.goto(second.consoleUrl)
    await page.getByText('nobody listens').first().waitFor()
    expect(page.url()).not.toContain(second.token)
  })

  it('a length that stands there is for faults that last only', async () => {
    const simulator = await start()
    const { page } = await visit(simulator)
    await page.getByRole('spinbutton', { name: 'for' }).fill('60')
    await page.getByRole('button', { name: 'Restart' }).click()
    await page.getByText('restarted: sessions wiped').waitFor()
  })

  it('gives a fault its own length when none is typed, and shows that connections are refused', async () => {
    const simulator = await start()
    const { page } = await visit(simulator)
    await page.getByRole('spinbutton', { name: 'for' }).fill('')
    await page.getByRole('button', { name: 'Bad key' }).click()
    await page.getByText(/broken: bad-key/).waitFor()
    await page.getByRole('button', { name: 'Refuse' }).click()
    await page.getByText(/broken: .*refuse/).waitFor()
  })

  it.each([
    ['light', 390],
    ['dark', 390],
    ['light', 1280],
    ['dark', 1280],
  ] as const)('%s at %d pixels: nothing is cut off, text has contrast', async (colorScheme, width) => {
    const simulator = await start()
    simulator.publish({ type: 'dm', from: 'Alice', text: 'x'.repeat(300) })
    simulator.publish({ type: 'call', from: '+33 1 23 45 67 89' })
    const { page } = await visit(simulator, { colorScheme, viewport: { width, height: 844 } })
    await page.locator('#timeline li').first().waitFor()
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width)
    const ratios = (await page.evaluate(CONTRASTS)) as readonly (readonly [string, number])[]
    expect(ratios.length).toBeGreaterThan(20)
    expect(ratios.filter(([, ratio]) => ratio < 4.5)).toEqual([])
  })
})

function isGap(params: Record<string, unknown> | undefined): boolean {
  return (params?.meta as Record<string, unknown> | undefined)?.event_type === 'channel_gap'
}

/** Contrast of every element that has text of its own, as WCAG 2 counts it; runs in the page. */
const CONTRASTS = `(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number)
  const light = ([r, g, b]) => {
    const part = (v) => { const s = v / 255; return s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4 }
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b)
  }
  const back = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgb(getComputedStyle(at).backgroundColor)
      if (color.length < 4 || color[3] > 0) return color
    }
    return [255, 255, 255]
  }
  return [...document.querySelectorAll('body *')]
    .filter((each) => each.offsetParent && !each.closest(':disabled') && [...each.childNodes].some((n) => n.nodeType === 3 && n.data.trim() !== ''))
    .map((each) => {
      const [a, b] = [light(rgb(getComputedStyle(each).color)), light(back(each))]
      return [each.tagName + '.' + each.className + ' ' + each.textContent.slice(0, 20), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]
    })
})()`

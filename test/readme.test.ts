import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { connect } from '../src/commands/connect.ts'
import { BridgeProcess } from './support/bridge-process.ts'
import { optionTable } from './support/option-table.ts'

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
const { engines, scripts } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
) as { engines: { node: string }; scripts: Record<string, string> }

describe('README', () => {
  it('lists the options of the default command as they are', () => {
    expect(readme).toContain(optionTable(connect.options))
  })

  it('sends nobody to the console without its token', () => {
    expect(readme).not.toMatch(/http:\/\/127\.0\.0\.1:8484\/?[`) ]/)
    expect(readme).toContain('`console:`')
  })

  it('says which Node it needs', () => {
    expect(readme).toContain(`Node.js ${engines.node.replace('>=', '')} or newer`)
  })

  it('names only npm scripts that exist', () => {
    const named = [...readme.matchAll(/npm run ([a-z:-]+)/g)].map((match) => match[1] ?? '')
    expect(named.length).toBeGreaterThan(0)
    for (const name of named) expect(scripts, `npm run ${name}`).toHaveProperty([name])
  })

  it('shows JSON that is JSON', () => {
    const blocks = [...readme.matchAll(/```json\n([\s\S]*?)```/g)].map((match) => match[1] ?? '')
    expect(blocks.length).toBeGreaterThan(0)
    for (const block of blocks) expect(() => JSON.parse(block)).not.toThrow()
  })

  it('says what help says', async () => {
    const bridge = BridgeProcess.start(undefined, { args: ['--help'] })
    const { code } = await bridge.gone()
    expect(code).toBe(0)
    const help = bridge.lines.map((line) => line.toString('utf8')).join('\n')
    for (const option of connect.options) expect(help).toContain(option.flags.split(' ')[0] ?? '')
    for (const example of connect.examples) {
      expect(help).toContain(example.replace('chamade-mcp', 'npx -y @chamade/mcp-server@3'))
    }
  })
})

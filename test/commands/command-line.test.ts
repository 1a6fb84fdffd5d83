/**
 * The command line itself: help, and what it says of settings that cannot be meant, by the name they were given.
 */
import { describe, expect, test } from 'vitest'
import { runCli } from './support.ts'

const COMMANDS = ['init', 'doctor', 'listen', 'tools', 'call', 'moot', 'simulate', 'emit']

describe('help', () => {
  test('as a word says what --help says', async () => {
    const [flag, word, twice] = await Promise.all(
      [['--help'], ['help'], ['help', 'help']].map((args) => runCli(args)),
    )
    expect(flag?.code).toBe(0)
    expect(flag?.stdout).toContain('help COMMAND')
    expect(word).toEqual(flag)
    expect(twice).toEqual(flag)
  })

  test.each(COMMANDS)('of %s, before it or behind it, says what --help says', async (name) => {
    const [flag, before, behind] = await Promise.all(
      [
        [name, '--help'],
        ['help', name],
        [name, 'help'],
      ].map((args) => runCli(args)),
    )
    expect(flag?.code).toBe(0)
    expect(flag?.stdout).toContain(`chamade-mcp ${name}`)
    expect(before).toEqual(flag)
    expect(behind).toEqual(flag)
  })

  test('of what is no command names the nearest one', async () => {
    const { code, stderr } = await runCli(['help', 'docter'])
    expect(code).toBe(2)
    expect(stderr).toContain('Did you mean doctor?')
  })
})

test.each([
  [['--stateful=maybe'], '--stateful'],
  [['init', '--yes=no'], '--yes'],
  [['--help=moot'], '--help'],
])('%s: a switch takes no value, and says so', async (args, name) => {
  const { code, stderr } = await runCli(args)
  expect(code).toBe(2)
  expect(stderr).toMatch(new RegExp(`^error: ${name} takes no value\ntry: chamade-mcp.*--help\n$`))
})

/**
 * What `init` puts into each client's file, for three platforms and four files as people have them.
 * The results stand in golden/; a change of them is a change of what users get.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { parse } from 'jsonc-parser'
import { describe, expect, test } from 'vitest'
import { CLIENTS, type Client, clientNamed, type Place } from '../../src/commands/init/clients.ts'
import { hideSecrets, unifiedDiff } from '../../src/commands/init/diff.ts'
import { edited, existingKey } from '../../src/commands/init/edit.ts'
import { claudeAddLine, entryFor, inputFor, type Wish } from '../../src/commands/init/entry.ts'
import { channelEntries, launchLines } from '../../src/commands/init/launch.ts'
import { palette } from '../../src/commands/terminal.ts'
import { BridgeError } from '../../src/errors.ts'

const places: Record<string, Place> = {
  linux: { platform: 'linux', cwd: '/home/ann/my project', homedir: '/home/ann', env: {} },
  darwin: { platform: 'darwin', cwd: '/Users/ann/my project', homedir: '/Users/ann', env: {} },
  win32: {
    platform: 'win32',
    cwd: 'C:\\Users\\Ann B\\my project',
    homedir: 'C:\\Users\\Ann B',
    env: { APPDATA: 'C:\\Users\\Ann B\\AppData\\Roaming' },
  },
}

const chamade: Wish = {
  system: 'chamade',
  name: 'chamade',
  url: undefined,
  stateful: true,
  allowHttp: false,
  space: undefined,
  installed: false,
  key: { kind: 'variable' },
}
const moot: Wish = { ...chamade, system: 'moot', name: 'moot-channel', space: 'sprint-planning' }

function given(client: Client): string {
  return readFileSync(join(import.meta.dirname, 'golden', 'given', `${client.name}.txt`), 'utf8')
}

function write(text: string, client: Client, wish: Wish, platform: NodeJS.Platform): string {
  const change = {
    root: client.root,
    name: wish.name,
    entry: entryFor(client, wish, platform),
    input: inputFor(client, wish),
  }
  return edited(text, change, `${client.name}.json`)
}

describe('golden', () => {
  for (const [platform, place] of Object.entries(places)) {
    for (const client of CLIENTS) {
      test(`${client.name} on ${platform}: where the file is and what a new one holds`, async () => {
        const files = client.scopes.map(
          (scope) => `// ${scope}: ${client.file(place, scope) ?? 'claude mcp add'}`,
        )
        const texts = [chamade, moot].map((wish) => write('', client, wish, place.platform))
        await expect([...files, ...texts].join('\n')).toMatchFileSnapshot(
          `golden/new/${client.name}.${platform}.txt`,
        )
      })
    }
  }

  for (const client of CLIENTS) {
    test(`${client.name}: a file as people have it, afterwards`, async () => {
      const text = [chamade, moot].reduce((each, wish) => write(each, client, wish, 'linux'), given(client))
      await expect(text).toMatchFileSnapshot(`golden/after/${client.name}.txt`)
    })
  }

  test('the line for Claude Code itself', async () => {
    const client = clientNamed('claude-code') as Client
    const lines = Object.values(places).map(({ platform }) => claudeAddLine(client, chamade, platform))
    await expect(lines.join('\n')).toMatchFileSnapshot('golden/claude-mcp-add.txt')
  })
})

describe('an entry', () => {
  const entries = CLIENTS.flatMap((client) =>
    Object.values(places).flatMap(({ platform }) =>
      [chamade, moot, { ...chamade, url: 'https://example.com/mcp?a=1&b=2', installed: true }].map((wish) =>
        entryFor(client, wish, platform),
      ),
    ),
  )

  test('has arguments that no shell takes apart', () => {
    for (const { command, args } of entries)
      for (const word of [command, ...args]) expect(word).toMatch(/^[\w@./-]+$/)
  })

  test('has no key in its arguments, even when the key is known', () => {
    const wish: Wish = { ...chamade, key: { kind: 'value', value: 'chmd_secret' } }
    for (const client of CLIENTS) {
      const { command, args, env } = entryFor(client, wish, 'win32')
      expect([command, ...args].join(' ')).not.toContain('chmd_secret')
      expect(env.CHAMADE_API_KEY).toBe('chmd_secret')
    }
  })

  test('starts npx through cmd on Windows, and the third major version everywhere', () => {
    for (const client of CLIENTS) {
      expect(entryFor(client, chamade, 'win32').args.slice(0, 4)).toEqual([
        '/c',
        'npx',
        '-y',
        '@chamade/mcp-server@3',
      ])
      expect(entryFor(client, chamade, 'linux').args).toEqual(['-y', '@chamade/mcp-server@3', '--stateful'])
    }
  })
})

describe('an existing file', () => {
  const client = clientNamed('claude-code') as Client

  test('is the same after the second time', () => {
    for (const each of CLIENTS) {
      const once = write(given(each), each, chamade, 'linux')
      expect(write(once, each, chamade, 'linux')).toBe(once)
    }
  })

  test('keeps its line ends, its byte order mark and its missing last newline', () => {
    const text = `\uFEFF${given(client).trimEnd().replaceAll('\n', '\r\n')}`
    const after = write(text, client, chamade, 'linux')
    expect(after.startsWith('\uFEFF{\r\n')).toBe(true)
    expect(after.replaceAll('\r\n', '')).not.toMatch(/[\r\n]/)
    expect(after.endsWith('}')).toBe(true)
  })

  test('keeps every comment', () => {
    const vscode = clientNamed('vscode') as Client
    const after = write(given(vscode), vscode, chamade, 'linux')
    expect(after).toContain('// What the team uses. Ask Bob before you remove one.')
    expect(after).toContain('/* classic */')
    expect(parse(after, [], { allowTrailingComma: true })).toMatchObject({
      inputs: [{ id: 'github-token' }, { id: 'chamade-api-key', password: true }],
      servers: {
        github: { type: 'http' },
        chamade: { env: { CHAMADE_API_KEY: '${input:chamade-api-key}' } },
      },
    })
  })

  const ours = (indent: string): string =>
    JSON.stringify({ chamade: entryFor(client, chamade, 'linux') }, undefined, '  ')
      .slice(2, -2)
      .replaceAll('\n', `\n${indent.slice(2)}`)
      .replace(/^ {2}/, indent)

  test.each([
    [
      'a neighbour on one line, with a comment behind it',
      '{\n  "mcpServers": {\n    "other": { "command": "x" } // tail\n  }\n}\n',
      `{\n  "mcpServers": {\n    "other": { "command": "x" }, // tail\n${ours('    ')}\n  }\n}\n`,
    ],
    [
      'a comma and comments behind the last one',
      '{\n  "mcpServers": {\n    "other": {"command":"x"}, /* a, */ // tail\n    // "off": {},\n\n  }\n}\n',
      `{\n  "mcpServers": {\n    "other": {"command":"x"}, /* a, */ // tail\n    // "off": {},\n${ours('    ')},\n\n  }\n}\n`,
    ],
    [
      'neighbours that share a line',
      '{\n  "mcpServers": { "a": {"command":"x"},   "b": {"command":"y"} },\n  "z":1\n}',
      `{\n  "mcpServers": { "a": {"command":"x"},   "b": {"command":"y"},\n${ours('    ')}\n  },\n  "z":1\n}`,
    ],
    [
      'no neighbour but a comment',
      '{\n  "mcpServers": { // none yet\n  }\n}\n',
      `{\n  "mcpServers": { // none yet\n${ours('    ')}\n  }\n}\n`,
    ],
    [
      'other members and no entries',
      '{\n  "a": [1,2,\n    3] // odd\n}\n',
      `{\n  "a": [1,2,\n    3], // odd\n  "mcpServers": {\n${ours('    ')}\n  }\n}\n`,
    ],
    [
      'an entry of ours on one line',
      '{\n  "mcpServers": {\n    "chamade": { "command": "node", "env": {"A": "b"}, "x": 1 }, // mine\n    "b": {  }\n  }\n}\n',
      '{\n  "mcpServers": {\n    "chamade": { "command": "npx", "env": {"A": "b", "CHAMADE_API_KEY": "${CHAMADE_API_KEY}"}, "x": 1, "type": "stdio", "args": ["-y", "@chamade/mcp-server@3", "--stateful"] }, // mine\n    "b": {  }\n  }\n}\n',
    ],
    [
      'a remote entry with comments, between others',
      '{\n  "mcpServers": {\n    "a": {},\n    "chamade": {\n      "url": "https://x/", // there\n      "headers": {\n        "Authorization": "Bearer k"\n      }, // who\n      // last\n      "oauth": {}\n    },\n    "b": {}\n  }\n}\n',
      '{\n  "mcpServers": {\n    "a": {},\n    "chamade": {\n      // there\n      // who\n      // last\n      "type": "stdio",\n      "command": "npx",\n      "args": [\n        "-y",\n        "@chamade/mcp-server@3",\n        "--stateful"\n      ],\n      "env": {\n        "CHAMADE_API_KEY": "${CHAMADE_API_KEY}"\n      }\n    },\n    "b": {}\n  }\n}\n',
    ],
    [
      'a remote entry on one line',
      '{\n  "mcpServers": {\n    "chamade": { "url": "https://x/", "disabled": true, "headers": { "X": "y" } }\n  }\n}\n',
      '{\n  "mcpServers": {\n    "chamade": { "disabled": true, "type": "stdio", "command": "npx", "args": ["-y", "@chamade/mcp-server@3", "--stateful"], "env": { "CHAMADE_API_KEY": "${CHAMADE_API_KEY}" } }\n  }\n}\n',
    ],
  ])('stays as it stands but for our entry: %s', (_what, before, after) => {
    expect(write(before, client, chamade, 'linux')).toBe(after)
    expect(write(after, client, chamade, 'linux')).toBe(after)
    const [crlf, wanted] = [before, after].map((text) => text.replaceAll('\n', '\r\n'))
    expect(write(crlf ?? '', client, chamade, 'linux')).toBe(wanted)
  })

  test('keeps comments and neighbours letter for letter, however it is laid out', () => {
    const gap = fc
      .array(fc.constantFrom(' ', '\n', '\t', '/* a, "b": {} */', '// c }\n'), { maxLength: 4 })
      .map((parts) => parts.join(''))
    /** Members with something between each two, and after the last perhaps a comma. */
    const object = (members: fc.Arbitrary<string>[]) =>
      fc
        .tuple(fc.array(fc.tuple(gap, gap), { minLength: 9, maxLength: 9 }), fc.boolean(), gap, ...members)
        .map(([gaps, trailing, end, ...texts]) => {
          const body = texts.map((text, n) => `${gaps[n]?.[0]}${text}${gaps[n]?.[1]}`).join(',')
          return `{${body}${trailing && texts.length > 0 ? ',' : ''}${end}}`
        })
    const some = (texts: readonly string[]) =>
      fc.subarray([...texts]).chain((chosen) => object(chosen.map((text) => fc.constant(text))))
    const own = some([
      '"url":"u"',
      '"type":  "http"',
      '"command": "x"',
      '"headers":{"A":\n"b"}',
      '"env": {"A":"b"}',
      '"off":1',
    ])
    const others = ['"a":{"command":"x"  }', '"b": {\n"args": [ ],}', '"c": {  }']
    const entries = fc.oneof(
      some(others),
      own.chain((mine) =>
        object([...others.map((text) => fc.constant(text)), fc.constant(`"chamade": ${mine}`)]),
      ),
    )
    const comments = (text: string): number => text.match(/\/\* a, "b": \{\} \*\/|\/\/ c \}/g)?.length ?? 0
    fc.assert(
      fc.property(entries, gap, (servers, end) => {
        const before = `{\n"z": [1,  2],"mcpServers":${servers}${end}}`
        const after = write(before, client, chamade, 'linux')
        expect(comments(after)).toBe(comments(before))
        for (const other of ['"z": [1,  2]', ...others])
          expect(after.includes(other)).toBe(before.includes(other))
        expect(write(after, client, chamade, 'linux')).toBe(after)
      }),
      { numRuns: 2_000 },
    )
  })

  test('gives up the key that stands in it: in env, or in the headers of an HTTP entry', () => {
    const key = (text: string): string | undefined =>
      existingKey(text, 'mcpServers', 'chamade', 'CHAMADE_API_KEY', 'x.json')
    expect(key(given(client))).toBe('chmd_from-the-http-entry')
    expect(key(given(clientNamed('cursor') as Client))).toBe('chmd_mine')
    expect(key('{"mcpServers":{}}')).toBeUndefined()
  })

  test.each([
    ['{"mcpServers": {', 'line 1, column 17'],
    ['{"mcpServers": {}} trailing', 'line 1, column 20'],
    ['{\n  "mcpServers": {\n    "a": {"b": 1 "c": 2}\n  }\n}', 'line 3, column 18: comma expected'],
    ['[]', 'the whole should be an object, it is an array'],
    ['{"mcpServers": []}', '"mcpServers" should be an object'],
    ['{"mcpServers": {"chamade": "x"}}', '"mcpServers"."chamade" should be an object'],
    ['{"mcpServers": {}, "mcpServers": {}}', '"mcpServers" stands there twice'],
    ['{"mcpServers": {"chamade": {}, "chamade": {}}}', '"chamade" stands there twice'],
  ])('that is broken is refused, and where: %s', (text, where) => {
    try {
      write(text, client, chamade, 'linux')
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(BridgeError)
      expect((error as BridgeError).code).toBe('CONFIG_INVALID')
      expect((error as BridgeError).message).toContain(where)
      expect((error as BridgeError).hint).toContain('--print')
    }
  })
})

describe('the launch line', () => {
  test('names every entry that pushes, each once, whoever wrote it', () => {
    const entries = new Map<string, Record<string, unknown>>([
      ['chamade', { command: 'npx', args: ['-y', '@chamade/mcp-server@3', '--stateful'] }],
      ['quiet', { command: 'npx', args: ['-y', '@chamade/mcp-server@3'] }],
      ['win', { command: 'cmd', args: ['/c', 'npx', '-y', '@chamade/mcp-server@3', '--stateful'] }],
      ['global', { command: 'C:\\npm\\chamade-mcp.cmd', env: { CHAMADE_STATEFUL: '1' } }],
      ['chamade-http', { type: 'http', url: 'https://mcp.chamade.io/mcp/?stateful' }],
      ['moot-channel', { command: 'python', args: ['-m', 'adapters.channel_runner'] }],
      ['moot', { command: 'python', args: ['-m', 'adapters.mcp_runner'] }],
      ['mine', { command: 'chamade-mcp', args: ['moot'] }],
    ])
    const names = channelEntries(entries)
    expect(names).toEqual(['chamade', 'win', 'global', 'chamade-http', 'moot-channel', 'mine'])
    expect(launchLines(['chamade', 'chamade-http']).map(({ line }) => line)).toEqual([
      'claude --dangerously-load-development-channels server:chamade server:chamade-http',
      'claude --dangerously-load-development-channels server:chamade server:chamade-http --continue',
      'claude --dangerously-skip-permissions --dangerously-load-development-channels server:chamade server:chamade-http',
    ])
  })
})

describe('the diff', () => {
  const plain = palette(false)

  test('shows what changed with three lines around it, and nothing when nothing did', () => {
    const lines = Array.from({ length: 20 }, (_, n) => `line ${n + 1}`)
    const text = `${lines.join('\n')}\n`
    expect(unifiedDiff(text, text, 'f', plain)).toBe('')
    expect(unifiedDiff(text, text.replace('line 10\n', 'ten\nmore\n'), 'f', plain)).toBe(
      [
        '--- f',
        '+++ f',
        '@@ -7,7 +7,8 @@',
        ...[' line 7', ' line 8', ' line 9', '-line 10', '+ten', '+more', ' line 11', ' line 12', ' line 13'],
      ].join('\n'),
    )
  })

  test('makes two hunks of two places', () => {
    const lines = Array.from({ length: 30 }, (_, n) => `line ${n + 1}`)
    const after = lines.map((line, n) => (n === 2 || n === 25 ? `${line}!` : line))
    const diff = unifiedDiff(lines.join('\n'), after.join('\n'), 'f', plain)
    expect(diff.match(/^@@ .*$/gm)).toEqual(['@@ -1,6 +1,6 @@', '@@ -23,7 +23,7 @@'])
  })

  test('hides the values of keys and tokens, not the names of variables', () => {
    expect(hideSecrets('"CHAMADE_API_KEY": "chmd_abc"')).toBe('"CHAMADE_API_KEY": "••••••"')
    expect(hideSecrets('{"env":{"GITHUB_TOKEN":"ghp_x\\"y"},"args":["a"]}')).toBe(
      '{"env":{"GITHUB_TOKEN":"••••••"},"args":["a"]}',
    )
    expect(hideSecrets('"Authorization": "Bearer chmd_abc"')).toBe('"Authorization": "••••••"')
    for (const kept of [
      '"A_KEY": "${A_KEY}"',
      '"CHAMADE_API_KEY_FILE": "/home/ann/key"',
      '"name": "x"',
      '"CONVO_API_URL": "https://mootup.io"',
    ]) {
      expect(hideSecrets(kept)).toBe(kept)
    }
  })

  test('hides them among arguments too, and in addresses', () => {
    const hidden = [
      ['["--header", "Authorization: Bearer sk-1"]', '["--header", "Authorization: ••••••"]'],
      ['["--api-key", "sk-2", "-v"]', '["--api-key", "••••••", "-v"]'],
      ['["--api-key=sk-4"]', '["--api-key=••••••"]'],
      ['"https://x.example/mcp?v=1&api_key=sk-5"', '"https://x.example/mcp?v=1&api_key=••••••"'],
      ['["echo", "chmd_0123456789"]', '["echo", "••••••"]'],
      ['["-e", "--env=GITHUB_TOKEN=ghp_6"]', '["-e", "--env=GITHUB_TOKEN=••••••"]'],
      ['"--header=X-Api-Key: sk-7"', '"--header=X-Api-Key: ••••••"'],
      ['"//registry.example/:_authToken": "sk-8"', '"//registry.example/:_authToken": "••••••"'],
      ['"https://ann:sk-9@x.example/mcp"', '"https://ann:••••••@x.example/mcp"'],
    ]
    for (const [text = '', shown] of hidden) expect(hideSecrets(text)).toBe(shown)
    for (const kept of [
      '["--api-key-file", "/home/ann/key"]',
      '["--header", "Authorization: Bearer ${A_KEY}"]',
      '["chmd_local_0123456789abcdef"]',
      '["-y", "@chamade/mcp-server@3", "--stateful"]',
    ]) {
      expect(hideSecrets(kept)).toBe(kept)
    }
    const entry = (n: number): string => `{\n  "args": [\n    "--token",\n    "sk-${n}"\n  ]\n}\n`
    const diff = unifiedDiff(entry(1), entry(2), 'f', plain)
    expect(diff).toContain('-    "••••••"\n+    "••••••"')
    expect(diff).not.toContain('sk-')
    const commented = `{ // the key: a Bearer token\n  "X-Api-Key": "sk-1",\n  "a": 1\n}\n`
    const shown = unifiedDiff(commented, commented.replace('1\n', '2\n'), 'f', plain)
    expect(shown.split('\n').slice(3)).toEqual([
      ' { // the key: a Bearer ••••••',
      '   "X-Api-Key": "••••••",',
      '-  "a": 1',
      '+  "a": 2',
      ' }',
    ])
  })
})

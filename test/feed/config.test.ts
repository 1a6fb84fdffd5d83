/** The documented variables, flags over them, and everything that can be wrong with either. */

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { withEnvironment } from '../../src/commands/command.ts'
import { FEED_OPTIONS, moot } from '../../src/commands/moot.ts'
import { BridgeError } from '../../src/errors.ts'
import { authorities, type FeedConfig, resolveFeed } from '../../src/feed/config.ts'
import { redactor } from '../../src/status.ts'
import { emptyFolder } from '../support/empty-folder.ts'
import { ca } from '../support/tls.ts'
import type { Env } from './feed-client.ts'

const KEY = { CONVO_API_KEY: 'convo_secret' }

function resolved(env: Env, values = {}): ReturnType<typeof resolveFeed> {
  return resolveFeed(withEnvironment(values, FEED_OPTIONS, env), env, redactor())
}

function configOf(env: Env, values = {}): FeedConfig {
  return resolved(env, values).config
}

function problemOf(env: Env, values = {}): BridgeError {
  try {
    configOf(env, values)
  } catch (error) {
    if (error instanceof BridgeError) return error
  }
  throw new Error('it was accepted')
}

describe('defaults', () => {
  test('are those of the documentation', () => {
    expect(configOf(KEY)).toMatchObject({
      apiUrl: 'https://mootup.io',
      apiKey: { value: 'convo_secret' },
      channelUrl: undefined,
      spaceId: undefined,
      firehose: false,
      autoSubscribe: false,
      secureContext: undefined,
      wording: 'docs',
      maxText: 2_000,
    })
  })

  test('of the wording of the package cut texts where it does', () =>
    expect(configOf(KEY, { texts: 'source' })).toMatchObject({ wording: 'source', maxText: 500 }))
})

describe('a flag', () => {
  const flags: readonly (readonly [string, Env, object, Partial<FeedConfig>])[] = [
    ['--api-url', { CONVO_API_URL: 'https://a' }, { apiUrl: 'https://b/x/' }, { apiUrl: 'https://b/x' }],
    ['--space', { CONVO_SPACE_ID: 'a' }, { space: 'b' }, { spaceId: 'b' }],
    ['--firehose', { CONVO_CHANNEL_FIREHOSE: 'false' }, { firehose: true }, { firehose: true }],
    ['--agent-name', { CONVO_AGENT_NAME: 'A' }, { agentName: 'B' }, { agentName: 'B' }],
    ['--agent-id', { CONVO_AGENT_ID: 'a' }, { agentId: 'b' }, { agentId: 'b' }],
    ['--max-text', {}, { maxText: '10' }, { maxText: 10 }],
    ['--channel-url', {}, { channelUrl: 'wss://b/channel' }, { channelUrl: 'wss://b/channel' }],
    ['--auto-subscribe', {}, { autoSubscribe: true }, { autoSubscribe: true }],
  ]
  for (const [flag, env, values, expected] of flags) {
    test(`${flag} counts before its variable`, () =>
      expect(configOf({ ...KEY, ...env }, values)).toMatchObject(expected))
  }

  test('every flag that configures the feed is in the help of the command', () => {
    const known = moot.options.map(({ flags }) => flags.split(' ')[0])
    for (const [flag] of flags) expect(known).toContain(flag)
  })
})

describe('a switch from the environment', () => {
  for (const [value, on] of [
    ['true', true],
    ['TRUE', true],
    ['false', false],
    ['on', true],
    ['Yes', true],
    ['1', true],
    ['', false],
    ['no', false],
    ['0', false],
    ['off', false],
  ] as const) {
    test(`CONVO_CHANNEL_FIREHOSE=${value} is ${on ? 'on' : 'off'}`, () =>
      expect(configOf({ ...KEY, CONVO_CHANNEL_FIREHOSE: value }).firehose).toBe(on))
  }
})

describe('CONFIG_INVALID is said for', () => {
  const wrong: readonly (readonly [string, Env, object, RegExp])[] = [
    ['no key', {}, {}, /no API key/],
    ['an empty key', { CONVO_API_KEY: '  ' }, {}, /no API key/],
    ['an unset variable as the key', { CONVO_API_KEY: '$' + '{MOOT_KEY}' }, {}, /MOOT_KEY is not set/],
    ['a key in quotes', { CONVO_API_KEY: '"convo_a"' }, {}, /in quotes/],
    ['a key with a line end inside', { CONVO_API_KEY: 'convo_a\nb' }, {}, /white space/],
    ['the placeholder as the key', { CONVO_API_KEY: 'convo_<your-agent-key>' }, {}, /still the placeholder/],
    ['a URL that is none', { ...KEY, CONVO_API_URL: 'mootup' }, {}, /CONVO_API_URL is no/],
    ['a URL of another protocol', { ...KEY, CONVO_API_URL: 'ftp://x' }, {}, /CONVO_API_URL is no/],
    ['the key as the URL', { ...KEY, CONVO_API_URL: 'convo_secret' }, {}, /CONVO_API_URL is no .*: convo_…$/],
    ['a login', { ...KEY, CONVO_API_URL: 'ftp://convo_secret:convo_secret@x' }, {}, /: ftp:\/\/x$/],
    ['a query', { ...KEY, CONVO_CHANNEL_URL: 'ftp://x/?token=convo_secret' }, {}, /: ftp:\/\/x\/$/],
    ['a password in the URL', { ...KEY, CONVO_API_URL: 'https://a:b@x' }, {}, /password/],
    ['a key sent in the clear', { ...KEY, CONVO_API_URL: 'http://moot.lan' }, {}, /without encryption/],
    [
      'a channel in the clear',
      { ...KEY, CONVO_CHANNEL_URL: 'ws://moot.lan/channel' },
      {},
      /without encryption/,
    ],
    ['a channel URL that is none', { ...KEY, CONVO_CHANNEL_URL: 'x' }, {}, /CONVO_CHANNEL_URL is no/],
    ['a CA file that is not there', { ...KEY, SSL_CERT_FILE: '/nowhere/ca.pem' }, {}, /CA certificate/],
    ['a CA file that holds none', { ...KEY, SSL_CERT_FILE: import.meta.filename }, {}, /holds no|is not PEM/],
    ['a key file that is not there', {}, { apiKeyFile: '/nowhere/key' }, /API key/],
    ...['..', '.', 'a/b', 'a b', 'a?b', 'x'.repeat(201)].map(
      (id) =>
        [`the space ${id.slice(0, 9)}`, { ...KEY, CONVO_SPACE_ID: id }, {}, /CONVO_SPACE_ID is no/] as const,
    ),
    ['a space by its flag', KEY, { space: '../me' }, /^--space is no id/],
    ['an address by its flag', KEY, { apiUrl: 'mootup' }, /^--api-url is no/],
    ['a wording by its variable', { ...KEY, CONVO_TEXTS: 'loud' }, {}, /^CONVO_TEXTS is "docs" or "source"/],
    ['a length by its variable', { ...KEY, CONVO_MAX_TEXT: '0' }, {}, /^CONVO_MAX_TEXT is no number/],
    [
      'an unset variable as a space',
      { ...KEY, CONVO_SPACE_ID: '$' + '{SPACE}' },
      {},
      /^CONVO_SPACE_ID is the lit/,
    ],
    ['an unset variable in a flag', KEY, { agentName: '$' + '{NAME}' }, /^--agent-name is the literal/],
    ...['CONVO_CHANNEL_FIREHOSE', 'CONVO_AUTO_SUBSCRIBE', 'CONVO_ALLOW_HTTP'].map(
      (name) =>
        [
          `a switch ${name}`,
          { ...KEY, [name]: 'banana' },
          {},
          new RegExp(`${name}=banana is neither yes nor no`),
        ] as const,
    ),
    ['an unknown wording', KEY, { texts: 'loud' }, /"docs" or "source"/],
    ['a length that is no number', KEY, { maxText: 'long' }, /--max-text/],
  ]
  for (const [what, env, values, text] of wrong) {
    test(what, () => {
      const problem = problemOf(env, values)
      expect(problem.code).toBe('CONFIG_INVALID')
      expect(problem.message).toMatch(text)
      expect(problem.hint).toMatch(/\w/)
      expect(`${problem.message}${problem.hint}`).not.toContain('convo_secret')
    })
  }
})

test('what stands behind # in the address of the channel is left out: no socket takes it', () => {
  for (const [given, used] of [
    ['wss://x/channel#a', 'wss://x/channel'],
    ['https://x/channel?a=b#', 'wss://x/channel?a=b'],
  ])
    expect(configOf({ ...KEY, CONVO_CHANNEL_URL: given }).channelUrl).toBe(used)
})

test('plain http is fine on this machine, and elsewhere when it is said to be', () => {
  for (const apiUrl of [
    'http://localhost:8000',
    'http://127.0.0.1:1',
    'http://[::1]:1',
    'http://moot.localhost',
  ]) {
    expect(configOf({ ...KEY, CONVO_API_URL: apiUrl }).apiUrl).toBe(apiUrl)
  }
  expect(configOf({ ...KEY, CONVO_API_URL: 'http://moot.lan' }, { allowHttp: true }).apiUrl).toBe(
    'http://moot.lan',
  )
})

test('SSL_CERT_FILE is trusted beside what Node trusts, and read once for all connections', () => {
  expect(configOf({ ...KEY, SSL_CERT_FILE: ca }).secureContext).toBeDefined()
  const trusted = authorities({ value: ca, name: 'SSL_CERT_FILE' }, {})
  expect(trusted.at(-1)).toBe(readFileSync(ca, 'utf8'))
  expect(trusted.length).toBeGreaterThan(50)
})

test('SSL_CERT_FILE is no matter of a moot without TLS', () => {
  const env = { ...KEY, SSL_CERT_FILE: '/nowhere' }
  expect(configOf({ ...env, CONVO_API_URL: 'http://127.0.0.1:1' }).secureContext).toBeUndefined()
  for (const address of [
    {},
    { CONVO_API_URL: 'http://127.0.0.1:1', CONVO_CHANNEL_URL: 'wss://mootup.io/channel' },
  ])
    expect(() => configOf({ ...env, ...address })).toThrow('the CA certificate /nowhere cannot be read')
})

test('the key may stand in a file', () => {
  const apiKeyFile = join(emptyFolder(), 'key')
  writeFileSync(apiKeyFile, 'convo_x\n')
  expect(configOf({}, { apiKeyFile }).apiKey.value).toBe('convo_x')
})

test('a key that looks like none of moot is used with a warning, which says where it is from', () => {
  const apiKeyFile = join(emptyFolder(), 'key')
  writeFileSync(apiKeyFile, 'abc\n')
  const ofVariable = resolved({ CONVO_API_KEY: 'abc' }).notes
  expect(ofVariable.map(({ text }) => text)).toEqual([
    expect.stringMatching(/the key in CONVO_API_KEY does not/),
  ])
  const ofFile = resolved({}, { apiKeyFile }).notes
  expect(ofFile.map(({ text }) => text)).toEqual([
    expect.stringMatching(/the key in --api-key-file does not/),
  ])
})

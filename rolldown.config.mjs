/**
 * One CommonJS hot path (`dist/cli.js`); whatever is imported dynamically becomes a chunk of its own.
 *
 * A host waits for the start, so what the hot path never runs is kept out of it: undici's HTTP/2 client (it loads
 * node:http2 with every start, 4.4 ms of 45; and one call a connection is what HTTP/1.1 does as well) and its form
 * data (we post buffers). The HTTP parser for machines without WebAssembly SIMD stays a file of its own, loaded
 * where SIMD fails.
 */
import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'

const LEFT_OUT = [
  { from: /undici\/lib\/dispatcher\/client\.js$/, wants: './client-h2.js' },
  { from: /undici\/lib\/dispatcher\/client-h1\.js$/, wants: '../web/fetch/body.js' },
]
const PARSER_WITHOUT_SIMD = {
  from: /undici\/lib\/dispatcher\/client-h1\.js$/,
  wants: '../llhttp/llhttp-wasm.js',
}

/**
 * Channels that nobody can listen to: 5 kB that only `NODE_DEBUG=undici` would miss. `NODE_DEBUG=websocket`, which
 * Node's own undici heeds, would print the address of each socket that closes, and in it the key.
 */
const NO_CHANNELS = `
const names = ['beforeConnect', 'connected', 'connectError', 'sendHeaders', 'create', 'bodySent', 'bodyChunkSent',
  'bodyChunkReceived', 'headers', 'trailers', 'error', 'proxyConnected', 'open', 'close', 'socketError', 'ping', 'pong']
module.exports = { channels: Object.fromEntries(names.map((name) => [name, { hasSubscribers: false }])) }`

/** Nor is anything put together for them (1 kB). */
const SUBSCRIBERS = /\bchannels\.\w+\.hasSubscribers\b/g

/** Classes of errors that what we use does not throw, and their names among what is exported (1 kB). */
const NEVER_THROWN =
  'BalancedPoolMissingUpstreamError|MaxOriginsReachedError|RequestRetryError|ResponseError|Socks5ProxyError'
const ERROR_CLASSES = new RegExp(`^class (${NEVER_THROWN}) [^]*?\\n}\\n|^  (${NEVER_THROWN}),\\n`, 'gm')

/** By which the classes of one undici are known to another: here is but one (3 kB). */
const ERROR_MARKS =
  /^const k\w+ = Symbol\.for\(.*\n|\n {2}static \[Symbol\.hasInstance\][\s\S]*?\n {2}\}\n|\n {2}get \[k\w+\][\s\S]*?\n {2}\}\n/gm

/** Of 15 kB of tables of the parser the two that are asked. */
const { ERROR, TYPE } = createRequire(import.meta.url)('undici/lib/llhttp/constants.js')

const OUR_HEADERS = [
  'accept',
  'accept-encoding',
  'authorization',
  'content-type',
  'last-event-id',
  'mcp-protocol-version',
  'mcp-session-id',
  'user-agent',
]

/** What undici loads at start for one small thing each, and that thing (together 3.3 ms of a start of 50, Node 20). */
const LIGHT = {
  // How long headers may be together (Node alone takes 16 kB: there are servers of many cookies and policies); and a
  // class that none of our bodies is of.
  'node:http': 'module.exports = { maxHeaderSize: 65536, IncomingMessage: class {} }',
  // Called as assert(fact) and in no other way.
  'node:assert': "module.exports = (fact) => { if (!fact) throw new Error('undici: an assertion failed') }",
  // Names of headers that are well-formed and in lower case, of 100 those we send; of others undici finds that out.
  './constants': `module.exports = { headerNameLowerCasedRecord: Object.assign(Object.create(null), ${JSON.stringify(
    Object.fromEntries(OUR_HEADERS.map((name) => [name, name])),
  )}) }`,
  // A search tree of well-known header names; without a hit undici lower-cases the name itself.
  './tree': 'module.exports = { tree: { lookup: () => null } }',
  // What nobody asks for.
  '../util/stats.js': 'module.exports = {}',
  '../llhttp/constants.js': `module.exports = ${JSON.stringify({ ERROR, TYPE })}`,
  './diagnostics.js': NO_CHANNELS,
  '../core/diagnostics.js': NO_CHANNELS,
  '../core/diagnostics': NO_CHANNELS,
  '../../core/diagnostics': NO_CHANNELS,
  '../../../core/diagnostics': NO_CHANNELS,
}

/**
 * undici 7 asserts that a parser whose connection ends is not paused, and a client that reads slowly makes it so: the
 * assertion is thrown out of the socket's event, and whoever reads the body is never told that it broke
 * (nodejs/undici#5360; mended in undici 8, which needs Node 22). A paused body is not finished: the close that
 * follows says so.
 */
const PAUSED = {
  from: /(finish \(\) \{\s+assert\(currentParser === null\)\s+assert\(this\.ptr != null\)\s+)assert\(!this\.paused\)/,
  to: '$1if (this.paused) return null',
}

/** A `100 Continue` that nobody asked for is passed over as 102 and 103 are [RFC 9110 §15.2]; undici breaks it off. */
const CONTINUE = { from: /if \(statusCode === 100\) \{[^}]+\}/, to: '' }

/**
 * What undici compiles when its first socket is open is compiled beside the rest of the start by then: V8 knows the
 * bytes again, 2 ms of a start of 50. Where that fails (--jitless has no WebAssembly, a file is missing), the first
 * connection tells it, or does with the other parser.
 */
const COMPILED_EARLY = {
  from: /let llhttpInstance = null/,
  to: `$&
try {
  WebAssembly.compile(require('../llhttp/llhttp_simd-wasm.js')).catch(() => undefined)
} catch {}`,
}

/** undici's parser is WebAssembly, 72 kB as text: a file of its own is read in less time (0.6 ms of a start) than that. */
const PARSER = { from: /undici\/lib\/llhttp\/llhttp_simd-wasm\.js$/, to: 'llhttp_simd.wasm' }

const leaveOut = {
  name: 'leave-out',
  resolveId(source, importer = '') {
    const path = importer.replaceAll('\\', '/')
    const matches = ({ from, wants }) => source === wants && from.test(path)
    // Not for undici's fetch and WebSocket: they use more of these, and are in a chunk of their own (moot).
    const core = path.includes('/undici/lib/') && !path.includes('/undici/lib/web/')
    if (source in LIGHT && (core || LIGHT[source] === NO_CHANNELS)) return `\0light:${source}`
    if (matches(PARSER_WITHOUT_SIMD)) return { id: './llhttp-wasm.js', external: true }
    return LEFT_OUT.some(matches) ? `\0left-out:${source}` : null
  },
  transform(code, id) {
    const path = id.replaceAll('\\', '/')
    if (PARSER.from.test(path)) {
      this.emitFile({ type: 'asset', fileName: PARSER.to, source: createRequire(import.meta.url)(id) })
      return `module.exports = require('node:fs').readFileSync(\`\${__dirname}/${PARSER.to}\`)`
    }
    if (!path.includes('/undici/lib/')) return null
    const quiet = code.replaceAll(SUBSCRIBERS, 'false')
    if (path.endsWith('/core/errors.js'))
      return quiet.replaceAll(ERROR_CLASSES, '').replaceAll(ERROR_MARKS, '')
    if (!path.endsWith('/dispatcher/client-h1.js')) return quiet
    return [PAUSED, CONTINUE, COMPILED_EARLY].reduce((text, { from, to }) => {
      if (!from.test(text)) this.error(`undici has changed: is this mended? ${from}`)
      return text.replace(from, to)
    }, quiet)
  },
  load(id) {
    if (id.startsWith('\0light:')) return LIGHT[id.slice(7)]
    if (!id.startsWith('\0left-out:')) return null
    return `module.exports = () => { throw new Error(${JSON.stringify(`not in this build: ${id.slice(10)}`)}) }`
  },
}

/** How rolldown exports to other chunks what it is not sure stays the same. All of it is set once (1 kB). */
const GETTER =
  /Object\.defineProperty\(exports,"(\w+)",\{enumerable:!0,get:function\(\)\{return ([\w$]+)\}\}\)/g

/** rolldown's helpers are a chunk of their own, and in no group: the start has a copy. */
const oneFile = {
  name: 'one-file',
  generateBundle(_, { 'cli.js': start, 'rolldown-runtime.js': helpers }) {
    const asked = 'require("./rolldown-runtime.js")'
    if (!start.code.includes(asked)) this.error('the start has its helpers without us')
    start.code = start.code.replace(asked, () => `(exports => {${helpers.code};return exports})({})`)
    start.code = start.code.replaceAll(GETTER, (_, name, value) => `exports.${name}=${value}`)
    // By this last line bin/ knows for which build it has compiled code.
    start.code += `\n//${createHash('sha256').update(start.code).digest('hex')}`
  },
}

export default {
  input: { cli: 'src/cli.ts', 'llhttp-wasm': 'node_modules/undici/lib/llhttp/llhttp-wasm.js' },
  platform: 'node',
  // Its CommonJS form loads its parts by a `require` that no bundler sees.
  resolve: { alias: { 'jsonc-parser': 'jsonc-parser/lib/esm/main.js' } },
  plugins: [leaveOut, oneFile],
  output: {
    dir: 'dist',
    format: 'cjs',
    entryFileNames: '[name].js',
    chunkFileNames: '[name].js',
    comments: false,
    cleanDir: true,
    // (305 kB to 230 kB, and 1.5 to 3 ms of a start.)
    minify: true,
    // One byte a character: V8 keeps the text in half the memory.
    charset: 'ascii',
    // What every start needs is one file: each further one costs 0.4 ms.
    codeSplitting: {
      groups: [{ name: 'start', tags: ['$initial'], test: (id) => !id.endsWith('llhttp-wasm.js') }],
    },
  },
}

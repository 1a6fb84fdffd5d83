#!/usr/bin/env node
'use strict'
/**
 * Starts dist/cli.js with the code that V8 made of it last time, kept beside it: 10 of 55 ms of a start on Node 20,
 * where `module.enableCompileCache` is missing, and no less than that gives on newer ones. One that does not fit
 * (another V8, other flags or build) is made anew; one that cannot be written is done without.
 */
const fs = require('node:fs')
const Module = require('node:module')
const { dirname, join } = require('node:path')
const v8 = require('node:v8')
const vm = require('node:vm')

const { file, content } = readProgram()
const cacheFile = `${file}.${process.versions.v8}.cache`

// (Before the flags below, under which V8 finds its loop over samples hot and optimises it: 2.6 ms.)
const kept = readCache()

// Flags come before any of it is compiled: code is good only under the flags it was made with.
const version = Number.parseInt(process.versions.v8, 10)
// undici's HTTP parser is WebAssembly; optimising it a second time costs 37 MB of peak memory and 270 ms at exit
// (Node 20) for no gain in latency.
if (version <= 14) v8.setFlagsFromString('--liftoff-only')
// Newer ones do it all the same when told so late, but for this: 55 MB idle, not 61 (Node 26).
if (version >= 12 && version <= 14) v8.setFlagsFromString('--wasm-tiering-budget=2000000000')
// It is compiled as a whole beside the rest of the start (rolldown.config.mjs), and not when its first byte comes.
if (version <= 14) v8.setFlagsFromString('--no-wasm-lazy-compilation')
// The first collection would come while the first answer is awaited (1 ms); a start is done before one has to.
if (version <= 14) v8.setFlagsFromString('--no-minor-gc-task')
// What a load took is given back within a second or two, 68 MB to 54 (Node 20; without these two it is kept), and a
// heavier load takes 61 MB, not 85.
if (version <= 14) v8.setFlagsFromString('--optimize-for-size')
if (version <= 14) v8.setFlagsFromString('--gc-memory-reducer-start-delay-ms=1300')
// V8 11 (Node 20) optimises late: with less than a quarter of the budget the first 2,500 calls take 0.26 ms in the
// middle, not 0.36, and one in a hundred 0.9, not 3.5. Node 26 does that by itself (1.2 ms).
if (version === 11) v8.setFlagsFromString('--interrupt-budget=15000')
// Most of that optimising is of what it has put into each other. With a quarter of that the first 10,000 calls take
// 38 us of CPU each, not 44, one in a hundred over SSE 1.4 ms, not 2, a burst of 20,000 events 140 ms, not 175 (Node 22:
// 57 us, not 63). Newer ones do not care, nor do calls after the first 100,000.
if (version <= 12) v8.setFlagsFromString('--max-inlined-bytecode-size-cumulative=250')

const wrapped = [
  Buffer.from('(function (exports, require, module, __filename, __dirname) {'),
  content,
  Buffer.from('\n})'),
]
// (In one piece: what is put together of strings is there twice.)
const source = Buffer.concat(wrapped).toString('latin1')
const script = new vm.Script(source, { filename: file, cachedData: kept?.code })
let fits = kept !== undefined && !script.cachedDataRejected
const main = new Module(file, module)
main.filename = file
main.paths = []
// (Where a module loader, of NODE_OPTIONS say, gives the text of this file, its own `require` has no cache.)
const requireBeside = Module.createRequire(file)
requireBeside.cache[file] = main
/** Flags of V8 that are off until the code is kept. */
let waiting = []
// Only a bridge to a server has to start quickly; the longer it ran, the more of its code is compiled.
if (!/^([a-z]+|-h|--help|-V|--version)$/.test(process.argv[2] ?? '')) {
  // What ran often enough to be compiled by Sparkplug is so again with every start from that cache: 2 ms. And what the
  // start alone needs would be thrown away by the sixth collection, which a load brings within a second: 8.
  if (!fits || kept.soon) {
    if (version <= 14) waiting = ['sparkplug', 'flush-bytecode'].filter(turnOff)
    setTimeout(() => writeCache(false), 1_000).unref()
  }
  if (!fits) {
    // (A host may end it by a signal that nobody hears: 61 ms to 47 for the next start.)
    setImmediate(() => setImmediate(writeCache, true))
    process.once('exit', (code) => (code === 0 || code > 128) && !fits && writeCache(true))
  }
}
script.runInThisContext()(main.exports, requireBeside, main, file, dirname(file))
main.loaded = true

function readProgram() {
  try {
    // The real path, by which other chunks ask for it.
    const path = fs.realpathSync(join(__dirname, '..', 'dist', 'cli.js'))
    return { file: path, content: fs.readFileSync(path) }
  } catch (error) {
    const hint =
      'npm run build, in a clone (npm ci does it, but not with --ignore-scripts); else install it again'
    process.stderr.write(`error: the program cannot be read: ${error.message}\ntry: ${hint}\n`)
    process.exit(1)
  }
}

/** The file is the code, as V8 wants it (aligned), and one line behind it (label). */
function readCache() {
  try {
    const cached = fs.readFileSync(cacheFile)
    const end = cached.lastIndexOf('\n', -2)
    const code = cached.subarray(0, end)
    const line = cached.toString('latin1', end + 1, cached.length - 1)
    const made = label(code)
    const soon = line === `${made} soon`
    return soon || line === made ? { code, soon } : undefined
  } catch {
    return undefined
  }
}

/** True if that changed anything: what was off before (--jitless, Android) has to stay off. */
function turnOff(flag) {
  const before = v8.cachedDataVersionTag()
  v8.setFlagsFromString(`--no-${flag}`)
  return v8.cachedDataVersionTag() !== before
}

function writeCache(soon) {
  fits ||= !soon
  // (The cache is good for the flags of this moment.)
  for (const flag of waiting) v8.setFlagsFromString(`--${flag}`)
  const unfinished = `${cacheFile}.${process.pid}`
  try {
    // In a folder that is not ours this fails, and the next start compiles again.
    fs.writeFileSync(unfinished, '')
    const code = script.createCachedData()
    const line = Buffer.from(`\n${label(code)}${soon ? ' soon' : ''}\n`)
    fs.writeFileSync(unfinished, Buffer.concat([code, line]))
    fs.renameSync(unfinished, cacheFile)
  } catch {
    remove(unfinished)
  }
  if (soon) for (const flag of waiting) v8.setFlagsFromString(`--no-${flag}`)
}

function remove(path) {
  try {
    fs.rmSync(path, { force: true })
  } catch {
    // Then it stays.
  }
}

/**
 * What a cache must be of: this V8, this build, this code. V8 knows its source by the length alone; archives set all
 * times alike, but a bundle ends with what the build makes of its text. A text that was changed by hand has a time.
 */
function label(code) {
  const build = content.toString('latin1', content.lastIndexOf('\n') + 1)
  const { mtimeMs } = fs.statSync(file)
  return `${process.versions.v8} ${process.arch} ${build} ${mtimeMs} ${code.length} ${sample(code)}`
}

/**
 * V8 dies of a code that was damaged. A crash of the machine leaves whole pages of a file empty: four bytes of every
 * 244 say enough (a third of all bytes are 0: one of every 751 has missed one page in forty). A checksum of all of it
 * (node:zlib) takes 1.5 ms of a start of 46.
 */
function sample(code) {
  const words = new Int32Array(code.buffer, code.byteOffset, code.length >> 2)
  let sum = 0
  for (let at = 0; at < words.length; at += 61) sum = ((sum << 5) | (sum >>> 27)) ^ words[at]
  return sum
}

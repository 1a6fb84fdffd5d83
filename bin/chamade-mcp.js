#!/usr/bin/env node
'use strict'
/**
 * Starts dist/cli.js with the code that V8 made of it last time, kept beside it: 5 ms of a start of 50 on Node 20,
 * where `module.enableCompileCache` is missing, and no less than that gives on newer ones. A cache that does not
 * fit (another V8, other flags, another build) is made anew; one that cannot be written is done without.
 */
const fs = require('node:fs')
const Module = require('node:module')
const { join } = require('node:path')
const v8 = require('node:v8')
const vm = require('node:vm')
const zlib = require('node:zlib')

// Flags come first: compiled code is good only under the flags it was compiled with.
const version = Number.parseInt(process.versions.v8, 10)
// undici's HTTP parser is WebAssembly; optimising it a second time costs 37 MB of peak memory and 270 ms at exit
// (Node 20) for no gain in latency.
if (version <= 14) v8.setFlagsFromString('--liftoff-only')
// Newer ones do it all the same when they are told so late, but for this: 55 MB idle and not 61 (Node 26).
if (version >= 12 && version <= 14) v8.setFlagsFromString('--wasm-tiering-budget=2000000000')
// A host runs one of these per server and window: 61 MB instead of 85 after a load, for a tenth of its CPU time.
if (version <= 14) v8.setFlagsFromString('--optimize-for-size')

const file = join(__dirname, '..', 'dist', 'cli.js')
const cacheFile = `${file}.cache`
/** What a cache must be of: this build, this V8. */
const build = `${process.versions.v8} ${process.arch} ${fs.statSync(file).mtimeMs}`

const cachedData = readCache()
const source = `(function (exports, require, module) {${fs.readFileSync(file, 'utf8')}\n})`
const script = new vm.Script(source, { filename: file, cachedData })
let fresh = cachedData !== undefined && !script.cachedDataRejected
const main = new Module(file, module)
main.filename = file
main.paths = []
require.cache[file] = main
// Of all that can be run, a bridge is what has to start quickly, and what compiles the code for it.
const isBridge = !/^([a-z]+|-h|--help|-V|--version)$/.test(process.argv[2] ?? '')
if (isBridge && !fresh) {
  // Once the start is over, or at the end of a run that is shorter than that.
  setTimeout(writeCache, 1_000).unref()
  process.once('exit', (code) => code === 0 && writeCache())
}
script.runInThisContext()(main.exports, (id) => main.require(id), main)
main.loaded = true

/** The file is one line, `build` and the checksum, and the code. (V8 dies of a code that was damaged.) */
function readCache() {
  try {
    const kept = fs.readFileSync(cacheFile)
    const end = kept.indexOf('\n')
    const code = kept.subarray(end + 1)
    return kept.toString('latin1', 0, end) === label(code) ? code : undefined
  } catch {
    return undefined
  }
}

function writeCache() {
  if (fresh) return
  fresh = true
  const unfinished = `${cacheFile}.${process.pid}`
  try {
    const code = script.createCachedData()
    fs.writeFileSync(unfinished, Buffer.concat([Buffer.from(`${label(code)}\n`), code]))
    fs.renameSync(unfinished, cacheFile)
  } catch {
    // A folder that is not ours: the next start compiles again.
    fs.rmSync(unfinished, { force: true })
  }
}

function label(code) {
  return `${build} ${zlib.crc32(code)}`
}

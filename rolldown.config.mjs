/**
 * One CommonJS hot path (`dist/cli.js`); whatever is imported dynamically becomes a chunk of its own.
 *
 * A host waits for the start, so what the hot path never runs is kept out of it: undici's HTTP/2 client (we
 * never allow it) and its form data (we post buffers). The HTTP parser for machines without WebAssembly SIMD
 * stays a file of its own, loaded where SIMD fails.
 */
const LEFT_OUT = [
  { from: /undici\/lib\/dispatcher\/client\.js$/, wants: './client-h2.js' },
  { from: /undici\/lib\/dispatcher\/client-h1\.js$/, wants: '../web/fetch/body.js' },
]
const PARSER_WITHOUT_SIMD = {
  from: /undici\/lib\/dispatcher\/client-h1\.js$/,
  wants: '../llhttp/llhttp-wasm.js',
}

const leaveOut = {
  name: 'leave-out',
  resolveId(source, importer = '') {
    const path = importer.replaceAll('\\', '/')
    const matches = ({ from, wants }) => source === wants && from.test(path)
    if (matches(PARSER_WITHOUT_SIMD)) return { id: './llhttp-wasm.js', external: true }
    return LEFT_OUT.some(matches) ? `\0left-out:${source}` : null
  },
  load(id) {
    if (!id.startsWith('\0left-out:')) return null
    return `module.exports = () => { throw new Error(${JSON.stringify(`not in this build: ${id.slice(10)}`)}) }`
  },
}

export default {
  input: { cli: 'src/cli.ts', 'llhttp-wasm': 'node_modules/undici/lib/llhttp/llhttp-wasm.js' },
  platform: 'node',
  // Its CommonJS form loads its parts by a `require` that no bundler sees.
  resolve: { alias: { 'jsonc-parser': 'jsonc-parser/lib/esm/main.js' } },
  plugins: [leaveOut],
  output: {
    dir: 'dist',
    format: 'cjs',
    entryFileNames: '[name].js',
    chunkFileNames: '[name].js',
    comments: false,
    minify: { compress: false, mangle: false, codegen: { removeWhitespace: true } },
  },
}

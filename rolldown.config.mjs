/** One CommonJS hot path (`dist/cli.js`); whatever is imported dynamically becomes a chunk of its own. */
export default {
  input: { cli: 'src/cli.ts' },
  platform: 'node',
  external: [/moot\/simulator/],
  output: {
    dir: 'dist',
    format: 'cjs',
    entryFileNames: '[name].js',
    chunkFileNames: '[name].js',
    cleanDir: true,
    minify: false,
  },
}

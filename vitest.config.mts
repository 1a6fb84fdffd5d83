import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 20_000,
    hookTimeout: 20_000,
    // Most of a test is waiting for a process or a socket.
    maxWorkers: 5,
    globalSetup: ['test/support/global-setup.ts'],
  },
})

#!/usr/bin/env node
// Node 22 and later keep the compiled code: 7 ms of a start of 50.
require('node:module').enableCompileCache?.()
require('../dist/cli.js')

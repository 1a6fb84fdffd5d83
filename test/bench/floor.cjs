/**
 * The floor: the least a stdio bridge can do and still answer. It reads lines, posts each with a keep-alive
 * agent, and writes the body back unread; of the push stream it writes the `data` lines.
 *
 * Not a bridge anyone should use: no errors, no resumption, no limits. It is the unit the others are measured in.
 */
'use strict'
const url = new URL(process.argv[2])
const http = url.protocol === 'https:' ? require('node:https') : require('node:http')
const agent = new http.Agent({ keepAlive: true })
const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
let listening = false

function post(line) {
  const options = {
    method: 'POST',
    agent,
    headers: { ...headers, 'content-length': Buffer.byteLength(line) },
  }
  const request = http.request(url, options, (response) => {
    headers['mcp-session-id'] ??= response.headers['mcp-session-id']
    if (response.statusCode === 202 && !listening) listen()
    const chunks = []
    response.on('data', (chunk) => chunks.push(chunk))
    response.on('end', () => {
      if (chunks.length > 0) process.stdout.write(Buffer.concat([...chunks, Buffer.from('\n')]))
    })
  })
  request.end(line)
}

function listen() {
  listening = true
  const get = http.get(url, { headers: { ...headers, accept: 'text/event-stream' } }, (response) => {
    eachLine(response, (line) => line.startsWith('data: ') && process.stdout.write(`${line.slice(6)}\n`))
  })
  get.on('error', () => {})
}

function eachLine(stream, take) {
  let rest = ''
  stream.setEncoding('utf8').on('data', (chunk) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()
    for (const line of lines) take(line)
  })
}

eachLine(process.stdin, post)
process.stdin.on('end', () => process.exit())

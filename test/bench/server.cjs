/**
 * The server every contestant talks to: MCP over node:http with as little work per request as possible, so that
 * the bridge is measured and not the server. Runs as a forked process and is told over IPC what to do:
 *
 *   push {count, everyMs}   one event at a time, each with the moment it was written
 *   burst {count}           as fast as the reader takes them, each a write of its own as servers do it
 *   cut {forget}            destroys the push streams (and forgets the sessions); the next stream opens with an event
 *   forget                  forgets the sessions; the next POST gets 404
 *   state                   how many sessions, streams and requests there are
 *
 * Not the project's simulator: that one misbehaves on demand, this one is fast and dull.
 */
'use strict'
const { randomUUID } = require('node:crypto')
const { readFileSync } = require('node:fs')
const http = require('node:http')
const https = require('node:https')

const KEPT_BYTES = 1 << 20
/** A piece of a big answer, JSON-escaped. */
const PIECE = Buffer.from('An answer with \\"quotes\\", a\\nnewline and ünïcödé. '.repeat(4_000))
const sessions = new Set()
const streams = new Set()
let requests = 0
/** Written at the start of the next push stream, once. */
let greeting
let held = []
let releaseTimer

const TOOLS = JSON.stringify(
  Array.from({ length: 20 }, (_, i) => ({
    name: `tool_${i}`,
    description: `Tool number ${i} of the server under test. `.repeat(4),
    inputSchema: { type: 'object', properties: { text: { type: 'string', description: 'What to say' } } },
  })),
)

function now() {
  return process.hrtime.bigint().toString()
}

/** A channel event as Chamade sends them; `at` is the monotonic clock in nanoseconds, shared by all processes. */
function event(seq, at) {
  return `id: ${seq}\ndata: {"jsonrpc":"2.0","method":"notifications/claude/channel","params":{"content":"Event number ${seq} from the server under test, about as long as a short chat message is.","meta":{"event_type":"message","seq":"${seq}","at":"${at}"}}}\n\n`
}

/** `id` is a number or a string, as it came. */
function respond(response, id, result, sse) {
  const body = `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${result}}`
  if (sse) {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
    response.end(`event: message\ndata: ${body}\n\n`)
  } else {
    response.writeHead(200, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    })
    response.end(body)
  }
}

function respondBig(response, id, sse, bytes) {
  const head = `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":{"content":[{"type":"text","text":"`
  const tail = '"}]}}'
  const length = Buffer.byteLength(head) + bytes + Buffer.byteLength(tail)
  response.writeHead(
    200,
    sse
      ? { 'content-type': 'text/event-stream' }
      : { 'content-type': 'application/json', 'content-length': length },
  )
  response.write(sse ? `event: message\ndata: ${head}` : head)
  for (let left = bytes; left > 0; left -= PIECE.length) {
    response.write(left >= PIECE.length ? PIECE : Buffer.alloc(left, 'x'))
  }
  response.end(sse ? `${tail}\n\n` : tail)
}

function call(response, id, params) {
  const given = params.arguments ?? {}
  switch (params.name) {
    case 'echo':
      return respond(
        response,
        id,
        `{"content":[{"type":"text","text":${JSON.stringify(given.text)}}]}`,
        false,
      )
    case 'echo_sse':
      return respond(response, id, `{"content":[{"type":"text","text":${JSON.stringify(given.text)}}]}`, true)
    case 'big':
    case 'big_sse':
      return respondBig(response, id, params.name === 'big_sse', given.bytes)
    case 'hold':
      return hold(response, id, given.count)
    default:
      return respond(response, id, '{"isError":true,"content":[]}', false)
  }
}

/** Answers nobody before `count` requests are here at once, or a second has passed without another. */
function hold(response, id, count) {
  held.push(() => respond(response, id, '{"content":[]}', false))
  clearTimeout(releaseTimer)
  const release = () => {
    const all = held
    held = []
    for (const answer of all) answer()
  }
  if (held.length >= count) release()
  else releaseTimer = setTimeout(release, 1_000)
}

function post(request, response, body) {
  requests++
  const session = request.headers['mcp-session-id']
  const big = body.length > KEPT_BYTES
  const message = big ? undefined : JSON.parse(body.toString())
  if (message?.method === 'initialize') {
    const id = randomUUID()
    sessions.add(id)
    response.setHeader('mcp-session-id', id)
    const result = {
      protocolVersion: message.params.protocolVersion,
      capabilities: { tools: { listChanged: true }, experimental: { 'claude/channel': {} } },
      serverInfo: { name: 'bench', version: '1' },
    }
    return respond(response, message.id, JSON.stringify(result), false)
  }
  if (!sessions.has(session)) {
    response.writeHead(session === undefined ? 400 : 404, { 'content-type': 'application/json' })
    return response.end('{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}')
  }
  if (big) {
    const id = /"id":(\d+)/.exec(body.subarray(0, 200).toString('latin1'))?.[1]
    return respond(response, Number(id), '{"content":[]}', false)
  }
  if (message.id === undefined || message.method === undefined) {
    response.writeHead(202)
    return response.end()
  }
  switch (message.method) {
    case 'tools/call':
      return call(response, message.id, message.params)
    case 'tools/list':
      return respond(response, message.id, `{"tools":${TOOLS}}`, false)
    case 'ping':
      return respond(response, message.id, '{}', false)
    default:
      response.writeHead(200, { 'content-type': 'application/json' })
      return response.end(
        `{"jsonrpc":"2.0","id":${JSON.stringify(message.id)},"error":{"code":-32601,"message":"Method not found"}}`,
      )
  }
}

/** The body; of one beyond `KEPT_BYTES` only the first chunk is kept, but its length is told. */
function read(request, done) {
  const chunks = []
  let length = 0
  request.on('data', (chunk) => {
    length += chunk.length
    if (length <= KEPT_BYTES || chunks.length === 0) chunks.push(chunk)
  })
  request.on('end', () => {
    const only = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)
    done(length > KEPT_BYTES ? { length, subarray: (from, to) => only.subarray(from, to) } : only)
  })
}

function serve(request, response) {
  if (request.url.split('?', 1)[0] !== '/mcp') {
    response.writeHead(404)
    return response.end()
  }
  if (request.method === 'POST') return read(request, (body) => post(request, response, body))
  if (request.method === 'DELETE') {
    sessions.delete(request.headers['mcp-session-id'])
    response.writeHead(204)
    return response.end()
  }
  if (request.method !== 'GET' || !sessions.has(request.headers['mcp-session-id'])) {
    response.writeHead(request.method === 'GET' ? 404 : 405)
    return response.end()
  }
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
  response.flushHeaders()
  streams.add(response)
  response.on('close', () => streams.delete(response))
  if (greeting !== undefined) response.write(greeting)
  greeting = undefined
}

function push(count, everyMs) {
  let seq = 0
  const timer = setInterval(() => {
    const text = event(++seq, now())
    for (const stream of streams) stream.write(text)
    if (seq >= count) clearInterval(timer)
  }, everyMs)
}

async function burst(stream, count) {
  for (let seq = 1; seq <= count; seq++) {
    if (!stream.write(event(seq, '0'))) {
      await new Promise((resolve) => {
        const go = () => resolve(stream.off('drain', go).off('close', go))
        stream.on('drain', go).on('close', go)
      })
    }
    if (stream.destroyed) return
  }
}

function command(message) {
  switch (message.do) {
    case 'push':
      push(message.count, message.everyMs)
      return {}
    case 'burst': {
      const at = now()
      for (const stream of streams) void burst(stream, message.count)
      return { at }
    }
    case 'cut': {
      const at = now()
      greeting = event(1_000_000, at)
      if (message.forget) sessions.clear()
      for (const stream of streams) stream.destroy()
      return { at }
    }
    case 'forget':
      sessions.clear()
      return {}
    default:
      return { sessions: sessions.size, streams: streams.size, requests }
  }
}

process.on('message', (message) => process.send({ ...command(message), to: message.seq }))
process.on('disconnect', () => process.exit())

const plain = http.createServer({ keepAliveTimeout: 60_000, requestTimeout: 0 }, serve)
plain.listen(0, '127.0.0.1', 4096, () => {
  const [keyFile, certFile] = process.argv.slice(2)
  if (keyFile === undefined) return process.send({ port: plain.address().port })
  const options = { keepAliveTimeout: 60_000, key: readFileSync(keyFile), cert: readFileSync(certFile) }
  const secure = https.createServer(options, serve)
  secure.listen(0, '127.0.0.1', () =>
    process.send({ port: plain.address().port, tlsPort: secure.address().port }),
  )
})

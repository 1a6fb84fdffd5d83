/**
 * The control API: what the console, `emit` and scripts say to a running simulator, over HTTP.
 *
 * Not for agents: it has its own token. The one rule: everything that changes something is a POST with that token.
 *
 *   GET  /control/state      what is: agents, sessions, calls, conversations, faults
 *   GET  /control/timeline   what was and what comes, one JSON entry a line; ?after=SEQ
 *   POST /control/emit       a happening
 *   POST /control/fault      {"fault": NAME, "seconds"?, "ms"?}
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { bearerOf, parseJson, readBody, sameSecret, sendJson } from './body.ts'
import { amountsOf, FAULTS, type FaultName, type FaultOptions, isFault } from './faults.ts'
import { BadHappening, type Happened, type Happening, happeningOf } from './happenings.ts'
import type { Entry, Journal } from './journal.ts'

export interface ControlOptions {
  readonly token: string
  readonly journal: Journal
  readonly state: () => unknown
  readonly happen: (happening: Happening) => Happened
  readonly fault: (name: FaultName, options: FaultOptions) => string
}

/** Room for a file of 25 MB in base64. */
const MAX_BYTES = 40 * 1024 * 1024
const MAX_UNREAD_BYTES = 4 * 1024 * 1024

/** Answers one request under `/control/`. */
export async function answerControl(
  req: IncomingMessage,
  res: ServerResponse,
  url: URL,
  options: ControlOptions,
): Promise<void> {
  const token = bearerOf(req)
  if (token === undefined || !sameSecret(options.token, token)) {
    res.setHeader('WWW-Authenticate', 'Bearer realm="simulator control"')
    return sendJson(res, 401, { error: 'send the control token that `simulate` printed' })
  }
  const route = `${req.method ?? ''} ${url.pathname}`
  if (route === 'GET /control/state') return sendJson(res, 200, options.state())
  if (route === 'GET /control/timeline') return follow(res, url, options.journal)
  if (route !== 'POST /control/emit' && route !== 'POST /control/fault') {
    return sendJson(res, 404, { error: `there is no ${route}` })
  }
  const bytes = await readBody(req, MAX_BYTES)
  const body = bytes === undefined ? undefined : parseJson(bytes)
  if (body === undefined) return sendJson(res, 400, { error: 'the body is no JSON, or too long' })
  try {
    if (url.pathname === '/control/emit')
      sendJson(res, 200, reportOf(options.happen(happeningOf(body.value))))
    else sendJson(res, 200, { done: fault(options, body.value) })
  } catch (error) {
    if (!(error instanceof BadHappening)) throw error
    sendJson(res, 422, { error: error.message })
  }
}

/** What came of a happening, for people and scripts. */
function reportOf({ published, callId }: Happened) {
  const events = published.map(({ event, routes }) => ({
    event_id: event.id,
    event_type: event.type,
    content: event.content,
    pushed_to: routes,
  }))
  return callId === undefined ? { events } : { events, call_id: callId }
}

function fault(options: ControlOptions, body: unknown): string {
  const { fault: name, seconds, ms } = faultOf(body)
  return options.fault(name, { seconds, ms })
}

/** Reads a fault out of parsed JSON or YAML; throws BadHappening. */
export function faultOf(value: unknown): { readonly fault: FaultName } & FaultOptions {
  const given = (typeof value === 'object' && value !== null ? value : {}) as Readonly<
    Record<string, unknown>
  >
  const name = String(given.fault)
  if (!isFault(name))
    throw new BadHappening(`there is no fault "${name}"; there are ${Object.keys(FAULTS).join(', ')}`)
  const fields: readonly string[] = ['fault', ...amountsOf(name)]
  for (const [field, content] of Object.entries(given)) {
    if (content === undefined || fields.includes(field)) continue
    throw new BadHappening(`fault "${name}" has no "${field}"; it has ${fields.join(', ')}`)
  }
  return { fault: name, seconds: amountOf(given, 'seconds'), ms: amountOf(given, 'ms') }
}

function amountOf(given: Readonly<Record<string, unknown>>, field: string): number | undefined {
  const value = given[field]
  if (value === undefined) return undefined
  if (typeof value === 'number' && value >= 0 && value <= 86_400_000) return value
  throw new BadHappening(`"${field}" must be a number from 0`)
}

function follow(res: ServerResponse, url: URL, journal: Journal): void {
  res.writeHead(200, { 'Content-Type': 'application/x-ndjson', 'Cache-Control': 'no-store' })
  const after = Number(url.searchParams.get('after') ?? 0)
  const write = (entry: Entry): void => {
    // A reader that does not read is let go rather than fed from memory.
    if (res.writableLength > MAX_UNREAD_BYTES) res.destroy()
    else res.write(`${JSON.stringify(entry)}\n`)
  }
  for (const entry of journal.entries) if (entry.seq > after) write(entry)
  res.flushHeaders()
  const stop = journal.follow(write)
  const beat = setInterval(() => res.write('\n'), 10_000)
  res.once('close', () => {
    stop()
    clearInterval(beat)
  })
}

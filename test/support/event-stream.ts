/**
 * One server-sent event stream as a server holds it: events with ids, a history to replay from, and at most one
 * response that carries it at a time.
 *
 * Not a queue with promises: what is sent while nobody listens is remembered for a replay or lost, as on a server.
 */
import type { ServerResponse } from 'node:http'

export interface SendOptions {
  /** False writes the event without an `id:` field; a string is used as it is. */
  readonly id?: boolean | string
  readonly event?: string
  readonly retryMs?: number
}

interface Kept {
  readonly id: string
  readonly text: string
}

export class EventStream {
  readonly key: string
  readonly #ids: boolean
  readonly #kept: Kept[] = []
  #response: ServerResponse | undefined
  #frozen = false
  #finished = false
  #count = 0

  /** `ids`: events carry ids `KEY/N` and can be replayed. */
  constructor(key: string, ids: boolean) {
    this.key = key
    this.#ids = ids
  }

  /** Is a response attached and alive? */
  get open(): boolean {
    const response = this.#response
    if (response === undefined || response.destroyed || response.writableEnded) return false
    return response.socket?.destroyed === false
  }

  /** Is there anything a cursor of this stream could ask for? */
  owns(cursor: string): boolean {
    return this.#ids && cursor.startsWith(`${this.key}/`)
  }

  /** Sends the head and everything after `cursor` on `response`, and from now on the new events. */
  attach(response: ServerResponse, cursor?: string, headers: Record<string, string> = {}): this {
    this.#response = response
    this.#frozen = false
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache', ...headers })
    response.flushHeaders()
    if (cursor !== undefined) {
      const seen = this.#kept.findIndex((event) => event.id === cursor)
      for (const event of this.#kept.slice(seen + 1)) response.write(event.text)
    }
    if (this.#finished) response.end()
    return this
  }

  /** One event; `data` is JSON text or a value. Returns its id. */
  send(data: string | object, options: SendOptions = {}): string {
    const id = typeof options.id === 'string' ? options.id : `${this.key}/${++this.#count}`
    const text = format(
      data,
      options,
      this.#ids && options.id !== false ? id : options.id === true ? id : undefined,
    )
    if (this.#ids && options.id !== false) this.#kept.push({ id, text })
    this.write(text)
    return id
  }

  /** An event with an id and no data: gives the client a cursor, and says when to come back. */
  prime(retryMs?: number): string {
    const id = `${this.key}/${++this.#count}`
    const text = `id: ${id}\n${retryMs === undefined ? '' : `retry: ${retryMs}\n`}data:\n\n`
    this.#kept.push({ id, text })
    this.write(text)
    return id
  }

  comment(text = ''): void {
    this.write(`: ${text}\n\n`)
  }

  retry(ms: number): void {
    this.write(`retry: ${ms}\n\n`)
  }

  /** Bytes as they are. False when the socket is full: see `drained`. */
  write(bytes: string | Buffer): boolean {
    const response = this.#response
    return response !== undefined && this.open && !this.#frozen && response.write(bytes)
  }

  drained(): Promise<void> {
    const response = this.#response
    if (response === undefined || !this.open || !response.writableNeedDrain) return Promise.resolve()
    return new Promise((resolve) => {
      const done = (): void => {
        response.off('drain', done)
        response.off('close', done)
        resolve()
      }
      response.on('drain', done)
      response.on('close', done)
    })
  }

  /** Half-open: the socket stays, nothing comes any more (it is kept for a replay). */
  freeze(): void {
    this.#frozen = true
  }

  /** Ends the response cleanly; the stream can be resumed. */
  hangUp(): void {
    this.#response?.end()
    this.#response = undefined
  }

  /** Resets the connection in the middle. */
  cut(): void {
    this.#response?.socket?.resetAndDestroy()
    this.#response = undefined
  }

  /** Nothing will follow: ends this response and every later one after its replay. */
  finish(): void {
    this.#finished = true
    this.#response?.end()
  }
}

function format(data: string | object, options: SendOptions, id: string | undefined): string {
  const text = typeof data === 'string' ? data : JSON.stringify(data)
  const lines = [
    ...(options.event === undefined ? [] : [`event: ${options.event}`]),
    ...(id === undefined ? [] : [`id: ${id}`]),
    ...(options.retryMs === undefined ? [] : [`retry: ${options.retryMs}`]),
    ...text.split('\n').map((line) => `data: ${line}`),
  ]
  return `${lines.join('\n')}\n\n`
}

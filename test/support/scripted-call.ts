import { type IncomingHttpHeaders, type IncomingMessage, type OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { constants as h2, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2'
import { buffer } from 'node:stream/consumers'
import { TLSSocket } from 'node:tls'
import { gate } from './gate.js'

/** Names and values; pairs where order or spelling matters. A list as value is sent as so many header lines. */
export type HeaderInput = OutgoingHttpHeaders | readonly (readonly [name: string, value: string])[]

export interface ScriptedRequest {
  readonly method: string
  /** Path and query, byte for byte. */
  readonly path: string
  /** As node parses them: lower-case names. */
  readonly headers: IncomingHttpHeaders
  /** Name and value in turn, as they came over the wire. */
  readonly rawHeaders: readonly string[]
  readonly httpVersion: string
  /** True for `expect: 100-continue`; then reading the body sends the 100. */
  readonly expectsContinue: boolean
  /** The raw body, for tests that read slowly or not at all. Nothing is read before somebody reads. */
  readonly stream: IncomingMessage | Http2ServerRequest
  /** The whole body; rejects when the client goes away before its end. May be called again. */
  body (): Promise<Buffer>
  text (): Promise<string>
  json (): Promise<unknown>
  /** Present once the body has been read. */
  trailers (): NodeJS.Dict<string>
}

/** One request on its way: what the client sent, and the answer in the test's hands. */
export class ScriptedCall {
  readonly request: ScriptedRequest
  /** The client went away, or was cut off, before the answer was complete. */
  readonly aborted: Promise<void>
  /** The answer is complete and handed to the operating system. */
  readonly finished: Promise<void>
  readonly #response: ServerResponse | Http2ServerResponse
  readonly #aborted = gate()
  readonly #finished = gate()

  constructor (request: IncomingMessage | Http2ServerRequest, response: ServerResponse | Http2ServerResponse, expectsContinue: boolean) {
    this.#response = response
    this.aborted = this.#aborted.promise
    this.finished = this.#finished.promise
    let body: Promise<Buffer> | undefined
    const readBody = (): Promise<Buffer> => {
      if (body === undefined) {
        if (expectsContinue) response.writeContinue()
        body = buffer(request)
        body.catch(() => {})
      }
      return body
    }
    this.request = {
      method: request.method ?? '',
      path: request.url ?? '',
      headers: request.headers,
      rawHeaders: request.rawHeaders,
      httpVersion: request.httpVersion,
      expectsContinue,
      stream: request,
      body: readBody,
      text: async () => (await readBody()).toString(),
      json: async () => JSON.parse((await readBody()).toString()) as unknown,
      trailers: () => request.trailers as NodeJS.Dict<string>,
    }
    request.on('error', () => {})
    response.on('error', () => {})
    response.on('finish', () => { this.#finished.open() })
    response.on('close', () => { if (!this.#finished.settled) this.#aborted.open() })
  }

  /** Without waiting: has the client gone away? */
  get isAborted (): boolean { return this.#aborted.settled }

  /** The whole answer at once. A plain object as body is sent as JSON; content-length is set. */
  respond (status: number, headers: HeaderInput = {}, body: string | Uint8Array | object = ''): void {
    const json = typeof body === 'object' && !(body instanceof Uint8Array)
    const bytes = Buffer.from(json ? JSON.stringify(body) : body as string | Uint8Array)
    const pairs = asPairs(headers)
    const has = (name: string): boolean => pairs.some(([key]) => key.toLowerCase() === name)
    if (json && !has('content-type')) pairs.push(['content-type', 'application/json'])
    const bodiless = status === 204 || status === 304 || this.request.method === 'HEAD'
    if (!bodiless && !has('content-length') && !has('transfer-encoding')) pairs.push(['content-length', String(bytes.length)])
    this.head(status, pairs)
    this.end(bodiless ? undefined : bytes)
  }

  /** Sends the status line and headers now, and lets the body wait. Without a content-length it will be chunked. */
  head (status: number, headers: HeaderInput = {}): void {
    const response = this.#response
    // Not as a list to `writeHead`: that would merge repeats on some versions of node.
    for (const [name, value] of asPairs(headers)) response.appendHeader(name, value)
    response.writeHead(status)
    if (response instanceof ServerResponse) response.flushHeaders()
  }

  /** Sends a piece of the body. Resolves when the operating system has taken it: with a reader that does not read, it does not resolve. */
  write (chunk: string | Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (error?: Error | null): void => { if (error) reject(error); else resolve() }
      const response = this.#response
      if (response instanceof ServerResponse) response.write(chunk, done)
      else response.write(chunk, 'utf8', done)
    })
  }

  /** Ends the body. Trailers need a body of unknown length (HTTP/1.1) or HTTP/2. */
  end (chunk?: string | Uint8Array, trailers?: Record<string, string>): void {
    if (trailers !== undefined) this.#response.addTrailers(trailers)
    if (chunk === undefined) this.#response.end()
    else this.#response.end(chunk)
  }

  /** 103 Early Hints. */
  hint (headers: Record<string, string>): void {
    this.#response.writeEarlyHints(headers)
  }

  /** 100 Continue, without reading the body. */
  continue (): void {
    this.#response.writeContinue()
  }

  /** Cuts the client off: a TCP reset over plain HTTP/1.1, a stream reset with `code` (INTERNAL_ERROR) over HTTP/2, else as `hangUp`. */
  reset (code: number = h2.NGHTTP2_INTERNAL_ERROR): void {
    const response = this.#response
    if (!(response instanceof ServerResponse)) response.stream.close(code)
    else if (response.socket instanceof TLSSocket) response.socket.destroy()
    else response.socket?.resetAndDestroy()
  }

  /** Closes the connection (FIN) in the middle of whatever is going on. */
  hangUp (): void {
    const response = this.#response
    if (response instanceof ServerResponse) response.socket?.destroy()
    else response.stream.session?.destroy()
  }
}

function isPairs (headers: HeaderInput): headers is readonly (readonly [string, string])[] {
  return Array.isArray(headers)
}

function asPairs (headers: HeaderInput): [string, string][] {
  if (isPairs(headers)) return headers.map(([name, value]) => [name, value])
  return Object.entries(headers).flatMap(([name, value]): [string, string][] =>
    value === undefined ? [] : Array.isArray(value) ? value.map((each) => [name, each]) : [[name, String(value)]])
}

import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Called with requests that arrived whole. */
export type RequestListener = (request: IncomingMessage, response: ServerResponse, body: Buffer) => Promise<void>

/** Called when the headers are in. */
export type ArrivalListener = (request: IncomingMessage, response: ServerResponse) => void

/** No client keeps a connection idle for so long: otherwise a request can meet a connection that is just being closed. */
const KEEP_ALIVE_MS = 120_000

/** An HTTP server on 127.0.0.1 that can be closed and opened again on the port that it was first given. */
export class LoopbackServer {
  readonly #server: Server
  #port = 0

  constructor(listener: RequestListener, onConnection: () => void, onArrival: ArrivalListener) {
    this.#server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
      onArrival(request, response)
      // A body that does not arrive whole: the client left while it was sending. An error of the listener is a bug and must be loud.
      void readBody(request).then((body) => listener(request, response, body), () => { response.destroy() })
    })
    this.#server.on('connection', onConnection)
  }

  get origin(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  async open(): Promise<void> {
    if (this.#server.listening) return
    this.#server.listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Refuses new connections and cuts the open ones. */
  async close(): Promise<void> {
    if (!this.#server.listening) return
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/**
 * A TCP server that speaks the bytes it is told to: for answers that no well-behaved server gives. `raw-scripts.ts` has them ready:
 *
 *     const server = await startRawServer(resetMidBody())
 *     t.after(() => server.close())
 */
import { randomInt } from 'node:crypto'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { gate } from './gate.js'

/** What happens on one connection, from accept on. When it returns, the connection is closed, unless it has been left open with `hold`. */
export type RawScript = (connection: RawConnection) => Promise<void> | void

export interface RawRequest {
  readonly method: string
  readonly path: string
  /** Start line and header lines, latin-1. */
  readonly lines: readonly string[]
  /** The body as it came, chunk framing included. Empty unless it has been asked for. */
  readonly body: Buffer
}

export interface RawServer {
  /** `http://127.0.0.1:port`, no slash at the end. */
  readonly url: string
  readonly port: number
  /** Connections that were accepted. */
  readonly accepted: number
  /** Connections that are not gone yet. */
  readonly open: number
  /** Every request whose head was read, over all connections. */
  readonly requests: readonly RawRequest[]
  /** Ends everything at once. May be called twice. */
  close (): Promise<void>
}

/** Strings are latin-1: one character, one byte. */
type Bytes = string | Uint8Array

export class RawConnection {
  /** 1 for the first connection of the server. */
  readonly number: number
  /** The connection is gone, whoever ended it. */
  readonly closed: Promise<void>
  readonly #socket: Socket
  readonly #requests: RawRequest[]
  #buffered: Buffer = Buffer.alloc(0)
  #ended = false
  #news = gate()

  constructor (socket: Socket, number: number, requests: RawRequest[]) {
    this.#socket = socket
    this.#requests = requests
    this.number = number
    const closed = gate()
    this.closed = closed.promise
    const tell = (): void => { const news = this.#news; this.#news = gate(); news.open() }
    socket.on('data', (chunk) => { this.#buffered = Buffer.concat([this.#buffered, chunk]); tell() })
    socket.on('end', () => { this.#ended = true; tell() })
    socket.on('close', () => { this.#ended = true; closed.open(); tell() })
    socket.on('error', () => {})
  }

  /** Reads one request: its head, and its body too unless `headOnly`. `undefined` when the client is gone. */
  async request (headOnly = false): Promise<RawRequest | undefined> {
    const end = await this.#find('\r\n\r\n')
    if (end === undefined) return undefined
    const lines = this.#take(end).subarray(0, -4).toString('latin1').split('\r\n')
    const [method = '', path = ''] = lines[0]?.split(' ') ?? []
    const header = (name: string): string | undefined => lines.find((line) => line.toLowerCase().startsWith(`${name}:`))?.slice(name.length + 1).trim()
    let body: Buffer = Buffer.alloc(0)
    if (!headOnly) {
      const length = header('transfer-encoding') === undefined ? Number(header('content-length') ?? 0) : undefined
      // Good enough for bodies that a test sends: one that contains the mark of the last chunk ends there.
      const bodyEnd = length ?? await this.#find('0\r\n\r\n') ?? 0
      while (this.#buffered.length < bodyEnd && !this.#ended) await this.#news.promise
      body = this.#take(bodyEnd)
    }
    const request = { method, path, lines, body }
    this.#requests.push(request)
    return request
  }

  /** Resolves when the operating system has taken the bytes; false when the client is gone. */
  write (bytes: Bytes): Promise<boolean> {
    if (this.#socket.destroyed) return Promise.resolve(false)
    return new Promise((resolve) => {
      this.#socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, (error) => { resolve(!error) })
    })
  }

  /** FIN, after what has been written. */
  end (): void { this.#socket.end() }

  /** RST, at once. What was written before may be lost with it; `write` and a turn of the client's make sure it is not. */
  reset (): void { this.#socket.resetAndDestroy() }

  /** Keeps the connection open until the client, or the server's `close`, ends it. */
  hold (): Promise<void> { return this.closed }

  /** Position after `mark` in what came in. */
  async #find (mark: string): Promise<number | undefined> {
    for (;;) {
      const at = this.#buffered.indexOf(mark, 0, 'latin1')
      if (at >= 0) return at + mark.length
      if (this.#ended) return undefined
      await this.#news.promise
    }
  }

  #take (length: number): Buffer {
    const taken = this.#buffered.subarray(0, length)
    this.#buffered = this.#buffered.subarray(length)
    return taken
  }
}

export async function startRawServer (script: RawScript, options: { port?: number } = {}): Promise<RawServer> {
  const sockets = new Set<Socket>()
  const requests: RawRequest[] = []
  let accepted = 0
  let closed: Promise<void> | undefined
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    const connection = new RawConnection(socket, ++accepted, requests)
    // A script that throws must fail the test that made it: the rejection is left unhandled on purpose.
    void (async () => { await script(connection); connection.end() })()
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port ?? 0, '127.0.0.1', () => { server.removeListener('error', reject); resolve() })
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    get accepted () { return accepted },
    get open () { return sockets.size },
    requests,
    close () {
      closed ??= new Promise((resolve) => {
        server.close(() => { resolve() })
        for (const socket of sockets) socket.destroy()
      })
      return closed
    },
  }
}

/**
 * URL of a port that refuses connections: one that was free a moment ago. Not one that the system hands out by itself (those are
 * from 32768 on): the next server of the test could be given it.
 */
export async function refusingUrl (): Promise<string> {
  for (;;) {
    try {
      const server = await startRawServer((connection) => { connection.reset() }, { port: randomInt(20_000, 32_768) })
      await server.close()
      return server.url
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    }
  }
}

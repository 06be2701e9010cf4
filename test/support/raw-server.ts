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
  /** All of them, in the order in which they came, gone or not. */
  readonly connections: readonly RawConnection[]
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
  /** The connection is gone, whichever side ended it. */
  readonly closed: Promise<void>
  readonly #socket: Socket
  readonly #requests: RawRequest[]
  #received: Buffer = Buffer.alloc(0)
  /** Up to where what came in has been read. */
  #at = 0
  /** Of the request that is being read. */
  #head = ''
  #isBodyRead = true
  #ended = false
  #isEnding = false
  #news = gate()

  constructor (socket: Socket, number: number, requests: RawRequest[]) {
    this.#socket = socket
    this.#requests = requests
    this.number = number
    const closed = gate()
    this.closed = closed.promise
    const tell = (): void => { const news = this.#news; this.#news = gate(); news.open() }
    socket.on('data', (chunk) => { this.#received = Buffer.concat([this.#received, chunk]); tell() })
    socket.on('end', () => { this.#ended = true; tell() })
    socket.on('close', () => { this.#ended = true; closed.open(); tell() })
    socket.on('error', () => {})
  }

  /** Every byte that came in, read or not, latin-1. */
  get received (): string { return this.#received.toString('latin1') }

  /** The server has ended it, or is about to. */
  get isEnding (): boolean { return this.#isEnding }

  /** Reads one request: its head, and its body too unless `headOnly`. `undefined` when the client is gone. */
  async request (headOnly = false): Promise<RawRequest | undefined> {
    if (!await this.readBody()) return undefined
    const end = await this.#find('\r\n\r\n')
    if (end === undefined) return undefined
    this.#head = this.#received.toString('latin1', this.#at, end)
    this.#at = end
    this.#isBodyRead = false
    if (!headOnly) await this.readBody()
    const lines = this.#head.slice(0, -4).split('\r\n')
    const [method = '', path = ''] = lines[0]?.split(' ') ?? []
    const request = { method, path, lines, body: this.#received.subarray(end, this.#at) }
    this.#requests.push(request)
    return request
  }

  /** Reads what is left of the request's body, by its framing; false when the client is gone before its end. */
  async readBody (): Promise<boolean> {
    if (this.#isBodyRead) return true
    this.#isBodyRead = true
    if (!/^transfer-encoding:/im.test(this.#head)) {
      const [, length = 0] = /^content-length: *(\d+)/im.exec(this.#head) ?? []
      return this.#take(Number(length))
    }
    for (;;) {
      const end = await this.#find('\r\n')
      if (end === undefined) return this.#take(Infinity)
      const length = Number.parseInt(this.#received.toString('latin1', this.#at, end), 16)
      this.#at = end
      if (!await this.#take(length + 2)) return false
      if (length === 0) return true
    }
  }

  /** Resolves when the operating system has taken the bytes; false when the client is gone. */
  write (bytes: Bytes): Promise<boolean> {
    if (this.#socket.destroyed) return Promise.resolve(false)
    return new Promise((resolve) => {
      this.#socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, (error) => { resolve(!error) })
    })
  }

  /** FIN, after what has been written. */
  end (): void {
    this.#isEnding = true
    this.#socket.end()
  }

  /** RST, at once. What was written before may be lost with it; `write` and a turn of the client's make sure it is not. */
  reset (): void {
    this.#isEnding = true
    this.#socket.resetAndDestroy()
  }

  /** Keeps the connection open until the client, or the server's `close`, ends it. */
  hold (): Promise<void> { return this.closed }

  /** Position after `mark` in what has not been read. */
  async #find (mark: string): Promise<number | undefined> {
    for (;;) {
      const at = this.#received.indexOf(mark, this.#at, 'latin1')
      if (at >= 0) return at + mark.length
      if (this.#ended) return undefined
      await this.#news.promise
    }
  }

  /** Reads so many bytes; when the client is gone before, what there is, and false. */
  async #take (length: number): Promise<boolean> {
    while (this.#received.length < this.#at + length && !this.#ended) await this.#news.promise
    const isWhole = this.#received.length >= this.#at + length
    this.#at = isWhole ? this.#at + length : this.#received.length
    return isWhole
  }
}

export async function startRawServer (script: RawScript, options: { port?: number } = {}): Promise<RawServer> {
  const sockets = new Set<Socket>()
  const requests: RawRequest[] = []
  const connections: RawConnection[] = []
  let closed: Promise<void> | undefined
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    const connection = new RawConnection(socket, connections.length + 1, requests)
    connections.push(connection)
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
    get accepted () { return connections.length },
    connections,
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

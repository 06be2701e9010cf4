/** A server that does to its connections what an exchange says, byte for byte, and keeps every byte that it was sent. */
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { gate } from '../../support/gate.js'
import { turns } from '../../support/until.js'
import { Signals } from './signals.js'

/** What the server does for one request, in this order, once it has read the request's head. Strings are latin-1. */
export type Step =
  | { readonly do: 'read body' | 'fin' | 'reset' | 'wait for the end of the connection' }
  | { readonly do: 'write', readonly bytes: string }
  | { readonly do: 'yield', readonly turns: number }
  | { readonly do: 'wait until the client has seen', readonly what: 'headers' | 'data' }

/** All bytes that came in on each connection, in the order in which the connections were made, latin-1. */
export type Wire = readonly string[]

export interface Round {
  readonly steps: readonly Step[]
  readonly signals: Signals
}

export interface WireServer {
  /** `http://127.0.0.1:port`. */
  readonly url: string
  /** Forgets what came in before. */
  begin (): void
  /** The next request is answered so; those that come after it with a plain 200. */
  expect (round: Round): void
  /** Waits until the connections that the server has ended are gone: until the client knows. */
  settled (): Promise<void>
  /** Waits until all connections of what was played are gone, and tells what came in. */
  finish (): Promise<Wire>
  close (): Promise<void>
}

const PLAIN: readonly Step[] = [{ do: 'read body' }, { do: 'write', bytes: 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain' }]

export async function startWireServer (): Promise<WireServer> {
  let expected: Round | undefined
  let connections: Connection[] = []

  async function serve (connection: Connection): Promise<void> {
    while (await connection.readHead()) {
      const { steps, signals } = expected ?? { steps: PLAIN, signals: new Signals() }
      expected = undefined
      signals.tell('request')
      for (const step of steps) if (!await perform(step, connection, signals)) return
      if (!await connection.readBody()) return
    }
    connection.end()
  }

  async function perform (step: Step, connection: Connection, signals: Signals): Promise<boolean> {
    switch (step.do) {
      case 'read body': return connection.readBody()
      case 'write': return connection.write(step.bytes)
      case 'yield': await turns(step.turns); return true
      case 'wait until the client has seen': await Promise.race([signals.told(step.what), connection.closed]); return true
      case 'wait for the end of the connection': await connection.closed; return false
      case 'fin': connection.end(); return false
      case 'reset': connection.reset(); return false
    }
  }

  const server = createServer({ noDelay: true }, (socket) => {
    const connection = new Connection(socket)
    connections.push(connection)
    void serve(connection)
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    begin () {
      expected = undefined
      connections = []
    },
    expect (round) { expected = round },
    async settled () {
      await Promise.all(connections.filter(({ isEnding }) => isEnding).map(({ closed }) => closed))
    },
    async finish () {
      await Promise.all(connections.map(({ closed }) => closed))
      return connections.map(({ received }) => received)
    },
    close: () => new Promise((resolve) => {
      for (const connection of connections) connection.reset()
      server.close(() => { resolve() })
    }),
  }
}

class Connection {
  readonly closed: Promise<void>
  readonly #socket: Socket
  #received = Buffer.alloc(0)
  /** Where the request begins that is being read, and its body; the body is read up to `#at`. */
  #at = 0
  #head = ''
  #isBodyRead = true
  #ended = false
  #isEnding = false
  #news = gate()

  constructor (socket: Socket) {
    this.#socket = socket
    const closed = gate()
    this.closed = closed.promise
    const tell = (): void => { const news = this.#news; this.#news = gate(); news.open() }
    socket.on('data', (chunk) => { this.#received = Buffer.concat([this.#received, chunk]); tell() })
    socket.on('end', () => { this.#ended = true; tell() })
    socket.on('close', () => { this.#ended = true; closed.open(); tell() })
    socket.on('error', () => {})
  }

  get received (): string { return this.#received.toString('latin1') }

  /** False when there is none to come. */
  async readHead (): Promise<boolean> {
    const end = await this.#find('\r\n\r\n')
    if (end === undefined) return false
    this.#head = this.#received.subarray(this.#at, end).toString('latin1')
    this.#at = end
    this.#isBodyRead = false
    return true
  }

  /** By its framing; false when the client is gone before its end. */
  async readBody (): Promise<boolean> {
    if (this.#isBodyRead) return true
    this.#isBodyRead = true
    if (!/^transfer-encoding:/im.test(this.#head)) {
      const [, length = 0] = /^content-length: *(\d+)/im.exec(this.#head) ?? []
      return this.#take(Number(length))
    }
    for (;;) {
      const from = this.#at
      const end = await this.#find('\r\n')
      if (end === undefined) return false
      const length = Number.parseInt(this.#received.subarray(from, end).toString('latin1'), 16)
      this.#at = end
      if (!await this.#take(length + 2)) return false
      if (length === 0) return true
    }
  }

  /** Resolves when the operating system has taken the bytes; false when the client is gone. */
  write (bytes: string): Promise<boolean> {
    if (this.#socket.destroyed) return Promise.resolve(false)
    return new Promise((resolve) => { this.#socket.write(bytes, 'latin1', (error) => { resolve(error == null) }) })
  }

  get isEnding (): boolean { return this.#isEnding }

  end (): void {
    this.#isEnding = true
    this.#socket.end()
  }

  reset (): void {
    this.#isEnding = true
    this.#socket.resetAndDestroy()
  }

  async #take (length: number): Promise<boolean> {
    while (this.#received.length < this.#at + length) {
      if (this.#ended) return false
      await this.#news.promise
    }
    this.#at += length
    return true
  }

  /** Position after `mark`. */
  async #find (mark: string): Promise<number | undefined> {
    for (;;) {
      const at = this.#received.indexOf(mark, this.#at, 'latin1')
      if (at >= 0) return at + mark.length
      if (this.#ended) return undefined
      await this.#news.promise
    }
  }
}

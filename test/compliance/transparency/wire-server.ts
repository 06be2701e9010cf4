/** A server that does to its connections what an exchange says, byte for byte, and keeps every byte that it was sent. */
import { startRawServer, type RawConnection } from '../../support/raw-server.js'
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
  /** How many connections belong to what was played before. */
  let past = 0

  async function serve (connection: RawConnection): Promise<void> {
    while (await connection.request(true) !== undefined) {
      const { steps, signals } = expected ?? { steps: PLAIN, signals: new Signals() }
      expected = undefined
      signals.tell('request')
      for (const step of steps) if (!await perform(step, connection, signals)) return
      if (!await connection.readBody()) return
    }
  }

  async function perform (step: Step, connection: RawConnection, signals: Signals): Promise<boolean> {
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

  const server = await startRawServer(serve)
  const played = (): readonly RawConnection[] => server.connections.slice(past)
  return {
    url: server.url,
    begin () {
      expected = undefined
      past = server.connections.length
    },
    expect (round) { expected = round },
    async settled () {
      await Promise.all(played().filter(({ isEnding }) => isEnding).map(({ closed }) => closed))
    },
    async finish () {
      await Promise.all(played().map(({ closed }) => closed))
      return played().map(({ received }) => received)
    },
    close: () => server.close(),
  }
}

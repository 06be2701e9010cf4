/**
 * A backend that the test answers by hand. No counters, no sleeps:
 *
 *     const backend = await startScriptedBackend()
 *     t.after(() => backend.close())
 *     const answer = fetch(backend.url + '/openai/v1/responses', { method: 'POST', body: '{}' })
 *     const call = await backend.next()
 *     assert.equal(await call.request.text(), '{}')
 *     call.respond(429, { 'retry-after-ms': '20' })
 *     assert.equal((await answer).status, 429)
 */
import { createServer as createHttpServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { constants as h2, createSecureServer, type Http2ServerRequest, type Http2ServerResponse, type ServerHttp2Session } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Server, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { ScriptedCall } from './scripted-call.js'
import { testCertificate, type TestCertificate } from './tls.js'
import { gate, type Gate } from './gate.js'
import { within } from './until.js'

export { ScriptedCall } from './scripted-call.js'
export type { HeaderInput, ScriptedRequest } from './scripted-call.js'

export interface ScriptedBackendOptions {
  /**
   * `http` (the default) and `https` speak HTTP/1.1; `h2` speaks HTTP/2 over TLS and refuses anything else;
   * `h2-or-http` lets ALPN decide.
   */
  protocol?: 'http' | 'https' | 'h2' | 'h2-or-http'
  /** For the TLS protocols. Default: `testCertificate()`. */
  certificate?: TestCertificate
  /** Port to listen on, for a backend that comes back where it was. Default: any free one. */
  port?: number
  /** False for a server that gets many requests: `calls` stays empty. Default: true. */
  keepsCalls?: boolean
}

export interface ScriptedBackend {
  /** `http(s)://127.0.0.1:port`, no slash at the end. */
  readonly url: string
  readonly port: number
  /** `host:port`, as the host header has it. */
  readonly host: string
  /** Every call that arrived, in order, taken or not. */
  readonly calls: readonly ScriptedCall[]
  /** TCP connections that were accepted, and how many of them are gone. */
  readonly connections: { readonly opened: number, readonly closed: number, readonly open: number }
  /** The oldest call that no `next` has taken yet; waits for it, 10 s at most. */
  next (): Promise<ScriptedCall>
  /** Answers every call from now on, those that wait included. `next` gets none of them. */
  always (handler: (call: ScriptedCall) => unknown): void
  /** Back to answering by hand. */
  byHand (): void
  /** HTTP/1.1 upgrade requests. Without a handler they are refused by closing the socket. */
  onUpgrade (handler: (request: IncomingMessage, socket: Duplex, head: Buffer) => void): void
  /** HTTP/2 only: GOAWAY on every session; streams that run may finish. */
  goaway (): void
  /** Ends everything at once, open connections included; `reset` ends those with a RST. May be called twice. */
  close (how?: 'reset'): Promise<void>
}

type Listener = (request: IncomingMessage | Http2ServerRequest, response: ServerResponse | Http2ServerResponse) => void

export async function startScriptedBackend (options: ScriptedBackendOptions = {}): Promise<ScriptedBackend> {
  const protocol = options.protocol ?? 'http'
  const calls: ScriptedCall[] = []
  const untaken: ScriptedCall[] = []
  const takers: Gate<ScriptedCall>[] = []
  const sockets = new Set<Socket>()
  const sessions = new Set<ServerHttp2Session>()
  const connections = { opened: 0, closed: 0, get open () { return this.opened - this.closed } }
  let handler: ((call: ScriptedCall) => unknown) | undefined
  let upgradeHandler: ((request: IncomingMessage, socket: Duplex, head: Buffer) => void) | undefined
  let closed: Promise<void> | undefined

  function answer (call: ScriptedCall, by: (call: ScriptedCall) => unknown): void {
    // A handler that throws must fail the test that made it, not vanish: the rejection is left unhandled on purpose.
    void (async () => { await by(call) })()
  }

  const arrive = (expectsContinue: boolean): Listener => (request, response) => {
    const call = new ScriptedCall(request, response, expectsContinue)
    if (options.keepsCalls !== false) calls.push(call)
    if (handler !== undefined) { answer(call, handler); return }
    const taker = takers.shift()
    if (taker === undefined) untaken.push(call)
    else taker.open(call)
  }

  const server = await listen(protocol, options, arrive(false))
  server.on('checkContinue', arrive(true))
  server.on('session', (session: ServerHttp2Session) => {
    sessions.add(session)
    // A client that goes away in the middle of a session is what many tests are about.
    session.on('error', () => {}).on('close', () => sessions.delete(session))
  })
  server.on('connection', (socket: Socket) => {
    connections.opened++
    sockets.add(socket)
    socket.on('error', () => {}).on('close', () => { connections.closed++; sockets.delete(socket) })
  })
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    if (upgradeHandler === undefined) socket.destroy()
    else upgradeHandler(request, socket, head)
  })
  // A broken request or handshake is the client's affair; node would otherwise answer 400 and let the test guess.
  server.on('clientError', (_error: Error, socket: Duplex) => { socket.destroy() })
  server.on('tlsClientError', () => {})

  const { port } = server.address() as AddressInfo
  const host = `127.0.0.1:${port}`
  return {
    url: `${protocol === 'http' ? 'http' : 'https'}://${host}`,
    port,
    host,
    calls,
    connections,
    next () {
      const call = untaken.shift()
      if (call !== undefined) return Promise.resolve(call)
      const taker = gate<ScriptedCall>()
      takers.push(taker)
      const late = within(taker.promise, `the next call to ${host} (${calls.length} so far)`)
      late.catch(() => {})
      return late
    },
    always (next) {
      handler = next
      for (const call of untaken.splice(0)) answer(call, next)
    },
    byHand () { handler = undefined },
    onUpgrade (next) { upgradeHandler = next },
    goaway () { for (const session of sessions) session.goaway(h2.NGHTTP2_NO_ERROR) },
    close (how) {
      closed ??= new Promise((resolve) => {
        server.close(() => { resolve() })
        for (const session of sessions) session.destroy()
        for (const socket of sockets) { if (how === 'reset') socket.resetAndDestroy(); else socket.destroy() }
        for (const taker of takers.splice(0)) taker.fail(new Error(`the backend at ${host} was closed`))
      })
      return closed
    },
  }
}

async function listen (protocol: NonNullable<ScriptedBackendOptions['protocol']>, options: ScriptedBackendOptions, listener: Listener): Promise<Server> {
  const server = await create(protocol, options.certificate, listener)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port ?? 0, '127.0.0.1', () => { server.removeListener('error', reject); resolve() })
  })
  return server
}

async function create (protocol: NonNullable<ScriptedBackendOptions['protocol']>, certificate: TestCertificate | undefined, listener: Listener): Promise<Server> {
  // Node's own limits would end a request that the test lets wait.
  const patient = { requestTimeout: 0, headersTimeout: 0, keepAliveTimeout: 0 }
  const http1: RequestListener = listener
  if (protocol === 'http') return createHttpServer(patient, http1)
  const { cert, key } = certificate ?? await testCertificate()
  if (protocol === 'https') return createHttpsServer({ ...patient, cert, key }, http1)
  return createSecureServer({ cert, key, allowHTTP1: protocol === 'h2-or-http' }, listener)
}

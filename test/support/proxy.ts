/** An HTTP proxy on loopback: CONNECT tunnels and absolute-form forwarding. It records what passed through it. */
import { createServer, type IncomingHttpHeaders, request as forward } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'

export interface ProxyOptions {
  /**
   * Where an authority really is: `{ 'east.example:443': '127.0.0.1:40001' }`. So made-up host names can be reached, and no test
   * can leave the loopback: any other host is answered with 502.
   */
  routes?: Readonly<Record<string, string>>
  /** Answers everything with this status instead, 407 with `proxy-authenticate`. May be changed later. */
  refuseWith?: number
}

export interface Proxy {
  /** `http://127.0.0.1:port`, no slash at the end. */
  readonly url: string
  /** One per CONNECT, refused ones included. */
  readonly tunnels: readonly { readonly authority: string, readonly headers: IncomingHttpHeaders }[]
  /** One per request in absolute form, refused ones included. */
  readonly forwarded: readonly { readonly method: string, readonly url: string, readonly headers: IncomingHttpHeaders }[]
  refuseWith: number | undefined
  /** Ends everything at once, tunnels included. May be called twice. */
  close (): Promise<void>
}

const HOP_BY_HOP = new Set(['connection', 'proxy-connection', 'keep-alive', 'proxy-authorization'])

export async function startProxy (options: ProxyOptions = {}): Promise<Proxy> {
  const sockets = new Set<Socket>()
  const tunnels: { authority: string, headers: IncomingHttpHeaders }[] = []
  const forwarded: { method: string, url: string, headers: IncomingHttpHeaders }[] = []
  let closed: Promise<void> | undefined
  let refuseWith = options.refuseWith

  const track = (socket: Socket): void => {
    sockets.add(socket)
    socket.on('error', () => {}).on('close', () => sockets.delete(socket))
  }
  const locate = (authority: string): { host: string, port: number } | undefined => {
    const { hostname, port } = new URL(`http://${options.routes?.[authority] ?? authority}`)
    return hostname === '127.0.0.1' || hostname === 'localhost' ? { host: '127.0.0.1', port: Number(port || 80) } : undefined
  }

  const server = createServer((request, response) => {
    const url = request.url ?? ''
    forwarded.push({ method: request.method ?? '', url, headers: request.headers })
    if (refuseWith !== undefined) { response.writeHead(refuseWith, { 'proxy-authenticate': 'Basic realm="test"' }).end('refused by the proxy'); return }
    const target = URL.canParse(url) ? new URL(url) : undefined
    const where = target === undefined ? undefined : locate(target.port === '' ? `${target.hostname}:80` : target.host)
    if (target === undefined || where === undefined) { response.writeHead(502).end(); return }
    const headers = request.rawHeaders.filter((_, i, all) => !HOP_BY_HOP.has((all[i - i % 2] ?? '').toLowerCase()))
    // From the text, not from the URL, which would tidy up dot segments and escapes.
    const path = url.replace(/^https?:\/\/[^/?#]*/i, '') || '/'
    const upstream = forward({ ...where, method: request.method, path, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.rawHeaders)
      answer.pipe(response)
    })
    upstream.on('socket', track)
    upstream.on('error', () => { response.destroy() })
    response.on('close', () => { upstream.destroy() })
    request.pipe(upstream)
  })
  server.on('connection', track)
  server.on('connect', (request, client: Socket, head: Buffer) => {
    const authority = request.url ?? ''
    tunnels.push({ authority, headers: request.headers })
    const where = locate(authority)
    if (refuseWith !== undefined || where === undefined) {
      client.end(`HTTP/1.1 ${refuseWith ?? 502} Refused\r\nproxy-authenticate: Basic realm="test"\r\ncontent-length: 0\r\n\r\n`)
      return
    }
    const upstream = connect(where, () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n')
      upstream.write(head)
      upstream.pipe(client)
      client.pipe(upstream)
    })
    track(upstream)
    client.on('close', () => upstream.destroy())
    upstream.on('close', () => client.destroy())
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    tunnels,
    forwarded,
    get refuseWith () { return refuseWith },
    set refuseWith (status) { refuseWith = status },
    close () {
      closed ??= new Promise((resolve) => {
        server.close(() => { resolve() })
        for (const socket of sockets) socket.destroy()
      })
      return closed
    },
  }
}

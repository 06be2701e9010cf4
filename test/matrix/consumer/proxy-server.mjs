/** An HTTP proxy on loopback: tunnels by CONNECT, and forwards what comes in absolute form. */
import { createServer, request as forward } from 'node:http'
import { connect } from 'node:net'

/** `routes`: where a made-up authority really is. Everything else is refused, so that nothing leaves the loopback. */
export async function startProxy (t, routes) {
  const seen = []
  const sockets = new Set()
  const track = (socket) => { sockets.add(socket); socket.on('error', () => {}).on('close', () => sockets.delete(socket)) }
  const server = createServer((request, response) => {
    const { host, pathname, search } = new URL(request.url)
    seen.push(`${request.method} ${host}`)
    if (routes[host] === undefined) { response.writeHead(502).end(); return }
    const [hostname, port] = routes[host].split(':')
    const { 'proxy-connection': _proxy, connection: _connection, ...headers } = request.headers
    const upstream = forward({ hostname, port, method: request.method, path: pathname + search, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode, answer.rawHeaders)
      answer.pipe(response)
    })
    upstream.on('error', () => { response.destroy() })
    request.pipe(upstream)
  })
  server.on('connection', track)
  server.on('connect', (request, client, head) => {
    const authority = request.url.replace(/:(80|443)$/, '')
    seen.push(`CONNECT ${authority}`)
    const route = routes[authority]
    if (route === undefined) { client.end('HTTP/1.1 502 Bad Gateway\r\n\r\n'); return }
    const [hostname, port] = route.split(':')
    const upstream = connect(port, hostname, () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n')
      upstream.write(head)
      upstream.pipe(client).pipe(upstream)
    })
    track(upstream)
    client.on('close', () => { upstream.destroy() })
    upstream.on('close', () => { client.destroy() })
  })
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  t.after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { url: `http://127.0.0.1:${server.address().port}`, seen }
}

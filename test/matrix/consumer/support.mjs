/** What the checks share: servers on loopback, pools over them, and the versions that this cell is about. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createServer } from 'node:http'
import { createSecureServer } from 'node:http2'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as undici from 'undici'
import { PriorityBalancer, install } from 'openai-priority-loadbalancer'
import { UNDICI_MAJOR, nodeIs } from './versions.mjs'

export { NATIVE_HANDLERS_ARE_OLD, UNDICI_8, nodeIs, require } from './versions.mjs'

/** Other copies of undici that a program may hold beside the one that the balancer uses: of every line that this Node can load. */
export const OTHERS = []
for (const major of [6, 7, 8]) {
  if (major === UNDICI_MAJOR || (major === 8 && !nodeIs('22.19.0'))) continue
  OTHERS.push({ name: `undici ${major}`, major, ...await import(`undici-${major}`) })
}

/** A certificate for 127.0.0.1 and its authority, made by whoever started this. */
export const TLS = { ca: process.env.MATRIX_CA, cert: process.env.MATRIX_CERT, key: process.env.MATRIX_KEY }

/** Longer than any check takes on a busy machine. */
const CHECK_MS = 20_000

/** A test whose `t.after` runs what was opened last first. What goes wrong there counts, unless the test itself failed. */
export function check (name, run) {
  test(name, { timeout: CHECK_MS }, async () => {
    const ends = []
    const failures = []
    try {
      await run({ after: (end) => { ends.push(end) } })
    } catch (error) {
      failures.push(error)
    }
    for (const end of ends.reverse()) {
      try {
        await end()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw failures[0]
  })
}

/** What a client asks for: a made-up origin, so that a request that is not balanced cannot succeed. */
export const BASE = 'https://chat.balanced/openai/v1'
export const CHAT = `${BASE}/chat/completions`

/** The two fetches that a program can have, each with the classes that belong to it. */
export const FETCHES = [
  { name: 'native fetch', fetch: (...args) => globalThis.fetch(...args), FormData: globalThis.FormData },
  { name: 'undici.fetch', fetch: undici.fetch, FormData: undici.FormData },
]

/**
 * A server on loopback, ended with the test. `answer(call, response)` is called when a request has arrived whole, or, with
 * `early`, as soon as its headers have. `protocol`: `http`, `h2` or `h2-or-http`, the latter two over TLS.
 */
export async function serve (t, answer, { early = false, protocol = 'http' } = {}) {
  const calls = []
  const sockets = new Set()
  const sessions = new Set()
  const arrivals = []
  // A keep-alive connection must not end by the server's doing in the middle of a check.
  const server = protocol === 'http'
    ? createServer({ keepAliveTimeout: 0 })
    : createSecureServer({ cert: TLS.cert, key: TLS.key, allowHTTP1: protocol === 'h2-or-http' })
  server.on('connection', (socket) => { sockets.add(socket); socket.on('error', () => {}).on('close', () => sockets.delete(socket)) })
  server.on('session', (session) => { sessions.add(session); session.on('error', () => {}).on('close', () => sessions.delete(session)) })
  server.on('tlsClientError', () => {})
  server.on('request', (request, response) => {
    const { promise: gone, resolve: leave } = withResolvers()
    const call = { method: request.method, path: request.url, headers: request.headers, version: request.httpVersion, request, response, body: undefined, gone }
    response.on('close', () => { leave({ finished: response.writableFinished }) })
    request.on('error', () => {})
    calls.push(call)
    for (const arrive of arrivals.splice(0)) arrive(call)
    const chunks = []
    request.on('data', (chunk) => { chunks.push(chunk) })
    request.on('end', () => {
      call.body = Buffer.concat(chunks)
      if (!early) void server.answer(call, response)
    })
    if (early) void server.answer(call, response)
  })
  server.answer = answer
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  t.after(() => {
    server.close()
    for (const session of sessions) session.destroy()
    for (const socket of sockets) socket.destroy()
  })
  const host = `127.0.0.1:${server.address().port}`
  return {
    server,
    host,
    url: `${protocol === 'http' ? 'http' : 'https'}://${host}`,
    calls,
    /** The bodies that arrived, in order. */
    bodies: () => calls.map(({ body }) => body),
    /** The next call that arrives. */
    next: () => new Promise((resolve) => { arrivals.push(resolve) }),
    answerWith (next) { server.answer = next },
  }
}

export function withResolvers () {
  let resolve, reject
  const promise = new Promise((...both) => { [resolve, reject] = both })
  return { promise, resolve, reject }
}

/** Answers with a status, headers and a text. */
export const says = (text, headers = {}, status = 200) => (_call, response) => { response.writeHead(status, headers).end(text) }

export const saysJson = (value, headers = {}, status = 200) => says(JSON.stringify(value), { 'content-type': 'application/json', ...headers }, status)

/** The way OpenAI says that there is too much of it. */
export const throttles = (retryAfterMs = 60_000) => saysJson(
  { error: { message: 'Rate limit reached', type: 'requests', param: null, code: 'rate_limit_exceeded' } },
  { 'retry-after-ms': String(retryAfterMs) }, 429
)

/** Options for a pool over these servers, the first of them first. */
export function optionsFor (servers, more = {}) {
  return { backends: servers.map(({ url }, i) => ({ url: `${url}/openai/v1`, priority: i + 1 })), intercept: [BASE], logger: false, ...more }
}

/** Installs a pool over these servers until the end of the test; by then all of its requests must have ended. */
export function balance (t, servers, more) {
  const balancer = install(optionsFor(servers, more))
  t.after(() => endOf(balancer, balancer.uninstall()))
  return balancer
}

/** The same without installing: for `dispatcher:` options. */
export function makeBalancer (t, servers, more) {
  const balancer = new PriorityBalancer(optionsFor(servers, more))
  t.after(() => endOf(balancer, balancer.close()))
  return balancer
}

async function endOf (balancer, ending) {
  const late = withResolvers()
  const timer = setTimeout(late.reject, 5_000, new Error('requests are still under way when the test is over'))
  try {
    await Promise.race([ending, late.promise])
  } finally {
    clearTimeout(timer)
    await balancer.destroy()
  }
}

const GLOBALS = [Symbol.for('undici.globalDispatcher.1'), Symbol.for('undici.globalDispatcher.2')]

export const readGlobals = () => GLOBALS.map((symbol) => globalThis[symbol])

function writeGlobals (values) {
  // Plain assignment does: somebody has defined both by the time that anything is written back.
  GLOBALS.forEach((symbol, i) => { globalThis[symbol] = values[i] })
}

/** `setGlobalDispatcher` until the end of the test; whatever stood under either symbol comes back. */
export function setGlobal (t, dispatcher) {
  const former = readGlobals()
  undici.setGlobalDispatcher(dispatcher)
  t.after(async () => {
    writeGlobals(former)
    await dispatcher.close?.()
  })
  return dispatcher
}

/** What `act` gives while a dispatcher of undici's own is global, without any balancer: for showing what is not our doing. */
export async function bare (dispatcher, act) {
  const former = readGlobals()
  undici.setGlobalDispatcher(dispatcher)
  try {
    return await act()
  } finally {
    writeGlobals(former)
  }
}

/** An Agent of this undici that is closed with the test: what a defect is shown on that is not ours. */
export function bareAgent (t, options) {
  const agent = new undici.Agent(options)
  t.after(() => agent.destroy())
  return agent
}

/** `promise`'s rejection; fails when there is none. */
export async function rejection (promise) {
  try {
    await promise
  } catch (error) {
    return error
  }
  return assert.fail('it was fulfilled')
}

/** The error that undici gave, behind what fetch and the SDK wrap around it. */
export function rootCause (error) {
  let cause = error
  while (cause?.cause instanceof Error) cause = cause.cause
  return cause
}

/** Bytes that compress badly and repeat never, the same in every run. */
export function bytes (length) {
  const made = Buffer.alloc(length)
  for (let i = 0, state = 1; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    made[i] = state >>> 24
  }
  return made
}

/**
 * Runs a program of this folder in a process of its own. `lingerMs`: how long it lived on after its last line.
 * It is ended after 15 s.
 */
export function runProgram (program, { args = [], env = {} } = {}) {
  const { NODE_OPTIONS: _options, ...inherited } = process.env
  const child = spawn(process.execPath, [...args, ...(program === undefined ? [] : [fileURLToPath(new URL(program, import.meta.url))])], {
    env: { ...inherited, ...env }, stdio: ['ignore', 'pipe', 'pipe'], timeout: 15_000, killSignal: 'SIGKILL',
    cwd: fileURLToPath(new URL('.', import.meta.url)),
  })
  const said = { stdout: '', stderr: '' }
  let last = performance.now()
  for (const name of ['stdout', 'stderr']) child[name].setEncoding('utf8').on('data', (text) => { said[name] += text; last = performance.now() })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    // Its outputs are read to their ends by then.
    child.on('close', (code, signal) => { resolve({ code, signal, ...said, output: said.stdout + said.stderr, lingerMs: performance.now() - last }) })
  })
}

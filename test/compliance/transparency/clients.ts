/** The ways in: each sends one planned request through a dispatcher, and tells what its caller gets. */
import type { Writable } from 'node:stream'
import type { Dispatcher } from 'undici'
import type { AnyHandler } from '../../../src/request/undici.js'
import type { Undici } from '../../support/majors.js'
import { gate } from '../../support/gate.js'
import { turns } from '../../support/until.js'
import { isFetch, type Client, type Turn } from './exchange.js'
import type { RequestBody } from './request-body.js'
import type { Signals } from './signals.js'
import { describeError } from './trace.js'

export interface Sending {
  readonly undici: Undici
  /** Undefined: the global one. */
  readonly dispatcher: { dispatch: Dispatcher['dispatch'] } | undefined
  readonly origin: string
  readonly turn: Turn
  readonly body: RequestBody
  readonly signals: Signals
}

/** What the caller gets, as plain data. Never rejects. */
export async function send (client: Client, sending: Sending): Promise<unknown> {
  try {
    if (client.startsWith('native')) return await viaFetch(globalThis.fetch, sending)
    if (client === 'undici fetch') return await viaFetch(sending.undici.fetch as unknown as typeof fetch, sending)
    if (client === 'undici request') return await viaRequest(sending)
    return await viaDispatch(client === 'dispatch, new style' ? 'new' : 'old', sending)
  } catch (error) {
    return { rejected: describeError(error) }
  }
}

/** The planned headers, with what the body adds to them. */
function headersOf ({ headers: { shape, pairs }, body: { announced } }: Turn, client: 'fetch' | 'raw', byteLength: number): unknown {
  const length = { nothing: undefined, 'its length': byteLength, 'one more': byteLength + 1, 'one less': Math.max(0, byteLength - 1) }[announced]
  const all = length === undefined ? pairs : [...pairs, ['Content-Length', String(length)] as const]
  if (shape === 'none') return length === undefined ? undefined : { 'Content-Length': String(length) }
  if (shape === 'flat') return all.flat()
  if (shape === 'iterable') return client === 'fetch' ? all : new Map(all)
  // Of Node's own, which refuses names that undici is to refuse.
  if (shape === 'Headers') {
    try {
      return new Headers(all.map(([name, value]) => [name, value] as [string, string]))
    } catch {
      return all.flat()
    }
  }
  const object: Record<string, string | string[]> = {}
  for (const [name, value] of all) {
    const known = object[name]
    object[name] = known === undefined || client === 'fetch' || !Object.hasOwn(object, name) ? value : [known, value].flat()
  }
  return object
}

/** Aborts when the plan says so; the reason is the same object for whoever looks at it. */
function abortSignal ({ turn: { action }, signals }: Sending): AbortSignal | undefined {
  if (action.kind !== 'abort') return undefined
  const controller = new AbortController()
  const abort = (): void => { controller.abort(new Error('the caller gave up')) }
  if (action.at === 'once') queueMicrotask(abort)
  else void signals.told(action.at).then(abort)
  return controller.signal
}

async function viaFetch (fetch: typeof globalThis.fetch, sending: Sending): Promise<unknown> {
  const { dispatcher, origin, turn, body } = sending
  const init = {
    method: turn.method, headers: headersOf(turn, 'fetch', body.byteLength), body: body.value, duplex: 'half', signal: abortSignal(sending) ?? null, ...turn.options,
    ...(dispatcher === undefined ? {} : { dispatcher }),
  } as unknown as RequestInit
  const response = await fetch(origin + turn.path, init)
  const { status, statusText, redirected, type, url, headers } = response
  const head = { status, statusText, redirected, type, url, headers: [...headers], cookies: headers.getSetCookie() }
  return { ...head, body: await read(response.body) }
}

/** What came, and the error that ended it. */
async function read (body: AsyncIterable<Uint8Array | string> | null): Promise<unknown> {
  let text = ''
  try {
    for await (const chunk of body ?? []) text += Buffer.from(chunk as string).toString('latin1')
    return { text, isNull: body === null }
  } catch (error) {
    // How much of it was handed on before the error came is chance: streams buffer. The calls of the handler tell.
    return { rejected: describeError(error) }
  }
}

function rawOptions (sending: Sending): Record<string, unknown> {
  const { turn, body, origin } = sending
  const { method, path, query, options } = turn
  return { origin, method, path, headers: headersOf(turn, 'raw', body.byteLength), body: body.value, ...(query === undefined ? {} : { query }), ...options }
}

async function viaRequest (sending: Sending): Promise<unknown> {
  const { undici, dispatcher } = sending
  const { origin, path, ...options } = rawOptions(sending)
  const { statusCode, headers, body, trailers, opaque } = await undici.request(`${String(origin)}${String(path)}`, { ...options, dispatcher, opaque: 'opaque', signal: abortSignal(sending) ?? null } as never)
  const content = await read(body)
  return { statusCode, headers: Object.entries(headers), body: content, trailers: Object.entries(trailers), opaque }
}

/** A handler as a program would write it: does what the plan says, and fulfils with the last it was told. */
async function viaDispatch (style: 'new' | 'old', { dispatcher, turn, signals, ...rest }: Sending): Promise<unknown> {
  const done = gate<string>()
  const { action } = turn
  let abort: ((reason: Error) => void) | undefined
  let resume: (() => void) | undefined
  let paused = false
  const isAt = (at: string): boolean => action.kind !== 'none' && action.kind !== 'abort' && action.at === at
  /** The result is that of an old-style callback. */
  const act = (at: 'start' | 'headers' | 'data' | 'end', pause?: () => void): boolean => {
    if (!isAt(at)) return !paused
    if (action.kind === 'throw') throw new Error('thrown by the handler')
    if (action.kind === 'abort inside') abort?.(new Error('given up by the handler'))
    if (action.kind === 'pause' && !paused && (at === 'headers' || at === 'data')) {
      paused = true
      pause?.()
      void turns(3).then(() => { paused = false; resume?.() })
    }
    return !paused
  }
  const current = {
    onRequestStart (controller: Parameters<typeof turnOn>[0]) { turnOn(controller); act('start') },
    onResponseStart (controller: Parameters<typeof turnOn>[0], status: number) { if (status >= 200) act('headers', () => { controller.pause() }) },
    onResponseData (controller: Parameters<typeof turnOn>[0]) { act('data', () => { controller.pause() }) },
    onResponseEnd () { act('end'); done.open('end') },
    onResponseError () { done.open('error') },
    onRequestUpgrade (_controller: unknown, _status: number, _headers: unknown, socket: Writable) { done.open('upgrade'); socket.destroy() },
  }
  function turnOn (controller: { abort (reason: Error): void, pause (): void, resume (): void }): void {
    abort = (reason) => { controller.abort(reason) }
    resume = () => { controller.resume() }
  }
  const legacy = {
    onConnect (given: (reason?: Error) => void) { abort = given; act('start') },
    onHeaders (status: number, _headers: unknown, given: () => void) { resume = given; return status < 200 || act('headers') },
    onData () { return act('data') },
    onComplete () { act('end'); done.open('end') },
    onError () { done.open('error') },
    onUpgrade (_status: number, _headers: unknown, socket: Writable) { done.open('upgrade'); socket.destroy() },
  }
  const optional = { onBodySent () {}, onRequestSent () {}, onResponseStarted () {} }
  if (action.kind === 'abort') void signals.told(action.at === 'once' ? 'request' : action.at).then(() => abort?.(new Error('the caller gave up')))
  const handler = { ...(style === 'new' ? current : legacy), ...(turn.optional ? optional : {}) } as unknown as AnyHandler
  dispatcher?.dispatch(rawOptions({ ...rest, turn, signals, dispatcher }) as never, handler as never)
  return done.promise
}

/** Whose FormData the client takes. */
export function undiciOf (client: Client, undici: Undici): Undici | undefined {
  return isFetch(client) && client !== 'undici fetch' ? undefined : undici
}

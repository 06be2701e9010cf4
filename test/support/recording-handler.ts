import type { Duplex } from 'node:stream'
import type { AnyHeaders, Controller, ModernHandler, LegacyHandler } from '../../src/request/undici.js'

/** Undici's two handler contracts. */
export const STYLES = ['old', 'new'] as const
export type Style = (typeof STYLES)[number]

/** What a handler was told, in words that are the same for both styles. Data that comes in a row is one event. */
export type Event =
  | readonly ['start' | 'response started' | 'request sent']
  | readonly ['headers' | 'upgrade', number, headers: readonly string[], message?: string]
  | readonly ['data' | 'body sent', string]
  | readonly ['end', trailers: readonly string[]]
  | readonly ['error', unknown]

export interface Recorder {
  readonly style: Style
  readonly handler: ModernHandler & LegacyHandler
  readonly events: Event[]
  /** The new style's; the first one that came. */
  readonly controller: Controller | undefined
  /** How often the exchange was ended: once is right. */
  readonly terminals: number
  readonly bytes: number
  readonly error: unknown
  /** Resolves at the end, the upgrade or the error. */
  readonly done: Promise<void>
  abort(reason?: unknown): void
  resume(): void
  /** From the next callback on: the old style returns false, the new style calls the controller. */
  pause(): void
}

/** Called before the event is recorded; what it throws, the handler throws. */
export type Hooks = Partial<Record<'start' | 'headers' | 'data' | 'end' | 'error' | 'upgrade' | 'bodySent' | 'requestSent' | 'responseStarted', (recorder: Recorder, detail?: unknown) => void>>

export interface RecorderOptions {
  readonly hooks?: Hooks
  /** The optional callbacks that the handler has. */
  readonly optional?: readonly ('onBodySent' | 'onRequestSent' | 'onResponseStarted')[]
}

export function recordingHandler(style: Style, { hooks = {}, optional = ['onResponseStarted'] }: RecorderOptions = {}): Recorder {
  const events: Event[] = []
  let finish: () => void = () => {}
  let abort: ((reason?: Error) => void) | undefined
  let resume: (() => void) | undefined
  let controller: Controller | undefined
  let paused = false
  let terminals = 0
  let bytes = 0
  let error: unknown

  const recorder: Recorder = {
    style, events, handler: {} as ModernHandler & LegacyHandler, done: new Promise<void>((resolve) => { finish = resolve }),
    get controller() { return controller },
    get terminals() { return terminals },
    get bytes() { return bytes },
    get error() { return error },
    abort(reason) {
      if (style === 'new') controller?.abort(reason as Error)
      else abort?.(reason as Error)
    },
    resume() {
      paused = false
      if (style === 'new') controller?.resume()
      else resume?.()
    },
    pause() {
      paused = true
      if (style === 'new') controller?.pause()
    },
  }
  const append = (kind: 'data' | 'body sent', chunk: Uint8Array | string): void => {
    const text = Buffer.from(chunk as string).toString('latin1')
    const last = events.at(-1)
    if (last?.[0] === kind) events[events.length - 1] = [kind, last[1] + text]
    else events.push([kind, text])
  }
  const end = (event: Event): void => {
    terminals++
    events.push(event)
    finish()
  }
  const takeError = (given: unknown): void => {
    hooks.error?.(recorder, given)
    error = given
    end(['error', given])
  }
  const takeData = (chunk: Uint8Array): void => {
    hooks.data?.(recorder, chunk)
    bytes += chunk.byteLength
    append('data', chunk)
  }

  const current: ModernHandler = {
    onRequestStart(given) {
      controller ??= given
      hooks.start?.(recorder)
      events.push(['start'])
    },
    onResponseStart(given, status, headers, message) {
      hooks.headers?.(recorder, status)
      events.push(head(status, given.rawHeaders ?? headers, message))
    },
    onResponseData(_given, chunk) { takeData(chunk) },
    onResponseEnd(given, trailers) {
      hooks.end?.(recorder)
      end(['end', flatten(given.rawTrailers ?? trailers)])
    },
    onResponseError(_given, given) { takeError(given) },
    onRequestUpgrade(given, status, headers, socket) {
      hooks.upgrade?.(recorder, socket)
      end(['upgrade', status, flatten(given.rawHeaders ?? headers)])
    },
  }
  const legacy: LegacyHandler = {
    onConnect(given) {
      abort = given
      hooks.start?.(recorder)
      events.push(['start'])
    },
    onHeaders(status, headers, given, message) {
      resume = given
      hooks.headers?.(recorder, status)
      events.push(head(status, headers, message))
      return !paused
    },
    onData(chunk) {
      takeData(chunk)
      return !paused
    },
    onComplete(trailers) {
      hooks.end?.(recorder)
      end(['end', flatten(trailers)])
    },
    onError(given) { takeError(given) },
    onUpgrade(status, headers, socket: Duplex) {
      hooks.upgrade?.(recorder, socket)
      end(['upgrade', status, flatten(headers)])
    },
  }
  const optionals: Pick<ModernHandler, 'onBodySent' | 'onRequestSent' | 'onResponseStarted'> = {
    onBodySent(chunk) {
      hooks.bodySent?.(recorder, chunk)
      append('body sent', chunk)
    },
    onRequestSent() {
      hooks.requestSent?.(recorder)
      events.push(['request sent'])
    },
    onResponseStarted() {
      hooks.responseStarted?.(recorder)
      events.push(['response started'])
    },
  }
  Object.assign(recorder.handler, style === 'new' ? current : legacy)
  for (const name of optional) Object.assign(recorder.handler, { [name]: optionals[name] })
  return recorder
}

function head(status: number, headers: AnyHeaders, message: string | undefined): Event {
  return message === undefined ? ['headers', status, flatten(headers)] : ['headers', status, flatten(headers), message]
}

/** Name and value in turn, latin-1, lower-case names; a value that repeats is a pair for each repetition. */
export function flatten(headers: AnyHeaders | null | undefined): string[] {
  const flat: string[] = []
  const pairs = headers == null
    ? []
    : Array.isArray(headers)
      ? Array.from({ length: headers.length / 2 }, (_, i) => [headers[2 * i], headers[2 * i + 1]] as const)
      : Object.entries(headers)
  for (const [name, value] of pairs) {
    for (const one of Array.isArray(value) ? value as unknown[] : [value]) flat.push(text(name).toLowerCase(), text(one))
  }
  return flat
}

function text(value: unknown): string {
  return value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : String(value)
}

/** A handler that has all that undici asks of one, from the callbacks that a test is about. */
export function wholeHandler<H extends LegacyHandler | ModernHandler> (callbacks: H): H {
  const legacy = { onConnect () {}, onError () {}, onHeaders: () => true, onData: () => true, onComplete () {}, onUpgrade () {} }
  const modern = { onRequestStart () {}, onResponseError () {}, onResponseStart () {}, onResponseData () {}, onResponseEnd () {}, onRequestUpgrade () {} }
  return { ...('onRequestStart' in callbacks ? modern : legacy), ...callbacks }
}

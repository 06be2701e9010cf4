/**
 * Undici's handler contract in both styles. Undici's own types change between 7 and 8 (8 no longer mentions the old
 * style, which Node's own fetch still uses up to Node 24), so the contract is written down here once.
 */
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'

/** Name and value in turn, as they came over the wire. undici's mocks put an array where a name repeats. */
export type RawHeaders = readonly (Buffer | string | readonly (Buffer | string)[])[]

/** Lower-case names. */
export type ParsedHeaders = Record<string, string | string[] | undefined>

export type AnyHeaders = RawHeaders | ParsedHeaders

/** What a handler of the new style is given to steer its request with. */
export interface Controller {
  readonly aborted: boolean
  readonly paused: boolean
  readonly reason: Error | null | undefined
  /** Writable: undici's own interceptors assign it, and undici 8's fetch reads response headers from here alone. */
  rawHeaders?: AnyHeaders | null
  rawTrailers?: AnyHeaders | null
  abort(reason?: Error): void
  pause(): void
  resume(): void
}

/** undici 8's style; 7 takes it as well. */
export interface CurrentHandler {
  onRequestStart?(controller: Controller, context: unknown): void
  onRequestUpgrade?(controller: Controller, status: number, headers: ParsedHeaders, socket: Duplex): unknown
  onResponseStart?(controller: Controller, status: number, headers: ParsedHeaders, message?: string): void
  onResponseData?(controller: Controller, chunk: Buffer): void
  onResponseEnd?(controller: Controller, trailers: ParsedHeaders): void
  onResponseError?(controller: Controller, error: Error): void
  onResponseStarted?(): void
  onBodySent?(chunk: Uint8Array | string): void
  onRequestSent?(): void
}

/** The style of undici 6 and 7, and of Node's own fetch up to Node 24. `false` from `onHeaders` or `onData` pauses. */
export interface LegacyHandler {
  onConnect?(abort: (reason?: Error) => void, context?: unknown): void
  onUpgrade?(status: number, headers: RawHeaders, socket: Duplex): unknown
  onHeaders?(status: number, headers: RawHeaders, resume: () => void, message?: string): boolean | undefined
  onData?(chunk: Buffer): boolean | undefined
  onComplete?(trailers: RawHeaders | null): void
  onError?(error: Error): void
  onResponseStarted?(): void
  onBodySent?(chunk: Uint8Array | string): void
  onRequestSent?(): void
}

export type AnyHandler = CurrentHandler | LegacyHandler

/** undici's own test for it. */
export function isCurrent(handler: AnyHandler): handler is CurrentHandler {
  return typeof (handler as CurrentHandler).onRequestStart === 'function'
}

/** What comes from outside may be anything. */
export function isHandler(handler: unknown): handler is AnyHandler {
  return typeof handler === 'object' && handler !== null
}

/** `opts` of `dispatch()`, with the fields that undici's fetch adds without declaring them. */
export interface DispatchOptions extends Omit<Dispatcher.DispatchOptions, 'body' | 'headers' | 'query'> {
  body?: unknown
  headers?: unknown
  query?: Record<string, unknown> | null
  allowH2?: boolean
  maxRedirections?: number
  /** Of the caller's own call: what it was sent through. */
  dispatcher?: unknown
  servername?: string | null
  /** undici 8's fetch: the serialized body beside the source that an active MockAgent matches on. */
  __mockAgentBodyForDispatch?: unknown
}

/** Takes the request from here: a dispatcher's `dispatch`, bound. */
export type Dispatch = (opts: DispatchOptions, handler: AnyHandler) => boolean

/** undici's types know one style each; what comes in may be of either. */
export function fromUndici(handler: Dispatcher.DispatchHandler): AnyHandler {
  return handler as unknown as AnyHandler
}

/** And what goes out is of the style that the dispatcher takes, which its types cannot say. */
export function toUndici(handler: AnyHandler): Dispatcher.DispatchHandler {
  return handler as unknown as Dispatcher.DispatchHandler
}

/**
 * The one door to undici, and its handler contract in both styles: legacy (raw headers, `onHeaders`), which undici 7 and Node's
 * own fetch up to Node 24 speak, and modern (`onResponseStart`), which undici 8 wants. Undici's own types change between 7 and
 * 8, and those of 8 no longer mention the legacy style, so the contract is written down here once.
 */
import type { Duplex } from 'node:stream'
// Before undici itself is loaded: a pair that cannot work says so in a sentence.
import { keepGlobal } from './undici-version.js'
import * as undici from 'undici'
import type { Dispatcher as DispatcherType } from 'undici'
import { isRaw } from '../core/headers.js'

export { Agent, Dispatcher, errors } from 'undici'

keepGlobal()

/** Undici 7 still takes legacy handlers; 8 wants modern ones, and ships a wrapper for old callers. */
export const PEER_TAKES_LEGACY_HANDLERS = !('Dispatcher1Wrapper' in undici)

/** Name and value in turn, as they came over the wire. undici's mocks put an array where a name repeats. */
export type RawHeaders = readonly (Buffer | string | readonly (Buffer | string)[])[]

/** Lower-case names. */
export type ParsedHeaders = Record<string, string | string[] | undefined>

export type AnyHeaders = RawHeaders | ParsedHeaders

/** What a modern handler is given to steer its request with. */
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
export interface ModernHandler {
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

export type AnyHandler = ModernHandler | LegacyHandler

/** undici's own test for it. */
export function isModern(handler: AnyHandler): handler is ModernHandler {
  return typeof (handler as ModernHandler).onRequestStart === 'function'
}

/** Handlers come from outside, and may be anything. */
export function isHandler(handler: unknown): handler is AnyHandler {
  return typeof handler === 'object' && handler !== null
}

/**
 * What undici asks of a handler before it sends: without it the request would be made, and no one told of it.
 * @throws undici's InvalidArgumentError, in its words.
 */
export function checkHandler(handler: AnyHandler, { upgrade }: DispatchOptions): void {
  if (!isHandler(handler)) throw new undici.errors.InvalidArgumentError('handler must be an object')
  // undici 7 looks at no modern handler.
  const lacking = isModern(handler) ? (PEER_TAKES_LEGACY_HANDLERS ? undefined : lackingOfModern(handler, upgrade)) : lackingOfLegacy(handler, upgrade)
  if (lacking !== undefined) throw new undici.errors.InvalidArgumentError(`invalid ${lacking} method`)
}

function lackingOfLegacy(handler: LegacyHandler, upgrade: unknown): string | undefined {
  if (typeof handler.onConnect !== 'function') return 'onConnect'
  if (typeof handler.onError !== 'function') return 'onError'
  if (upgrade) return typeof handler.onUpgrade === 'function' ? undefined : 'onUpgrade'
  if (typeof handler.onHeaders !== 'function') return 'onHeaders'
  if (typeof handler.onData !== 'function') return 'onData'
  return typeof handler.onComplete === 'function' ? undefined : 'onComplete'
}

function lackingOfModern(handler: ModernHandler, upgrade: unknown): string | undefined {
  if (typeof handler.onResponseError !== 'function') return 'onResponseError'
  if (upgrade) return typeof handler.onRequestUpgrade === 'function' ? undefined : 'onRequestUpgrade'
  if (typeof handler.onResponseStart !== 'function') return 'onResponseStart'
  if (typeof handler.onResponseData !== 'function') return 'onResponseData'
  return typeof handler.onResponseEnd === 'function' ? undefined : 'onResponseEnd'
}

/** `opts` of `dispatch()`, with the fields that undici's fetch adds without declaring them. */
export interface DispatchOptions extends Omit<DispatcherType.DispatchOptions, 'body' | 'headers' | 'query'> {
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

/** What really sends. */
export interface Inner {
  readonly dispatch: Dispatch
  /** Whether it takes legacy handlers as they are. */
  readonly takesLegacy: boolean
  /** An undici mock that matches bodies as strings. */
  readonly isMockActive: boolean
  /** Whether it tells when it makes a connection to this origin. Not there where that cannot be known. */
  tellsConnections?(origin: string): boolean
  /** The origin that a connection was made to just now, in this very turn: what is sent on it is sent before anything else happens. */
  readonly justConnected?: string | undefined
}

/** Raw pairs for a legacy handler. Over HTTP/2 undici 8 has only the parsed ones. */
export function toRaw(headers: AnyHeaders | null | undefined): RawHeaders {
  if (headers == null) return []
  if (isRaw(headers)) return headers
  const raw: Buffer[] = []
  for (const name of Object.keys(headers)) {
    const value = headers[name]
    if (value === undefined) continue
    // One pair for each repetition: joined or nested values are what loses cookies in the legacy style.
    if (Array.isArray(value)) for (const one of value) raw.push(Buffer.from(name, 'latin1'), Buffer.from(one, 'latin1'))
    else raw.push(Buffer.from(name, 'latin1'), Buffer.from(value, 'latin1'))
  }
  return raw
}

/** Parsed headers for a modern handler; undici's own parser, so that both ways in look the same. */
export function toParsed(headers: AnyHeaders | null | undefined): ParsedHeaders {
  if (headers == null) return {}
  // The parser takes nested values as undici's own mocks make them; its type does not say so.
  return isRaw(headers) ? (undici.util.parseHeaders(headers as Buffer[]) as ParsedHeaders) : headers
}

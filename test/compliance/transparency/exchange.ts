/** What an exchange is made of. All of it is plain data, so that a red one can be printed, shrunk and played again. */

export const CLIENTS = [
  'native fetch', 'native fetch, global', 'native fetch, installed', 'undici fetch', 'undici request', 'dispatch, new style', 'dispatch, old style',
] as const
export type Client = (typeof CLIENTS)[number]

export function isFetch (client: Client): boolean {
  return client.endsWith('fetch') || client.startsWith('native')
}

export function isDispatch (client: Client): boolean {
  return client.startsWith('dispatch')
}

/** Whether what the dispatcher says is written down: `install` puts the balancer itself where fetch looks. */
export function isTraced (client: Client): boolean {
  return client !== 'native fetch, installed'
}

/** How the balancer is set up, and how it is asked. */
export type Setting =
  | 'as the client sends it'
  /** The backend has an `apiKey`. */
  | 'own credential'
  /** The client sends to a URL that is made up. */
  | 'made-up url'

export interface Exchange {
  readonly client: Client
  readonly setting: Setting
  /** Of the Agent; none: the balancer makes its own. */
  readonly agent: Readonly<Record<string, unknown>> | undefined
  /** One after the other, over the same dispatcher. */
  readonly turns: readonly Turn[]
}

/** A request, what it is answered, and what the client does in between. */
export interface Turn {
  readonly method: string
  readonly path: string
  readonly query: Readonly<Record<string, string>> | undefined
  readonly headers: HeadersPlan
  readonly body: BodyPlan
  /** Others of the client's options: `reset`, `blocking`, `redirect` and the like. */
  readonly options: Readonly<Record<string, unknown>>
  readonly response: ResponsePlan
  readonly action: Action
  /** Which of undici's optional callbacks the handler of a `dispatch` has. */
  readonly optional: boolean
}

export interface HeadersPlan {
  readonly shape: 'object' | 'flat' | 'iterable' | 'Headers' | 'none'
  readonly pairs: readonly (readonly [name: string, value: string])[]
}

export interface BodyPlan {
  readonly kind:
    | 'none' | 'string' | 'Buffer' | 'Uint8Array' | 'DataView' | 'ArrayBuffer' | 'Blob' | 'FormData' | 'URLSearchParams'
    | 'Readable' | 'async iterable' | 'sync iterable' | 'web stream' | 'a number'
  readonly chunks: readonly string[]
  /** What the headers say of its length. */
  readonly announced: 'nothing' | 'its length' | 'one more' | 'one less'
  /** The last chunk comes only when the answer has begun. Streams alone. */
  readonly waits: boolean
  /** In place of the last chunk the source fails. Streams alone. */
  readonly fails: boolean
}

export function isStream ({ kind }: BodyPlan): boolean {
  return kind === 'Readable' || kind === 'async iterable' || kind === 'sync iterable' || kind === 'web stream'
}

export interface ResponsePlan {
  readonly interim: readonly ('100' | '102' | '103')[]
  readonly version: '1.1' | '1.0'
  readonly status: number
  readonly reason: 'usual' | 'none' | 'empty' | 'latin-1'
  /** Header lines as they go over the wire, latin-1, folded ones included. */
  readonly lines: readonly string[]
  /** Bytes of further headers. */
  readonly filler: number
  readonly framing: 'length' | 'chunked' | 'close'
  readonly extension: boolean
  readonly trailers: readonly string[]
  readonly body: string
  readonly coding: 'identity' | 'gzip' | 'deflate' | 'br'
  /** Into how many writes the body is cut, with turns of the event loop in between. */
  readonly pieces: number
  /** Where else it is cut, in bytes from its beginning, modulo its length: writes, and chunks of the chunked coding. */
  readonly cuts: readonly number[]
  /** Before the request's body has been read. */
  readonly early: boolean
  readonly fate: Fate
}

export const FATES = [
  'whole', 'fin in the body', 'reset in the body', 'fin instead', 'reset instead', 'fin in the head', 'no HTTP', 'a bad chunk', 'two lengths', 'too long for its length',
] as const
export type Fate = (typeof FATES)[number]

export type Action =
  | { readonly kind: 'none' }
  | { readonly kind: 'abort', readonly at: 'once' | 'request' | 'headers' | 'data' }
  /** Handlers of a `dispatch` alone. */
  | { readonly kind: 'throw' | 'pause' | 'abort inside', readonly at: 'start' | 'headers' | 'data' | 'end' }

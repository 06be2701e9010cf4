/** What is to be seen of an exchange that was played. */
import type { Trace } from './trace.js'
import type { Wire } from './wire-server.js'

export interface Played {
  /** One for each request of the client. */
  readonly turns: readonly PlayedTurn[]
  /** What the server got, one string a connection. */
  readonly wire: Wire
}

export interface PlayedTurn {
  /** What the dispatcher said to the handlers: more than one when fetch follows a redirect. */
  readonly traces: readonly Trace[]
  /** What the caller got in the end. */
  readonly result: unknown
  /** What became of the source of the request's body. */
  readonly source: readonly string[]
}

/** The credential of the backend where it has one. */
export const OWN_KEY = 'the-backends-own'

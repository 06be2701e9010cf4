/** What all looks into answers have in common: what they are fed with, what they ask for, and what they find. */
import type { AnswerError } from '../../core/types.js'

/** What a look has found. */
export type Verdict =
  /** Nothing but what status and headers say. */
  | { readonly kind: 'deliver' }
  /** What the answer says of itself; `value`: as the service gave it, for an answer of our own. */
  | { readonly kind: 'error'; readonly error: AnswerError | undefined; readonly isTooLarge: boolean; readonly value: unknown }
  /** It ended before anything was in it, or is broken. */
  | { readonly kind: 'failed'; readonly why: string }

export interface Look {
  /** Milliseconds from now on until `expire` is due; undefined: never. Asked anew after every chunk; a new wait begins where it has changed. */
  readonly waitMs: number | undefined
  /** A new wait begins also where this has changed: it may be as long as the one before. */
  readonly stage?: unknown
  /** A new wait begins with every chunk. */
  readonly restarts?: boolean
  /** Of streams, whose wait for output is that of the attempt. The service is at work: the time of the attempt (`attemptTimeoutMs`) is over, although nothing is delivered yet. */
  readonly isUnderWay?: boolean
  write(chunk: Buffer): Verdict | undefined
  /** The body has ended. */
  end(): Verdict
  expire(): Verdict
  /** Nothing is held any more. */
  dispose?(): void
}

export const DELIVER: Verdict = Object.freeze({ kind: 'deliver' })

/** What is said of a failure that the service has told without a reason. */
export const NO_REASON_GIVEN = 'The service says that it failed, and not why.'

export function describeSilence(idleMs: number): string {
  return `The stream was silent for streamIdleMs (${idleMs} ms).`
}

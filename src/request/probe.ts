/**
 * A request of the balancer's own, to find out whether a backend can be reached again: a `HEAD` of its base URL through the same
 * dispatcher, so that proxies and mocks see it like any other. It carries no credential, no body and no query, and any answer will do.
 */
import type { ProbeResult } from '../core/probes.js'
import type { BackendConfig } from '../core/types.js'
import { answerIn, isCallersFault, toError } from './failure.js'
import type { Controller, Inner, LegacyHandler, ModernHandler } from './undici.js'

/** A host that is there answers a `HEAD` at once; in milliseconds. */
const PROBE_TIMEOUT_MS = 10_000

/** @param done is called once, never before this returns. */
export function sendProbe(inner: Inner, { origin, basePath }: BackendConfig, done: (result: ProbeResult) => void): void {
  let isDone = false
  const finish = (result: ProbeResult): void => {
    if (isDone) return
    isDone = true
    queueMicrotask(() => { done(result) })
  }
  try {
    const options = { origin, path: basePath === '' ? '/' : basePath, method: 'HEAD', headersTimeout: PROBE_TIMEOUT_MS, bodyTimeout: PROBE_TIMEOUT_MS } as const
    inner.dispatch(options, new ProbeHandler(finish))
  } catch (error) {
    finish(resultOf(error))
  }
}

function resultOf(thrown: unknown): ProbeResult {
  const error = toError(thrown)
  if (answerIn(error) !== undefined) return 'reached'
  return isCallersFault(error) ? 'refused' : 'failed'
}

/** Of both styles, for a dispatcher of any version. */
class ProbeHandler implements LegacyHandler, ModernHandler {
  readonly #finish: (result: ProbeResult) => void

  constructor(finish: (result: ProbeResult) => void) {
    this.#finish = finish
  }

  onRequestStart(): void {}
  onResponseData(): void {}
  onConnect(): void {}
  // Never called, since no upgrade is asked for, and yet looked for by some versions of undici.
  onRequestUpgrade(): void {}
  onUpgrade(): void {}

  onResponseStart(): void {
    this.#finish('reached')
  }

  onResponseEnd(): void {}

  onResponseError(_controller: Controller, error: Error): void {
    this.#finish(resultOf(error))
  }

  onHeaders(): boolean {
    this.#finish('reached')
    return true
  }

  onData(): boolean {
    return true
  }

  onComplete(): void {}

  onError(error: Error): void {
    this.#finish(resultOf(error))
  }
}

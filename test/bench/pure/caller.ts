/** The caller's end: handlers that do nothing but count. */
import type { Dispatcher } from 'undici'
import { PEER_TAKES_LEGACY_HANDLERS, type LegacyHandler, type ModernHandler, type ParsedHeaders } from '../../../src/request/undici.js'

export interface Caller {
  readonly handler: Dispatcher.DispatchHandler
  /** Requests that have ended with a 200. */
  ended: number
  /** Called at each end. */
  onEnd: () => void
}

/** In the style of the undici that is the peer: what its own fetch and `request` hand over. */
export function createCaller(): Caller {
  const caller = PEER_TAKES_LEGACY_HANDLERS ? new LegacyCaller() : new ModernCaller()
  return caller
}

class LegacyCaller implements Caller, LegacyHandler {
  readonly handler = this as unknown as Dispatcher.DispatchHandler
  ended = 0
  status = 0
  onEnd = (): void => {}

  onConnect(): void {}

  onResponseStarted(): void {}

  onHeaders(status: number): boolean {
    this.status = status
    return true
  }

  onData(): boolean {
    return true
  }

  onComplete(): void {
    if (this.status === 200) this.ended++
    this.onEnd()
  }

  onError(error: Error): void {
    throw error
  }
}

class ModernCaller implements Caller, ModernHandler {
  readonly handler = this as unknown as Dispatcher.DispatchHandler
  ended = 0
  status = 0
  onEnd = (): void => {}

  onRequestStart(): void {}

  onResponseStarted(): void {}

  onResponseStart(_controller: unknown, status: number, _headers: ParsedHeaders): void {
    this.status = status
  }

  onResponseData(): void {}

  onResponseEnd(): void {
    if (this.status === 200) this.ended++
    this.onEnd()
  }

  onResponseError(_controller: unknown, error: Error): void {
    throw error
  }
}

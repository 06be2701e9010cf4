import type { EventEmitter } from 'node:events'

/**
 * npm, its shell and the terminal may each pass the same keypress on. Nobody presses Ctrl-C twice within this time.
 */
const SAME_KEYPRESS_MS = 300

/** Aborts at the first Ctrl-C, so that the demo can tidy up, and calls `exit` at the second. */
export function watchInterruption(signals: EventEmitter, now: () => number, exit: () => void): AbortSignal {
  const interruption = new AbortController()
  let firstAt = 0
  signals.on('SIGINT', () => {
    if (interruption.signal.aborted) {
      if (now() - firstAt > SAME_KEYPRESS_MS) exit()
      return
    }
    firstAt = now()
    interruption.abort()
  })
  return interruption.signal
}

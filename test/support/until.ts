import { setImmediate as turn } from 'node:timers/promises'

/**
 * Waits until `condition` gives something truthy, looking once per turn of the event loop, and returns it.
 * For what only a socket or another process can tell. Rejects after `withinMs` (5 s), naming `what`.
 */
export async function until<T> (condition: () => T | Promise<T>, what = 'the condition', withinMs = 5_000): Promise<NonNullable<T>> {
  const began = performance.now()
  for (;;) {
    const value = await condition()
    if (value) return value
    if (performance.now() - began > withinMs) throw new Error(`${what}: not within ${withinMs} ms`)
    await turn()
  }
}

/** Lets the event loop turn `times` over: for showing that something does NOT happen in the meantime. */
export async function turns (times = 20): Promise<void> {
  for (let i = 0; i < times; i++) await turn()
}

/** `promise`, or an error that names `what` after `ms`. The timer keeps nothing alive once the promise has settled. */
export async function within<T> (promise: Promise<T>, what: string, ms = 10_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => { reject(new Error(`${what}: not within ${ms} ms`)) }, ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

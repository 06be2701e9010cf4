import { until } from './until.js'

/** How many of each kind of resource keep the process alive now. Pipes and files belong to the test runner, not to what is tested. */
export function openHandles (): ReadonlyMap<string, number> {
  const counts = new Map<string, number>()
  for (const name of process.getActiveResourcesInfo()) {
    if (/^(TCP|TLS|UDP|HTTP|Http|Timeout|Immediate|GetAddrInfo|ChildProcess|ProcessWrap|Worker|MessagePort)/.test(name)) counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  return counts
}

/**
 * Asserts that nothing which was not open at `before` keeps the process alive, once the sockets that are closing have closed:
 *
 *     const before = openHandles()
 *     ...
 *     await assertNothingLeftOpen(before)
 *
 * An idle keep-alive socket and an unref'd timer do not count; a backend's `connections.open` tells of the former.
 */
export async function assertNothingLeftOpen (before: ReadonlyMap<string, number>, withinMs = 2_000): Promise<void> {
  const left = (): string => [...openHandles()]
    .map(([name, count]) => ({ name, count: count - (before.get(name) ?? 0) }))
    // The immediate on which `until` comes back.
    .filter(({ name, count }) => count > (name === 'Immediate' ? 1 : 0))
    .map(({ name, count }) => `${count} ${name}`)
    .join(', ')
  try {
    await until(() => left() === '', 'nothing left open', withinMs)
  } catch {
    const rest = left()
    if (rest !== '') throw new Error(`still open: ${rest}`)
  }
}

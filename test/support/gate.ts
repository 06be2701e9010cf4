/** A promise that the test settles itself: what a sleep is for in other suites. */
export interface Gate<T = void> {
  readonly promise: Promise<T>
  /** True once `open` or `fail` was called. */
  readonly settled: boolean
  open(value: T): void
  fail(reason: unknown): void
}

/** A gate whose failure nobody waits for is no unhandled rejection; whoever awaits `promise` still sees it. */
export function gate<T = void> (): Gate<T> {
  let settled = false
  let resolve!: (value: T) => void
  let reject!: (reason: unknown) => void
  const promise = new Promise<T>((...settle) => { [resolve, reject] = settle })
  promise.catch(() => {})
  return {
    promise,
    get settled () { return settled },
    open (value) { settled = true; resolve(value) },
    fail (reason) { settled = true; reject(reason) },
  }
}

/** Measures one subject. A process of its own, so that no other one's calls are in the way of the compiler. */
import { answerCalls } from '../support/child.js'
import { createCaller } from './caller.js'
import { createNullDispatcher } from './null-dispatcher.js'
import { SUBJECTS, type Subject, type SubjectName } from './subjects.js'

/** The young generation has room for it: no collection comes in between. See `NODE_OPTIONS` in part.ts. */
const BATCH_BYTES = 32 * 2 ** 20

const caller = createCaller()
const { handler } = caller
let run: (count: number) => Promise<number>

const calls = {
  /** @param ms how long to run before anything counts. */
  async start({ name, ms }: { name: SubjectName; ms: number }): Promise<void> {
    run = prepare(SUBJECTS[name])
    for (const until = performance.now() + ms; performance.now() < until;) await run(1_000)
  },

  /** @returns nanoseconds for each dispatch. */
  async time(count: number): Promise<number> {
    return await run(count) * 1e6 / count
  },

  /** @returns bytes on the heap for each dispatch. */
  async weigh(count: number): Promise<number> {
    const first = await measureHeap(Math.min(count, 1_000))
    return measureHeap(Math.max(1, Math.min(count, Math.floor(BATCH_BYTES / Math.max(first, 1)))))
  },
}

export type PureCalls = typeof calls

/** A function that dispatches so many times, and checks that all were answered. Milliseconds. */
function prepare({ make, answer, request, makeBody }: Subject): typeof run {
  const dispatcher = make(createNullDispatcher(answer))
  if (makeBody === undefined) {
    return (count) => {
      const { ended } = caller
      const began = performance.now()
      for (let i = 0; i < count; i++) dispatcher.dispatch(request as never, handler)
      const took = performance.now() - began
      check(caller.ended - ended, count)
      return Promise.resolve(took)
    }
  }
  return async (count) => {
    const { ended } = caller
    const began = performance.now()
    for (let i = 0; i < count; i++) {
      await new Promise<void>((resolve) => {
        caller.onEnd = resolve
        dispatcher.dispatch({ ...request, body: makeBody() } as never, handler)
      })
    }
    const took = performance.now() - began
    check(caller.ended - ended, count)
    return took
  }
}

async function measureHeap(count: number): Promise<number> {
  globalThis.gc?.()
  const before = process.memoryUsage().heapUsed
  await run(count)
  return (process.memoryUsage().heapUsed - before) / count
}

function check(ended: number, count: number): void {
  if (ended !== count) throw new Error(`${ended} of ${count} requests were answered with 200`)
}

answerCalls(calls)

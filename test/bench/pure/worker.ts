/** Measures one subject. A process of its own, so that no other one's calls are in the way of the compiler. */
import { answerCalls } from '../support/child.js'
import { median } from '../support/statistics.js'
import { createCaller } from './caller.js'
import { createNullDispatcher } from './null-dispatcher.js'
import { SUBJECTS, type Subject, type SubjectName } from './subjects.js'

/** So many measurements of memory, of which a collection falls into a few at most: see `NODE_OPTIONS` in part.ts. */
const WEIGHTS = 9

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
    const weights: number[] = []
    while (weights.length < WEIGHTS) weights.push(await measureHeap(Math.ceil(count / WEIGHTS)))
    return median(weights)
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

/** No collection is forced: it would throw away compiled code as well, where no object that it was made for is alive, and weigh the slow start. */
async function measureHeap(count: number): Promise<number> {
  const before = process.memoryUsage().heapUsed
  await run(count)
  return (process.memoryUsage().heapUsed - before) / count
}

function check(ended: number, count: number): void {
  if (ended !== count) throw new Error(`${ended} of ${count} requests were answered with 200`)
}

answerCalls(calls)

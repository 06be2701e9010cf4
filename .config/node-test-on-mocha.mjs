/**
 * The part of node:test that the tests use, on mocha's globals. Stryker can run mocha's tests one by one and again for every
 * mutant within one process, which takes milliseconds; of node:test it needs a process for each file and mutant.
 */
import { registerHooks } from 'node:module'

const { mock: { constructor: MockTracker } } = process.getBuiltinModule('node:test')
const self = import.meta.url

/** A test whose promise is never settled has failed; waiting for Stryker's own timeout would cost a new process each time. */
const HANGS_AFTER_MS = 5_000

registerHooks({
  resolve: (specifier, context, next) => (specifier === 'node:test' ? { url: self, format: 'module', shortCircuit: true } : next(specifier, context)),
})

export function describe (name, body) {
  globalThis.describe(name, body)
}

export function test (name, ...rest) {
  const body = rest.at(-1)
  globalThis.it(name, async () => {
    const mock = new MockTracker()
    const afters = []
    let timer
    const hanging = new Promise((_, reject) => {
      timer = setTimeout(() => { reject(new Error(`hangs for ${HANGS_AFTER_MS} ms`)) }, HANGS_AFTER_MS)
    })
    try {
      await Promise.race([body({ name, mock, after: (callback) => { afters.push(callback) } }), hanging])
    } finally {
      clearTimeout(timer)
      mock.restoreAll()
      for (const after of afters) await after()
    }
  })
}

// Importing must not do anything to the process.
import assert from 'node:assert/strict'

const slots = () => [1, 2].map((number) => globalThis[Symbol.for(`undici.globalDispatcher.${number}`)])
await import('undici')
const before = slots()
await import('openai-priority-loadbalancer')
assert.deepEqual(slots().map((slot, i) => slot === before[i]), [true, true])
assert.deepEqual(process.getActiveResourcesInfo().filter((name) => /TCP|Timeout/.test(name)), [])
console.log('quiet')

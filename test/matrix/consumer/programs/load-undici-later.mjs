// Installs first and loads other copies of undici afterwards: each of them looks at the global dispatcher when it is loaded.
import assert from 'node:assert/strict'
import { install } from 'openai-priority-loadbalancer'
import { nodeIs } from '../versions.mjs'

const balancer = install({ backends: [{ url: 'https://east.example/openai/v1', priority: 1 }], logger: false })
const slots = () => [1, 2].map((number) => globalThis[Symbol.for(`undici.globalDispatcher.${number}`)])
assert.deepEqual(slots().map((slot) => slot === balancer), [true, true])
for (const major of [6, 7, 8]) {
  if (major === 8 && !nodeIs('22.19.0')) continue
  await import(`undici-${major}`)
  assert.deepEqual(slots().map((slot) => slot === balancer), [true, true], `undici ${major}`)
}
await balancer.uninstall()

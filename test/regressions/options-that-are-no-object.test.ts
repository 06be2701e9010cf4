/** Seen: `priorityInterceptor(undefined)` and `update(undefined)` threw a TypeError of JavaScript's, not an InvalidOptionsError. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { PriorityBalancer } from '../../src/balancer.js'
import { InvalidOptionsError } from '../../src/errors.js'
import { install } from '../../src/install.js'
import { priorityInterceptor } from '../../src/interceptor.js'

const SLOTS = [Symbol.for('undici.globalDispatcher.1'), Symbol.for('undici.globalDispatcher.2')] as const
const readSlots = (): unknown[] => SLOTS.map((slot) => (globalThis as Record<symbol, unknown>)[slot])

const options = { backends: [{ url: 'https://east.example', priority: 1 }], logger: false as const }

const values: readonly [name: string, value: unknown, received: string][] = [
  ['nothing', undefined, 'undefined'],
  ['null', null, 'null'],
  ['a string', 'https://east.example', 'a string'],
  ['an array', [options.backends[0]], 'an array'],
  ['a number', 7, 'a number'],
  ['a function', () => options, 'a function'],
]

for (const [name, value, received] of values) {
  const isRefusal = (error: unknown): boolean => {
    assert.ok(error instanceof InvalidOptionsError, String(error))
    assert.equal(error.message, `options must be an object. Received: ${received}.`)
    return true
  }
  describe(`${name} instead of options`, () => {
    test('is refused by install, and nothing is installed', () => {
      const before = readSlots()
      assert.throws(() => install(value as never), isRefusal)
      readSlots().forEach((slot, i) => { assert.equal(slot, before[i]) })
    })

    test('is refused by PriorityBalancer', () => {
      assert.throws(() => new PriorityBalancer(value as never), isRefusal)
    })

    test('is refused by priorityInterceptor', () => {
      assert.throws(() => priorityInterceptor(value as never), isRefusal)
    })

    test('is refused by update, and nothing changes', () => {
      for (const target of [new PriorityBalancer(options), priorityInterceptor(options)]) {
        const before = target.status()
        assert.throws(() => { target.update(value as never) }, isRefusal)
        assert.deepEqual(target.status(), before)
      }
    })

    test('is refused by update of an installed balancer, which goes on', async () => {
      const balancer = install(options)
      try {
        assert.throws(() => { balancer.update(value as never) }, isRefusal)
        assert.deepEqual(readSlots(), [balancer, balancer])
        assert.deepEqual(balancer.intercept, ['https://east.example'])
      } finally {
        await balancer.uninstall()
      }
    })
  })
}

test('an empty object is no change, but no balancer either', () => {
  const balancer = new PriorityBalancer(options)
  balancer.update({})
  assert.equal(balancer.status().backends[0]?.name, 'east.example')
  assert.throws(() => priorityInterceptor({} as never), (error) => error instanceof InvalidOptionsError && error.option === 'backends')
})

test('an interceptor refuses a dispatcher, which has no place there', () => {
  assert.throws(() => priorityInterceptor({ ...options, dispatcher: new PriorityBalancer(options) } as never), (error) => error instanceof InvalidOptionsError && error.option === 'dispatcher' && /composed with/.test(error.rule))
})

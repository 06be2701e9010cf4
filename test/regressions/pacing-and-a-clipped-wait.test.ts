/**
 * Seen: pacing learned from a wait after `maxCooldownMs` had shortened it. The same answers left a backend alone for 3,701 ms with
 * `maxCooldownMs: 60_000`, and for 1,163 ms with 1,000. `maxCooldownMs` bounds how long is obeyed, not what is learned.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Scene } from '../support/scene.js'

type Headers = Record<string, string>

/** Requests in a row, a tenth of a second apart, and what each is answered. @returns what was learned of east, long after all cooldowns. */
function learn (maxCooldownMs: number, answers: readonly (readonly [status: number, headers: Headers])[]): unknown {
  const it = new Scene('new', 'old', { maxCooldownMs })
  it.system.random = () => 0
  for (const [status, headers] of answers) {
    const before = it.inner.calls.length
    it.send({ path: '/openai/deployments/gpt-4o/x', body: 'x'.repeat(400) })
    for (const call of it.inner.calls.slice(before)) call.start().respond(status, headers).end()
    // West has its part in each request that east did not take.
    for (const call of it.inner.calls.slice(before + 1)) call.start().respond(200).end()
    it.system.advance(100)
  }
  it.system.advance(1_500)
  return it.backend('east').scopes.map(({ pace }) => pace)
}

const good: readonly (readonly [number, Headers])[] = Array.from({ length: 20 }, () => [200, {}] as const)

const refusals: readonly [name: string, answers: readonly (readonly [number, Headers])[]][] = [
  ['in milliseconds', [...good, [429, { 'retry-after-ms': '3700' }]]],
  ['in seconds', [...good, [429, { 'retry-after': '8' }]]],
  ['as a reset of requests', [...good, [429, { 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '9s' }]]],
  ['as a reset of tokens', [...good, [429, { 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '50s' }]]],
  ['beside a provisioned deployment\'s utilization', [[200, { 'azure-openai-deployment-utilization': '90%' }], ...good, [429, { 'azure-openai-deployment-utilization': '130%', 'retry-after-ms': '4000' }]]],
]

describe('what is learned of a limit is the same whatever maxCooldownMs is, where the wait is told', () => {
  for (const [name, answers] of refusals) {
    test(name, () => {
      const learned = learn(60_000, answers)
      assert.deepEqual(learn(1_000, answers), learned)
      assert.deepEqual(learn(1, answers), learned)
      assert.notDeepEqual(learned, [[]], 'something was learned')
    })
  }

  test('and is something else where something else was told', () => {
    assert.notDeepEqual(learn(60_000, [...good, [429, { 'retry-after-ms': '900' }]]), learn(60_000, [...good, [429, { 'retry-after-ms': '9000' }]]))
  })
})

test('maxCooldownMs does bound how long is obeyed', () => {
  const it = new Scene('new', 'old', { maxCooldownMs: 1_000, pacing: false })
  it.send({ path: '/openai/deployments/gpt-4o/x' })
  it.inner.last.start().respond(429, { 'retry-after': '8' }).end()
  assert.equal(it.backend('east').scopes[0]?.cooldownMs, 1_000)
})

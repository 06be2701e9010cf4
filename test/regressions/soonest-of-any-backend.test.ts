/**
 * Seen: one backend had said 429 with `retry-after: 60`, the other one was out for a millisecond after a single reset. The next
 * caller was told to come back in 60,627 ms, and with `maxWaitMs: 10_000` was refused at once instead of held for that
 * millisecond: only those that were throttled counted.
 */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { RateLimitError } from 'openai'
import type { BackendOptions, BalancerOptions } from '../../src/options/index.js'
import { answers, assertIsA, failure, says, startEastAndWest, type Answer, type EastAndWest } from '../support/east-and-west.js'
import { chat } from '../support/openai-clients.js'
import { until } from '../support/until.js'

const MINUTE_MS = 60_000

/** A place in line is known to 5 ms, up to 20 are added by chance, and milliseconds are rounded up. */
const TOLERANCE_MS = 26

const resets: Answer = (call) => { call.reset() }
const full: Answer = answers(429, { 'retry-after': '60' })

/** East, which is asked first, and west answer like this until both are out. */
async function start (t: TestContext, east: Answer, west: Answer, options: Partial<BalancerOptions> = {}, ofEach: [Partial<BackendOptions>, Partial<BackendOptions>] = [{}, {}]): Promise<EastAndWest> {
  const world = await startEastAndWest(t, options, ofEach)
  world.east.always(east)
  world.west.always(west)
  return world
}

/** For how long each is out, as a whole or with the one model that is asked for. */
const outMs = ({ status }: EastAndWest): number[] => status().map(({ cooldownMs, scopes }) => Math.max(cooldownMs, ...scopes.map((scope) => scope.cooldownMs)))

/** Asks until both backends are out; what the last caller was told, in milliseconds. */
async function askUntilOut (world: EastAndWest): Promise<number> {
  for (let asked = 0; asked < 4; asked++) {
    const error = await failure(chat(world.client))
    if (outMs(world).some((ms) => ms <= 0)) continue
    assertIsA(error, RateLimitError)
    return Number(error.headers.get('retry-after-ms'))
  }
  return assert.fail('one of the backends is not out')
}

const cases: readonly [name: string, east: Answer, west: Answer, soonest: 0 | 1][] = [
  ['was reset once', full, resets, 1],
  ['was reset once, and goes first', resets, full, 0],
  ['failed twice in a row', full, answers(503), 1],
  ['is throttled for less', answers(429, { 'retry-after-ms': '59000' }), answers(429, { 'retry-after-ms': '700' }), 1],
]

describe('a caller that is sent away is told when the first of all backends may be asked again', () => {
  for (const [name, east, west, soonest] of cases) {
    test(`also where that one ${name}`, async (t) => {
      const world = await start(t, east, west)
      const toldMs = await askUntilOut(world)
      const soonestMs = Math.min(...outMs(world))
      assert.equal(outMs(world).indexOf(soonestMs), soonest)
      assert.ok(soonestMs < 1_000)
      // Those that were told before have the places before this one, 100 ms apart.
      assert.ok(toldMs >= soonestMs && toldMs <= soonestMs + TOLERANCE_MS + 300, `${toldMs} ms, the soonest is in ${soonestMs}`)
    })
  }

  test('also where that one has refused its own key, which keeps it out for a minute', async (t) => {
    const world = await start(t, answers(429, { 'retry-after': '600' }), answers(401), { maxCooldownMs: 600_000 }, [{ apiKey: 'east' }, { apiKey: 'west' }])
    await failure(chat(world.client))
    assert.deepEqual(outMs(world), [600_000, MINUTE_MS])
    const error = await failure(chat(world.client))
    assertIsA(error, RateLimitError)
    const toldMs = Number(error.headers.get('retry-after-ms'))
    assert.ok(toldMs >= MINUTE_MS && toldMs <= MINUTE_MS + TOLERANCE_MS, `${toldMs} ms`)
  })
})

describe('a caller that can wait is held until then', () => {
  for (const [name, east, west, soonest] of cases) {
    test(`also where that one ${name}`, async (t) => {
      const world = await start(t, east, west, { maxWaitMs: 10_000 })
      const { balancer, client } = world
      const held = [chat(client), chat(client)]
      await until(() => balancer.status().waiting === held.length)
      for (const backend of [world.east, world.west]) backend.always(says('back'))
      let isOver = false
      const all = Promise.all(held).finally(() => { isOver = true })
      const startedAt = balancer.system.now()
      while (!isOver) {
        balancer.system.advance(10)
        await new Promise(setImmediate)
        if (balancer.system.now() - startedAt > 10_000) break
      }
      assert.deepEqual(await all, ['back', 'back'])
      const { served, longestMs } = balancer.status().waits
      assert.ok(served >= held.length && longestMs < 5_000, `${longestMs} ms`)
      assert.ok((soonest === 0 ? world.east : world.west).calls.length >= 2)
    })
  }

  test('and refused at once where all are out for longer than it can wait', async (t) => {
    const world = await start(t, full, answers(429, { 'retry-after': '11' }), { maxWaitMs: 10_000 })
    const error = await failure(chat(world.client))
    assertIsA(error, RateLimitError)
    assert.ok(Number(error.headers.get('retry-after-ms')) >= 11_000)
    assert.equal(world.balancer.status().waiting, 0)
  })
})

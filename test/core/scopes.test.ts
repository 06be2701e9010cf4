import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Lanes } from '../../src/core/scopes.js'
import { Roster } from '../../src/core/tiers.js'
import type { BackendConfig } from '../../src/core/types.js'
import { backend, poolConfig, TestRequest } from '../support/pool-kit.js'

const MINUTE = 60_000

function lanesOf(...backends: BackendConfig[]) {
  const roster = new Roster(poolConfig(backends), [])
  const lanes = new Lanes(roster.backends, () => undefined, 0)
  const [first] = roster.backends
  if (first === undefined) assert.fail()
  const use = (scope: string, now: number) => lanes.stateOn(first, lanes.of(scope, now), now)
  return { roster, lanes, first, use }
}

describe('lanes', () => {
  test('one lane belongs to one scope, however often the scopes alternate', () => {
    const { lanes } = lanesOf(backend('a'))
    const [x, y] = [lanes.of('x', 0), lanes.of('y', 0)]
    assert.notEqual(x, y)
    for (let i = 0; i < 3; i++) {
      assert.equal(lanes.of('x', 1), x)
      assert.equal(lanes.of('y', 1), y)
    }
    assert.equal(lanes.of('', 2).scope, '')
  })

  test('a scope that is used again within ten minutes is still known, a moment later it is forgotten', () => {
    const { lanes, first, use } = lanesOf(backend('a'))
    const [kept, gone] = [use('kept', MINUTE), use('gone', MINUTE - 1)]
    const [goneLane, keptLane] = [lanes.of('gone', MINUTE - 1), lanes.of('kept', MINUTE)]
    // Whoever was asked for last is kept anyway.
    lanes.of('', MINUTE)
    use('other', 11 * MINUTE)
    assert.deepEqual([...first.scopes.keys()], ['kept', 'other'])
    assert.equal(use('kept', 11 * MINUTE), kept)
    assert.equal(lanes.of('kept', 11 * MINUTE), keptLane)
    assert.notEqual(use('gone', 11 * MINUTE), gone)
    assert.notEqual(lanes.of('gone', 11 * MINUTE), goneLane)
  })

  test('where a backend renames some scopes, the others keep a state of their own', () => {
    const { first, use, lanes } = lanesOf(backend('a', 1, { models: { x: 'shared', y: 'shared' } }))
    const [x, y, z] = [lanes.of('x', 0), lanes.of('y', 0), lanes.of('z', 0)]
    const shared = use('x', 0)
    assert.deepEqual([x.states[0], y.states[0], z.states[0]], [shared, shared, undefined])
    assert.notEqual(use('z', 0), shared)
    assert.deepEqual([...first.scopes.keys()], ['shared', 'z'])
  })

  test('a lane that is used all the time lets go of a backend\'s state that is not', () => {
    const { roster, lanes, use } = lanesOf(backend('a', 1), backend('b', 2))
    const [, second] = roster.backends
    if (second === undefined) assert.fail()
    const lane = lanes.of('x', 0)
    const old = lanes.stateOn(second, lane, 0)
    for (let minute = 0; minute <= 12; minute++) use('x', minute * MINUTE)
    assert.equal(lane.states[0], use('x', 12 * MINUTE))
    assert.equal(lane.states[1], undefined)
    assert.notEqual(lanes.stateOn(second, lane, 12 * MINUTE), old)
  })

  test('nobody who waits loses the lane', () => {
    const { lanes, use } = lanesOf(backend('a'))
    const lane = lanes.of('x', 0)
    lane.queue.push(new TestRequest(), 1e9, 0, 0)
    use('y', 20 * MINUTE)
    use('y', 40 * MINUTE)
    assert.equal(lanes.of('x', 40 * MINUTE), lane)
  })

  test('a state that is in use or cooling down outlives its ten minutes', () => {
    const { first, use } = lanesOf(backend('a'))
    use('streaming', 0).inFlight = 1
    use('cooling', 0).cooldownUntil = 30 * MINUTE
    use('cooled', 0).cooldownUntil = 29 * MINUTE
    use('other', 29 * MINUTE)
    assert.deepEqual([...first.scopes.keys()], ['streaming', 'cooling', 'other'])
  })

  test('they are swept once a minute, not with every request', () => {
    const { first, use } = lanesOf(backend('a'))
    use('old', 0)
    use('x', 10 * MINUTE + 1)
    assert.deepEqual([...first.scopes.keys()], ['x'])
    use('short', 10 * MINUTE + 2)
    const short = first.scopes.get('short')
    if (short === undefined) assert.fail()
    short.usedAt = -MINUTE
    use('x', 11 * MINUTE)
    assert.ok(first.scopes.has('short'))
    use('x', 11 * MINUTE + 1)
    assert.ok(!first.scopes.has('short'))
  })

  test('the scope that is being asked for is not forgotten under the hands of who asks', () => {
    const { lanes, use } = lanesOf(backend('a'))
    use('x', 0)
    const lane = lanes.of('x', 20 * MINUTE)
    assert.equal(lanes.of('x', 20 * MINUTE + 1), lane)
    use('y', 20 * MINUTE + 2)
    assert.equal(lanes.of('x', 20 * MINUTE + 3), lane)
  })
})

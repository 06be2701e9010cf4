import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Lanes } from '../../src/core/scopes.js'
import { LatencyGuard } from '../../src/core/latency.js'
import type { Pacer } from '../../src/core/pacing/pacer.js'
import { Picker } from '../../src/core/pick.js'
import { Roster } from '../../src/core/tiers.js'
import type { BackendConfig } from '../../src/core/types.js'
import { backend, poolConfig, TestRequest } from '../support/pool-kit.js'
import { VirtualSystem } from '../support/virtual-system.js'

/** A limit under the test's thumb. */
class ScriptedPacer implements Pacer {
  wait = 0
  room = 1
  asked = 0

  waitMs(): number {
    this.asked++
    return this.wait
  }
  headroom(): number {
    return this.room
  }
  sent(): void {}
  observe(): void {}
  finished(): void {}
  pace(): [] {
    return []
  }
}

/** Backends whose pace the test sets, and a picker among them. */
function bench(backends: readonly BackendConfig[]) {
  const system = new VirtualSystem(9)
  const ledger = { changes: 0 }
  const roster = new Roster(poolConfig(backends), [])
  const pacers: ScriptedPacer[] = []
  const lanes = new Lanes(roster.backends, () => {
    const pacer = new ScriptedPacer()
    pacers.push(pacer)
    return pacer
  }, 0)
  const lane = lanes.of('m', 0)
  for (const one of roster.backends) lanes.stateOn(one, lane, 0)
  const picker = new Picker<BackendConfig>(ledger, system)
  const pick = (request = new TestRequest()) => picker.pick(roster, lane, request, 0)
  const count = (times: number): Record<string, number> => {
    const counts: Record<string, number> = {}
    for (let i = 0; i < times; i++) {
      const found = pick()
      const name = found.kind === 'backend' ? found.config.name : 'nobody'
      counts[name] = (counts[name] ?? 0) + 1
    }
    return counts
  }
  const pacer = (name: string): ScriptedPacer => {
    const found = pacers[roster.backends.findIndex(({ config }) => config.name === name)]
    return found ?? assert.fail(`no backend ${name}`)
  }
  return { system, roster, lane, lanes, ledger, picker, pick, count, pacer }
}

function assertShares(counts: Record<string, number>, shares: Record<string, number>): void {
  const times = Object.values(counts).reduce((sum, count) => sum + count, 0)
  const total = Object.values(shares).reduce((sum, share) => sum + share, 0)
  for (const [name, share] of Object.entries(shares)) {
    const expected = share / total
    const deviation = Math.abs((counts[name] ?? 0) / times - expected)
    assert.ok(deviation <= 4 * Math.sqrt(expected * (1 - expected) / times), `${name}: ${counts[name]} of ${times}, expected ${expected * times}`)
  }
}

describe('pace in a pick', () => {
  test('while nobody is short weights hold', () => {
    const { count } = bench([backend('a', 1, { weight: 3 }), backend('b')])
    assertShares(count(50_000), { a: 3, b: 1 })
  })

  test('among equals shares follow weight and headroom', () => {
    const { count, pacer } = bench([backend('a', 1, { weight: 3 }), backend('b'), backend('c')])
    pacer('a').room = 0.2
    pacer('b').room = 0.5
    assertShares(count(50_000), { a: 0.6, b: 0.5, c: 1 })
  })

  test('at the edge of their limits weights decide again', () => {
    const { count, pacer } = bench([backend('a', 1, { weight: 3 }), backend('b')])
    pacer('a').room = 0
    pacer('b').room = 0
    assertShares(count(50_000), { a: 3, b: 1 })
  })

  test('one that is expected to refuse is not asked, and the others keep their shares', () => {
    const { count, pacer } = bench([backend('a'), backend('b', 1, { weight: 2 }), backend('c')])
    pacer('a').wait = 5
    assertShares(count(50_000), { a: 0, b: 2, c: 1 })
  })

  test('the next priority gets what the higher one has no room for, and not before', () => {
    const { count, pacer } = bench([backend('a', 1), backend('b', 1), backend('c', 2)])
    pacer('a').wait = 5
    pacer('b').room = 0
    assert.deepEqual(count(1_000), { b: 1_000 })
    pacer('b').wait = 1
    assert.deepEqual(count(1_000), { c: 1_000 })
    pacer('a').wait = 0
    assert.deepEqual(count(1_000), { a: 1_000 })
  })

  test('a shortage tells the soonest of all', () => {
    const { pick, pacer } = bench([backend('a', 1), backend('b', 1), backend('c', 2)])
    for (const [name, wait] of [['a', 50], ['b', 20], ['c', 30]] as const) pacer(name).wait = wait
    assert.deepEqual({ ...pick() }, { kind: 'shortage', throttledMs: 20, changeMs: 20 })
  })

  test('one alone in its tier is asked once, and chance is not, whatever its headroom', () => {
    const { count, pacer, system } = bench([backend('a', 1), backend('b', 2)])
    pacer('a').room = 0.1
    const draws = system.draws
    assert.deepEqual(count(100), { a: 100 })
    assert.deepEqual([pacer('a').asked, pacer('b').asked, system.draws - draws], [100, 0, 0])
  })

  test('chance is asked once where nobody is short', () => {
    const { count, system } = bench([backend('a'), backend('b')])
    const draws = system.draws
    count(100)
    assert.equal(system.draws - draws, 100)
  })

  test('a backend that the request has tried is not its choice, however much room it has', () => {
    const { pick, roster } = bench([backend('a', 1), backend('b', 2)])
    const request = new TestRequest()
    const name = () => {
      const found = pick(request)
      return found.kind === 'backend' ? found.config.name : found
    }
    const [a, b] = roster.backends
    request.tried = [{ target: a, outcome: 'failed' }]
    assert.equal(name(), 'b')
    request.tried.push({ target: b, outcome: 'throttled' })
    assert.deepEqual(name(), { kind: 'shortage', throttledMs: 1, changeMs: 1 })
  })

  test('of a hundred equals only a few are asked, and then those who have room are found', () => {
    const { count, pick, pacer } = bench(Array.from({ length: 100 }, (_, i) => backend(`b${i}`)))
    const asked = (): number => Array.from({ length: 100 }, (_, i) => pacer(`b${i}`).asked).reduce((sum, one) => sum + one)
    count(1_000)
    assert.equal(asked(), 1_000)
    for (let i = 0; i < 100; i++) if (i !== 42) pacer(`b${i}`).wait = 5
    assert.deepEqual(count(100), { b42: 100 })
    assert.equal(pick().kind, 'backend')
  })
})

describe('nobody is in order', () => {
  const out = (bench: ReturnType<typeof benchOfThree>, name: string, at = 0): void => {
    const found = bench.roster.backends.find(({ config }) => config.name === name) ?? assert.fail()
    found.feed('unreachable', false, at, () => 0.5)
    bench.ledger.changes++
  }
  const benchOfThree = () => bench([backend('a', 1), backend('b', 2), backend('c', 3)])

  test('a backend that is being probed says nothing of when that will be over', () => {
    const it = benchOfThree()
    const [a] = it.roster.backends
    out(it, 'a')
    a?.feed('probe', false, 250, () => 0.5)
    assert.equal(a?.health.kind, 'probing')
    for (const name of ['b', 'c']) it.pacer(name).wait = 40
    assert.deepEqual({ ...it.picker.pick(it.roster, it.lane, new TestRequest(), 250) }, { kind: 'shortage', throttledMs: 40, changeMs: 40 })
  })

  test('a request is not sent once more to any of those that it has tried', () => {
    const it = benchOfThree()
    for (const name of ['a', 'b', 'c']) out(it, name)
    const request = new TestRequest()
    const [a, b, c] = it.roster.backends
    request.tried = [{ target: a, outcome: 'failed' }, { target: b, outcome: 'failed' }]
    assert.equal(it.pick(request), c)
    request.tried.push({ target: c, outcome: 'failed' })
    assert.deepEqual({ ...it.pick(request) }, { kind: 'shortage', throttledMs: Infinity, changeMs: 250 })
  })
})

describe('a slow backend', () => {
  test('is asked again as soon as nothing is under way there, without anything else having changed', () => {
    const { count, lane } = bench([backend('a', 1), backend('b', 2)])
    const state = lane.states[0] ?? assert.fail()
    state.guard = Object.assign(new LatencyGuard(), { spills: (inFlight: number) => inFlight > 0 })
    state.inFlight = 1
    assert.deepEqual(count(10), { b: 10 })
    state.inFlight = 0
    assert.deepEqual(count(10), { a: 10 })
  })
})

describe('what is kept from pick to pick', () => {
  test('is not looked at again as long as nothing has changed', () => {
    const { count, lane } = bench([backend('a', 1), backend('b', 2)])
    count(1)
    const [state] = lane.states
    if (state === undefined) assert.fail()
    // Nobody counted this as a change, so nobody sees it.
    state.cooldownUntil = 100
    assert.deepEqual(count(10), { a: 10 })
  })

  test('is looked at again when something has changed, and when time has run out on it', () => {
    const { count, ledger, roster, lane, picker } = bench([backend('a', 1), backend('b', 2)])
    assert.deepEqual(count(1), { a: 1 })
    const [a] = roster.backends
    const state = lane.states[0]
    if (a === undefined || state === undefined) assert.fail()
    state.cooldownUntil = 100
    ledger.changes++
    assert.deepEqual(count(1), { b: 1 })
    const at = (now: number): string => {
      const found = picker.pick(roster, lane, new TestRequest(), now)
      return found.kind === 'backend' ? found.config.name : 'nobody'
    }
    assert.deepEqual([at(99.9), at(100)], ['b', 'a'])
    a.feed('unreachable', false, 200, () => 0.5)
    ledger.changes++
    assert.deepEqual([at(200), at(449), at(450)], ['b', 'b', 'a'])
  })
})

describe('lanes', () => {
  test('of a removed backend keep what they learn to themselves', () => {
    const { roster, lane, lanes } = bench([backend('a', 1), backend('b', 2)])
    const [a, b] = roster.backends
    if (a === undefined || b === undefined) assert.fail()
    lanes.rebase(new Roster(poolConfig([b.config]), roster.backends).backends)
    assert.equal(a.index, -1)
    const known = a.scopes.get('m')
    assert.equal(lanes.stateOn(a, lane, 0), known)
    const fresh = lanes.stateOn(a, lanes.of('new', 0), 0)
    assert.equal(fresh.name, 'new')
    assert.deepEqual(lanes.of('new', 0).states, [undefined])
    assert.deepEqual(lane.states, [b.scopes.get('m')])
  })

  test('start to learn afresh when pacing is switched', () => {
    const { lane, lanes } = bench([backend('a')])
    const before = lane.states[0]?.pacer
    lanes.repace()
    assert.notEqual(lane.states[0]?.pacer, before)
  })
})

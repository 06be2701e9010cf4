import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { AVAILABLE, canProbe, transition as move, type Health, type HealthEvent } from '../../src/core/health.js'
import { SEED } from '../support/seed.js'

const transition = (state: Health, event: HealthEvent, isProbe: boolean, now: number, random: () => number, tookMs = 0): Health =>
  move(state, event, { isProbe, now, random, tookMs, failuresToEject: 2 })

/** Takes the events one after the other, at time 0 but for those that say otherwise; the jitter is half of its bound. */
function after(...events: (HealthEvent | [HealthEvent, { at?: number; isProbe?: boolean }])[]): Health {
  let state: Health = AVAILABLE
  for (const event of events) {
    const [name, { at = 0, isProbe = false }] = typeof event === 'string' ? [event, {}] : event
    state = transition(state, name, isProbe, at, () => 0)
  }
  return state
}

/** How long a backend is left alone after so many failures to be reached in a row, with this said by chance each time. */
function backoffs(count: number, random: number): number[] {
  let state: Health = AVAILABLE
  let now = 0
  return Array.from({ length: count }, () => {
    state = transition(state, 'unreachable', state.kind === 'probing', now, () => random)
    if (state.kind !== 'ejected') return assert.fail(state.kind)
    const forMs = state.until - now
    now = state.until
    state = transition(state, 'probe', false, now, () => random)
    return forMs
  })
}

describe('the time that a failed backend is left alone', () => {
  test('is 250 ms at first, twice that at each failure of a probe in a row, a minute at last', () => {
    const bounds = backoffs(5_000, 0)
    assert.deepEqual(bounds.slice(0, 10), [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000])
    assert.equal(bounds.at(-1), 60_000)
  })

  test('is up to half as much again by chance, but never more than a minute', () => {
    assert.deepEqual(backoffs(3, 0.5), [312.5, 625, 1_250])
    assert.deepEqual(backoffs(9, 0.999).slice(-2), [32_000 * 1.4995, 60_000])
  })

  test('is three times what the failure took, where that is more', () => {
    const until = (tookMs: number): number => {
      const state = transition(AVAILABLE, 'unreachable', false, 0, () => 0, tookMs)
      return state.kind === 'ejected' ? state.until : NaN
    }
    assert.deepEqual([0, 83, 84, 1_000, 10_000, 100_000].map(until), [250, 250, 252, 3_000, 30_000, 60_000])
  })

  test('of what our own machine lacks is never more than a second', () => {
    let state: Health = AVAILABLE
    for (let now = 0; now < 20_000;) {
      state = transition(state, 'local', state.kind === 'probing', now, () => 1, 5_000)
      if (state.kind !== 'ejected') return assert.fail(state.kind)
      assert.ok(state.until - now <= 1_000)
      now = state.until
      state = transition(state, 'probe', false, now, () => 0)
    }
  })

  test('of a function that gives no key is a second at first, and a minute at last', () => {
    let state: Health = AVAILABLE
    const waits = Array.from({ length: 8 }, () => {
      state = transition(state, 'credential', state.kind === 'probing', 0, () => 0, 30_000)
      const forMs = state.kind === 'ejected' ? state.until : NaN
      state = transition(state, 'probe', false, forMs, () => 0)
      return forMs
    })
    assert.deepEqual(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000])
  })
})

describe('health', () => {
  test('one failure is the request\'s own, two in a row are the backend\'s', () => {
    assert.deepEqual(after('failed'), { kind: 'available', failures: 1, ejections: 0 })
    assert.deepEqual(after('failed', 'failed'), { kind: 'ejected', until: 250, ejections: 1, reason: 'failed' })
    assert.deepEqual(after('failed', 'success', 'failed'), { kind: 'available', failures: 1, ejections: 0 })
  })

  test('a backend that cannot be reached is out at once', () => {
    assert.deepEqual(after('unreachable'), { kind: 'ejected', until: 250, ejections: 1, reason: 'unreachable' })
  })

  test('a wrong credential puts it out for a minute, without chance', () => {
    assert.deepEqual(after('misconfigured'), { kind: 'ejected', until: 60_000, ejections: 1, reason: 'misconfigured' })
  })

  test('once its time is over one probe may go, and no second one', () => {
    const out = after('unreachable')
    assert.equal(canProbe(out, 249.9), false)
    assert.equal(canProbe(out, 250), true)
    assert.equal(transition(out, 'probe', false, 249.9, Math.random), out)
    const probing = transition(out, 'probe', false, 250, Math.random)
    assert.deepEqual(probing, { kind: 'probing', ejections: 1, reason: 'unreachable' })
    assert.equal(canProbe(probing, 1e9), false)
    assert.equal(transition(probing, 'probe', false, 1e9, Math.random), probing)
  })

  test('a probe that fails doubles the bound of the next wait, one that succeeds ends it', () => {
    const probe: [HealthEvent, { at: number }] = ['probe', { at: 1_000 }]
    assert.deepEqual(after('unreachable', probe, ['failed', { at: 2_000, isProbe: true }]), { kind: 'ejected', until: 2_500, ejections: 2, reason: 'failed' })
    assert.deepEqual(after('unreachable', probe, ['misconfigured', { at: 0, isProbe: true }]), { kind: 'ejected', until: 60_000, ejections: 2, reason: 'misconfigured' })
    assert.equal(after('unreachable', probe, ['success', { isProbe: true }]), AVAILABLE)
  })

  test('a probe that says nothing gives its slot back', () => {
    const state = after('unreachable', ['probe', { at: 1_000 }], ['release', { at: 1_500, isProbe: true }])
    assert.deepEqual(state, { kind: 'ejected', until: 1_500, ejections: 1, reason: 'unreachable' })
    assert.equal(canProbe(state, 1_500), true)
  })

  test('an answer to a probe of ours ends the ejection, and its count goes on until a success; without that probe it says nothing', () => {
    const probing = after('unreachable', ['probe', { at: 1_000 }])
    const reached = transition(probing, 'reached', true, 1_100, Math.random)
    assert.deepEqual(reached, { kind: 'available', failures: 0, ejections: 1 })
    const again = transition(reached, 'unreachable', false, 1_200, () => 0)
    assert.deepEqual(again, { kind: 'ejected', until: 1_700, ejections: 2, reason: 'unreachable' })
    for (const [state, isProbe] of [[AVAILABLE, false], [again, false], [again, true], [probing, false]] as const) {
      assert.equal(transition(state, 'reached', isProbe, 2_000, Math.random), state)
    }
    assert.equal(transition(reached, 'success', false, 1_300, Math.random), AVAILABLE)
  })

  test('what older attempts report does not disturb a probe, but any success readmits', () => {
    const probing = after('unreachable', ['probe', { at: 1_000 }])
    for (const event of ['failed', 'unreachable', 'misconfigured', 'release'] as const) {
      assert.equal(transition(probing, event, false, 1_500, Math.random), probing)
    }
    assert.equal(transition(probing, 'success', false, 1_500, Math.random), AVAILABLE)
    assert.equal(transition(after('unreachable'), 'success', false, 10, Math.random), AVAILABLE)
  })

  test('failures of older attempts do not prolong an ejection', () => {
    const out = after('unreachable')
    for (const event of ['failed', 'unreachable', 'misconfigured', 'release'] as const) {
      assert.equal(transition(out, event, false, 100, Math.random), out)
    }
  })

  test('where nothing changes nothing is allocated', () => {
    for (const event of ['success', 'release', 'probe'] as const) assert.equal(transition(AVAILABLE, event, false, 0, Math.random), AVAILABLE)
  })

  test('for any sequence of events the machine keeps its invariants', () => {
    const events = fc.array(fc.record({
      event: fc.constantFrom<HealthEvent>('success', 'failed', 'unreachable', 'misconfigured', 'probe', 'release'),
      isProbe: fc.boolean(), passed: fc.nat(20_000), random: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
    }), { maxLength: 100 })
    fc.assert(fc.property(events, (events) => {
      let state: Health = AVAILABLE
      let now = 0
      for (const { event, isProbe, passed, random } of events) {
        now += passed
        const before: Health = state
        state = transition(before, event, isProbe && before.kind === 'probing', now, () => random)
        if (event === 'success') assert.equal(state, AVAILABLE)
        if (state.kind === 'available') assert.ok(state.failures === 0 || state.failures === 1)
        else assert.ok(state.ejections >= 1 && state.ejections <= (before.kind === 'available' ? 1 : before.ejections + 1))
        // Only from ejected, when its time is over, and only by taking the slot.
        if (state.kind === 'probing' && before.kind !== 'probing') {
          assert.ok(event === 'probe' && before.kind === 'ejected' && before.until <= now)
        }
        // An ejection that runs is never cut short but by a success, and never prolonged.
        if (before.kind === 'ejected' && state.kind === 'ejected') assert.equal(state, before)
        if (state.kind === 'ejected' && state !== before) {
          assert.ok(state.until >= now && state.until <= now + (state.reason === 'misconfigured' ? 60_000 : 15_000))
        }
      }
    }), { seed: SEED, numRuns: 1_000 })
  })
})

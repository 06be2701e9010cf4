import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { WaitQueue, type Waiter } from '../../src/core/queue.js'
import { SEED } from '../support/core-arbitraries.js'
import { TestRequest } from '../support/pool-kit.js'

const push = (queue: WaitQueue, now = 0): Waiter => queue.push(new TestRequest(), now + 10_000, now, now)

function members(queue: WaitQueue): Waiter[] {
  const all: Waiter[] = []
  for (let waiter = queue.head; waiter !== undefined; waiter = waiter.next) all.push(waiter)
  return all
}

describe('the wait queue', () => {
  test('behaves like a list from which anybody may leave', () => {
    fc.assert(fc.property(fc.array(fc.oneof(fc.constant('push' as const), fc.nat(20))), (steps) => {
      const queue = new WaitQueue()
      const model: Waiter[] = []
      for (const step of steps) {
        if (step === 'push') model.push(push(queue))
        else {
          const [left] = model.splice(step, 1)
          if (left !== undefined) {
            queue.remove(left)
            queue.remove(left)
          }
        }
        assert.deepEqual(members(queue), model)
        assert.equal(queue.length, model.length)
        assert.equal(queue.tail, model.at(-1))
      }
    }), { seed: SEED })
  })

  test('keeps the order in which its members began to wait: who comes back has its old place', () => {
    const queue = new WaitQueue()
    const waiterSince = (since: number | undefined, now: number): Waiter => {
      const request = new TestRequest()
      request.waitingSince = since
      return queue.push(request, now + 10_000, now, now)
    }
    const [first, third, fourth] = [waiterSince(100, 100), waiterSince(300, 300), waiterSince(400, 400)]
    const second = waiterSince(200, 500)
    const zeroth = waiterSince(50, 500)
    const last = waiterSince(400, 500)
    assert.deepEqual(members(queue), [zeroth, first, second, third, fourth, last])
    assert.equal(queue.tail, last)
    queue.remove(last)
    assert.equal(queue.tail, fourth)
  })

  test('shortens the patience of newcomers to half once it has not been empty for three full waits', () => {
    const queue = new WaitQueue()
    assert.equal(queue.patienceMs(1_000, 0), 1_000)
    const first = push(queue, 500)
    assert.equal(queue.patienceMs(1_000, 3_499), 1_000)
    assert.equal(queue.patienceMs(1_000, 3_500), 500)
    queue.remove(first)
    assert.equal(queue.patienceMs(1_000, 3_501), 1_000)
    push(queue, 3_600)
    assert.equal(queue.patienceMs(1_000, 3_700), 1_000)
  })

  describe('tells a caller that is turned away its own slot', () => {
    /** Served every 100 ms, with `waiting` left in it, at time 1,000. */
    const moving = (waiting: number): WaitQueue => {
      const queue = new WaitQueue()
      const served = Array.from({ length: 11 }, () => push(queue))
      for (let i = 0; i < waiting; i++) push(queue)
      served.forEach((waiter, i) => queue.serve(waiter, i * 100))
      return queue
    }

    test('the soonest wait as it is while nothing is known of the queue\'s pace', () => {
      const queue = new WaitQueue()
      assert.equal(queue.promiseSlot(1_234, () => 0.5, 0), 1_234)
      queue.serve(push(queue), 10)
      assert.equal(queue.promiseSlot(1_234, () => 0.5, 20), 1_234)
    })

    test('after those who wait, and after those who were turned away before', () => {
      const queue = moving(5)
      assert.deepEqual([1, 2, 3].map(() => queue.promiseSlot(50, () => 0, 1_000)), [550, 650, 750])
    })

    test('up to 10 % later', () => {
      assert.equal(moving(5).promiseSlot(50, () => 0.5, 1_000), 577.5)
    })

    test('with an estimate of 15 s at most, but a longer cooldown as it is', () => {
      const queue = moving(5)
      for (let i = 0; i < 1_000; i++) assert.ok(queue.promiseSlot(50, () => 0, 1_000) <= 15_000)
      assert.equal(queue.promiseSlot(50, () => 0, 1_000), 15_000)
      assert.equal(queue.promiseSlot(40_000, () => 0.9, 1_000), 40_000)
    })

    test('also where nobody may wait: the pace is that of what goes out', () => {
      const queue = new WaitQueue()
      assert.equal(queue.promiseSlot(50, () => 0, 0), 50)
      for (const at of [100, 300, 500]) queue.moved(at)
      assert.deepEqual([1, 2, 3].map(() => queue.promiseSlot(50, () => 0, 500)), [50, 250, 450])
    })

    test('what goes out while nobody is short of a turn teaches no pace', () => {
      const queue = new WaitQueue()
      for (let at = 0; at < 1_000; at += 10) queue.moved(at)
      queue.promiseSlot(50, () => 0, 1_000)
      for (const at of [15_999, 16_000, 16_001]) queue.moved(at) // the last promise is over at 16,000
      assert.deepEqual([1, 2].map(() => queue.promiseSlot(50, () => 0, 16_001)), [50, 50])
    })

    test('what was learned of a shortage is forgotten when it is over', () => {
      const queue = moving(0)
      queue.promiseSlot(50, () => 0, 1_000)
      queue.moved(60_000)
      assert.deepEqual([1, 2].map(() => queue.promiseSlot(50, () => 0, 60_000)), [50, 50])
    })

    test('a trickle of requests is not taken for a slow backend', () => {
      const queue = new WaitQueue()
      queue.promiseSlot(50, () => 0, 0)
      for (const at of [100, 7_100, 14_100]) queue.moved(at)
      assert.deepEqual([1, 2, 3].map(() => queue.promiseSlot(50, () => 0, 14_200)), [50, 1_050, 2_050])
    })

    test('whoever was promised a turn keeps it when the queue was empty in between', () => {
      const queue = moving(1)
      for (let i = 0; i < 50; i++) queue.promiseSlot(50, () => 0, 1_000)
      if (queue.head !== undefined) queue.remove(queue.head)
      assert.equal(queue.promiseSlot(50, () => 0, 1_000), 5_150)
    })

    test('a single long gap moves the pace by an eighth of the difference, and no more', () => {
      const queue = moving(5)
      queue.serve(queue.head ?? assert.fail(), 1_900)
      assert.equal(queue.promiseSlot(0, () => 0, 1_900), 4 * 200)
    })

    test('the pace follows what is seen, the last eight or so count most', () => {
      const queue = moving(50)
      for (let i = 1; i <= 40; i++) if (queue.head !== undefined) queue.serve(queue.head, 1_000 + i * 10)
      const perWaiter = queue.promiseSlot(0, () => 0, 1_400) / 10
      assert.ok(perWaiter > 9.9 && perWaiter < 12, String(perWaiter))
    })
  })
})

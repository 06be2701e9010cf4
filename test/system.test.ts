import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { MAX_TIMER_MS, system } from '../src/system.js'

describe('the real system', () => {
  test('now() does not go back and is finer than a millisecond', () => {
    const readings = Array.from({ length: 1000 }, () => system.now())
    assert.ok(readings.every((reading, index) => index === 0 || reading >= (readings[index - 1] ?? 0)))
    assert.ok(readings.some((reading) => !Number.isInteger(reading)))
  })

  test('wallNow() is the time of day in milliseconds', () => {
    const before = Date.now()
    const now = system.wallNow()
    assert.ok(now >= before && now <= Date.now())
  })

  test('random() is in [0, 1) and not always the same', () => {
    const numbers = Array.from({ length: 100 }, () => system.random())
    assert.ok(numbers.every((number) => number >= 0 && number < 1))
    assert.ok(new Set(numbers).size > 1)
  })

  test('a timer never fires before its delay has passed', async () => {
    const early = await Promise.all([0, 0.2, 1, 2.7, 5, 7.9].map((delayMs) => new Promise<boolean>((resolve) => {
      const start = system.now()
      system.setTimer(() => resolve(system.now() - start < delayMs), delayMs)
    })))
    assert.deepEqual(early, [false, false, false, false, false, false])
  })

  test('a timer that is called off does not fire, and calling it off again or late does nothing', async () => {
    let fired = 0
    const cancelled = system.setTimer(() => { fired += 10 }, 1)
    cancelled.cancel()
    cancelled.cancel()
    await new Promise<void>((resolve) => {
      const timer = system.setTimer(() => {
        fired++
        timer.cancel()
        resolve()
      }, 8)
    })
    assert.equal(fired, 1)
  })

  test('a delay that is longer than a Node timer can count does not fire at once', async () => {
    let fired = false
    const endless = [MAX_TIMER_MS, MAX_TIMER_MS * 10, Infinity].map((delayMs) => system.setTimer(() => { fired = true }, delayMs))
    await new Promise<void>((resolve) => { system.setTimer(resolve, 8) })
    for (const timer of endless) timer.cancel()
    assert.equal(fired, false)
  })

  test('a pending timer keeps the process alive', () => {
    const count = () => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length
    const before = count()
    const timer = system.setTimer(() => {}, 10_000)
    assert.equal(count(), before + 1)
    timer.cancel()
    assert.equal(count(), before)
  })
})

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { describe, test } from 'node:test'
import { STANDSTILL_MS } from '../src/core/types.js'
import { MAX_TIMER_MS, system } from '../src/system.js'
import { turns } from './support/until.js'

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
    await new Promise<void>((resolve) => { system.setTimer(() => { resolve() }, 8) })
    for (const timer of endless) timer.cancel()
    assert.equal(fired, false)
  })

  const standStill = (ms: number): void => {
    for (const until = performance.now() + ms; performance.now() < until;);
  }

  test('a timer that is late because the process stood still says so, and only after what had come was read from the sockets', async (t) => {
    const server = createServer((socket) => { socket.end('x') }).listen(0)
    await once(server, 'listening')
    t.after(() => server.close())
    const socket = connect((server.address() as AddressInfo).port)
    const order: string[] = []
    socket.once('data', () => { order.push('data') })
    await new Promise<void>((resolve) => {
      socket.once('connect', () => {
        system.setTimer((stoodStill) => { order.push(`stood still: ${stoodStill}`); resolve() }, 1)
        standStill(STANDSTILL_MS + 50)
      })
    })
    assert.deepEqual(order, ['data', 'stood still: true'])
  })

  test('a timer that is a little late says nothing of a standstill', async () => {
    assert.equal(await new Promise((resolve) => {
      system.setTimer(resolve, 1)
      standStill(20)
    }), false)
  })

  test('a timer may be called off while the sockets are read after a standstill', async () => {
    let fired = false
    const timer = system.setTimer(() => { fired = true }, 1)
    await new Promise<void>((resolve) => {
      setTimeout(() => setImmediate(() => { timer.cancel(); resolve() }), 1)
      standStill(STANDSTILL_MS + 50)
    })
    await turns(4)
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

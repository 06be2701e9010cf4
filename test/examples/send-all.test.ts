import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { RunLog, sendAll } from '../../examples/demo/application.js'
import { planWork, type PlannedCall } from '../../examples/demo/scenario.js'
import { until } from '../support/until.js'

function at(atMs: number): PlannedCall {
  return { atMs, kind: 'chat', prompt: '' }
}

/** A server that the test answers by hand. */
function openCalls() {
  const open: { resolve: () => void, reject: (error: Error) => void }[] = []
  return { open, send: () => new Promise<void>((resolve, reject) => { open.push({ resolve, reject }) }) }
}

describe('the demo sends its work', () => {
  test('calls start whether earlier ones have been answered or not, and the run ends with the last answer', async () => {
    const { open, send } = openCalls()
    const log = new RunLog()
    const run = sendAll([at(0), at(0), at(1)], send, log, { concurrency: 9, signal: new AbortController().signal })
    await until(() => open.length === 3)
    assert.equal(log.durationMs, undefined)
    open[2]?.resolve()
    open[0]?.reject(Object.assign(new RangeError('no'), { status: 429 }))
    open[1]?.reject(new TypeError('fetch failed'))
    await run
    assert.deepEqual(log.calls.map((call) => call.failure), ['429 RangeError', 'TypeError', undefined])
    assert.ok(log.calls.every((call) => call.endedAtMs !== undefined))
    assert.ok(Number(log.durationMs) >= 1)
  })

  test('no more calls are in flight than allowed', async () => {
    const { open, send } = openCalls()
    const run = sendAll([at(0), at(0), at(0)], send, new RunLog(), { concurrency: 2, signal: new AbortController().signal })
    await until(() => open.length === 2)
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(open.length, 2)
    open[0]?.resolve()
    await until(() => open.length === 3)
    for (const call of open) call.resolve()
    await run
  })

  test('an interruption ends the run at once: nothing more is started, open calls stay open in the log', async () => {
    const { open, send } = openCalls()
    const log = new RunLog()
    const interruption = new AbortController()
    const run = sendAll([at(0), at(1e9)], send, log, { concurrency: 9, signal: interruption.signal })
    await until(() => open.length === 1)
    interruption.abort()
    open[0]?.reject(new Error('aborted'))
    await run
    assert.equal(log.interrupted, true)
    assert.deepEqual(log.calls.map((call) => [call.endedAtMs, call.failure]), [[undefined, undefined]])
    const nothing = new RunLog()
    await sendAll([at(0)], send, nothing, { concurrency: 9, signal: interruption.signal })
    assert.equal(nothing.calls.length, 0)
  })

  test('an interruption also ends the wait for a free place', async () => {
    const { open, send } = openCalls()
    const interruption = new AbortController()
    const run = sendAll([at(0), at(0)], send, new RunLog(), { concurrency: 1, signal: interruption.signal })
    await until(() => open.length === 1)
    interruption.abort()
    await run
    assert.equal(open.length, 1)
  })

  test('the same seed plans the same work, at the rate that was asked for, of all kinds', () => {
    const amount = { requests: 2000, rate: 20, seed: 7, responses: true }
    const work = planWork(amount)
    assert.deepEqual(work, planWork(amount))
    assert.notDeepEqual(work, planWork({ ...amount, seed: 8 }))
    // 2,000 arrivals scatter by 2 %; three times that.
    assert.ok(Math.abs((work.at(-1)?.atMs ?? 0) / 100_000 - 1) < 0.07)
    assert.deepEqual([...new Set(work.map((call) => call.kind))].sort(), ['chat', 'chat-stream', 'response'])
    assert.ok(work.every((call) => call.prompt.length >= 300 && call.prompt.length < 900))
    assert.ok(planWork({ ...amount, responses: false }).every((call) => call.kind !== 'response'))
  })
})

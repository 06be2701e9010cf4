import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { RunLog, sendAll } from '../../examples/demo/application.js'
import { averageLoad, outageMs, planWork, STARTS, type PlannedCall } from '../../examples/demo/scenario.js'
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
    const amount = { requests: 2000, rate: 20, seed: 7, responses: true, start: 'steady' } as const
    const work = planWork(amount)
    assert.deepEqual(work, planWork(amount))
    assert.notDeepEqual(work, planWork({ ...amount, seed: 8 }))
    // 2,000 arrivals scatter by 2 %; three times that.
    assert.ok(Math.abs((work.at(-1)?.atMs ?? 0) / 100_000 - 1) < 0.07)
    assert.deepEqual([...new Set(work.map((call) => call.kind))].sort(), ['chat', 'chat-stream', 'response'])
    assert.ok(work.every((call) => call.prompt.length >= 300 && call.prompt.length < 900))
    assert.ok(planWork({ ...amount, responses: false }).every((call) => call.kind !== 'response'))
  })

  const AMOUNT = { requests: 200, rate: 20, seed: 3, responses: true } as const
  const steady = planWork({ ...AMOUNT, start: 'steady' })

  test('every start has the same calls, at other times', () => {
    for (const start of STARTS) {
      const calls = planWork({ ...AMOUNT, start })
      assert.deepEqual(calls.map(({ kind, prompt }) => [kind, prompt]), steady.map(({ kind, prompt }) => [kind, prompt]))
      assert.ok(calls.every((call, n) => n === 0 || call.atMs >= (calls[n - 1]?.atMs ?? 0)), `${start} is in order`)
    }
  })

  test('a burst is 60 calls at once after nothing at all, and then the load', () => {
    const times = planWork({ ...AMOUNT, start: 'burst' }).map((call) => call.atMs)
    assert.ok(Number(times[0]) > 1000)
    assert.equal(times.filter((atMs) => atMs === times[0]).length, 60)
    assert.deepEqual(times.slice(60), steady.slice(60).map((call) => call.atMs))
    const few = planWork({ ...AMOUNT, requests: 5, start: 'burst' }).map((call) => call.atMs)
    assert.deepEqual(new Set(few), new Set([steady[4]?.atMs]))
  })

  test('a ramp is a tenth of the load for a third of the time, and then all of it', () => {
    // 10 s of the load, spread over 14.3 s of which 4.8 have a tenth.
    const times = planWork({ ...AMOUNT, start: 'ramp' }).map((call) => call.atMs)
    const stepMs = 10_000 / averageLoad('ramp') / 3
    const early = times.filter((atMs) => atMs < stepMs)
    assert.equal(early.length, steady.filter((call) => call.atMs < stepMs / 10).length)
    assert.ok(early.length >= 4 && early.length <= 16, `${early.length} early calls`)
    assert.ok(Math.abs(Number(times.at(-1)) - Number(steady.at(-1)?.atMs) - 0.9 * stepMs) < 1)
  })

  test('an outage lasts a third of the time, and only an outage does', () => {
    assert.equal(outageMs({ ...AMOUNT, requests: 60, start: 'outage' }), 1000)
    assert.equal(outageMs({ ...AMOUNT, start: 'ramp' }), 0)
  })
})

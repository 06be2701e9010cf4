import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ReadyBody, isSingleUse, RecordedBody } from '../../src/request/body.js'
import { isNodeStream, Recording } from '../../src/request/recording.js'
import { turns } from '../support/until.js'

async function * chunks(...all: string[]): AsyncGenerator<string> {
  for (const chunk of all) yield await Promise.resolve(chunk)
}

async function textOf(reader: AsyncIterable<unknown>): Promise<string> {
  let text = ''
  for await (const chunk of reader) text += String(chunk)
  return text
}

describe('one reading of a body for several attempts', () => {
  test('is cut off for an attempt that was given up: a server must not take a part for the whole', async () => {
    const recording = new Recording(chunks('a', 'b'), undefined, 100)
    const first = recording.open()
    await first.next()
    recording.rewind()
    await assert.rejects(first.next(), /this attempt was given up/)
    assert.equal(await textOf(recording.open()), 'ab')
  })

  test('is cut off, not ended, once it is not to be read on', async () => {
    const recording = new Recording(chunks('a', 'b'), undefined, 100)
    const reader = recording.open()
    await reader.next()
    recording.discard()
    await assert.rejects(reader.next(), /not sent any further/)
    assert.equal(recording.discarded, true)
  })

  test('goes on for the next attempt when undici closes that of the one before it, also where nothing is kept', async () => {
    const recording = new Recording(chunks('a', 'b'), undefined, 0)
    const first = recording.open()
    const second = recording.open()
    assert.deepEqual(await first.return(), { done: true, value: undefined })
    assert.equal(await textOf(second), 'ab')
  })

  test('is over for good when undici closes the last of them', async () => {
    let isClosed = false
    const source = (async function * () { try { yield * chunks('a', 'b', 'c') } finally { isClosed = true } })()
    const recording = new Recording(source, undefined, 0)
    const reader = recording.open()
    await reader.next()
    await reader.return()
    assert.deepEqual(await reader.next(), { done: true, value: undefined })
    await turns(2)
    assert.equal(isClosed, true)
  })
})

test('a body exactly as long as what may be kept is kept, announced or not', async () => {
  const announced = new RecordedBody(chunks('abc'), 3, 3)
  assert.equal(announced.wantsCollecting, true)
  await announced.collect()
  assert.equal(announced.replayable, true)
  const unannounced = new RecordedBody(chunks('abc'), undefined, 3)
  assert.equal(await textOf(unannounced.open(false) as AsyncIterable<unknown>), 'abc')
  assert.equal(unannounced.replayable, true)
  assert.equal(await textOf(unannounced.open(false) as AsyncIterable<unknown>), 'abc')
})

describe('what only looks like something else', () => {
  test('an iterable that has only one of a stream\'s two signs is an iterable', async () => {
    for (const sign of ['pipe', 'on']) {
      const source = Object.assign(chunks('a', 'b'), { [sign]: () => assert.fail('is no stream') })
      assert.equal(isNodeStream(source), false)
      assert.equal(isSingleUse(source), true)
      assert.equal(await textOf(new RecordedBody(source, undefined, 100).open(false) as AsyncIterable<unknown>), 'ab')
    }
  })

  test('an object with only one of a Blob\'s two signs has no length', () => {
    const arrayBuffer = (): void => {}
    for (const given of [{ arrayBuffer, size: 5 }, { [Symbol.toStringTag]: 'Blob', size: 5 }, { [Symbol.toStringTag]: 'Other', arrayBuffer, size: 5 }]) {
      assert.equal(new ReadyBody(given).byteLength, 0)
    }
    assert.equal(new ReadyBody({ [Symbol.toStringTag]: 'File', arrayBuffer, size: 5 }).byteLength, 5)
  })
})

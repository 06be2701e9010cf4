import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { EventSplitter } from '../../../src/request/look/events.js'
import { anyText } from '../../support/core-arbitraries.js'
import { anyLineEnd, anyPlaces, asBytes, cut } from '../../support/event-stream.js'
import { SEED } from '../../support/seed.js'

type Seen = [name: string | undefined, data: string | undefined]

/** The events of a stream that comes in these chunks, up to `most` of them, and whether there was one at its end. */
function split (chunks: readonly Uint8Array[], { ends = true, most = Infinity } = {}): Seen[] {
  const seen: Seen[] = []
  const splitter = new EventSplitter(({ name, data }) => {
    seen.push([name, data === undefined ? undefined : Buffer.from(data).toString()])
    return seen.length < most
  })
  for (const chunk of chunks) if (seen.length < most) splitter.write(chunk)
  if (ends && seen.length < most) splitter.end()
  return seen
}

describe('the events of a stream', () => {
  const streams: readonly [what: string, text: string, seen: Seen[]][] = [
    ['end with a blank line', 'data: a\n\ndata: b\n\n', [[undefined, 'a'], [undefined, 'b']]],
    ['have a name or none', 'event: x\ndata: a\n\ndata: b\n\n', [['x', 'a'], [undefined, 'b']]],
    ['have their lines in any order', 'data: a\nevent: x\nid: 7\n\n', [['x', 'a']]],
    ['lose one space, and no more', 'data:a\n\ndata:  b \n\nevent:x\ndata:\n\n', [[undefined, 'a'], [undefined, ' b '], ['x', '']]],
    ['have several lines of data', 'data: a\ndata:\ndata: b\n\n', [[undefined, 'a\n\nb']]],
    ['may have data without a colon', 'data\n\ndata\ndata\n\n', [[undefined, ''], [undefined, '\n']]],
    ['keep the colons in their data', 'data: {"a":1}\n\n', [[undefined, '{"a":1}']]],
    ['go by the last of several names', 'event: x\nevent: y\ndata: a\n\n', [['y', 'a']]],
    ['have no name where that is empty', 'event: x\nevent:\ndata: a\n\n', [[undefined, 'a']]],
    ['may have a name alone', 'event: ping\n\ndata: a\n\n', [['ping', undefined], [undefined, 'a']]],
    ['are not made of blank lines', '\n\n\ndata: a\n\n\n\n', [[undefined, 'a']]],
    ['are not made of comments', ': OPENROUTER PROCESSING\n\n:\n\n:data: x\n\ndata: a\n\n', [[undefined, 'a']]],
    ['are not made of ids and times', 'id: 1\n\nretry: 10\n\nid\n\n', []],
    ['are not made of fields that nobody knows', 'dat: x\n\ndatum: x\n\nData: x\n\n data: x\n\neven: x\n\nevents: x\n\nerr: x\n\nx\n\n', []],
    ['count when the last one is not ended', 'data: a\n\nevent: x\ndata: b', [[undefined, 'a'], ['x', 'b']]],
    ['count when only its blank line is missing', 'data: a\n', [[undefined, 'a']]],
    ['of llama.cpp that are an error in a field of that name', 'error: {"code":500}\n\ndata: a\n\n', [['error', '{"code":500}'], [undefined, 'a']]],
    ['may be none', '', []],
  ]
  for (const [what, text, seen] of streams) {
    test(what, () => {
      for (const lineEnd of ['\n', '\r', '\r\n']) {
        for (const hasMark of [false, true]) {
          const bytes = asBytes(text, lineEnd, hasMark)
          assert.deepEqual(split([bytes]), seen, JSON.stringify(lineEnd))
          assert.deepEqual(split([...bytes].map((byte) => Uint8Array.of(byte))), seen, `byte by byte, ${JSON.stringify(lineEnd)}`)
        }
      }
    })
  }

  test('may have all line ends at once', () => {
    assert.deepEqual(split([asBytes('data: a\r\rdata: b\n\r\ndata: c\r\n\ndata: d\n\rdata: e\r\n\r\n')]), ['a', 'b', 'c', 'd', 'e'].map((data) => [undefined, data]))
  })

  test('are told at their blank line, even before the second half of its line end', () => {
    assert.deepEqual(split([asBytes('data: a\r\n\r')], { ends: false }), [[undefined, 'a']])
    assert.deepEqual(split([asBytes('data: a\r\n\r'), asBytes('\ndata: b\n\n')], { ends: false }), [[undefined, 'a'], [undefined, 'b']])
    assert.deepEqual(split([asBytes('data: a\n')], { ends: false }), [])
  })

  test('stop when no more are wanted, in a chunk and at the end', () => {
    assert.deepEqual(split([asBytes('data: a\n\ndata: b\n\ndata: c\n\n')], { most: 2 }), [[undefined, 'a'], [undefined, 'b']])
    assert.deepEqual(split([asBytes('event: x\n\ndata: b\n\n')], { most: 1 }), [['x', undefined]])
  })

  test('lose a byte order mark at the start, and only there, and only a whole one', () => {
    assert.deepEqual(split([asBytes('\uFEFFdata: a\n\n\uFEFFdata: b\n\ndata: \uFEFFc\n\n')]), [[undefined, 'a'], [undefined, '\uFEFFc']])
    assert.deepEqual(split([asBytes('\uFEFF\uFEFFdata: a\n\n')]), [])
    assert.deepEqual(split([Uint8Array.of(0xef, 0xbb), asBytes('data: a\n\n')]), [])
    assert.deepEqual(split([asBytes('\n\uFEFFdata: a\n\n')]), [])
  })

  test('have data that is a part of the chunk where they came in one', () => {
    const chunk = asBytes('data: abc\n\n')
    new EventSplitter(({ data }) => { assert.equal(data?.buffer, chunk.buffer); return true }).write(chunk)
  })

  test('are the same however the stream was cut', () => {
    const line = fc.oneof(fc.constantFrom('data: ü€😀', 'data:', 'event: x', ': c', 'id: 1', '', '', 'error: e', 'data: a'), anyText(8).map((text) => text.replaceAll(/[\r\n]/g, ' ')))
    fc.assert(fc.property(fc.array(line, { maxLength: 20 }), anyLineEnd, fc.boolean(), anyPlaces, (lines, lineEnd, hasMark, places) => {
      const text = lines.map((line) => `${line}\n`).join('')
      const expected = split([asBytes(text.replace(/^\uFEFF/, ''))])
      assert.deepEqual(split(cut(asBytes(text.replace(/^\uFEFF/, ''), lineEnd, hasMark), places)), expected)
    }), { seed: SEED })
  })

  test('of a long stream take time in proportion to it', () => {
    // Looking for the next carriage return from each line anew would take minutes here.
    const chunk = asBytes('data: a\n\n'.repeat(100_000))
    let events = 0
    const splitter = new EventSplitter(() => { events++; return true })
    splitter.write(chunk)
    for (const byte of chunk.subarray(0, 90_000)) splitter.write(Uint8Array.of(byte))
    assert.equal(events, 110_000)
  })
})

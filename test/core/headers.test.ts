import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { readText } from '../../src/core/header-values.js'
import { HeaderReader } from '../../src/core/headers.js'
import type { ResponseHeaders } from '../../src/core/types.js'
import { asRaw, SEED } from '../support/core-arbitraries.js'

const NAMES = ['retry-after', 'retry-after-ms', 'x-same-length', 'x-same-lengtz']

/** The values as text; undefined when none of the names is there. */
const read = (headers: ResponseHeaders, names = NAMES) =>
  new HeaderReader(names).read(headers)?.map((value) => (value === undefined ? undefined : readText(value)))

describe('headers', () => {
  test('are read from an object with lower-case names', () => {
    assert.deepEqual(read({ 'retry-after': '3', 'content-type': 'text/plain' }), ['3', undefined, undefined, undefined])
    assert.equal(read({ 'content-type': 'text/plain' }), undefined)
    assert.equal(read({}), undefined)
  })

  test('are read from raw names and values, as Buffers or strings, in any case', () => {
    for (const name of ['retry-after-ms', 'Retry-After-Ms', 'RETRY-AFTER-MS', 'rETRY-aFTER-mS']) {
      assert.deepEqual(read([Buffer.from('Date'), Buffer.from('x'), Buffer.from(name), Buffer.from('17')])?.[1], '17')
      assert.deepEqual(read(['Date', 'x', name, '17'])?.[1], '17')
    }
    assert.equal(read([Buffer.from('retry-aftar'), Buffer.from('17')]), undefined)
    assert.equal(read([]), undefined)
  })

  test('every letter of a name counts, from the first to the last, in either case', () => {
    for (const name of ['xetry-after', 'Xetry-after', 'retry-aftex', 'RETRY-AFTEX', 'REXRY-AFTER']) {
      assert.equal(read([Buffer.from(name), Buffer.from('17')]), undefined, name)
      assert.equal(read([name, '17']), undefined, name)
    }
  })

  test('names that differ from the wanted one only in bit 0x20 of something that is no letter are others', () => {
    // '-' is 0x2d; with the bit cleared it is 0x0d, a carriage return.
    assert.equal(read([Buffer.from('retry\rafter'), Buffer.from('17')]), undefined)
    // 'r' is 0x72; 0x52 is 'R'. '[' (0x5b) and '{' (0x7b) are no case of each other.
    assert.equal(read([Buffer.from('A-Z'), Buffer.from('1')], ['a-z'])?.[0], '1')
    assert.equal(read([Buffer.from('a[b'), Buffer.from('1')], ['a{b']), undefined)
  })

  test('two wanted names of one length are told apart', () => {
    const values = read(['x-same-lengtz', '2', 'x-same-length', '1'])
    assert.equal(values?.[2], '1')
    assert.equal(values?.[3], '2')
  })

  test('of a repeated header the first value counts, in every shape', () => {
    assert.equal(read({ 'retry-after': ['1', '2'] })?.[0], '1')
    assert.equal(read(['retry-after', '1', 'retry-after', '2'])?.[0], '1')
    assert.equal(read([Buffer.from('retry-after'), [Buffer.from('1'), Buffer.from('2')]])?.[0], '1')
    assert.equal(read({ 'retry-after': [] })?.[0], '')
  })

  test('a list in the place of a name and a name without a value harm nobody', () => {
    assert.equal(read(['retry-after'.split(''), 'x', 'retry-after']), undefined)
    assert.equal(read(['', 'x', Buffer.alloc(0), 'x', [], 'x']), undefined)
  })

  test('nothing of one answer is left for the next', () => {
    const reader = new HeaderReader(NAMES)
    reader.read({ 'retry-after': '1' })
    assert.equal(reader.read({ 'retry-after-ms': '2' })?.[0], undefined)
    reader.read(['retry-after', '1'])
    assert.equal(reader.read(['retry-after-ms', '2'])?.[0], undefined)
    assert.equal(reader.read([]), undefined)
  })

  test('both shapes of the same headers read the same', () => {
    const value = fc.string({ unit: 'binary-ascii', maxLength: 70 })
    const name = fc.constantFrom('retry-after', 'retry-after-ms', 'x-same-length', 'x-same-lengtz', 'date', 'x')
    fc.assert(fc.property(fc.dictionary(name, value), (headers) => {
      const parsed = read(headers) ?? []
      for (const kind of ['buffers', 'strings'] as const) {
        const raw = read(asRaw(headers, kind)) ?? []
        for (let i = 0; i < 4; i++) assert.equal(raw[i], parsed[i])
      }
    }), { seed: SEED })
  })
})

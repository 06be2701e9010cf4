import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { HeaderReader } from '../../src/core/headers.js'
import { asRaw, SEED } from '../support/core-arbitraries.js'

const reader = new HeaderReader(['retry-after', 'retry-after-ms', 'x-same-length', 'x-same-lengtz'])

describe('headers', () => {
  test('are read from an object with lower-case names', () => {
    assert.deepEqual(reader.read({ 'retry-after': '3', 'content-type': 'text/plain' }), ['3'])
    assert.equal(reader.read({ 'content-type': 'text/plain' }), undefined)
    assert.equal(reader.read({}), undefined)
  })

  test('are read from raw names and values, as Buffers or strings, in any case', () => {
    for (const name of ['retry-after-ms', 'Retry-After-Ms', 'RETRY-AFTER-MS', 'rETRY-aFTER-mS']) {
      assert.deepEqual(reader.read([Buffer.from('Date'), Buffer.from('x'), Buffer.from(name), Buffer.from('17')])?.[1], '17')
      assert.deepEqual(reader.read(['Date', 'x', name, '17'])?.[1], '17')
    }
    assert.equal(reader.read([Buffer.from('retry-aftar'), Buffer.from('17')]), undefined)
    assert.equal(reader.read([]), undefined)
  })

  test('names that differ from the wanted one only in bit 0x20 of something that is no letter are others', () => {
    // '-' is 0x2d; with the bit cleared it is 0x0d, a carriage return.
    assert.equal(reader.read([Buffer.from('retry\rafter'), Buffer.from('17')]), undefined)
    // 'r' is 0x72; 0x52 is 'R'. '[' (0x5b) and '{' (0x7b) are no case of each other.
    assert.equal(new HeaderReader(['a-z']).read([Buffer.from('A-Z'), Buffer.from('1')])?.[0], '1')
    assert.equal(new HeaderReader(['a{b']).read([Buffer.from('a[b'), Buffer.from('1')]), undefined)
  })

  test('two wanted names of one length are told apart', () => {
    const values = reader.read(['x-same-lengtz', '2', 'x-same-length', '1'])
    assert.equal(values?.[2], '1')
    assert.equal(values?.[3], '2')
  })

  test('of a repeated header the first value counts, in every shape', () => {
    assert.equal(reader.read({ 'retry-after': ['1', '2'] })?.[0], '1')
    assert.equal(reader.read(['retry-after', '1', 'retry-after', '2'])?.[0], '1')
    assert.equal(reader.read([Buffer.from('retry-after'), [Buffer.from('1'), Buffer.from('2')]])?.[0], '1')
    assert.equal(reader.read({ 'retry-after': [] })?.[0], undefined)
  })

  test('a list in the place of a name, a name without a value and values of other lengths harm nobody', () => {
    const list = 'retry-after'.split('')
    assert.equal(reader.read([list, 'x', 'retry-after']), undefined)
    assert.equal(reader.read(['retry-after', 'x'.repeat(65)])?.[0], undefined)
    assert.equal(reader.read([Buffer.from('retry-after'), Buffer.alloc(65, 'x')])?.[0], undefined)
    assert.equal(reader.read(['retry-after', 'x'.repeat(64)])?.[0], 'x'.repeat(64))
    assert.equal(reader.read([Buffer.from('retry-after'), Buffer.alloc(64, 'x')])?.[0], 'x'.repeat(64))
  })

  test('both shapes of the same headers read the same', () => {
    const value = fc.string({ unit: 'binary-ascii', maxLength: 70 })
    const name = fc.constantFrom('retry-after', 'retry-after-ms', 'x-same-length', 'x-same-lengtz', 'date', 'x')
    fc.assert(fc.property(fc.dictionary(name, value), (headers) => {
      const parsed = reader.read(headers) ?? []
      for (const kind of ['buffers', 'strings'] as const) {
        const raw = reader.read(asRaw(headers, kind)) ?? []
        for (let i = 0; i < 4; i++) assert.equal(raw[i], parsed[i])
      }
    }), { seed: SEED })
  })
})

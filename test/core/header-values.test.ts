import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { readDuration, readNumber, readPercent, readText, type HeaderValue } from '../../src/core/header-values.js'
import { SEED } from '../support/core-arbitraries.js'

/** One value in every shape in which undici hands it over. */
function shapesOf(text: string): HeaderValue[] {
  const bytes = Buffer.from(text, 'latin1')
  return [text, bytes, [text, '7'], [bytes, Buffer.from('7')]]
}

function assertReads(read: (value: HeaderValue) => number, text: string, expected: number): void {
  for (const value of shapesOf(text)) assert.equal(read(value), expected, JSON.stringify(text))
}

describe('numbers in headers', () => {
  test('are digits with an optional fraction, in white space or not', () => {
    const numbers = { '0': 0, '43': 43, '43.5': 43.5, '007': 7, ' 22\t': 22, '0.1': 0.1, '12345678901234567890': 12345678901234567890 }
    for (const [text, number] of Object.entries(numbers)) assertReads(readNumber, text, number)
    assertReads(readNumber, `${' '.repeat(62)}43`, 43)
  })

  test('are nothing else', () => {
    for (const text of ['', ' ', '-1', '+1', '.5', '5.', '1.2.3', '1e3', '0x10', 'NaN', 'Infinity', '1 2', '1,2', '50%', '9'.repeat(21), ' '.repeat(70) + '1']) {
      assertReads(readNumber, text, NaN)
    }
  })

  test('that are absent, or an empty list, are NaN', () => {
    for (const read of [readNumber, readPercent, readDuration]) {
      assert.ok(Number.isNaN(read(undefined)))
      assert.ok(Number.isNaN(read([])))
    }
  })

  test('are what Number() makes of the same digits', () => {
    fc.assert(fc.property(fc.nat(), fc.nat(999_999), fc.boolean(), (whole, fraction, hasFraction) => {
      const text = hasFraction ? `${whole}.${String(fraction).padStart(6, '0')}` : String(whole)
      assertReads(readNumber, text, Number(text))
    }), { seed: SEED })
  })
})

test('a percentage may have its sign', () => {
  assertReads(readPercent, '89.3%', 89.3)
  assertReads(readPercent, '104', 104)
  for (const text of ['%', '-3%', '12%%', '5.%', '% 5']) assertReads(readPercent, text, NaN)
})

describe('durations in headers', () => {
  test('are Go\'s, or whole seconds', () => {
    const durations = {
      '12ms': 12, '1.2s': 1_200, '6m0s': 360_000, '1h2m3.5s': 3_723_500, '7': 7_000, '0s': 0, '1m': 60_000, '5m10ms': 300_010, ' 2s ': 2_000,
      '1s500us': 1_000.5, '0h5m0s': 300_000, '0s17ms': 17, '1.5µs': 0.0015, '500000ns': 0.5, '100h59m59.999999999s': 100 * 3_600_000 + 3_600_000 - 1e-6,
    }
    for (const [text, ms] of Object.entries(durations)) {
      for (const value of shapesOf(text)) assert.ok(Math.abs(readDuration(value) - ms) <= 1e-6, text)
    }
    assert.equal(readDuration(Buffer.from('2µs', 'utf8')), 0.002)
  })

  test('are nothing else', () => {
    for (const text of ['', 's', '1x', '1s2', 'ms', '1..2s', '-1s', '1d', '.5s', '1.s', '1m-1s', '1 s', '6m0', '1u', '1n', '1µ', '9'.repeat(30) + 's']) {
      assertReads(readDuration, text, NaN)
    }
  })
})

test('text is what it is without the white space around it; what is longer than 64 characters is none', () => {
  for (const value of shapesOf(' Sun, 06 Nov 1994 08:49:37 GMT ')) assert.equal(readText(value), 'Sun, 06 Nov 1994 08:49:37 GMT')
  for (const value of shapesOf('x'.repeat(64))) assert.equal(readText(value), 'x'.repeat(64))
  for (const value of shapesOf('x'.repeat(65))) assert.equal(readText(value), '')
  assert.equal(readText(undefined), '')
})

test('whatever stands there is survived, and no number is negative or infinite', () => {
  fc.assert(fc.property(fc.oneof(fc.string({ unit: 'binary', maxLength: 70 }), fc.stringMatching(/^[\d.hmsuµn%]{0,20}$/)), (text) => {
    for (const value of shapesOf(text)) {
      for (const read of [readNumber, readPercent, readDuration]) {
        const number = read(value)
        assert.ok(Number.isNaN(number) || (number >= 0 && number < Infinity))
      }
      readText(value)
    }
  }), { seed: SEED, numRuns: 2_000 })
})

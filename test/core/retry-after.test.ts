import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { isRetryHeader, readRetryAfter } from '../../src/core/retry-after.js'
import type { ResponseHeaders } from '../../src/core/types.js'
import { anyHeaders, anyText, asRaw, retryHeaders } from '../support/core-arbitraries.js'
import { SEED } from '../support/seed.js'
import { VirtualSystem } from '../support/virtual-system.js'

const YEAR_MS = 365 * 24 * 3_600_000
const NOW = Date.UTC(1994, 10, 9, 8, 49, 0)
const system = new VirtualSystem(1, 0, NOW)
const read = (headers: ResponseHeaders) => readRetryAfter(headers, system)

const LAST = 'x-ratelimit-reset-tokens'
/** The same with the header that is read last, and the one that it needs. */
const reset = (value: string): Record<string, string> => ({ 'x-ratelimit-remaining-tokens': '0', [LAST]: value })

/** What is read of headers in every shape in which undici hands them over. */
function readAll(headers: Readonly<Record<string, string>>): (number | undefined)[] {
  const shapes = [headers, ...(['buffers', 'strings', 'lists'] as const).map((kind) => asRaw(headers, kind))]
  const parsedLists = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value, '']]))
  return [...shapes, parsedLists].map((shape) => read(shape)?.ms)
}

function assertReads(headers: Readonly<Record<string, string>>, ms: number | undefined): void {
  for (const seen of readAll(headers)) {
    assert.ok(seen === ms || Math.abs((seen ?? NaN) - (ms ?? NaN)) <= 1e-6, `${JSON.stringify(headers)}: ${seen}, not ${ms}`)
  }
}

describe('how long an answer asks to be left alone', () => {
  const forms: [Record<string, string>, number, string][] = [
    [{ 'retry-after-ms': '43' }, 43, 'retry-after-ms'],
    [{ 'retry-after-ms': '43.5' }, 43.5, 'retry-after-ms'],
    [{ 'x-ms-retry-after-ms': '250' }, 250, 'x-ms-retry-after-ms'],
    [{ 'retry-after': '22' }, 22_000, 'retry-after'],
    [{ 'retry-after': ' 22 ' }, 22_000, 'retry-after'],
    [{ 'retry-after': '0.25' }, 250, 'retry-after'],
    [{ 'retry-after': '0' }, 0, 'retry-after'],
    [{ 'retry-after': 'Wed, 09 Nov 1994 08:49:37 GMT' }, 37_000, 'retry-after'],
    [{ 'retry-after': 'Wednesday, 09-Nov-94 08:49:37 GMT' }, 37_000, 'retry-after'],
    [{ 'retry-after': 'Wed Nov  9 08:49:37 1994' }, 37_000, 'retry-after'],
    [{ 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '1h2m3.5s' }, 3_723_500, 'x-ratelimit-reset-requests'],
    [{ 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '6m0s' }, 360_000, 'x-ratelimit-reset-requests'],
    [{ 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '17ms' }, 17, 'x-ratelimit-reset-tokens'],
    [{ 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '1s500us' }, 1_000.5, 'x-ratelimit-reset-tokens'],
    [{ 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '59' }, 59_000, 'x-ratelimit-reset-tokens'],
  ]
  for (const [headers, ms, source] of forms) {
    test(`${Object.values(headers).join(', ')} in ${Object.keys(headers).at(-1)} is ${ms} ms`, () => {
      assert.deepEqual(read(headers), { ms, source })
      for (const kind of ['buffers', 'strings', 'lists'] as const) assert.deepEqual(read(asRaw(headers, kind)), { ms, source })
    })
  }

  const spans: [string, number][] = [
    ['30s', 30_000], ['30 s', 30_000], ['30 seconds', 30_000], ['30sec', 30_000], ['1m30s', 90_000], ['2m', 120_000], ['1 min', 60_000], ['1h', 3_600_000],
    ['500ms', 500], ['1.5s', 1_500], ['00:00:30', 30_000], ['00:01:30', 90_000], ['01:30', 90_000], ['00:00:00.250', 250],
  ]
  for (const [text, ms] of spans) {
    test(`${text} in retry-after is ${ms} ms`, () => {
      assert.deepEqual(read({ 'retry-after': text }), { ms, source: 'retry-after' })
      assert.deepEqual(read(asRaw({ 'retry-after': text }, 'buffers')), { ms, source: 'retry-after' })
    })
  }

  test('a number without a unit is milliseconds where the header says so, and a unit counts everywhere', () => {
    assert.equal(read({ 'retry-after-ms': '2s' })?.ms, 2_000)
    assert.equal(read({ 'x-ms-retry-after-ms': '250 ms' })?.ms, 250)
  })

  test('a date is compared with the answer\'s own, since our clock may be wrong', () => {
    const date = 'Wed, 09 Nov 1994 08:54:00 GMT' // five minutes ahead of ours
    for (const until of ['Wed, 09 Nov 1994 08:54:30 GMT', 'Wed Nov  9 08:54:30 1994', '1994-11-09T08:54:30Z', '1994-11-09T09:54:30.000+01:00', '1994-11-09T08:54:30']) {
      assert.equal(read({ 'retry-after': until, date })?.ms, 30_000, until)
      assert.equal(read(['Date', date, 'Retry-After', until])?.ms, 30_000, until)
    }
    assert.equal(read({ 'retry-after': date, date })?.ms, 0)
    assert.equal(read({ 'retry-after': date, date: 'now' })?.ms, 300_000, 'one that cannot be read is none')
    assert.equal(read({ 'retry-after': 'Wed, 09 Nov 1994 08:49:30 GMT', date })?.ms, 30_000, 'past by the answer, and not by us')
    assert.equal(read({ 'retry-after': 'Wed, 09 Nov 1994 08:48:30 GMT', date }), undefined, 'past by both')
  })

  test('the exact headers are trusted before the coarse ones, and those before a limit\'s reset', () => {
    const headers: Record<string, string> = {
      'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '4s', 'retry-after': '3', 'x-ms-retry-after-ms': '2', 'retry-after-ms': '1',
    }
    const seen = []
    for (const name of ['retry-after-ms', 'x-ms-retry-after-ms', 'retry-after', 'x-ratelimit-reset-tokens']) {
      seen.push(read(headers)?.ms)
      delete headers[name]
    }
    assert.deepEqual(seen, [1, 2, 3_000, 4_000])
    assert.equal(read(headers), undefined)
  })

  test('of two limits that are used up the longer reset counts; one with something left does not', () => {
    const both = {
      'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '2s', 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '1s',
    }
    assert.deepEqual(read(both), { ms: 2_000, source: 'x-ratelimit-reset-requests' })
    assert.deepEqual(read({ ...both, 'x-ratelimit-reset-tokens': '2s' }), { ms: 2_000, source: 'x-ratelimit-reset-requests' })
    assert.deepEqual(read({ ...both, 'x-ratelimit-reset-tokens': '3s' }), { ms: 3_000, source: 'x-ratelimit-reset-tokens' })
    assert.deepEqual(read({ ...both, 'x-ratelimit-remaining-requests': '7' }), { ms: 1_000, source: 'x-ratelimit-reset-tokens' })
    assert.equal(read({ ...both, 'x-ratelimit-remaining-requests': '-1', 'x-ratelimit-remaining-tokens': '-1' }), undefined)
  })

  test('what makes no sense counts as absent, and the next source is asked', () => {
    const nonsense = [
      '', ' ', '-1', '-0.5', 'NaN', 'Infinity', '1e3', '0x10', '1.', '.5', '5,5', 'soon', '5 parsecs', ':30', '1:2:3:4', '31536001', '9'.repeat(60), '9'.repeat(65),
'Mon, garbage', 'about Wed, 09 Nov 1994 08:49:37 GMT', 'Tue, 08 Nov 1994 08:49:37 GMT', 'Wed, 09 Nov 2094 08:49:37 GMT', '09 Nov 1994 08:49:37 GMT',
    ]
    for (const value of nonsense) {
      assert.equal(read({ 'retry-after': value }), undefined, value)
      assert.equal(read({ 'retry-after-ms': value.replace('31536001', '31536000001'), 'retry-after': '1' })?.ms, 1_000, value)
    }
    for (const reset of ['', '6m0', 's', '1d', '1m-1s', '1 s', '400h 1m']) {
      assert.equal(read({ 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': reset }), undefined, reset)
    }
  })

  test('a number is digits with an optional fraction, in white space or not', () => {
    const numbers = { '0': 0, '43': 43, '43.5': 43.5, '007': 7, ' 22\t': 22, '0.1': 0.1, '31536000000': 31_536_000_000, [`${' '.repeat(62)}43`]: 43 }
    for (const [text, ms] of Object.entries(numbers)) assertReads({ 'retry-after-ms': text }, ms)
  })

  test('a number is nothing else', () => {
    for (const text of ['', ' ', '-1', '+1', '.5', '5.', '1.2.3', '1e3', '0x10', 'NaN', 'Infinity', '1 2', '1,2', '50%', `${'0'.repeat(20)}1`, `${' '.repeat(70)}1`]) {
      assertReads({ 'retry-after-ms': text }, undefined)
    }
  })

  test('a number is what Number() makes of the same digits', () => {
    fc.assert(fc.property(fc.nat(), fc.nat(999_999), fc.boolean(), (whole, fraction, hasFraction) => {
      const text = hasFraction ? `${whole}.${String(fraction).padStart(6, '0')}` : String(whole)
      assert.deepEqual(new Set(readAll({ 'retry-after-ms': text })), new Set([Number(text)]))
    }), { seed: SEED })
  })

  test('a duration is Go\'s, or whole seconds', () => {
    const durations = {
      '12ms': 12, '1.2s': 1_200, '6m0s': 360_000, '1h2m3.5s': 3_723_500, '7': 7_000, '0s': 0, '1m': 60_000, '5m10ms': 300_010, ' 2s ': 2_000,
      '1s500us': 1_000.5, '0h5m0s': 300_000, '0s17ms': 17, '1.5µs': 0.0015, '500000ns': 0.5, '100h59m59.999999999s': 100 * 3_600_000 + 3_600_000 - 1e-6,
    }
    for (const [text, ms] of Object.entries(durations)) assertReads(reset(text), ms)
    const utf8 = Object.entries(reset('2µs')).flat().map((text) => Buffer.from(text, 'utf8'))
    assert.equal(read(utf8)?.ms, 0.002)
  })

  test('a duration is nothing else', () => {
    for (const text of ['', 's', '1x', '1s2', 'ms', '1..2s', '-1s', '1d', '.5s', '1.s', '1m-1s', '1 s', '6m0', '1u', '1n', '1µ', `${'9'.repeat(30)}s`]) {
      assertReads(reset(text), undefined)
    }
  })

  test('a date in a longer text than any date is none', () => {
    const date = 'Wed, 09 Nov 1994 08:49:37 GMT'
    assertReads({ 'retry-after': ` ${date} ` }, 37_000)
    assertReads({ 'retry-after': date + ' '.repeat(64 - date.length) }, 37_000)
    assertReads({ 'retry-after': date + ' '.repeat(65 - date.length) }, undefined)
  })

  test('a date without a zone means GMT, wherever the process runs', (t) => {
    const zone = process.env['TZ']
    t.after(() => {
      if (zone === undefined) delete process.env['TZ']
      else process.env['TZ'] = zone
    })
    for (const elsewhere of ['America/New_York', 'Asia/Tokyo', 'UTC']) {
      process.env['TZ'] = elsewhere
      assert.deepEqual(read({ 'retry-after': 'Wed Nov  9 08:49:37 1994' }), { ms: 37_000, source: 'retry-after' }, elsewhere)
    }
  })

  test('a year is the longest that is believed', () => {
    assert.equal(read({ 'retry-after': '31536000' })?.ms, 31_536_000_000)
    assert.equal(read({ 'retry-after': '31536000.1' }), undefined)
  })

  test('a day is read as a day: how long we obey is for the pool to bound', () => {
    assert.deepEqual(read({ 'retry-after': '86400' }), { ms: 86_400_000, source: 'retry-after' })
  })

  test('only the headers that exist for it are retry headers', () => {
    assert.equal(isRetryHeader('retry-after-ms') && isRetryHeader('x-ms-retry-after-ms') && isRetryHeader('retry-after'), true)
    assert.equal(isRetryHeader('x-ratelimit-reset-tokens') || isRetryHeader('default'), false)
  })

  test('names are read in any case, every letter of them counts, and nothing but letters has a case', () => {
    const raw = (name: string): ResponseHeaders[] => [['Date', 'x', name, '17'], [Buffer.from('Date'), Buffer.from('x'), Buffer.from(name), Buffer.from('17')]]
    for (const name of ['retry-after-ms', 'Retry-After-Ms', 'RETRY-AFTER-MS', 'rETRY-aFTER-mS']) {
      for (const headers of raw(name)) assert.equal(read(headers)?.ms, 17, name)
    }
    // '-' is 0x2d; with bit 0x20 cleared it is 0x0d, a carriage return.
    for (const name of ['xetry-after', 'Xetry-after', 'retry-aftex', 'RETRY-AFTEX', 'REXRY-AFTER', 'retry-aftar', 'retry\rafter', 'retry-after-', '']) {
      for (const headers of raw(name)) assert.equal(read(headers), undefined, name)
    }
  })

  test('of a repeated header, or a list in one, the longest counts, in every shape', () => {
    for (const headers of [
      { 'retry-after': ['1', '2'] }, ['retry-after', '1', 'retry-after', '2'], [Buffer.from('retry-after'), [Buffer.from('1'), Buffer.from('2')]],
      { 'retry-after': '1, 2' }, { 'retry-after': '2, soon, 1' }, ['Retry-After', '2, 1'],
    ]) assert.equal(read(headers)?.ms, 2_000)
    assert.equal(read({ 'retry-after': [] }), undefined)
  })

  test('a list in the place of a name and a name without a value do no harm', () => {
    assert.equal(read(['retry-after'.split(''), '1', 'retry-after']), undefined)
    assert.equal(read(['', 'x', Buffer.alloc(0), 'x', [], 'x']), undefined)
    assert.equal(read([]), undefined)
    assert.equal(read({}), undefined)
  })

  test('nothing of one answer is left for the next', () => {
    for (const [one, next] of [[{ 'retry-after-ms': '1' }, { 'retry-after': '2' }], [['retry-after-ms', '1'], ['retry-after', '2']]] as const) {
      assert.equal(read(one)?.ms, 1)
      assert.equal(read(next)?.ms, 2_000)
      assert.equal(read([]), undefined)
    }
  })

  test('all shapes of the same headers read the same', () => {
    fc.assert(fc.property(retryHeaders, (headers) => {
      const ascii = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.replace(/[^\x00-\x7f]/g, 'x')]))
      assert.equal(new Set(readAll(ascii)).size, 1)
    }), { seed: SEED })
  })

  test('whatever the headers say, reading them never throws and never leaves [0, a year]', () => {
    fc.assert(fc.property(anyHeaders, (headers) => {
      const hint = read(headers)
      assert.ok(hint === undefined || (hint.ms >= 0 && hint.ms <= YEAR_MS))
    }), { seed: SEED, numRuns: 3_000 })
  })

  test('every string in every header is survived', () => {
    fc.assert(fc.property(anyText(20), anyText(20), (value, name) => {
      for (const headers of [{ 'retry-after': value }, { 'retry-after-ms': value }, { 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': value }]) {
        const hint = read(headers)
        assert.ok(hint === undefined || (hint.ms >= 0 && hint.ms <= YEAR_MS))
      }
      read([name, value, Buffer.from(name), Buffer.from(value)])
    }), { seed: SEED, numRuns: 2_000 })
  })
})

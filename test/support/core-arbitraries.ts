/** What the property tests of the core draw from. */
import fc from 'fast-check'
import type { ResponseHeaders } from '../../src/core/types.js'

export { SEED } from './seed.js'

/** Headers as undici hands them over raw: name and value in turn. */
export function asRaw(headers: Readonly<Record<string, string>>, kind: 'buffers' | 'strings' | 'lists'): ResponseHeaders {
  const flat = Object.entries(headers).flat()
  if (kind === 'strings') return flat
  return flat.map((text, at) => {
    const bytes = Buffer.from(text, 'latin1')
    return kind === 'lists' && at % 2 === 1 ? [bytes, Buffer.from('again')] : bytes
  })
}

/** Any code units, halves of pairs too. Not fast-check's own strings of all Unicode: to get ready for those takes it a second. */
export const anyText = (maxLength: number): fc.Arbitrary<string> =>
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength }).map((codes) => String.fromCharCode(...codes))

const RETRY_NAMES = [
  'retry-after-ms', 'x-ms-retry-after-ms', 'retry-after', 'x-ratelimit-remaining-requests', 'x-ratelimit-reset-requests',
  'x-ratelimit-remaining-tokens', 'x-ratelimit-reset-tokens', 'date',
]

/** Things that servers, proxies and pranksters write where a time belongs. */
const retryValue = fc.oneof(
  anyText(80),
  fc.double().map(String),
  fc.integer().map(String),
  fc.date({ noInvalidDate: true, min: new Date(0), max: new Date('2200-01-01') }).map((date) => date.toUTCString()),
  fc.array(fc.tuple(fc.nat(100_000), fc.constantFrom('h', 'm', 's', 'ms', 'us', 'µs', 'ns', 'd', ''))).map((parts) => parts.flat().join('')),
  fc.constantFrom('', ' ', '-1', '0', '-0', 'NaN', 'Infinity', '1e9', '0x10', '1.', '.5', '99999999999999999999', '9'.repeat(60), 'Mon, garbage', '1,2'),
)

export const retryHeaders: fc.Arbitrary<Record<string, string>> = fc.dictionary(fc.constantFrom(...RETRY_NAMES), retryValue)

export const anyHeaders: fc.Arbitrary<ResponseHeaders> = fc.oneof(
  retryHeaders,
  fc.tuple(retryHeaders, fc.constantFrom('buffers' as const, 'strings' as const, 'lists' as const)).map(([headers, kind]) => asRaw(headers, kind)),
)

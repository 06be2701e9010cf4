/** Event streams as servers write them, and as networks cut them. */
import fc from 'fast-check'

/** The bytes in pieces, cut at these places (taken modulo the length). */
export function cut (bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const sorted = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b)
  return [...sorted, bytes.length].map((end, i) => bytes.subarray(sorted[i - 1] ?? 0, end))
}

/** With these line ends in place of LF, behind a byte order mark or not. */
export function asBytes (text: string, lineEnd = '\n', hasMark = false): Uint8Array {
  return Buffer.from((hasMark ? '\uFEFF' : '') + text.replaceAll('\n', lineEnd))
}

export const anyPlaces: fc.Arbitrary<number[]> = fc.oneof(
  fc.array(fc.nat(4_000), { maxLength: 30 }),
  // Every byte alone, as far as these streams reach.
  fc.constant(Array.from({ length: 4_000 }, (_, i) => i)),
)

export const anyLineEnd: fc.Arbitrary<string> = fc.constantFrom('\n', '\r', '\r\n')

/** One event of a name and JSON data; without a name only the data. */
export const event = (name: string | undefined, data: unknown): string =>
  `${name === undefined ? '' : `event: ${name}\n`}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`

/** What Azure answers to a prompt before its model has begun, as it was captured. */
export const AZURE_FIRST_CHUNK = event(undefined, {
  choices: [], created: 0, id: '', model: '', object: '',
  prompt_filter_results: [{ prompt_index: 0, content_filter_results: { hate: { filtered: false, severity: 'safe' }, jailbreak: { detected: false, filtered: false } } }],
})

/** A chunk of a chat completion with these in its only choice. */
export const chatChunk = (delta: unknown, choice: object = {}, rest: object = {}): string => event(undefined, {
  id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1_750_697_159, model: 'gpt-4o', service_tier: 'default', system_fingerprint: 'fp_1',
  choices: [{ index: 0, delta, logprobs: null, finish_reason: null, ...choice }], usage: null, obfuscation: 'aBc', ...rest,
})

export const ROLE_CHUNK = chatChunk({ role: 'assistant', content: '', refusal: null })

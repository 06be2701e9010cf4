/** Response headers between the two shapes that undici has for them. */
import { util } from './peer.js'
import type { AnyHeaders, ParsedHeaders, RawHeaders } from './undici.js'

export function isRaw(headers: AnyHeaders): headers is RawHeaders {
  return Array.isArray(headers)
}

/** Raw pairs for a handler of the old style. Over HTTP/2 undici 8 has only the parsed ones. */
export function toRaw(headers: AnyHeaders | null | undefined): RawHeaders {
  if (headers == null) return []
  if (isRaw(headers)) return headers
  const raw: Buffer[] = []
  for (const name of Object.keys(headers)) {
    const value = headers[name]
    if (value === undefined) continue
    // One pair for each repetition: joined or nested values are what loses cookies in the old style.
    if (Array.isArray(value)) for (const one of value) raw.push(Buffer.from(name, 'latin1'), Buffer.from(one, 'latin1'))
    else raw.push(Buffer.from(name, 'latin1'), Buffer.from(value, 'latin1'))
  }
  return raw
}

/** Parsed headers for a handler of the new style; undici's own parser, so that both ways in look the same. */
export function toParsed(headers: AnyHeaders | null | undefined): ParsedHeaders {
  if (headers == null) return {}
  // The parser takes nested values as undici's own mocks make them; its type does not say so.
  return isRaw(headers) ? (util.parseHeaders(headers as Buffer[]) as ParsedHeaders) : headers
}

/** The length that a response announces, in bytes; 0 where it announces none. */
export function readResponseLength(headers: AnyHeaders): number {
  const value = toParsed(headers)['content-length']
  return Number(value) || 0
}

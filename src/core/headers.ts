import type { HeaderValue } from './header-values.js'
import type { ResponseHeaders } from './types.js'

interface Wanted {
  readonly name: string
  readonly index: number
}

/**
 * Reads a fixed set of headers out of either shape that undici hands over. Raw headers are passed over once; the
 * length of a name rules out nearly all of them.
 */
export class HeaderReader {
  readonly #names: readonly string[]
  readonly #byLength: (readonly Wanted[] | undefined)[] = []
  /** Used anew for every answer, so that reading one allocates nothing. */
  readonly #values: (HeaderValue | undefined)[]

  /** @param names in lower case. */
  constructor(names: readonly string[]) {
    this.#names = names
    this.#values = names.map(() => undefined)
    names.forEach((name, index) => {
      this.#byLength[name.length] = [...this.#byLength[name.length] ?? [], { name, index }]
    })
  }

  /**
   * The values by the position of their names, of repeated headers the first; `undefined` when there is none of them.
   * They are good until the next call.
   */
  read(headers: ResponseHeaders): readonly (HeaderValue | undefined)[] | undefined {
    return (isRaw(headers) ? this.#readRaw(headers) : this.#readParsed(headers)) ? this.#values : undefined
  }

  #readParsed(headers: Readonly<Record<string, string | string[] | undefined>>): boolean {
    let isAny = false
    for (let index = 0; index < this.#names.length; index++) {
      // Bounded by the length of the array.
      const value = headers[this.#names[index]!]
      this.#values[index] = value
      if (value !== undefined) isAny = true
    }
    return isAny
  }

  #readRaw(headers: readonly HeaderValue[]): boolean {
    const values = this.#values
    values.fill(undefined)
    let isAny = false
    for (let at = 0; at + 1 < headers.length; at += 2) {
      // Both bounded by the condition of the loop.
      const name = headers[at]!
      const candidates = this.#byLength[name.length]
      if (candidates === undefined) continue
      for (const { name: wanted, index } of candidates) {
        if (values[index] !== undefined || !isNamed(name, wanted)) continue
        values[index] = headers[at + 1]!
        isAny = true
        break
      }
    }
    return isAny
  }
}

function isRaw(headers: ResponseHeaders): headers is readonly HeaderValue[] {
  return Array.isArray(headers)
}

/** Header names are compared without regard to case (RFC 9110 section 5.1); they are ASCII, so the bit 0x20 is all there is to case. */
function isNamed(name: HeaderValue, lowerCase: string): boolean {
  if (typeof name === 'string') return name === lowerCase || name.toLowerCase() === lowerCase
  // From the end, since names that are alike begin alike.
  for (let i = lowerCase.length - 1; i >= 0; i--) {
    const byte = name[i]
    if (typeof byte !== 'number') return false
    const wanted = lowerCase.charCodeAt(i)
    if (byte !== wanted && ((byte | 0x20) !== wanted || byte < 0x41 || byte > 0x5a)) return false
  }
  return true
}

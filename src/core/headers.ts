import type { HeaderValue } from './header-values.js'
import type { ResponseHeaders } from './types.js'

interface Wanted {
  readonly name: string
  /** The same as bytes: comparing bytes with bytes takes two thirds of the time that bytes with characters take. */
  readonly bytes: Uint8Array
  readonly index: number
}

/** Parsed headers, by lower-case names. */
export type NamedHeaders = Readonly<Record<string, string | string[] | undefined>>

/** Puts the values of the wanted names in their places. */
export type Pick = (headers: NamedHeaders, values: (HeaderValue | undefined)[]) => void

/**
 * Reads a fixed set of headers out of either shape that undici hands over. Raw headers are passed over once; the
 * length of a name rules out nearly all of them.
 */
export class HeaderReader {
  readonly #pick: Pick
  readonly #byLength: (readonly Wanted[] | undefined)[] = []
  /** Used anew for every answer, so that reading one allocates nothing. */
  readonly #values: (HeaderValue | undefined)[]

  /**
   * @param names in lower case.
   * @param pick for headers that are read with every answer: the names written out. A property whose name is in the
   * source is found several times as fast as one whose name is in a variable.
   */
  constructor(names: readonly string[], pick: Pick = (headers, values) => { names.forEach((name, index) => { values[index] = headers[name] }) }) {
    this.#pick = pick
    this.#values = names.map(() => undefined)
    names.forEach((name, index) => {
      this.#byLength[name.length] = [...this.#byLength[name.length] ?? [], { name, bytes: Uint8Array.from(name, toCode), index }]
    })
  }

  /**
   * The values by the position of their names, of repeated headers the first; `undefined` when there is none of them.
   * They are good until the next call.
   */
  read(headers: ResponseHeaders): readonly (HeaderValue | undefined)[] | undefined {
    return (isRaw(headers) ? this.#readRaw(headers) : this.#readParsed(headers)) ? this.#values : undefined
  }

  #readParsed(headers: NamedHeaders): boolean {
    const values = this.#values
    this.#pick(headers, values)
    for (let index = 0; index < values.length; index++) if (values[index] !== undefined) return true
    return false
  }

  #readRaw(headers: readonly HeaderValue[]): boolean {
    const values = this.#values
    for (let index = 0; index < values.length; index++) values[index] = undefined
    let isAny = false
    for (let at = 0; at + 1 < headers.length; at += 2) {
      // Both bounded by the condition of the loop.
      const name = headers[at]!
      const candidates = this.#byLength[name.length]
      if (candidates === undefined) continue
      for (const wanted of candidates) {
        if (values[wanted.index] !== undefined || !isNamed(name, wanted)) continue
        values[wanted.index] = headers[at + 1]!
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
function isNamed(name: HeaderValue, { name: lowerCase, bytes }: Wanted): boolean {
  if (typeof name === 'string') return name === lowerCase || name.toLowerCase() === lowerCase
  // From the end, since names that are alike begin alike.
  for (let i = bytes.length - 1; i >= 0; i--) {
    const byte = name[i]
    if (typeof byte !== 'number') return false
    if (byte !== bytes[i] && ((byte | 0x20) !== bytes[i] || byte < 0x41 || byte > 0x5a)) return false
  }
  return true
}

function toCode(character: string): number {
  return character.charCodeAt(0)
}

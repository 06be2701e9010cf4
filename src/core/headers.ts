import type { ResponseHeaders } from './types.js'

type HeaderValue = Uint8Array | string | readonly (Uint8Array | string)[]

interface Wanted {
  readonly name: string
  readonly index: number
}

/**
 * No value that is read here is longer ("Wednesday, 09-Nov-94 08:49:37 GMT" has 33 characters); keeps garbage cheap.
 */
const LONGEST_VALUE = 64

/**
 * Reads a fixed set of headers out of either shape that undici hands over. Raw headers are passed over once; the
 * length of a name rules out nearly all of them, so that an answer without any of the names costs no allocation.
 */
export class HeaderReader {
  readonly #names: readonly string[]
  readonly #byLength: (readonly Wanted[] | undefined)[] = []

  /** @param names in lower case. */
  constructor(names: readonly string[]) {
    this.#names = names
    names.forEach((name, index) => {
      this.#byLength[name.length] = [...this.#byLength[name.length] ?? [], { name, index }]
    })
  }

  /**
   * The values by the position of their names, of repeated headers the first; `undefined` when there is none of them. A
   * value of more than 64 characters counts as absent.
   */
  read(headers: ResponseHeaders): readonly (string | undefined)[] | undefined {
    return isRaw(headers) ? this.#readRaw(headers) : this.#readParsed(headers)
  }

  #readParsed(headers: Readonly<Record<string, string | string[] | undefined>>): (string | undefined)[] | undefined {
    let values: (string | undefined)[] | undefined
    for (let index = 0; index < this.#names.length; index++) {
      // Bounded by the length of the array.
      const value = headers[this.#names[index]!]
      if (value !== undefined) (values ??= [])[index] = toText(value)
    }
    return values
  }

  #readRaw(headers: readonly HeaderValue[]): (string | undefined)[] | undefined {
    let values: (string | undefined)[] | undefined
    for (let at = 0; at + 1 < headers.length; at += 2) {
      // Both bounded by the condition of the loop.
      const name = headers[at]!
      const candidates = this.#byLength[name.length]
      if (candidates === undefined) continue
      for (const wanted of candidates) {
        if (values?.[wanted.index] === undefined && isNamed(name, wanted.name)) {
          (values ??= [])[wanted.index] = toText(headers[at + 1]!)
        }
      }
    }
    return values
  }
}

function isRaw(headers: ResponseHeaders): headers is readonly HeaderValue[] {
  return Array.isArray(headers)
}

/** Header names are compared without regard to case (RFC 9110 section 5.1); they are ASCII, so the bit 0x20 is all there is to case. */
function isNamed(name: HeaderValue, lowerCase: string): boolean {
  if (typeof name === 'string') return name === lowerCase || name.toLowerCase() === lowerCase
  for (let i = 0; i < lowerCase.length; i++) {
    const byte = name[i]
    if (typeof byte !== 'number') return false
    const wanted = lowerCase.charCodeAt(i)
    if (byte !== wanted && ((byte | 0x20) !== wanted || byte < 0x41 || byte > 0x5a)) return false
  }
  return true
}

function toText(value: HeaderValue): string | undefined {
  if (typeof value === 'string') return value.length > LONGEST_VALUE ? undefined : value
  if (!(value instanceof Uint8Array)) return value[0] === undefined ? undefined : toText(value[0])
  if (value.length > LONGEST_VALUE) return undefined
  // Some ten bytes of ASCII, for which a decoder takes ten times as long to set up.
  let text = ''
  for (let i = 0; i < value.length; i++) text += String.fromCharCode(value[i]!) // bounded by the condition of the loop
  return text
}

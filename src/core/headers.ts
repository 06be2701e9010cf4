/**
 * Reading response headers where every answer pays for it: out of raw bytes or parsed text, as undici hands them over, and the
 * numbers and durations in them. By hand, because an answer that speaks of its limits has seven such headers, and making text
 * of bytes costs more than reading them: what all seven add to a request is a row of `npm run bench -- --part pure`.
 */
import type { ResponseHeaders } from './types.js'

/** Of a header that is repeated a list, of which the first counts. */
export type HeaderValue = Uint8Array | string | readonly (Uint8Array | string)[]

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

export function isRaw(headers: ResponseHeaders): headers is readonly HeaderValue[] {
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

/** Character codes, the same in ASCII, Latin-1 and Unicode. */
const ZERO = 0x30
const NINE = 0x39
const POINT = 0x2e
const PERCENT = 0x25
const SPACE = 0x20
const TAB = 0x09
const SEMICOLON = 0x3b
const H = 0x68
const M = 0x6d
const N = 0x6e
const S = 0x73
const U = 0x75
const MICRO = 0xb5
/** With which the micro sign begins in UTF-8. */
const UTF8_LEAD = 0xc2

/** In characters: longer than any number or duration that makes sense ("100h59m59.999999999s"); keeps garbage cheap, and its numbers finite. */
const LONGEST_NUMBER = 20

/** In characters: no text that is read is longer ("Wednesday, 09-Nov-94 08:49:37 GMT" has 33 characters). */
const LONGEST_TEXT = 64

/** Goes over one value from left to right. There is one, which is used anew for every value. */
class Scanner {
  #text: Uint8Array | string = ''
  #at = 0
  #end = 0

  /** @returns whether there is anything to read, white space around it apart. */
  begin(value: HeaderValue | undefined): boolean {
    const text = firstOf(value)
    if (text === undefined || text.length > LONGEST_TEXT) return false
    let at = 0
    let end = text.length
    while (at < end && isSpace(codeAt(text, end - 1))) end--
    while (at < end && isSpace(codeAt(text, at))) at++
    this.#text = text
    this.#at = at
    this.#end = end
    return end > at && end - at <= LONGEST_NUMBER
  }

  get isAtEnd(): boolean {
    return this.#at === this.#end
  }

  /** Digits with an optional fraction, or NaN. Not `Number()`: that takes '', '0x10', '1e9' and 'Infinity'. */
  readAmount(): number {
    // Local, since this is what costs most of reading an answer's headers: fields would be read again for every digit.
    const text = this.#text
    const end = this.#end
    let at = this.#at
    let amount = 0
    let scale = 0
    let digits = 0
    for (; at < end; at++) {
      const code = codeAt(text, at)
      if (code >= ZERO && code <= NINE) {
        amount = amount * 10 + code - ZERO
        scale *= 10
        digits++
      } else if (code === POINT && scale === 0 && digits > 0) {
        scale = 1
        digits = 0
      } else break
    }
    this.#at = at
    if (digits === 0) return NaN
    return scale === 0 ? amount : amount / scale
  }

  /** Moves past this character, if it comes next. */
  skip(code: number): boolean {
    if (this.isAtEnd || codeAt(this.#text, this.#at) !== code) return false
    this.#at++
    return true
  }

  /** Milliseconds of the unit that comes next; NaN when it is none of Go's. */
  readUnit(): number {
    if (this.skip(S)) return 1_000
    if (this.skip(H)) return 3_600_000
    if (this.skip(M)) return this.skip(S) ? 1 : 60_000
    if (this.skip(N)) return this.skip(S) ? 1e-6 : NaN
    this.skip(UTF8_LEAD)
    return (this.skip(U) || this.skip(MICRO)) && this.skip(S) ? 1e-3 : NaN
  }
}

const scanner = new Scanner()

/** Digits with an optional fraction; NaN for anything else. */
export function readNumber(value: HeaderValue | undefined): number {
  const digits = readDigits(value)
  if (digits >= 0) return digits
  if (!scanner.begin(value)) return NaN
  const amount = scanner.readAmount()
  return scanner.isAtEnd ? amount : NaN
}

/** The same, with or without a percent sign. */
export function readPercent(value: HeaderValue | undefined): number {
  if (!scanner.begin(value)) return NaN
  const amount = scanner.readAmount()
  scanner.skip(PERCENT)
  return scanner.isAtEnd ? amount : NaN
}

/** In milliseconds: Go's durations as OpenAI writes them (`17ms`, `6m0s`, `1h2m3.5s`), or Azure's whole seconds. NaN when it is neither. */
export function readDuration(value: HeaderValue | undefined): number {
  if (!scanner.begin(value)) return NaN
  const amount = scanner.readAmount()
  if (scanner.isAtEnd) return amount * 1_000
  let ms = amount * scanner.readUnit()
  while (!scanner.isAtEnd && ms >= 0) ms += scanner.readAmount() * scanner.readUnit()
  return ms
}

/** All values of a header, in order, as texts. For what is read of few answers. @param name in lower case */
export function readTexts(headers: ResponseHeaders, name: string): string[] {
  const values: HeaderValue[] = []
  if (!isRaw(headers)) values.push(headers[name] ?? [])
  // Bounded by the condition of the loop.
  else for (let at = 0; at + 1 < headers.length; at += 2) if (readText(headers[at]).toLowerCase() === name) values.push(headers[at + 1]!)
  return values.flatMap((value) => (typeof value === 'string' || value instanceof Uint8Array ? [readText(value)] : value.map(readText)))
}

/** What `isWord` compares with: the same as text and as bytes, in lower case. */
export interface Word {
  readonly text: string
  readonly bytes: Uint8Array
}

/** @param text in lower case */
export function toWord(text: string): Word {
  return { text, bytes: Uint8Array.from(text, toCode) }
}

/**
 * Whether a value is this word, in any letter case, with parameters behind it (`; charset=utf-8`) or without. By hand, since the media
 * type of every answer is asked for: text made of bytes takes 300 ns (`npm run bench -- --part pure`).
 */
export function isWord(value: HeaderValue | undefined, { text: word, bytes }: Word): boolean {
  const given = firstOf(value)
  if (given === undefined || given.length < word.length) return false
  if (typeof given === 'string') return given.slice(0, word.length).toLowerCase() === word && isOver(given, word.length)
  for (let at = 0; at < bytes.length; at++) {
    const byte = given[at]! // as long, at least
    // Letters differ by this bit in their cases; nothing else that may stand in a media type becomes one by it.
    if (byte !== bytes[at] && (byte | 0x20) !== bytes[at]) return false
  }
  return isOver(given, bytes.length)
}

/** Whether a word has ended there. */
function isOver(text: Uint8Array | string, at: number): boolean {
  if (text.length === at) return true
  const next = codeAt(text, at)
  return next === SEMICOLON || isSpace(next)
}

/** As text, white space around it removed; `''` when there is none, or too much of it. */
export function readText(value: HeaderValue | undefined): string {
  const text = firstOf(value)
  if (text === undefined || text.length > LONGEST_TEXT) return ''
  return (typeof text === 'string' ? text : String.fromCharCode(...text)).trim()
}

/** Nearly all numbers are digits and nothing else. NaN for what is not, which may still be a number. */
function readDigits(value: HeaderValue | undefined): number {
  const text = firstOf(value)
  if (text === undefined || text.length === 0 || text.length > LONGEST_NUMBER) return NaN
  let amount = 0
  for (let at = 0; at < text.length; at++) {
    const code = codeAt(text, at)
    if (code < ZERO || code > NINE) return NaN
    amount = amount * 10 + code - ZERO
  }
  return amount
}

function firstOf(value: HeaderValue | undefined): Uint8Array | string | undefined {
  return value === undefined || typeof value === 'string' || value instanceof Uint8Array ? value : value[0]
}

/** @param at before the end, which the callers see to. */
function codeAt(text: Uint8Array | string, at: number): number {
  return typeof text === 'string' ? text.charCodeAt(at) : text[at]!
}

function isSpace(code: number): boolean {
  return code === SPACE || code === TAB
}

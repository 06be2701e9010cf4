/**
 * Reading a caller's options: each property is read once, nothing is written, and whatever is wrong becomes an
 * `InvalidOptionsError` that names the option, the rule and the value.
 */
import { InvalidOptionsError } from '../errors.js'
import { MAX_TIMER_MS } from '../system.js'

/** What the options object as a whole is called in messages. */
export const OPTIONS = 'options'

/** Longest piece of a received value in a message, in characters: one line of a terminal. */
const MAX_SHOWN = 80

/** A value as a message may show it: short, on one line, and never the inside of an object. */
export function describe(value: unknown): string {
  if (typeof value === 'string' && value !== '') return quote(value)
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  return describeKind(value)
}

/** Only what kind of value it is: for places where a secret belongs, or may have strayed. */
export function describeKind(value: unknown): string {
  if (value === '') return 'an empty string'
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return value.length === 0 ? 'an empty array' : 'an array'
  return `${typeof value === 'object' ? 'an' : 'a'} ${typeof value}`
}

/**
 * A URL as a message may show it: with userinfo, query and fragment masked. It need not be a valid URL, so the rule
 * is on the wide side: all up to the last `@` goes, and all from the first `?` or `#`.
 */
export function describeUrl(value: unknown): string {
  if (typeof value !== 'string' || value === '') return describeKind(value)
  return quote(value.replace(/^((https?|ftp|wss?):[/\\]*)?.*@/is, '$1***@').replace(/([?#]).*$/s, '$1***'))
}

function quote(text: string): string {
  return JSON.stringify(text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text)
}

/** `backends[0]` and `url` make `backends[0].url`; the options object itself has no name in a path. */
export function joinPath(path: string, key: string): string {
  if (!/^[\w$]{1,80}$/.test(key)) return `${path}[${quote(key)}]`
  return path === OPTIONS ? key : `${path}.${key}`
}

/** Runs code of the caller's (a getter, a proxy's trap): what it throws becomes the cause of our own error. */
function readCallers<T>(path: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    throw new InvalidOptionsError(path, 'must be readable', 'something that throws when it is read', { cause })
  }
}

/**
 * Reads the known properties of an options object, each once, inherited ones too. A property that is there, but
 * `undefined`, is there in the copy as well.
 * @throws InvalidOptionsError when it is no object or has a property that is not known.
 */
export function readOptions<K extends string>(value: unknown, path: string, known: readonly K[]): Partial<Record<K, unknown>> {
  if (!isObject(value)) throw new InvalidOptionsError(path, 'must be an object', describeKind(value))
  for (const key of readCallers(path, () => Object.keys(value))) {
    if ((known as readonly string[]).includes(key)) continue
    const nearest = findNearest(key, known)
    const hint = nearest === undefined ? `known are ${known.join(', ')}` : `did you mean ${nearest}?`
    // Only the kind of the value: it may be the secret of a misspelt option.
    const received = readCallers(joinPath(path, key), () => describeKind(value[key]))
    throw new InvalidOptionsError(joinPath(path, key), `is not an option (${hint})`, received)
  }
  const copy: Partial<Record<K, unknown>> = {}
  for (const key of known) {
    const read = () => { if (key in value) copy[key] = value[key] }
    readCallers(joinPath(path, key), read)
  }
  return copy
}

/** Copies an array. @throws InvalidOptionsError when it is none, or empty. */
export function readList(value: unknown, path: string): unknown[] {
  const items = readCallers(path, () => (Array.isArray(value) ? Array.from(value as unknown[]) : undefined))
  if (items === undefined || items.length === 0) throw new InvalidOptionsError(path, 'must be an array of at least one', describeKind(value))
  return items
}

/**
 * Copies an object of strings. The copy has no prototype: a name such as `constructor` finds nothing in it.
 * @throws InvalidOptionsError for anything else; the values are not shown.
 */
export function readStrings(value: unknown, path: string): Readonly<Record<string, string>> {
  if (!isObject(value)) throw new InvalidOptionsError(path, 'must be an object of strings', describeKind(value))
  const copy: Record<string, string> = Object.create(null) as Record<string, string>
  for (const key of readCallers(path, () => Object.keys(value))) {
    const item = readCallers(joinPath(path, key), () => value[key])
    if (typeof item !== 'string') throw new InvalidOptionsError(joinPath(path, key), 'must be a string', describeKind(item))
    copy[key] = item
  }
  return Object.freeze(copy)
}

/** A member of a caller's object that must be a function. */
export function hasMethod(value: unknown, name: string, path: string): boolean {
  return isObjectOrFunction(value) && readCallers(path, () => typeof value[name] === 'function')
}

export function checkBoolean(value: unknown, path: string): boolean {
  if (typeof value !== 'boolean') throw new InvalidOptionsError(path, 'must be true or false', describe(value))
  return value
}

/** A finite number of `min` or more; with `above`, more than `min`. */
export function checkNumber(value: unknown, path: string, { min, above = false, max = Number.MAX_VALUE }: { min: number; above?: boolean; max?: number }): number {
  if (typeof value === 'number' && (above ? value > min : value >= min) && value <= max) return value
  const upTo = max === Number.MAX_VALUE ? '' : ` and at most ${max}`
  throw new InvalidOptionsError(path, `must be a finite number ${above ? `above ${min}` : `of ${min} or more`}${upTo}`, describe(value))
}

export function checkInteger(value: unknown, path: string, min: number): number {
  if (Number.isSafeInteger(value) && (value as number) >= min) return value as number
  throw new InvalidOptionsError(path, `must be an integer of ${min} or more`, describe(value))
}

/** Milliseconds that a timer can count. */
export function checkDuration(value: unknown, path: string, { zero }: { zero: boolean }): number {
  if (typeof value === 'number' && (zero ? value >= 0 : value > 0) && value <= MAX_TIMER_MS) return value
  throw new InvalidOptionsError(path, `must be milliseconds ${zero ? 'of 0 or more' : 'above 0'} and at most ${MAX_TIMER_MS} (24.8 days)`, describe(value))
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isObjectOrFunction(value: unknown): value is Record<string, unknown> {
  return typeof value === 'function' || isObject(value)
}

/** Edits per letter of the known word; with more it is another word: `prio` is not `pacing`, while `maxwait` is still `maxWaitMs`. */
const MAX_EDITS_PER_LETTER = 0.4

/** The known word that takes the fewest edits, letter case aside; `undefined` when none is near. */
export function findNearest<K extends string>(word: string, known: readonly K[]): K | undefined {
  let nearest: K | undefined
  let fewest = Infinity
  for (const candidate of known) {
    const edits = countEdits(word.toLowerCase(), candidate.toLowerCase())
    if (edits < fewest && edits <= candidate.length * MAX_EDITS_PER_LETTER) {
      nearest = candidate
      fewest = edits
    }
  }
  return nearest
}

/** Levenshtein distance, row by row. */
function countEdits(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let row = 1; row <= from.length; row++) {
    const current = [row]
    for (let column = 1; column <= to.length; column++) {
      const replaced = at(previous, column - 1) + (from[row - 1] === to[column - 1] ? 0 : 1)
      current.push(Math.min(replaced, at(previous, column) + 1, at(current, column - 1) + 1))
    }
    previous = current
  }
  return at(previous, to.length)
}

function at(row: readonly number[], column: number): number {
  return row[column] as number // every column up to the one asked for has been filled
}

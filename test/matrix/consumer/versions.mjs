/** The versions that this cell is about. */
import { createRequire } from 'node:module'

export const require = createRequire(import.meta.url)
export const UNDICI = require('undici/package.json').version
export const UNDICI_MAJOR = Number.parseInt(UNDICI)
export const UNDICI_8 = UNDICI_MAJOR >= 8

const numbers = (version) => version.split('.').map(Number)

/** True when this Node is of that version or a newer one. */
export function nodeIs (wanted) {
  const [left, right] = [numbers(process.versions.node), numbers(wanted)]
  const at = left.findIndex((number, i) => number !== right[i])
  return at === -1 || left[at] > right[at]
}

/** Node's own fetch hands over handlers of the old style, which undici 8's dispatchers refuse. */
export const NATIVE_HANDLERS_ARE_OLD = !nodeIs('26.0.0')

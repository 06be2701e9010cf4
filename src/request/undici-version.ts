/**
 * Looked at before undici itself is loaded, so that a pair which cannot work says so in a sentence, instead of failing
 * somewhere inside undici (8 on Node 20) or missing every request without a word (before 7.27.2 on Node 26).
 */
import { createRequire } from 'node:module'

/** The oldest undici that can be told from a working one by trying: see the README's compatibility table. */
export const OLDEST_UNDICI = '7.27.2'

/**
 * Throws when this Node and this undici cannot work together; the message says what to install.
 * @param undici its version; undefined when that is not known
 */
export function checkPeer(undici: string | undefined, node: string): void {
  if (isOlder(node, '20.18.1')) {
    throw new Error(`openai-priority-loadbalancer needs Node.js 20.18.1 or newer; this is ${node}.`)
  }
  if (undici === undefined) return
  if (isOlder(undici, OLDEST_UNDICI)) {
    throw new Error(
      `openai-priority-loadbalancer needs undici ${OLDEST_UNDICI} or newer, or 8; found ${undici}, which does not see every request. Run: npm install undici@7`,
    )
  }
  if (isOlder(node, '22.19.0') && !isOlder(undici, '8.0.0')) {
    throw new Error(
      `undici ${undici} needs Node.js 22.19 or newer; this is ${node}. Run: npm install undici@7 (openai-priority-loadbalancer works with both)`,
    )
  }
}

/** Compares the three numbers; a pre-release counts as its release. */
function isOlder(version: string, than: string): boolean {
  const left = version.split(/[.-]/, 3).map(Number)
  for (const [i, right] of than.split('.').map(Number).entries()) {
    const difference = (left[i] ?? 0) - right
    if (difference !== 0) return difference < 0
  }
  return false
}

/** The version of the undici that this package resolves to; `undefined` where a bundler left no files to look at. */
export function readUndiciVersion(load: (path: string) => unknown): string | undefined {
  try {
    return (load('undici/package.json') as { version: string }).version
  } catch {
    return undefined
  }
}

const FIRST = Symbol.for('undici.globalDispatcher.1')
const SECOND = Symbol.for('undici.globalDispatcher.2')

const slots = globalThis as Partial<Record<symbol, unknown>>
const [first, second] = [slots[FIRST], slots[SECOND]]

/**
 * To be called when undici has been loaded. Undici 8 looks for a global dispatcher only under the second symbol, and where
 * there is none puts a default of its own under both: the Agent that an older copy of undici has set under the first one,
 * with its certificates, would be gone because this package was imported.
 */
export function keepGlobal(): void {
  if (first === undefined || second !== undefined || slots[FIRST] === first) return
  Object.defineProperty(globalThis, FIRST, { value: first, writable: true, enumerable: false, configurable: false })
}

checkPeer(readUndiciVersion(createRequire(import.meta.url)), process.versions.node)

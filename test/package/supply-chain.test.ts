/** What comes with the package when it is installed: pino and what pino needs, beside the undici that the consumer chooses. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'

interface Entry {
  readonly dev?: boolean
  readonly peer?: boolean
  readonly license?: string
  readonly integrity?: string
  readonly hasInstallScript?: boolean
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

const lock = JSON.parse(readFileSync(new URL('../../package-lock.json', import.meta.url), 'utf8')) as { readonly packages: Readonly<Record<string, Entry>> }
const installed = Object.entries(lock.packages).filter(([path]) => path !== '')
const comesAlong = installed.filter(([, { dev, peer }]) => dev !== true && peer !== true)
const FOLDER = 'node_modules/'

/** The packages that one needs, by the names of their folders, itself included. */
function closureOf (name: string, found = new Set<string>()): Set<string> {
  const entry = lock.packages[FOLDER + name]
  if (entry === undefined || found.has(name)) return found
  found.add(name)
  for (const next of Object.keys({ ...entry.dependencies, ...entry.optionalDependencies })) closureOf(next, found)
  return found
}

describe('what is installed along with the package', () => {
  test('is pino and what pino needs, and nothing else', () => {
    assert.deepEqual(comesAlong.map(([path]) => path.slice(FOLDER.length)).sort(), [...closureOf('pino')].sort())
    assert.ok(comesAlong.length >= 5)
    assert.deepEqual(closureOf('undici'), new Set(['undici']))
  })

  test('may be used by everyone: MIT or ISC', () => {
    assert.deepEqual(comesAlong.filter(([, { license }]) => license !== 'MIT' && license !== 'ISC'), [])
    assert.equal(lock.packages['node_modules/undici']?.license, 'MIT')
  })

  test('runs nothing when it is installed', () => {
    assert.deepEqual(comesAlong.filter(([, { hasInstallScript }]) => hasInstallScript === true), [])
  })
})

test('every package of the lock is held to its content, whichever registry it comes from', () => {
  assert.deepEqual(installed.filter(([, entry]) => !/^sha512-/.test(entry.integrity ?? '') || 'resolved' in entry), [])
})

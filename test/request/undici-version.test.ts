// A Node and an undici that cannot work together are told apart before anything is sent.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { checkPeer, readUndiciVersion } from '../../src/request/undici-version.js'

describe('a Node and an undici that cannot work together say so', () => {
  const pairs: readonly [undici: string, node: string, message: RegExp | undefined][] = [
    ['7.27.2', '20.18.1', undefined],
    ['7.30.2', '26.10.0', undefined],
    ['8.12.4', '22.19.0', undefined],
    ['8.0.0-alpha.1', '24.0.0', undefined],
    ['7.30.2', '20.18.0', /needs Node\.js 20\.18\.1 or newer; this is 20\.18\.0/],
    ['7.30.2', '18.20.0', /needs Node\.js/],
    ['7.27.1', '24.0.0', /needs undici 7\.27\.2 or newer, or 8; found 7\.27\.1.*npm install undici@7/],
    ['6.24.1', '20.20.2', /found 6\.24\.1/],
    ['8.12.4', '20.20.2', /undici 8\.12\.4 needs Node\.js 22\.19 or newer; this is 20\.20\.2/],
    ['8.12.4', '22.18.0', /needs Node\.js 22\.19/],
    ['8', '22.19', undefined],
  ]
  test('but an undici whose version cannot be read may try', () => {
    const version = readUndiciVersion(() => { throw new Error('bundled') })
    assert.equal(version, undefined)
    checkPeer(version, '20.18.1')
    assert.throws(() => { checkPeer(version, '18.20.0') }, /needs Node\.js/)
    assert.equal(readUndiciVersion(() => ({ version: '7.30.2' })), '7.30.2')
  })

  for (const [undici, node, message] of pairs) {
    test(`undici ${undici} on Node ${node}`, () => {
      if (message === undefined) checkPeer(undici, node)
      else assert.throws(() => { checkPeer(undici, node) }, { message })
    })
  }
})

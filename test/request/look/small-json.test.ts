import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { lookAtSuccess } from '../../../src/request/look/look.js'

/** What comes of a short answer of this text. */
function kindOf(text: string): string | undefined {
  const chunk = Buffer.from(text)
  const headers = { 'content-type': 'application/json', 'content-length': String(chunk.byteLength) }
  const look = lookAtSuccess(200, headers, { streamGuard: 'output', streamIdleMs: undefined, attemptTimeoutMs: undefined })
  assert.ok(typeof look === 'object')
  return look.write(chunk)?.kind
}

describe('the error in a short answer', () => {
  it('is found wherever it stands', () => {
    for (let length = 0; length < 30; length++) {
      for (const letter of ['x', 'e', 'r', 'o', '\\"']) {
        const before = letter.repeat(length)
        assert.equal(kindOf(`{"a":"${before}","error":{"message":"No."}}`), 'error', before)
        assert.equal(kindOf(`{"error":{"message":"No."},"a":"${before}"}`), 'error', before)
      }
    }
  })

  it('is found behind what looks like it', () => {
    for (const before of ['"error', 'error"', '"erro', 'rror"', '"errorr"', '"eerror"', '""error']) {
      assert.equal(kindOf(`{${JSON.stringify(before)}:1,"error":{"message":"No."}}`), 'error', before)
      assert.equal(kindOf(`{${JSON.stringify(before)}:1}`), 'deliver', before)
    }
    assert.equal(kindOf('{"a":{"error":null},"error":{"message":"No."}}'), 'error')
    assert.equal(kindOf('{"a":{"error" : null},"error": null}'), 'deliver')
  })
})

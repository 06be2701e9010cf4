import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isWord, toWord } from '../../src/core/headers.js'

const JSON_TYPE = toWord('application/json')

test('a header value is a word in any letter case, with parameters behind it or without, as text and as bytes', () => {
  for (const value of ['application/json', 'Application/JSON', 'application/json; charset=utf-8', 'application/json;charset=utf-8', 'application/json ', 'application/json\t;x']) {
    for (const shape of [value, Buffer.from(value), [value, 'text/html'], [Buffer.from(value)]]) assert.equal(isWord(shape, JSON_TYPE), true, value)
  }
})

test('it is not where it only begins with that, is shorter, another one, or none at all', () => {
  for (const value of ['application/json-seq', 'application/jsonl', 'application/jso', 'application/jsom', '', 'text/html']) {
    for (const shape of [value, Buffer.from(value)]) assert.equal(isWord(shape, JSON_TYPE), false, value)
  }
  assert.equal(isWord(undefined, JSON_TYPE), false)
  assert.equal(isWord([], JSON_TYPE), false)
})

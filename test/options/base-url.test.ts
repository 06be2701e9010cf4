import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { parseBaseUrl } from '../../src/options/base-url.js'
import { InvalidOptionsError } from '../../src/errors.js'
import { SEED } from '../support/seed.js'

const failure = (value: unknown): InvalidOptionsError => {
  try {
    parseBaseUrl(value, 'backends[0].url')
  } catch (error) {
    assert.ok(error instanceof InvalidOptionsError)
    assert.equal(error.option, 'backends[0].url')
    return error
  }
  assert.fail(`${String(value)} was accepted`)
}

describe('base URLs', () => {
  const good: Record<string, [origin: string, basePath: string]> = {
    'https://a.openai.azure.com/openai/v1': ['https://a.openai.azure.com', '/openai/v1'],
    'https://a.openai.azure.com/openai/v1/': ['https://a.openai.azure.com', '/openai/v1'],
    'https://a.openai.azure.com/': ['https://a.openai.azure.com', ''],
    'a.openai.azure.com': ['https://a.openai.azure.com', ''],
    'a.openai.azure.com:8443/ai': ['https://a.openai.azure.com:8443', '/ai'],
    'localhost:8080': ['https://localhost:8080', ''],
    'https://A.Example:443/V1': ['https://a.example', '/V1'],
    'HTTP://127.0.0.1:80/x': ['http://127.0.0.1', '/x'],
    'http://[::1]:3000': ['http://[::1]:3000', ''],
    'https://a.example/caf%c3%a9/%7Eme': ['https://a.example', '/caf%c3%a9/%7Eme'],
    'https://a.example/é': ['https://a.example', '/%C3%A9'],
    'https://a.example/..x/.y/z..': ['https://a.example', '/..x/.y/z..'],
  }
  for (const [url, [origin, basePath]] of Object.entries(good)) {
    test(`${url} is ${origin} with the base path "${basePath}"`, () => {
      assert.deepEqual(parseBaseUrl(url, 'intercept[0]'), { href: origin + basePath, origin, basePath })
    })
  }

  const bad: readonly [value: unknown, rule: RegExp, received?: string][] = [
    [undefined, /must be a URL such as/, 'undefined'],
    ['', /must be a URL such as/, 'an empty string'],
    [new URL('https://a.example'), /must be a URL such as/, 'an object'],
    [42, /must be a URL such as/, 'a number'],
    [' https://a.example', /white space/],
    ['https://a.example/x y', /white space/],
    ['https://a.exam\tple', /white space/, '"https://a.exam\\tple"'],
    ['https://a.example/\u0000', /control characters/],
    ['https:\\\\a.example', /backslash/],
    ['https://a.example/x\\y', /backslash/],
    ['ftp://a.example', /http or https/, '"ftp://a.example"'],
    ['file:///etc/passwd', /http or https/],
    ['ws://a.example', /http or https/],
    ['https://a.example?api-version=1&key=SECRET', /query/, '"https://a.example?***"'],
    ['https://a.example/?', /query/],
    ['https://a.example/#SECRET', /fragment/, '"https://a.example/#***"'],
    ['https://user:SECRET@a.example', /user name or password/, '"https://***@a.example"'],
    ['user:SECRET@a.example', /user name or password/, '"***@a.example"'],
    ['https://@a.example', /user name or password/],
    ['https://u:SECRET@x:SECRET@a.example/y', /user name or password/, '"https://***@a.example/y"'],
    ['https://u:SEC#RET@a.example', /user name or password/, '"https://***@a.example"'],
    ['https://*.openai.azure.com', /wildcards/],
    ['https:///a.example', /valid URL/],
    ['//a.example', /valid URL/],
    ['https://', /valid URL/],
    ['https://a.example:99999', /valid URL/],
    ['https://a b.example'.replace(' ', '^'), /valid URL/],
    ['https://a.example//openai', /empty segment/],
    ['https://a.example/openai//', /empty segment/],
    ['https://a.example/openai/../x', /dot segment/],
    ['https://a.example/./x', /dot segment/],
    ['https://a.example/x/..', /dot segment/],
    ['https://a.example/%2e%2E/x', /dot segment/],
    ['https://a.example/.%2e/', /dot segment/],
    ['https://a.example/x%2fy', /encoded slash/],
    ['https://a.example/x%5Cy', /encoded slash/],
  ]
  for (const [value, rule, received] of bad) {
    test(`${String(value)} is refused: ${rule.source}`, () => {
      const error = failure(value)
      assert.match(error.rule, rule)
      if (received !== undefined) assert.equal(error.received, received)
      assert.ok(!error.message.includes('SECRET'), error.message)
    })
  }

  test('a long value is shortened in the message', () => {
    assert.ok(failure(`ftp://${'a'.repeat(1000)}`).message.length < 250)
  })

  test('whatever string comes, the result is in normal form, or the error is ours', () => {
    const segment = fc.oneof(fc.constantFrom('openai', 'v1', '.', '..', '%2e', '%2F', '', '?', '#', '@', '\\', ' ', 'é', ':'), fc.string({ maxLength: 5 }))
    const url = fc.tuple(fc.constantFrom('https://', 'http://', '', '//', 'ftp:'), fc.array(segment, { maxLength: 6 })).map(([scheme, parts]) => scheme + parts.join('/'))
    let accepted = 0
    fc.assert(fc.property(url, (value) => {
      let base
      try {
        base = parseBaseUrl(value, 'url')
      } catch (error) {
        assert.ok(error instanceof InvalidOptionsError)
        return
      }
      accepted++
      assert.equal(new URL(base.href).href, base.basePath === '' ? `${base.href}/` : base.href)
      assert.doesNotMatch(base.basePath, /\/$|\/\/|%2f|%5c|\\|[?#]/i)
      assert.deepEqual(parseBaseUrl(base.href, 'url'), base)
    }), { seed: SEED, numRuns: 3000 })
    assert.ok(accepted > 100, String(accepted))
  })

  test('no user name or password gets into a message, wherever it stands', () => {
    const piece = fc.string({ minLength: 1, maxLength: 8 })
    fc.assert(fc.property(fc.constantFrom('https://', 'http:', '', 'ftp://', 'https:\\\\'), piece, piece, (scheme, before, after) => {
      assert.ok(!failure(`${scheme}${before}PLANTED${after}@a.example`).message.includes('PLANTED'))
    }), { seed: SEED, numRuns: 2000 })
  })
})

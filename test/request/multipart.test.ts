// A form's model: found by its place between two boundaries, whatever a file contains.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { findModelField, readBoundary } from '../../src/request/multipart.js'
import { SEED } from '../support/seed.js'

/** Lines are joined by CRLF. */
const form = (...lines: string[]): Buffer => Buffer.from(lines.join('\r\n'))
const field = (name: string, value: string, more = ''): string[] => ['--b', `Content-Disposition: form-data; name="${name}"${more}`, '', value]
const file = (content: string): string[] => ['--b', 'Content-Disposition: form-data; name="file"; filename="a.wav"', 'Content-Type: audio/wav', '', content]

const find = (bytes: Buffer, isStart = true): string | undefined => findModelField(bytes, 'b', isStart)?.name

describe('the boundary of a form', () => {
  const types: readonly [contentType: unknown, boundary: string | undefined][] = [
    ['multipart/form-data; boundary=abc', 'abc'],
    ['multipart/form-data;boundary="a b;c"', 'a b;c'],
    ['multipart/form-data; boundary="a\\"b"', 'a"b'],
    [' Multipart/Form-Data ; charset=utf-8; BOUNDARY = abc ; x=y', 'abc'],
    [['multipart/form-data; boundary=abc'], 'abc'],
    ['multipart/form-data; xboundary=a; boundary=b', 'b'],
    ['multipart/form-data; x="boundary=a"; boundary=b', 'b'],
    ['multipart/form-data', undefined],
    ['multipart/form-data; boundary=', undefined],
    ['multipart/form-data; boundary=""', undefined],
    [`multipart/form-data; boundary=${'x'.repeat(201)}`, undefined],
    ['multipart/mixed; boundary=abc', undefined],
    ['application/json', undefined],
    [Buffer.from('multipart/form-data; boundary=abc'), undefined],
    [undefined, undefined],
    [[], undefined],
  ]
  for (const [contentType, boundary] of types) test(JSON.stringify(contentType) ?? 'none', () => { assert.equal(readBoundary(contentType), boundary) })
})

describe('the field', () => {
  test('is found before a file and behind it', () => {
    assert.equal(find(form(...field('model', 'whisper-1'), ...file('RIFF'), '--b--', '')), 'whisper-1')
    assert.equal(find(form(...file('RIFF'), ...field('model', 'whisper-1'), '--b--', '')), 'whisper-1')
    assert.equal(find(form(...file('RIFF'), ...field('language', 'en'), ...field('model', 'größe'), '--b--')), 'größe')
  })

  test('stands where it is said to stand', () => {
    const bytes = form(...file('RIFF'), ...field('model', 'whisper-1'), '--b--', '')
    const span = findModelField(bytes, 'b', true) ?? assert.fail()
    assert.equal(bytes.toString('latin1', span.start, span.end), 'whisper-1')
  })

  test('is known by its name, however the headers of its part are written', () => {
    const headers = [
      'content-disposition: form-data; name="model"', 'CONTENT-DISPOSITION:form-data;name=model', 'Content-Disposition: form-data ; NAME = "model"', 'Content-Disposition: form-data; x="; name=\\"a\\""; name="model"',
      'Content-Type: text/plain\r\nContent-Disposition: form-data; name="model"', 'Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: 8bit',
    ]
    for (const header of headers) assert.equal(find(form('--b', header, '', 'm', '--b--')), 'm', header)
  })

  test('is none that only looks like it', () => {
    const headers = [
      'Content-Disposition: form-data; name="models"', 'Content-Disposition: form-data; name="Model"', 'Content-Disposition: form-data; name="model"; filename="model"',
      'Content-Disposition: form-data; filename="a"; name="model"', "Content-Disposition: form-data; name=\"model\"; filename*=utf-8''a", 'Content-Disposition: form-data; name="a"; name="model"',
      'Content-Disposition: form-data; xname="model"', 'Content-Disposition: form-data; name="x; name=model"', 'X-Disposition: form-data; name="model"', 'name="model"',
      'Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: base64',
    ]
    for (const header of headers) assert.equal(find(form('--b', header, '', 'm', '--b--')), undefined, header)
  })

  test('is not found in a file that contains the text of one', () => {
    for (const content of [
      'Content-Disposition: form-data; name="model"\r\n\r\nfake', '\r\n\r\nContent-Disposition: form-data; name="model"\r\n\r\nfake\r\n', '\n--b\nContent-Disposition: form-data; name="model"\n\nfake\n--b',
      '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nfake', 'x--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nfake',
      '\r\n--bb\r\nContent-Disposition: form-data; name="model"\r\n\r\nfake\r\n--bb--', '\r\n-b\r\nContent-Disposition: form-data; name="model"\r\n\r\nfake', 'a\nb\rc\n\n--',
    ]) {
      // A file that begins with the boundary is no file to any reader, nor to us: it is the next part.
      const expected = content.startsWith('--b\r\n') ? 'fake' : 'real'
      assert.equal(find(form(...file(content), ...field('model', 'real'), '--b--')), expected, JSON.stringify(content))
    }
  })

  test('is not taken where it is empty, longer than any name, or not all there', () => {
    assert.equal(find(form(...field('model', ''), '--b--')), undefined)
    assert.equal(find(form('--b', 'Content-Disposition: form-data; name="model"', '', '--b--')), undefined)
    assert.equal(find(form(...field('model', 'x'.repeat(257)), '--b--')), undefined)
    const whole = form(...field('model', 'm'), '--b')
    for (let length = 0; length < whole.length - 2; length++) assert.equal(find(whole.subarray(0, length)), undefined, whole.toString('latin1', 0, length))
  })

  test('is not looked for behind the end of the form, nor in what is no form', () => {
    assert.equal(find(form(...file('x'), '--b--', ...field('model', 'm'), '--b--')), undefined)
    for (const text of ['', '--', '--b', '--b\r\n', '--c\r\n', 'model=m', '\r\n\r\n', '--b\r\n\r\n']) assert.equal(find(Buffer.from(text)), undefined, text)
  })

  test('is found behind a preamble, padding, and a part without headers', () => {
    assert.equal(find(form('This is a form.', ...field('model', 'm'), '--b--')), 'm')
    assert.equal(find(form('--b \t', 'Content-Disposition: form-data; name="model"', '', 'm', '--b--')), 'm')
    assert.equal(find(form('--b', '', 'nothing', ...field('model', 'm'), '--b--')), 'm')
    assert.equal(find(form('--b', 'X: y', '--b', 'Content-Disposition: form-data; name="model"', '', 'm', '--b--')), 'm')
  })

  test('is found in the end of a form, of whose part before nothing is taken', () => {
    const tail = form('Content-Disposition: form-data; name="model"', '', 'fake', ...field('model', 'real'), '--b--')
    assert.equal(find(tail, false), 'real')
    // Whether this is a boundary depends on what stands before it.
    assert.equal(find(form(...field('model', 'fake'), '--b--'), false), undefined)
  })

  test('is what undici has written of any form', async () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 8 }).map((value) => value.replace(/[\r\n\0]/g, ' '))
    const entry = fc.oneof(
      fc.record({ name: fc.constantFrom('model', 'file', 'prompt', 'Model', 'model[]'), value: text }),
      fc.record({ name: fc.constantFrom('model', 'file'), file: fc.uint8Array({ maxLength: 40 }), filename: fc.constantFrom('a.wav', 'model', 'a"; name="model"', 'x\r\n\r\ny') }),
      fc.record({ name: fc.constant('file'), file: fc.constantFrom(Buffer.from('\r\n\r\nname="model"\r\n\r\n'), Buffer.from('Content-Disposition: form-data; name="model"\r\n\r\nx\r\n--')), filename: fc.constant('a') }),
    )
    await fc.assert(fc.asyncProperty(fc.array(entry, { maxLength: 6 }), async (entries) => {
      const data = new FormData()
      for (const one of entries) {
        if ('value' in one) data.append(one.name, one.value)
        else data.append(one.name, new File([one.file as Uint8Array<ArrayBuffer>], one.filename))
      }
      const response = new Response(data)
      const boundary = readBoundary(response.headers.get('content-type')) ?? assert.fail()
      const bytes = Buffer.from(await response.arrayBuffer())
      const [first] = data.getAll('model').filter((value) => typeof value === 'string')
      const expected = first === undefined || first === '' ? undefined : first
      assert.equal(findModelField(bytes, boundary, true)?.name, expected)
    }), { seed: SEED, numRuns: 300 })
  })
})

test('a hundred thousand parts take the time of one pass', () => {
  const started = process.cpuUsage().user
  for (const part of ['--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n', '--bb\r\n', '--b\r\nX\r\n']) find(Buffer.from(`--b\r\n${part.repeat(100_000)}\r\n\r\n--b--`))
  assert.ok(process.cpuUsage().user - started < 2_000_000)
})

import assert from 'node:assert/strict'
import { PassThrough, Readable, Stream } from 'node:stream'
import { describe, test } from 'node:test'
import { FormData as UndiciFormData } from 'undici'
import { ReadyBody, isSingleUse, RecordedBody, type ReplayableBody } from '../../src/request/body.js'
import { gate } from '../support/gate.js'
import { turns } from '../support/until.js'

type Sent = AsyncIterableIterator<Uint8Array | string>

async function bytesOf(sent: unknown): Promise<string> {
  if (typeof sent === 'string') return sent
  if (ArrayBuffer.isView(sent)) return Buffer.from(sent.buffer, sent.byteOffset, sent.byteLength).toString()
  let text = ''
  for await (const chunk of sent as AsyncIterable<Uint8Array | string>) text += Buffer.from(chunk as string).toString()
  return text
}

/** A source that tells how often it was read, and whether it was closed. */
function source(chunks: readonly unknown[], { fails }: { fails?: unknown } = {}): AsyncGenerator<unknown> & { readonly log: string[] } {
  const log: string[] = []
  async function * generate(): AsyncGenerator<unknown> {
    try {
      for (const chunk of chunks) {
        log.push('read')
        yield await Promise.resolve(chunk)
      }
      if (fails !== undefined) throw fails
      log.push('end')
    } finally {
      log.push('closed')
    }
  }
  return Object.assign(generate(), { log })
}

const body = (given: unknown, length?: number, max = 1_000): ReplayableBody => (isSingleUse(given) ? new RecordedBody(given, length, max) : new ReadyBody(given))

describe('what can be sent again as it is', () => {
  const formData = new UndiciFormData()
  formData.set('a', '1')
  const whole = Buffer.from('xxabxx')
  const inHand: readonly [what: string, given: unknown, byteLength: number, head: string | undefined][] = [
    ['nothing', null, 0, undefined],
    ['undefined', undefined, 0, undefined],
    ['a string', 'größe', 5, 'größe'],
    ['an empty string', '', 0, ''],
    ['a Buffer', Buffer.from('bytes'), 5, 'bytes'],
    ['a typed array', new Uint16Array([0x6261, 0x6463]), 4, 'abcd'],
    ['a part of an ArrayBuffer', new DataView(whole.buffer, whole.byteOffset + 2, 2), 2, 'ab'],
    ['an ArrayBuffer', new Uint8Array([97, 98]).buffer, 2, 'ab'],
    ['a Blob', new Blob(['blob']), 4, undefined],
    ['a File', new File(['file!'], 'name'), 5, undefined],
    ['FormData', formData, 0, undefined],
    ['URLSearchParams', new URLSearchParams({ a: '1' }), 0, undefined],
    ['an array of chunks', ['a', 'b'], 0, undefined],
    ['a number, which undici refuses', 7, 0, undefined],
    ['an object, which undici refuses', {}, 0, undefined],
  ]
  for (const [what, given, byteLength, head] of inHand) {
    test(what, async () => {
      const it = body(given)
      assert.equal(it.wantsCollecting, false)
      assert.equal(it.replayable, true)
      assert.equal(it.byteLength, byteLength)
      assert.equal(it.open(false), given)
      assert.equal(it.open(true), given)
      const bytes = it.head(100)
      assert.equal(bytes === undefined ? undefined : Buffer.from(bytes).toString(), head)
      await it.collect()
      it.rewind()
      it.release()
      it.discard()
      assert.equal(it.error, undefined)
      assert.equal(it.open(false), given)
    })
  }

  test('of a long string only as much is encoded as is looked at', () => {
    assert.equal(body('x'.repeat(1_000_000)).head(10)?.byteLength, 10)
  })
})

describe('a body that announces a length within the cap', () => {
  test('is collected, and goes out as one Buffer, every time', async () => {
    const it = body(source(['a', Buffer.from('b'), new Uint8Array([99])]), 3)
    assert.equal(it.wantsCollecting, true)
    assert.equal(it.byteLength, 3)
    await it.collect()
    assert.equal(it.wantsCollecting, false)
    assert.equal(it.replayable, true)
    assert.equal(Buffer.from(it.head(1) ?? []).toString(), 'a')
    assert.equal(Buffer.from(it.head(2) ?? []).toString(), 'ab')
    for (let i = 0; i < 3; i++) {
      const sent = it.open(false)
      assert.ok(ArrayBuffer.isView(sent))
      assert.equal(await bytesOf(sent), 'abc')
    }
  })

  test('of one chunk is that very chunk', async () => {
    const chunk = Buffer.from('all of it')
    const it = body(source([chunk]), 9)
    await it.collect()
    assert.equal(it.open(false), chunk)
  })

  test('of no chunk is none', async () => {
    const it = body(source([]), 0)
    await it.collect()
    assert.equal(it.open(false), null)
    assert.equal(it.head(10)?.byteLength, 0)
  })

  test('when it is long, goes out as something to read, so that undici holds on to nothing', async () => {
    const chunks = ['a'.repeat(50_000), 'b'.repeat(50_000)]
    const it = body(source(chunks), 100_000, 200_000)
    await it.collect()
    const [first, second] = [it.open(false) as Sent, it.open(false) as Sent]
    assert.equal(await bytesOf(first), chunks.join(''))
    assert.equal(await bytesOf(second), chunks.join(''))
    assert.ok(ArrayBuffer.isView(it.open(true)), 'but in one piece for who asks for that')
    const reading = (first as unknown as Iterable<string>)[Symbol.iterator]()
    reading.next()
    it.release()
    assert.equal((reading.next().value as string)[0], 'b', 'who has begun to read reads on')
    assert.equal(await bytesOf(first), '', 'and nothing more is held')
  })

  test('when it turns out shorter, goes out as something that undici measures', async () => {
    for (const chunks of [['abc'], []]) {
      const it = body(source(chunks), 5)
      await it.collect()
      const sent = it.open(false)
      assert.equal(ArrayBuffer.isView(sent), false)
      assert.equal(await bytesOf(sent), chunks.join(''))
    }
  })

  test('when it turns out longer, goes out as the stream that it is, and is not read further than that shows', async () => {
    const given = source(['abc', 'def', 'ghi', 'jkl'])
    const it = body(given, 4)
    await it.collect()
    assert.deepEqual(given.log, ['read', 'read'])
    assert.equal(it.replayable, false)
    assert.equal(await bytesOf(it.open(false)), 'abcdefghijkl')
  })

  test('rejects with the source\'s own error', async () => {
    const failure = new Error('disk on fire')
    const it = body(source(['a'], { fails: failure }), 2)
    await assert.rejects(it.collect(), failure)
    assert.equal(it.error, failure)
    assert.equal(it.replayable, false)
  })

  test('and fails with nothing, has failed all the same', async () => {
    const iterable = { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(undefined as unknown as Error) }) }
    const it = body(iterable, 2)
    await assert.rejects(it.collect(), /failed without a reason/)
  })

  test('with a chunk that cannot be sent fails with a sentence', async () => {
    for (const [chunk, kind] of [[{}, 'object'], [null, 'null'], [7, 'number']] as const) {
      await assert.rejects(body(source([chunk]), 2).collect(), { name: 'TypeError', message: new RegExp(`cannot be sent: ${kind}`) })
    }
  })

  test('may hold any typed array', async () => {
    const it = body(source([new Uint16Array([0x6261]), new DataView(new Uint8Array([99, 100]).buffer)]), 4)
    await it.collect()
    assert.equal(await bytesOf(it.open(false)), 'abcd')
  })

  test('is let go at the commit', async () => {
    const it = body(source(['a']), 1)
    await it.collect()
    it.release()
    assert.equal(it.head(1), undefined)
  })

  test('is not read on once it is not wanted, and its source is told once', async () => {
    const next = gate<string>()
    const log: string[] = []
    async function * generate(): AsyncGenerator<string> {
      try {
        yield 'a'
        yield await next.promise
        log.push('asked again')
      } finally {
        log.push('closed')
      }
    }
    const it = body(generate(), 10)
    const collecting = it.collect()
    await turns(3)
    it.discard()
    it.discard()
    next.open('b')
    await collecting
    await turns(3)
    assert.deepEqual(log, ['closed'])
  })
})

describe('a Node stream whose end is known', () => {
  test('announces its length as undici does, without a header', async () => {
    const stream = new PassThrough()
    stream.end('hello')
    await turns(2)
    const it = body(stream)
    assert.equal(it.wantsCollecting, true)
    await it.collect()
    assert.equal(await bytesOf(it.open(false)), 'hello')
  })

  test('goes out in one piece, however long, because no header has its length', async () => {
    const stream = new PassThrough({ highWaterMark: 1_000_000 })
    stream.end('x'.repeat(100_000))
    await turns(2)
    const it = body(stream, undefined, 1_000_000)
    await it.collect()
    assert.ok(ArrayBuffer.isView(it.open(false)))
  })

  test('but not when it is one of objects', () => {
    const stream = new PassThrough({ objectMode: true })
    stream.end('hello')
    assert.equal(body(stream).wantsCollecting, false)
  })
})

describe('a stream of unknown length', () => {
  const sources: readonly [what: string, make: () => unknown][] = [
    ['an async generator', () => source(['ab', Buffer.from('cd'), 'ef'])],
    ['a sync generator', () => (function * () { yield 'ab'; yield 'cd'; yield 'ef' })()],
    ['a Set', () => new Set(['ab', 'cd', 'ef'])],
    ['a Node stream', () => Readable.from(['ab', 'cd', 'ef'])],
    ['a web stream', () => new Blob(['abcdef']).stream()],
    ['a stream from before Node 0.10', () => oldStream(['ab', 'cd', 'ef'])],
    ['a stream that calls itself FormData, as the form-data package\'s does', () => Object.assign(oldStream(['ab', 'cd', 'ef']), { [Symbol.toStringTag]: 'FormData' })],
  ]
  for (const [what, make] of sources) {
    test(`can be read twice: ${what}`, async () => {
      const it = body(make())
      assert.equal(it.wantsCollecting, false)
      assert.equal(it.byteLength, 0)
      assert.equal(it.head(10), undefined)
      assert.equal(await bytesOf(it.open(false)), 'abcdef')
      assert.equal(it.replayable, true)
      assert.equal(await bytesOf(it.open(false)), 'abcdef')
      assert.equal(it.error, undefined)
    })
  }

  test('is not read before it is asked for', async () => {
    const given = source(['a', 'b'])
    const sent = body(given).open(false) as Sent
    await turns(3)
    assert.deepEqual(given.log, [])
    await sent.next()
    await turns(3)
    assert.deepEqual(given.log, ['read'])
  })

  test('survives that one attempt closes it early: the next one reads from the start', async () => {
    const given = source(['a', 'b', 'c'])
    const it = body(given)
    for await (const chunk of it.open(false) as Sent) {
      assert.equal(chunk, 'a')
      break
    }
    assert.deepEqual(given.log, ['read'])
    assert.equal(await bytesOf(it.open(false)), 'abc')
  })

  test('is read once for two attempts that ask at the same time, and the first is told that it was given up', async () => {
    const next = gate<string>()
    let asked = 0
    const it = body({ [Symbol.asyncIterator]: () => ({ next: async () => (++asked === 1 ? { done: false, value: await next.promise } : { done: true, value: undefined }) }) })
    const first = it.open(false) as Sent
    const pending = assert.rejects(first.next(), /this attempt was given up/)
    const second = it.open(false) as Sent
    const answer = second.next()
    next.open('a')
    await pending
    assert.deepEqual(await answer, { done: false, value: 'a' })
    assert.deepEqual(await second.next(), { done: true, value: undefined })
    assert.equal(asked, 2)
  })

  test('that is longer than the cap flows on to its reader, and cannot be sent again', async () => {
    const it = body(source(['aaa', 'bbb', 'ccc']), undefined, 5)
    const sent = it.open(false) as Sent
    await sent.next()
    assert.equal(it.replayable, true)
    await sent.next()
    assert.equal(it.replayable, false)
    assert.equal(await bytesOf(sent), 'ccc')
  })

  test('that is announced as longer than the cap can move until its first byte is asked for', async () => {
    const given = source(['aaa', 'bbb'])
    const it = body(given, 6, 5)
    assert.equal(it.wantsCollecting, false)
    assert.equal(it.byteLength, 6)
    it.open(false)
    assert.equal(it.replayable, true)
    const sent = it.open(false) as Sent
    await sent.next()
    assert.equal(it.replayable, false)
    assert.equal(await bytesOf(sent), 'bbb')
  })

  test('is not kept at all with a cap of 0', async () => {
    const it = body(source(['a']), undefined, 0)
    assert.equal(it.replayable, true)
    await (it.open(false) as Sent).next()
    assert.equal(it.replayable, false)
  })

  test('lets go at the commit of what was read, and its reader reads on', async () => {
    const it = body(source(['a', 'b', 'c', 'd']))
    const first = it.open(false) as Sent
    for (let i = 0; i < 3; i++) await first.next()
    const second = it.open(false) as Sent
    await second.next()
    it.release()
    it.release()
    assert.equal(it.replayable, false)
    assert.equal(await bytesOf(second), 'bcd')
  })

  test('is closed with its reader after the commit, and not again', async () => {
    const given = source(['a', 'b'])
    const it = body(given)
    const sent = it.open(false) as Sent
    await sent.next()
    it.release()
    await sent.return?.()
    await turns(3)
    assert.deepEqual(given.log, ['read', 'closed'])
    assert.deepEqual(await sent.next(), { done: true, value: undefined })
  })

  test('fails every reader with the source\'s own error', async () => {
    const failure = new Error('disk on fire')
    const it = body(source(['a'], { fails: failure }))
    await assert.rejects(bytesOf(it.open(false)), failure)
    assert.equal(it.error, failure)
    assert.equal(it.replayable, false)
    await assert.rejects(bytesOf(it.open(false)), failure)
  })

  test('that fails while it is not read is no uncaught error', async () => {
    const stream = new PassThrough()
    const it = body(stream)
    const failure = new Error('disk on fire')
    stream.destroy(failure)
    await turns(2)
    assert.equal(it.error, failure)
    assert.equal(it.replayable, false)
  })
})

describe('a source that is not wanted any more is told', () => {
  test('a Node stream is destroyed, without an error, as undici destroys it', async () => {
    const stream = new PassThrough()
    body(stream).discard()
    await turns(2)
    assert.equal(stream.destroyed, true)
    assert.equal(stream.errored, null)
  })

  test('a web stream is cancelled', async () => {
    let cancelled = false
    const stream = new ReadableStream({ cancel() { cancelled = true } })
    const it = body(stream)
    it.discard()
    await turns(2)
    assert.equal(cancelled, true)
  })

  test('a generator that has begun runs its clean-up', async () => {
    const given = source(['a', 'b'])
    const it = body(given)
    await (it.open(false) as Sent).next()
    it.discard()
    await turns(2)
    assert.deepEqual(given.log, ['read', 'closed'])
  })

  test('an old stream that cannot be destroyed is left alone', async () => {
    const it = body(oldStream(['a', 'b']))
    await (it.open(false) as Sent).next()
    it.discard()
  })

  test('one that came to its end by itself is not told anything', async () => {
    const stream = new PassThrough({ autoDestroy: false })
    const it = body(stream)
    stream.end('a')
    assert.equal(await bytesOf(it.open(false)), 'a')
    it.discard()
    assert.equal(stream.errored, null)
  })

  test('a locked stream, a clean-up that throws, one that rejects and one that is not there keep no request from going on', async () => {
    const locked = new ReadableStream()
    locked.getReader()
    const throws = { [Symbol.iterator]: () => ({ next: () => ({ done: true, value: undefined }), return: () => { throw new Error('clean-up') } }) }
    const rejects = { [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve({ done: true, value: undefined }), return: () => Promise.reject(new Error('clean-up')) }) }
    const missing = { [Symbol.iterator]: () => ({ next: () => ({ done: true, value: undefined }) }) }
    for (const given of [locked, throws, rejects, missing]) body(given).discard()
    await turns(2)
  })

  test('a locked stream fails the attempt that wants to read it', async () => {
    const locked = new ReadableStream()
    locked.getReader()
    await assert.rejects(bytesOf(body(locked).open(false)), { name: 'TypeError' })
  })
})

/** It has `pipe` and `on`, flows when it is told to, and knows nothing of iterators. */
function oldStream(chunks: readonly string[]): Stream {
  const stream = new Stream() as Stream & { resume(): void, pause(): void }
  let begun = false
  stream.pause = () => {}
  stream.resume = () => {
    if (begun) return
    begun = true
    queueMicrotask(() => {
      for (const chunk of chunks) stream.emit('data', Buffer.from(chunk))
      stream.emit('end')
    })
  }
  return stream
}

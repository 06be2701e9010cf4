/** Ways to be not transparent. Each has to be found, else the comparison is blind there. */
import type { Dispatcher } from 'undici'
import type { Spoil } from './play.js'

type Method = (...args: unknown[]) => unknown
type Raw = readonly Uint8Array[]

/** Changes what a handler of the old style is told: `change` gets the arguments of one of its methods, and returns others, or none for no call at all. */
function telling (name: string, change: (...args: unknown[]) => unknown[] | undefined): Spoil {
  return (inner) => ({
    dispatch: (opts, handler) => inner.dispatch(opts, new Proxy(handler as Record<string, unknown>, {
      get (target, key) {
        const method: unknown = Reflect.get(target, key, target)
        if (key !== name || typeof method !== 'function') return typeof method === 'function' ? (...args: unknown[]): unknown => (method as Method).apply(target, args) : method
        return (...args: unknown[]): unknown => {
          const told = change(...args)
          return told === undefined ? undefined : (method as Method).apply(target, told)
        }
      },
    }) as never),
  })
}

function asking (change: (opts: Dispatcher.DispatchOptions) => Partial<Dispatcher.DispatchOptions>): Spoil {
  return (inner) => ({ dispatch: (opts, handler) => inner.dispatch({ ...opts, ...change(opts) } as never, handler) })
}

function headers (change: (raw: Raw) => Raw): Spoil {
  return telling('onHeaders', (status, raw, ...rest) => [status, change(raw as Raw), ...rest])
}

const nameAt = (raw: Raw, i: number): string => Buffer.from(raw[i] ?? []).toString('latin1').toLowerCase()

/** Of names that repeat only the first pair. */
function withoutRepeats (raw: Raw): Raw {
  const names = new Set<string>()
  return raw.filter((_, i) => {
    if (i % 2 === 1) return names.has(`${i - 1}`)
    const name = nameAt(raw, i)
    if (names.has(name)) return false
    names.add(name).add(`${i}`)
    return true
  })
}

export const SABOTAGES: readonly (readonly [what: string, spoil: Spoil])[] = [
  ['a header that repeats is told once', headers(withoutRepeats)],
  ['the names of headers are told in lower case', headers((raw) => raw.map((bytes, i) => i % 2 === 0 ? Buffer.from(nameAt(raw, i), 'latin1') : bytes))],
  ['headers are told in another order', headers((raw) => [...raw.slice(2), ...raw.slice(0, 2)])],
  ['headers are told as UTF-8', headers((raw) => raw.map((bytes) => Buffer.from(Buffer.from(bytes).toString('latin1'))))],
  ['headers are told as strings', headers((raw) => raw.map((bytes) => Buffer.from(bytes).toString('latin1') as never))],
  ['the text of the status is lost', telling('onHeaders', (status, raw, resume) => [status, raw, resume, ''])],
  ['an informational answer is lost', telling('onHeaders', (status, ...rest) => Number(status) < 200 ? undefined : [status, ...rest])],
  ['the last byte of a chunk is lost', telling('onData', (chunk) => [(chunk as Buffer).subarray(0, -1)])],
  ['trailers are lost', telling('onComplete', () => [[]])],
  ['errors come as another one', telling('onError', () => [new Error('something went wrong')])],
  ['an abort comes without its reason', telling('onConnect', (abort) => [() => { (abort as () => void)() }])],
  ['the beginning of the answer is told once', (inner) => ({
    dispatch (opts, handler) {
      let told = false
      return telling('onResponseStarted', () => { if (told) return undefined; told = true; return [] })(inner).dispatch(opts, handler)
    },
  })],
  ['the request\'s headers get one more', asking((opts) => Array.isArray(opts.headers) ? { headers: [...opts.headers as string[], 'x-more', '1'] } : {})],
  ['the request\'s headers go out in lower case', asking((opts) => Array.isArray(opts.headers) ? { headers: (opts.headers as string[]).map((one, i) => i % 2 === 0 ? String(one).toLowerCase() : one) } : {})],
  ['the query is sorted', asking(({ path }) => ({ path: path.replace(/\?(\w+=[^&]*)&(.*)$/, '?$2&$1') }))],
  ['every request has a connection of its own', asking(() => ({ reset: true }))],
  ['a body goes out in one piece', asking(({ body }) => typeof body === 'object' && body !== null && Symbol.asyncIterator in body ? { body: gather(body as unknown as AsyncIterable<Uint8Array>) as never } : {})],
]

async function * gather (body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body) chunks.push(chunk)
  yield Buffer.concat(chunks)
}

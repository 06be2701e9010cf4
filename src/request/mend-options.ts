/** What callers of another version (Node's own fetch and WebSocket, another undici) ask for that the undici inside does not take, or takes otherwise. */
import { isCurrent, isHandler, type AnyHandler, type DispatchOptions } from './undici.js'
import { collapseLength } from './headers.js'

/**
 * The very same options nearly always.
 * @param takesLegacy whether the inner dispatcher is of the time of those handlers
 */
export function mendOptions(opts: DispatchOptions, handler: AnyHandler, takesLegacy: boolean): DispatchOptions {
  // undici's to refuse, in its own words.
  if ((opts as DispatchOptions | null | undefined) == null) return opts
  let mended = opts
  // The WebSocket of Node 22 and 24 gives up on a server that chooses HTTP/2, which undici 8 offers by default (nodejs/undici#4989).
  if (opts.upgrade != null && opts.allowH2 === undefined && !takesLegacy && isHandler(handler) && !isCurrent(handler)) {
    mended = { ...mended, allowH2: false }
  }
  // undici 7's request, stream and pipeline hand on the `dispatcher` that they were given; undici 8 refuses it.
  if (!takesLegacy && opts.dispatcher !== undefined) {
    const { dispatcher: _, ...others } = mended
    mended = others
  }
  // The fetch of Node 20 and 22 repeats a content-length that the caller set, as `3, 3` (nodejs/undici#5500).
  const headers = opts.headers as { readonly 'content-length'?: unknown } | null | undefined
  const length = headers?.['content-length']
  if (typeof length === 'string' && length.includes(',')) {
    const one = collapseLength(length)
    if (one !== length) mended = { ...mended, headers: { ...headers, 'content-length': one } }
  }
  return mended
}

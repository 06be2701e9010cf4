/** The body of one attempt, where it is not simply the caller's. */
import { findModel, MAX_SCAN_BYTES, type ModelSpan } from '../core/scope.js'
import type { BackendConfig } from '../core/types.js'
import type { ReplayableBody } from './replayable-body.js'

/** The model that a JSON body asks for, and where it stands in it. */
export function readModel(body: ReplayableBody): ModelSpan | undefined {
  const head = body.head(MAX_SCAN_BYTES)
  return head === undefined ? undefined : findModel(head)
}

/** The JSON body with this backend's name for the model; undefined when it stays as it is. */
export function rewriteModel(body: ReplayableBody, { name, start, end }: ModelSpan, { models }: BackendConfig): Uint8Array | undefined {
  const model = models !== undefined && Object.hasOwn(models, name) ? models[name] : undefined
  if (model === undefined) return undefined
  const bytes = body.head(Infinity)
  // Spliced, not parsed and written again: all else stays as it is, byte for byte.
  return bytes === undefined ? undefined : Buffer.concat([bytes.subarray(0, start), Buffer.from(JSON.stringify(model)), bytes.subarray(end)])
}

/** undici's mocks compare a body with strings and patterns. Bytes that are no text would change on the way, and stay as they are. */
export function toMockBody(body: unknown): unknown {
  if (!ArrayBuffer.isView(body)) return body
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  const text = bytes.toString()
  return Buffer.from(text).equals(bytes) ? text : body
}

/**
 * A connection that was upgraded (a WebSocket of the realtime API) is a success with its 101, as far as anyone can see. Some die right
 * after it: who ended it, and whether the two had spoken by then, tells these from callers that are done in less than a second.
 */
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { System } from '../core/types.js'

/** In milliseconds: what lasts for so long was a connection, whatever ends it. */
const SHORTEST_MS = 1_000

/** @param done is called once it is closed, with whether the other side has dropped it at once, without a word for what the caller had said. */
export function watchEnd(socket: Duplex, system: Pick<System, 'now'>, done: (isDropped: boolean) => void): void {
  const before = countBytes(socket)
  const openedAt = system.now()
  let isTheirs = false
  socket.once('end', () => { isTheirs = !socket.writableEnded })
  socket.once('close', () => {
    const after = countBytes(socket)
    const hasSpoken = after.read > before.read && after.written > before.written
    done(system.now() - openedAt < SHORTEST_MS && ((isTheirs && !hasSpoken) || socket.errored !== null))
  })
}

/** NaN where the stream does not count: over HTTP/2. */
function countBytes(socket: Duplex): { readonly read: number; readonly written: number } {
  const { bytesRead = NaN, bytesWritten = NaN } = socket as Partial<Socket>
  return { read: bytesRead, written: bytesWritten }
}

/**
 * A connection that was upgraded (a WebSocket of the realtime API) is a success with its 101, as far as anyone can see. Some die right
 * after it: who ended it, and whether the two had spoken by then, tells these from callers that are done in less than a second.
 */
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** @param done is called once it is closed, with whether the other side has dropped it without a word for what the caller had said. */
export function watchEnd(socket: Duplex, done: (isDropped: boolean) => void): void {
  const before = countBytes(socket)
  let isTheirs = false
  socket.once('end', () => { isTheirs = !socket.writableEnded })
  socket.once('close', () => {
    const after = countBytes(socket)
    const hasSpoken = after.read > before.read && after.written > before.written
    done((isTheirs && !hasSpoken) || socket.errored !== null)
  })
}

/** NaN where the stream does not count: over HTTP/2. */
function countBytes(socket: Duplex): { readonly read: number; readonly written: number } {
  const { bytesRead = NaN, bytesWritten = NaN } = socket as Partial<Socket>
  return { read: bytesRead, written: bytesWritten }
}

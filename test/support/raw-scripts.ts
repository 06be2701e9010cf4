/** What a raw server can do to its client. Each answers requests on every connection, until told otherwise. */
import type { RawScript } from './raw-server.js'

/** Answers every request on a connection with these bytes (latin-1), and leaves the connection open. */
export function answer (...pieces: readonly (string | Uint8Array)[]): RawScript {
  return async (connection) => {
    while (await connection.request() !== undefined) {
      for (const piece of pieces) await connection.write(piece)
    }
  }
}

/** Answers the first request on a connection with these bytes and closes it. */
export function answerAndClose (...pieces: readonly (string | Uint8Array)[]): RawScript {
  return async (connection) => {
    await connection.request()
    for (const piece of pieces) await connection.write(piece)
  }
}

/** A plain 200, for the connection after the bad one. */
export function ok (body = 'ok'): RawScript {
  return answer(`HTTP/1.1 200 OK\r\ncontent-length: ${Buffer.byteLength(body, 'latin1')}\r\n\r\n${body}`)
}

/** The scripts in turn, one a connection; the last one for all that follow. */
export function inTurn (...scripts: readonly [RawScript, ...RawScript[]]): RawScript {
  return (connection) => (scripts[connection.number - 1] ?? scripts[scripts.length - 1] ?? scripts[0])(connection)
}

export function resetAtAccept (): RawScript {
  return (connection) => { connection.reset() }
}

/** The request has arrived, body and all; no byte of an answer. */
export function resetAfterRequest (): RawScript {
  return async (connection) => {
    await connection.request()
    connection.reset()
  }
}

/** As soon as the request's headers are there; the body may be on its way. */
export function resetAfterRequestHead (): RawScript {
  return async (connection) => {
    await connection.request(true)
    connection.reset()
  }
}

/** FIN in place of an answer: what a keep-alive connection looks like that the server has just given up. */
export function closeAfterRequest (): RawScript {
  return answerAndClose()
}

/** 200 and a part of the body; the reset follows when `release` resolves, so that the client can have read the part. */
export function resetMidBody (release: Promise<unknown>, part = 'half'): RawScript {
  return async (connection) => {
    await connection.request()
    await connection.write(`HTTP/1.1 200 OK\r\ncontent-length: ${part.length + 1_000}\r\n\r\n${part}`)
    await release
    connection.reset()
  }
}

export function halfAStatusLine (): RawScript {
  return answerAndClose('HTTP/1.1 20')
}

/** Not HTTP at all. */
export function garbage (): RawScript {
  return answerAndClose('220 smtp.example ESMTP\r\n')
}

/** A chunk whose length is no number, after a good one. */
export function malformedChunk (): RawScript {
  return answerAndClose('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ngood\r\nzz\r\nbad\r\n')
}

/** Announces more than it sends, then closes. */
export function shortBody (): RawScript {
  return answerAndClose('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort')
}

/** Two content-lengths that contradict each other. */
export function contradictoryLengths (): RawScript {
  return answerAndClose('HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok')
}

/** Response headers of about `bytes` in all: 64 KiB is more than node and undici accept (16 KiB). */
export function hugeHeaders (bytes = 64 * 1_024): RawScript {
  const line = `x-filler: ${'x'.repeat(1_012)}\r\n`
  return answer(`HTTP/1.1 200 OK\r\n${line.repeat(Math.ceil(bytes / line.length))}content-length: 2\r\n\r\nok`)
}

/** A 429 whose body never ends: as fast as the client takes it. `sent` is told how much so far. */
export function endless429 (sent?: (bytes: number) => void): RawScript {
  const chunk = Buffer.from(`1000\r\n${'x'.repeat(4_096)}\r\n`, 'latin1')
  return async (connection) => {
    await connection.request()
    let total = 0
    if (!await connection.write('HTTP/1.1 429 Too Many Requests\r\nretry-after-ms: 20\r\ntransfer-encoding: chunked\r\n\r\n')) return
    while (await connection.write(chunk)) sent?.(total += 4_096)
  }
}

/** A 429 whose body stops after the first bytes and leaves the client waiting. */
export function stalled429 (): RawScript {
  return async (connection) => {
    await connection.request()
    await connection.write('HTTP/1.1 429 Too Many Requests\r\nretry-after-ms: 20\r\ncontent-length: 1000\r\n\r\nstalled')
    await connection.hold()
  }
}

/** Nothing until `release` resolves, then a 200. */
export function slowHeaders (release: Promise<unknown>): RawScript {
  return async (connection) => {
    while (await connection.request() !== undefined) {
      await release
      await connection.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow')
    }
  }
}

/** 102 and 103 before the 200. */
export function informational (): RawScript {
  return answer(
    'HTTP/1.1 102 Processing\r\n\r\n',
    'HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n',
    'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfinal'
  )
}

/** Chunked, with two trailers. */
export function trailers (): RawScript {
  return answer('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, x-more\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nx-more: yes\r\n\r\n')
}

/** Header lines as odd as they may be: repeats, mixed case, an empty value, bytes above 127. */
export function oddHeaders (): RawScript {
  return answer(
    'HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nset-cookie: b=2\r\nX-Latin: caf\xe9 \xfc\xdf\r\nX-Twice: 1\r\nx-twice: 2\r\nX-Empty:\r\ncontent-length: 2\r\n\r\nok'
  )
}

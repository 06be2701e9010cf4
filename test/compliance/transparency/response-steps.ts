/** What the server does for a planned response. */
import { STATUS_CODES } from 'node:http'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import type { ResponsePlan, Turn } from './exchange.js'
import type { Step } from './wire-server.js'

const INTERIM = { 100: 'HTTP/1.1 100 Continue\r\n\r\n', 102: 'HTTP/1.1 102 Processing\r\nx-interim: 1\r\n\r\n', 103: 'HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nLink: </b>; rel=preload\r\n\r\n' }

const CODERS = { identity: (bytes: Buffer) => bytes, gzip: (bytes: Buffer) => gzipSync(bytes), deflate: (bytes: Buffer) => deflateSync(bytes), br: (bytes: Buffer) => brotliCompressSync(bytes) }

const write = (bytes: string): Step => ({ do: 'write', bytes })

export function toSteps ({ method, action, response }: Turn): Step[] {
  const { fate, interim, early } = response
  const before: Step[] = [...(early ? [] : [{ do: 'read body' } as const]), ...interim.map((status) => write(INTERIM[status]))]
  if (action.kind === 'abort' && action.at === 'request') return [{ do: 'read body' }, { do: 'wait for the end of the connection' }]
  if (fate === 'reset instead') return [...before, { do: 'reset' }]
  if (fate === 'fin instead') return [...before, { do: 'fin' }]
  if (fate === 'no HTTP') return [...before, write('220 smtp.example ESMTP\r\n'), { do: 'fin' }]
  const bytes = encodeBody(response, method)
  const head = encodeHead(response, bytes)
  if (fate === 'fin in the head') return [...before, write(head.slice(0, -20)), { do: 'fin' }]
  const framed = hasBody(response, method) ? frame(response, bytes.toString('latin1')) : ''
  const half = framed.slice(0, framed.length >> 1)
  const waits = action.kind === 'abort' && (action.at === 'headers' || action.at === 'data')
  // In one write, so that the client sees both or none: it aborts at the first sight of what it waits for. The end is missing.
  if (waits && framed.length > 1) return [...before, write(head + framed.slice(0, -1)), { do: 'wait for the end of the connection' }]
  if (fate === 'fin in the body') return [...before, write(head + half), { do: 'fin' }]
  // A reset takes with it what the client has not read yet.
  if (fate === 'reset in the body') return [...before, write(head + half), { do: 'wait until the client has seen', what: half === '' || response.framing === 'chunked' ? 'headers' : 'data' }, { do: 'reset' }]
  const steps = [...before, ...cut(response, head, framed)]
  return response.framing === 'close' || fate !== 'whole' ? [...steps, { do: 'fin' }] : steps
}

function hasBody ({ status }: ResponsePlan, method: string): boolean {
  return method !== 'HEAD' && status !== 204 && status !== 304
}

function encodeBody (response: ResponsePlan, method: string): Buffer {
  const bytes = CODERS[response.coding](Buffer.from(response.body, 'latin1'))
  return hasBody(response, method) ? bytes : bytes.subarray(0, 0)
}

function encodeHead ({ version, status, reason, lines, filler, framing, coding, fate, trailers, body }: ResponsePlan, bytes: Buffer): string {
  const phrase = { usual: ` ${STATUS_CODES[status] ?? 'Unknown'}`, none: '', empty: ' ', 'latin-1': ' caf\xe9' }[reason]
  // That of a body that is not sent, where none may be: HEAD, 304.
  const length = bytes.length > 0 ? bytes.length : body.length
  const isBare = status === 204
  return [
    `HTTP/${version} ${status}${phrase}`,
    ...lines,
    ...(filler > 0 ? fill(filler) : []),
    ...(coding === 'identity' ? [] : [`Content-Encoding: ${coding}`]),
    ...(framing === 'length' && !isBare ? [`Content-Length: ${fate === 'too long for its length' ? Math.max(0, length - 1) : length}`] : []),
    ...(fate === 'two lengths' ? [`content-length: ${length + 1}`] : []),
    ...(framing === 'chunked' && !isBare ? ['transfer-encoding: chunked', ...(trailers.length > 0 ? ['trailer: x-sum'] : [])] : []),
    '', '',
  ].join('\r\n')
}

function fill (bytes: number): string[] {
  const line = `x-filler: ${'x'.repeat(488)}`
  return Array.from({ length: Math.max(1, Math.round(bytes / 500)) }, () => line).concat(`x-rest: ${'y'.repeat(bytes % 500)}`)
}

function frame ({ framing, extension, trailers, pieces, cuts, fate }: ResponsePlan, text: string): string {
  if (framing !== 'chunked') return text
  let framed = ''
  for (const chunk of split(text, pieces, cuts)) {
    const length = chunk.length.toString(16)
    framed += `${extension ? length.toUpperCase() : length}${extension ? ';name="a b";x' : ''}\r\n${chunk}\r\n`
  }
  if (fate === 'a bad chunk') return `${framed}zz\r\nbad\r\n`
  return `${framed}0\r\n${trailers.map((line) => `${line}\r\n`).join('')}\r\n`
}

/** The head and the body in `pieces` writes, with a pause between them. */
function cut ({ pieces, cuts }: ResponsePlan, head: string, framed: string): Step[] {
  if (pieces === 1 && cuts.length === 0) return [write(head + framed)]
  return [write(head), ...split(framed, pieces, cuts).flatMap((piece): Step[] => [{ do: 'yield', turns: 2 }, write(piece)])]
}

/** At the places of `cuts`, else into equal pieces. */
function split (text: string, pieces: number, cuts: readonly number[]): string[] {
  if (text === '') return []
  const size = Math.max(1, Math.ceil(text.length / pieces))
  const places = cuts.length > 0 ? cuts.map((place) => place % text.length) : Array.from({ length: pieces - 1 }, (_, i) => (i + 1) * size)
  const sorted = [...new Set(places)].filter((place) => place > 0 && place < text.length).sort((a, b) => a - b)
  return [...sorted, text.length].map((end, i) => text.slice(sorted[i - 1] ?? 0, end))
}

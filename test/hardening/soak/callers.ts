/** One request of the soak, through one of the three ways to a dispatcher, given up and read as its plan says. */
import { Readable } from 'node:stream'
import { request as undiciRequest, type Dispatcher } from 'undici'
import { FETCH_BODIES, makeBody, UNDICI_BODIES, type BodyKind, type MadeBody } from './bodies.js'
import { EXPECTED_LENGTH, NO_STALL, RECEIVED_LENGTH } from './stormy-server.js'

export type Giving = 'never' | 'before' | 'at once' | 'next turn' | 'later' | 'in the body'
export type Reading = 'all' | 'slowly' | 'first piece'

export interface Plan {
  readonly via: 'fetch' | 'request' | 'dispatch'
  readonly body: BodyKind
  readonly giveUp: Giving
  readonly giveUpMs: number
  readonly reading: Reading
  readonly url: string
  readonly mayStall: boolean
}

/** The error that callers of the soak give up with: it must come back to them as it is. */
export class GivenUp extends Error {
  override readonly name = 'GivenUp'
}

const READINGS: readonly Reading[] = [...Array.from({ length: 14 }, () => 'all' as const), 'slowly', 'first piece']

export function makePlan(random: () => number, origins: readonly string[], mayStall: boolean): Plan {
  const one = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T
  const luck = random()
  const via = luck < 0.18 ? 'fetch' : luck < 0.5 ? 'request' : 'dispatch'
  const body = random() < 0.5 ? 'string' : one<BodyKind>(via === 'fetch' ? FETCH_BODIES : UNDICI_BODIES)
  // The fetch of Node 24 leaves an unhandled rejection behind when an upload of FormData is given up, with a bare Agent too.
  const ofAbort = body === 'form' ? 0 : random()
  const giveUp: Giving = ofAbort < 0.86 ? 'never' : ofAbort < 0.87 ? 'before' : ofAbort < 0.89 ? 'at once' : ofAbort < 0.91 ? 'next turn' : ofAbort < 0.97 ? 'later' : 'in the body'
  return { via, body, giveUp, giveUpMs: random() * 25, reading: one(READINGS), url: `${one(origins)}/responses`, mayStall }
}

/** Fulfils with what came of it; rejects with the caller's error. */
export async function call(plan: Plan, balancer: Dispatcher, random: () => number, complain: (text: string) => void): Promise<string> {
  const made = makeBody(plan.body, random)
  const headers: Record<string, string> = { ...made.headers }
  if (made.length !== undefined) headers[EXPECTED_LENGTH] = String(made.length)
  if (!plan.mayStall) headers[NO_STALL] = 'yes'
  const giver = new AbortController()
  const giveUp = (): void => { giver.abort(new GivenUp('the caller has had enough')) }
  if (plan.giveUp === 'before') giveUp()
  let timer: NodeJS.Timeout | undefined
  if (plan.giveUp === 'later') timer = setTimeout(giveUp, plan.giveUpMs)
  try {
    const going = send(plan, made, headers, giver.signal, balancer)
    if (plan.giveUp === 'at once') giveUp()
    if (plan.giveUp === 'next turn') setImmediate(giveUp)
    const answer = await going
    const received = answer.header(RECEIVED_LENGTH)
    if (received !== undefined && made.length !== undefined && received !== String(made.length)) {
      complain(`${plan.via} ${plan.body}: ${String(made.length)} bytes sent, ${received} bytes received`)
    }
    for await (const piece of answer.pieces) {
      if ((piece as Uint8Array).byteLength === 0) complain(`${plan.via}: an empty piece`)
      if (plan.giveUp === 'in the body') giveUp()
      // Leaving the loop cancels the body, whichever kind it is.
      if (plan.reading === 'first piece') return `${answer.status}, not read to the end`
      if (plan.reading === 'slowly') await new Promise((resolve) => { setTimeout(resolve, 2) })
    }
    return String(answer.status)
  } finally {
    clearTimeout(timer)
  }
}

interface Answer {
  readonly status: number
  readonly pieces: AsyncIterable<unknown>
  header(name: string): string | undefined
}

function send(plan: Plan, made: MadeBody, headers: Record<string, string>, signal: AbortSignal, balancer: Dispatcher): Promise<Answer> {
  if (plan.via === 'fetch') return viaFetch(plan, made, headers, signal)
  return plan.via === 'request' ? viaRequest(plan, made, headers, signal) : viaDispatch(plan, made, headers, signal, balancer)
}

async function viaFetch(plan: Plan, made: MadeBody, headers: Record<string, string>, signal: AbortSignal): Promise<Answer> {
  const init = made.body === undefined ? { method: 'POST' } : { method: 'POST', body: made.body, duplex: 'half' }
  const response = await fetch(plan.url, { ...init, headers, signal } as RequestInit)
  return { status: response.status, pieces: response.body ?? none(), header: (name) => response.headers.get(name) ?? undefined }
}

async function viaRequest(plan: Plan, made: MadeBody, headers: Record<string, string>, signal: AbortSignal): Promise<Answer> {
  const { statusCode, headers: received, body } = await undiciRequest(plan.url, { method: 'POST', body: made.body as never, headers, signal })
  return { status: statusCode, pieces: body, header: (name) => received[name] as string | undefined }
}

/** Straight to the dispatcher, with a handler of the new style. */
function viaDispatch(plan: Plan, made: MadeBody, headers: Record<string, string>, signal: AbortSignal, balancer: Dispatcher): Promise<Answer> {
  const { origin, pathname } = new URL(plan.url)
  return new Promise((resolve, reject) => {
    let controller: Dispatcher.DispatchController | undefined
    const abort = (): void => { controller?.abort(signal.reason as Error) }
    const pieces = new Readable({
      read: () => { controller?.resume() },
      destroy: (error, done) => {
        // Destroyed by the reader, unless the response has ended or failed.
        controller?.abort(new GivenUp('not read to the end'))
        done(error)
      },
    })
    signal.addEventListener('abort', abort)
    balancer.dispatch({ origin, path: pathname, method: 'POST', headers, body: made.body as never }, {
      onRequestStart: (given) => {
        controller = given
        if (signal.aborted) abort()
      },
      onResponseStart: (_controller, status, received) => {
        if (status >= 200) resolve({ status, pieces, header: (name) => received[name] as string | undefined })
      },
      onResponseData: (given, chunk) => { if (!pieces.push(chunk)) given.pause() },
      onResponseEnd: () => {
        signal.removeEventListener('abort', abort)
        pieces.push(null)
      },
      onResponseError: (_controller, error) => {
        signal.removeEventListener('abort', abort)
        reject(error)
        pieces.destroy(error)
      },
    })
    // The caller that asked for it may be gone.
    pieces.on('error', () => {})
  })
}

async function * none(): AsyncGenerator<never> {}

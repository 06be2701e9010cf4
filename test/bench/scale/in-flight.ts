import { startChild, type Child } from '../support/child.js'
import type { Compiled } from '../support/compile.js'
import type { ServerCalls } from '../support/server.js'
import type { Table } from '../support/table.js'
import type { InFlightBody, InFlightCalls, InFlightSubject } from './in-flight-worker.js'

/** So many connections at once are no more than a listening socket's queue holds. */
const BATCH = 500

const BODIES: Readonly<Record<InFlightBody, string>> = { buffer: 'Buffer', announced: 'iterable of announced length', stream: 'stream' }

const RUNS: readonly (readonly [InFlightSubject, InFlightBody])[] = [['bare', 'buffer'], ['bare', 'announced'], ['ours', 'announced'], ['ours', 'stream']]

/** Memory of many requests that wait for a slow backend. */
export async function benchInFlight(compiled: Compiled, quick: boolean): Promise<Table> {
  const count = quick ? 50 : 10_000
  const server = startChild<ServerCalls>(compiled.program('undici', 'test/bench/support/server.ts'))
  const rows: Record<string, string | number>[] = []
  try {
    const url = await server.call('listen', 'held')
    for (const [subject, body] of RUNS) rows.push(await run(compiled, server, { subject, url, body, count }))
  } finally {
    await server.stop()
  }
  return {
    title: `${count.toLocaleString('en-US')} requests in flight`,
    note: 'Each with a body of 10 KB and a connection of its own, all sent and then all answered. MB that live after a collection, over what lived before the first request;'
      + ' "answered" is when every response has begun (nothing can be retried any more) and none has ended.'
      + ' A Buffer is kept by undici until the end; so is what was read of an iterable whose length was announced: up to 64 KiB it is sent as a Buffer.',
    columns: [
      { key: 'subject', label: '' }, { key: 'body', label: 'body' }, { key: 'sent', label: 'all sent: MB' }, { key: 'begun', label: 'answered: MB' },
      { key: 'ended', label: 'ended: MB' }, { key: 'peak', label: 'peak RSS, MB' },
    ],
    rows,
  }
}

interface Job {
  readonly subject: InFlightSubject
  readonly url: string
  readonly body: InFlightBody
  readonly count: number
}

async function run(compiled: Compiled, server: Child<ServerCalls>, { subject, url, body, count }: Job): Promise<Record<string, string | number>> {
  const client = startChild<InFlightCalls>(compiled.program('undici', 'test/bench/scale/in-flight-worker.ts'), ['--expose-gc'])
  try {
    const before = await client.call('start', { subject, url, bytes: 10_000, body })
    for (let sent = 0; sent < count;) {
      const batch = Math.min(BATCH, count - sent)
      await client.call('send', batch)
      await server.call('arrived', sent += batch)
    }
    const sent = await client.call('measure', undefined)
    await server.call('begin', undefined)
    const begun = await client.call('begun', undefined)
    await server.call('end', undefined)
    const ended = await client.call('ended', undefined)
    return {
      subject: subject === 'bare' ? 'bare Agent' : 'ours',
      body: BODIES[body],
      sent: sent.liveMB - before.liveMB,
      begun: begun.liveMB - before.liveMB,
      ended: ended.liveMB - before.liveMB,
      peak: ended.peakRssMB,
    }
  } finally {
    await client.stop()
  }
}

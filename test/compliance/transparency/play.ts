/** Plays an exchange, with a bare Agent or with a balancer, and tells all that is to be seen of it. */
import type { Dispatcher } from 'undici'
import { PriorityBalancer } from '../../../src/balancer.js'
import { readGlobal, writeGlobal } from '../../../src/global-dispatcher.js'
import { install } from '../../../src/install.js'
import type { BalancerOptions } from '../../../src/options/index.js'
import type { Undici } from '../../support/majors.js'
import { turns, until, within } from '../../support/until.js'
import { send, undiciOf } from './clients.js'
import { isTraced, type Client, type Exchange } from './exchange.js'
import { makeBody } from './request-body.js'
import { toSteps } from './response-steps.js'
import { Signals } from './signals.js'
import { OWN_KEY, type Played, type PlayedTurn } from './played.js'
import { traced, type Trace } from './trace.js'
import type { WireServer } from './wire-server.js'

/** What stands behind the client. */
interface Stage {
  readonly dispatcher: { dispatch: Dispatcher['dispatch'] }
  readonly origin: string
  end (): Promise<void>
}

/** As trustworthy as the server's address: newer fetches tell what they are only to such. */
const MADE_UP = 'http://made-up.localhost'

export function playBare (undici: Undici, server: WireServer, exchange: Exchange): Promise<Played> {
  const agent = new undici.Agent(exchange.agent)
  const { Dispatcher1Wrapper } = undici as unknown as { Dispatcher1Wrapper?: new (inner: Dispatcher) => Dispatcher }
  // What undici 8 itself puts before its dispatchers for callers of the old style.
  const old = Dispatcher1Wrapper === undefined ? agent : new Dispatcher1Wrapper(agent)
  const dispatcher: Stage['dispatcher'] = { dispatch: (opts, handler) => (typeof (handler as { onRequestStart?: unknown } | null)?.onRequestStart === 'function' ? agent : old).dispatch(opts, handler) }
  return play(undici, server, exchange, { dispatcher, origin: server.url, end: () => agent.destroy() })
}

/** Something between the client and the balancer that is not as it should be: for showing that it would be found. */
export type Spoil = (dispatcher: Stage['dispatcher']) => Stage['dispatcher']

/** @param undici the one that the balancer makes its own Agent from */
export function playBalanced (undici: Undici, server: WireServer, exchange: Exchange, spoil: Spoil = (dispatcher) => dispatcher): Promise<Played> {
  const { setting, client } = exchange
  // `install` would send through the dispatcher that is global already, whose connections stay open.
  const makesItsOwn = exchange.agent === undefined && isTraced(client)
  const agent = makesItsOwn ? undefined : new undici.Agent(exchange.agent)
  const options: BalancerOptions = {
    backends: [{ url: server.url, priority: 1, ...(setting === 'own credential' ? { apiKey: OWN_KEY } : {}) }],
    ...(setting === 'made-up url' ? { intercept: [MADE_UP] } : {}),
    ...(agent === undefined ? {} : { dispatcher: agent }),
    logger: false,
  }
  const balancer = isTraced(client) ? new PriorityBalancer(options) : install(options)
  const end = async (): Promise<void> => {
    if ('uninstall' in balancer) void (balancer as ReturnType<typeof install>).uninstall()
    await balancer.destroy()
    await agent?.destroy()
  }
  return play(undici, server, exchange, { dispatcher: spoil(balancer), origin: setting === 'made-up url' ? MADE_UP : server.url, end })
}

async function play (undici: Undici, server: WireServer, exchange: Exchange, stage: Stage): Promise<Played> {
  const { client } = exchange
  server.begin()
  const played: PlayedTurn[] = []
  const former = readGlobal()
  try {
    for (const turn of exchange.turns) {
      const signals = new Signals()
      server.expect({ steps: toSteps(turn), signals })
      const body = makeBody(turn.body, undiciOf(client, undici), signals)
      const traces: Trace[] = []
      const dispatcher = traced(stage.dispatcher, traces, signals)
      const isGlobal = useGlobal(client, isTraced(client) ? dispatcher : stage.dispatcher)
      const result = await within(send(client, { undici, dispatcher: isGlobal ? undefined : dispatcher, origin: stage.origin, turn, body, signals }), 'the result', 2_000)
        .catch((error: unknown) => ({ hung: (error as Error).message }))
      signals.tell('over')
      // Fetch may have its result before the answer has ended; what is said after the end, or told to the body's source, comes within a few turns.
      await until(() => traces.every(isOver), 'the end of the answer', 500).catch(() => {})
      await turns(5)
      await server.settled()
      played.push({ traces, result, source: body.source })
    }
  } finally {
    writeGlobal(former)
    await stage.end()
  }
  return { turns: played, wire: await server.finish() }
}

const ENDS = new Set(['onComplete', 'onResponseEnd', 'onError', 'onResponseError', 'onUpgrade', 'onRequestUpgrade'])

function isOver ({ calls, returned }: Trace): boolean {
  return returned instanceof Object || calls.some(([method]) => ENDS.has(method))
}

function useGlobal (client: Client, dispatcher: Stage['dispatcher']): boolean {
  if (client !== 'native fetch, global' && client !== 'native fetch, installed') return false
  writeGlobal([dispatcher, dispatcher])
  return true
}

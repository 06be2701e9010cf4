/** The events as Node's `diagnostics_channel` carries them, for metrics and tracing of your own. */
import { channel, subscribe as subscribeTo, unsubscribe, type Channel } from 'node:diagnostics_channel'
import type { BalancerEventName, BalancerEvents } from './events.js'

/** What the names of all channels begin with: `openai-priority-loadbalancer:picked`. */
export const CHANNEL_PREFIX = 'openai-priority-loadbalancer:'

/** The channel of each event. They are the process's own: every balancer in it publishes there. */
export const channels: { readonly [K in BalancerEventName]: Channel } = Object.freeze({
  picked: channel(`${CHANNEL_PREFIX}picked`),
  answered: channel(`${CHANNEL_PREFIX}answered`),
  failover: channel(`${CHANNEL_PREFIX}failover`),
  cooldown: channel(`${CHANNEL_PREFIX}cooldown`),
  ejected: channel(`${CHANNEL_PREFIX}ejected`),
  readmitted: channel(`${CHANNEL_PREFIX}readmitted`),
  waiting: channel(`${CHANNEL_PREFIX}waiting`),
  waited: channel(`${CHANNEL_PREFIX}waited`),
  exhausted: channel(`${CHANNEL_PREFIX}exhausted`),
})

/**
 * Calls back for every event of one kind, at the moment it happens and before the request goes on: be quick. What a
 * listener throws becomes an uncaught exception of the process (Node's rule for these channels), never a failed request.
 * @returns a function that ends it.
 * @example const stop = subscribe('failover', ({ backend, to, outcome }) => failovers.add(1, { backend, to, outcome }))
 */
export function subscribe<K extends BalancerEventName>(event: K, listener: (payload: BalancerEvents[K]) => void): () => void {
  const onMessage = (message: unknown): void => listener(message as BalancerEvents[K])
  // Not `channel.subscribe`: before Node 22 a channel that nobody else holds could be collected with its subscribers.
  subscribeTo(CHANNEL_PREFIX + event, onMessage)
  return () => { unsubscribe(CHANNEL_PREFIX + event, onMessage) }
}

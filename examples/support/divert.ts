/** Sends what is meant for some hosts to local servers, so that an example can hold the URLs that its reader would write. */
import { Agent, setGlobalDispatcher, type Dispatcher } from 'undici'

/** Local origin for each host name: `{ 'contoso-east.openai.azure.com': 'http://127.0.0.1:40001' }`. */
export type LocalOrigins = Readonly<Record<string, string>>

/** Nothing listens on port 1: an example that asks for another host is refused, and never reaches the network. */
const NOWHERE = 'http://127.0.0.1:1'

/** Puts the diversion in the way of every fetch of the process. A balancer that is installed afterwards sends through it. */
export function divert(origins: LocalOrigins): Dispatcher {
  const local = new Set(Object.values(origins))
  const diversion = new Agent().compose((dispatch) => (options, handler) => {
    const { origin, hostname } = new URL(String(options.origin))
    return dispatch({ ...options, origin: local.has(origin) ? origin : origins[hostname] ?? NOWHERE }, handler)
  })
  setGlobalDispatcher(diversion)
  return diversion
}

/** What requests of a benchmark go through, one for each subject and server: connections are kept from round to round. */
import type { Dispatcher } from 'undici'

/** @param create makes the dispatcher of each subject, for a server's base URL. */
export function keepDispatchers<Name extends string>(create: Readonly<Record<Name, (url: string) => Dispatcher>>): (subject: Name, url: string) => Dispatcher {
  const dispatchers = new Map<string, Dispatcher>()
  return (subject, url) => {
    const key = `${subject} ${url}`
    const known = dispatchers.get(key)
    const dispatcher = known ?? create[subject](url)
    if (known === undefined) dispatchers.set(key, dispatcher)
    return dispatcher
  }
}

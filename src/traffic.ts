/**
 * `withTraffic`: what requests may say of themselves, for code whose client cannot set headers, or that knows more than the call deep
 * inside a library which makes the request.
 */
import { InvalidOptionsError } from './errors.js'
import { describe, describeKind, readOptions } from './options/checks.js'
import type { Traffic } from './options/index.js'
import { HINTS, runWith } from './request/hints.js'

/** What the argument is called in messages. */
const TRAFFIC = 'traffic'

const FIELDS = Object.keys(HINTS) as (keyof Traffic)[]

/**
 * Calls `fn` and gives back what it gives. Every request that is made in its async context says what `traffic` says: fields that are
 * not given are those of the `withTraffic` around it, if any, else the options. A header of a request (see `requestHeaders`) goes before.
 * @throws InvalidOptionsError at once when an argument is wrong; `fn` is not called then.
 * @example const answer = await withTraffic({ maxWaitMs: 60_000 }, () => client.responses.create({ model: 'gpt-4o', input }))
 */
export function withTraffic<T>(traffic: Traffic, fn: () => T): T {
  const said = checkTraffic(traffic)
  if (typeof fn !== 'function') throw new InvalidOptionsError('fn', 'must be a function', describeKind(fn))
  return runWith(said, fn)
}

function checkTraffic(traffic: unknown): Traffic {
  const given = Object.entries(readOptions(traffic, TRAFFIC, FIELDS)).filter(([, value]) => value !== undefined)
  for (const [field, value] of given) {
    const { rule, accepts } = HINTS[field as keyof Traffic]
    if (!accepts(value)) throw new InvalidOptionsError(`${TRAFFIC}.${field}`, rule, describe(value))
  }
  // Each field has what its own rule accepts.
  return Object.fromEntries(given) as Traffic
}

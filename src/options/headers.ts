/**
 * Headers of a backend's own. A gateway takes its key or a route in one, while others are the connection's business, or have options
 * that do more than to set them. Values may be secrets: no message shows any.
 */
import { isCredentialHeader } from '../core/credential-names.js'
import { describeKind, joinPath, readStrings } from './checks.js'
import { findHeaderFault } from './credential.js'
import { InvalidOptionsError } from '../errors.js'

/** What has an option of its own. */
const OPTIONS_OF: Readonly<Record<string, string>> = { authorization: 'bearerToken', 'api-key': 'apiKey' }

/** undici's own, or of one connection (RFC 9110 section 7.6.1): what is set there either throws or breaks every request. */
const CONNECTION: ReadonlySet<string> = new Set([
  'host', 'content-length', 'transfer-encoding', 'connection', 'keep-alive', 'proxy-connection', 'proxy-authenticate', 'te', 'trailer', 'upgrade', 'expect',
])

/** RFC 9110 section 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~\dA-Za-z]+$/

/**
 * Names in lower case, and values.
 * @throws InvalidOptionsError
 */
export function readHeaders(value: unknown, path: string): readonly (readonly [string, string])[] | undefined {
  if (value === undefined) return undefined
  const names = new Set<string>()
  const headers = Object.entries(readStrings(value, path)).map(([written, text]) => {
    const name = written.toLowerCase()
    const fail = (rule: string, received: string): never => { throw new InvalidOptionsError(joinPath(path, written), rule, received) }
    const option = Object.hasOwn(OPTIONS_OF, name) ? OPTIONS_OF[name] : undefined
    if (!TOKEN.test(written)) fail('must be the name of a header', describeKind(written))
    if (option !== undefined) fail(`must not be set here: use the option ${option}`, describeKind(text))
    if (CONNECTION.has(name) || name.startsWith('sec-websocket-')) fail('must not be set: it belongs to the connection', describeKind(text))
    if (names.has(name)) fail('must be there once, in whichever letter case', 'it again')
    names.add(name)
    const fault = text === '' && !isCredentialHeader(name) ? undefined : findHeaderFault(text)
    if (fault !== undefined) fail('must be a string that can be sent in a header', fault)
    return Object.freeze([name, text] as const)
  })
  return headers.length === 0 ? undefined : Object.freeze(headers)
}

/**
 * Base URLs: what a request's URL starts with, and what takes its place. Two spellings of one base (letter case of the
 * host, a default port, a slash at the end) must be one, and no spelling may mean another base than the one that is read.
 */
import { describeUrl } from './checks.js'
import { InvalidOptionsError } from '../errors.js'

/** A base URL in normal form: lower-case host, no default port, no slash at the end. */
export interface BaseUrl {
  /** `origin` and `basePath` together. */
  readonly href: string
  /** `https://host`, with `:port` unless it is the scheme's own. */
  readonly origin: string
  /** `''` or `/openai/v1`: never a slash at the end. */
  readonly basePath: string
}

/**
 * Reads a base URL. A bare `host`, `host:port` or `host/path` means `https://`. Percent-encoding and letter case of
 * the path stay as they are: servers may tell them apart.
 *
 * What URL parsers quietly repair (dot segments, backslashes, white space) is refused instead, so that the base path
 * that requests are compared with is the one that was written.
 * @throws InvalidOptionsError
 */
export function parseBaseUrl(value: unknown, path: string): BaseUrl {
  const fail = (rule: string): never => {
    throw new InvalidOptionsError(path, rule, describeUrl(value))
  }
  if (typeof value !== 'string' || value === '') return fail('must be a URL such as https://my-resource.openai.azure.com/openai/v1')
  if (/[\s\p{Cc}]/u.test(value)) return fail('must have no white space and no control characters')
  // Not in the path either: of `https://user/secret@host` no reader can say which part was meant to be one.
  if (value.includes('@')) return fail('must have no user name or password (no @ at all): use apiKey or bearerToken')
  if (value.includes('\\')) return fail('must have no backslash')
  const written = value.includes('://') ? value : `https://${value}`
  if (!/^https?:\/\//i.test(written)) return fail('must be an http or https URL')
  if (written.includes('?')) return fail('must have no query: put parameters such as api-version into backends[].query')
  if (written.includes('#')) return fail('must have no fragment')
  const [authority, ...segments] = written.slice(written.indexOf('//') + 2).replace(/\/$/, '').split('/')
  if (authority?.includes('*')) return fail('must name one host: wildcards are not supported')
  if (authority === '' || !URL.canParse(written)) return fail('must be a valid URL')
  checkSegments(segments, fail)
  const { origin, pathname } = new URL(written)
  const basePath = pathname.replace(/\/$/, '')
  return Object.freeze({ href: origin + basePath, origin, basePath })
}

function checkSegments(segments: readonly string[], fail: (rule: string) => never): void {
  for (const segment of segments) {
    if (segment === '') fail('must have no empty segment (two slashes in a row) in its path')
    if (/%2f|%5c/i.test(segment)) fail('must have no encoded slash in its path')
    if (/^(\.|%2e){1,2}$/i.test(segment)) fail('must have no dot segment in its path')
  }
}

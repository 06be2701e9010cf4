/**
 * Options that are each right, but will hardly do together what was meant: a key over http, keys for some of the
 * backends, bases that cannot stand in for each other. They are allowed, since a gateway may make sense of them, and told of in
 * the log.
 */
import type { ConfiguredBackend } from './backend.js'
import type { BaseUrl } from './base-url.js'

/** Sentences for the log, each with what to do. @param home that takes the stateful paths */
export function findWarnings(backends: readonly ConfiguredBackend[], intercept: readonly BaseUrl[], home: ConfiguredBackend): readonly string[] {
  const warnings = [
    ...backends.flatMap(findCredentialWarnings), findMixedCredentials(backends), findMixedBases(backends, intercept), findHomeWarning(backends, home),
  ]
  return Object.freeze(warnings.filter((warning) => warning !== undefined))
}

/**
 * What is wrong with sending through `inner`: a dispatcher, or the function that an interceptor is composed with. Seen are
 * undici's RetryAgent, also derived or composed, and `interceptors.retry()` right below an interceptor where undici hands
 * that function over as it is (undici 8). Whatever else retries in there cannot be seen from outside.
 */
export function findInnerWarning(inner: object): string | undefined {
  if (!isRetryAgent(inner) && (inner as { readonly name?: unknown }).name !== 'retryInterceptor') return undefined
  return 'The dispatcher that requests are sent through retries by itself (RetryAgent or interceptors.retry()): it waits and asks the same backend ' +
    'again where another one would answer at once, beyond maxAttempts and retryBudget. Use one that does not retry: the balancer does.'
}

/** By name: it may be of any copy of undici. */
function isRetryAgent(inner: object): boolean {
  for (let type: unknown = inner.constructor; typeof type === 'function'; type = Object.getPrototypeOf(type)) {
    if (type.name === 'RetryAgent') return true
  }
  return false
}

function findCredentialWarnings(backend: ConfiguredBackend): string[] {
  const warnings: string[] = []
  const { protocol, hostname } = new URL(backend.origin)
  if (backend.ownsCredential && protocol === 'http:' && !isLoopback(hostname)) {
    warnings.push(`Backend "${backend.name}" sends its credential over http, where anyone on the way can read it. Use https.`)
  }
  if (hostname === 'api.openai.com' && backend.credential?.header === 'api-key') {
    warnings.push(`Backend "${backend.name}" has an apiKey, which is sent as api-key: api.openai.com takes its keys as bearerToken only.`)
  }
  if (backend.hasAccountOnly) {
    warnings.push(`Backend "${backend.name}" has openai-organization or openai-project among its headers, and no key of its own: your client's key is of its own account, so it is not sent there. Give it an apiKey or bearerToken.`)
  }
  return warnings
}

function findHomeWarning(backends: readonly ConfiguredBackend[], home: ConfiguredBackend): string | undefined {
  const meant = backends.find((backend) => backend.home)
  if (meant === undefined || meant === home) return undefined
  return `Backend "${meant.name}" is the home, but not enabled: stateful paths go to "${home.name}", which does not have the files, batches and ` +
    'threads of the other. Enable it, or make another backend the home for good.'
}

/** The caller's key is good for one service, as a rule: sent to a backend of another one, it is refused there, and shown to it. */
function findMixedCredentials(backends: readonly ConfiguredBackend[]): string | undefined {
  const list = (owns: boolean): string => backends.filter(({ ownsCredential }) => ownsCredential === owns).map(({ name }) => `"${name}"`).join(', ')
  const [own, none] = [list(true), list(false)]
  if (own === '' || none === '') return undefined
  return `Some backends have a credential of their own (${own}), others have none (${none}): those are sent the credentials of your client, ` +
    'whatever they are, and a client that is refused there gets no help from the others. Give each backend its own.'
}

/** RFC 6761 section 6.3 and RFC 1122 section 3.2.1.3. */
function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname.endsWith('.localhost') || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname)
}

/** With what the rest of a URL begins after a base: bases whose rests begin differently cannot stand in for each other. */
type Rest = '/openai/...' | '/v1/...' | 'the operation, such as /chat/completions'

function findMixedBases(backends: readonly ConfiguredBackend[], intercept: readonly BaseUrl[]): string | undefined {
  const groups = new Map<Rest, Set<string>>()
  for (const base of [...backends.map((backend) => backend.base), ...intercept]) {
    const rest = findRest(base)
    if (rest !== undefined) groups.set(rest, (groups.get(rest) ?? new Set()).add(base.href))
  }
  if (groups.size < 2) return undefined
  const listed = [...groups].map(([rest, urls]) => `${[...urls].join(', ')} (followed by ${rest})`).join('; ')
  return `These base URLs cannot stand in for each other, since only the base of a request's URL is replaced: ${listed}. ` +
    'Use bases that the same operation follows: https://{resource}.openai.azure.com/openai/v1 for Azure OpenAI, beside https://api.openai.com/v1.'
}

/** `undefined` where it cannot be known: gateways and made-up origins. */
function findRest({ origin, basePath }: BaseUrl): Rest | undefined {
  const { hostname } = new URL(origin)
  const path = basePath.toLowerCase()
  if (path.endsWith('/v1')) return 'the operation, such as /chat/completions'
  if (path.endsWith('/openai')) return '/v1/...'
  if (path === '' && hostname === 'api.openai.com') return '/v1/...'
  if (path === '' && /\.(openai\.azure\.(com|us|cn)|cognitiveservices\.azure\.com|services\.ai\.azure\.com)$/.test(hostname)) return '/openai/...'
  return undefined
}

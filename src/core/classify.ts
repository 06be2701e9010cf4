/**
 * What an answer means decides where the request goes next and who is left alone, and its status says only half of it: a 429 may be
 * a moment's rush or an unpaid bill, a 404 the caller's mistake or a deployment that this backend does not have. All of that is
 * decided here, and nowhere else, by two tables: one for answers, one for errors inside a 200. The first row that fits counts, and
 * rows that go by what the error says of itself come before those that go by a header, and these before those that go by a status.
 *
 * Codes and types are compared whole. Callers choose the names of models and write prompts, and messages quote both.
 */
import { isRetryHeader, type RetryHint } from './retry-after.js'
import type { AnswerError, OutcomeClass } from './types.js'

/** What is known of an answer. */
export interface Evidence {
  readonly status: number
  /** What its headers say of when to come back. */
  readonly hint: RetryHint | undefined
  /** What it says of itself, where that was read. */
  readonly error: AnswerError | undefined
  /** We added the credential: a refusal is ours to fix then. */
  readonly ownsCredential: boolean
  /** Its headers, or its error, say that the request alone is larger than the limit. */
  readonly isTooLarge: boolean
  /** There is a backend that takes what is too long for this one. */
  readonly hasLarger: boolean
}

/** The account has no money left, and waiting does not help (OpenAI, error codes, 2026-11; Azure OpenAI answers `insufficient_quota`, too). */
const EXHAUSTED: ReadonlySet<string> = new Set([
  'insufficient_quota', 'billing_hard_limit_reached', 'billing_not_active', 'credit_balance_exhausted', 'organization_spend_limit_exceeded',
  'project_spend_limit_exceeded', 'spend_limit_exceeded',
])

/** This backend does not have what another one may have (Azure OpenAI and OpenAI, error codes, 2026-11). */
const MISSING: ReadonlySet<string> = new Set(['DeploymentNotFound', 'model_not_found', 'ModelNotFound', 'OperationNotSupported', 'ModelDeprecated', 'model_deprecated'])

const OVERLONG: ReadonlySet<string> = new Set(['context_length_exceeded'])

/** The request alone is larger than the limit. */
const OVERSIZED: ReadonlySet<string> = new Set(['request_too_large', 'tokens_limit_reached', 'request_too_large_for_limit'])

/** Azure's word for a token without a role on this resource: another resource may have it. */
const DENIED: ReadonlySet<string> = new Set(['PermissionDenied'])

const isClientError = (status: number): boolean => status >= 400 && status < 500

interface Row<E> {
  readonly outcome: OutcomeClass
  readonly fits: (evidence: E) => boolean
}

const ANSWERS: readonly Row<Evidence>[] = [
  { outcome: 'exhausted', fits: ({ status, error }) => isClientError(status) && says(error, EXHAUSTED) },
  { outcome: 'missing', fits: ({ status, error }) => (status === 400 || status === 403 || status === 404) && says(error, MISSING) },
  { outcome: 'overlong', fits: ({ status, error, hasLarger }) => hasLarger && (status === 400 || status === 422) && says(error, OVERLONG) },
  { outcome: 'oversized', fits: ({ status, error, isTooLarge }) => status === 429 && (isTooLarge || says(error, OVERSIZED)) },
  { outcome: 'refused', fits: ({ status, error, ownsCredential }) => status === 401 && !ownsCredential && says(error, DENIED) },
  { outcome: 'throttled', fits: ({ status, hint }) => mayBeThrottled(status) && hint !== undefined && isRetryHeader(hint.source) },
  { outcome: 'success', fits: ({ status }) => status < 400 },
  { outcome: 'throttled', fits: ({ status }) => status === 429 },
  // 408 is Azure's own timeout: the backend gave up on the request, which it may not do elsewhere.
  { outcome: 'failed', fits: ({ status }) => status >= 500 || status === 408 },
  { outcome: 'exhausted', fits: ({ status }) => status === 402 },
  { outcome: 'missing', fits: ({ status }) => status === 410 },
  { outcome: 'misconfigured', fits: ({ status, ownsCredential }) => (status === 401 || status === 403) && ownsCredential },
  { outcome: 'refused', fits: ({ status }) => status === 403 },
  { outcome: 'answered', fits: () => true },
]

/** What an answer means. */
export function classify(evidence: Evidence): OutcomeClass {
  return find(ANSWERS, evidence)
}

/** An error where a 200 had promised an answer. `hasLarger`, `isTooLarge`: as above. */
type StreamEvidence = Pick<Evidence, 'hasLarger' | 'isTooLarge'> & { readonly error: AnswerError }

const IN_STREAM: readonly Row<StreamEvidence>[] = [
  { outcome: 'exhausted', fits: ({ error }) => says(error, EXHAUSTED) || error.code === '402' },
  { outcome: 'overlong', fits: ({ error, hasLarger }) => hasLarger && says(error, OVERLONG) },
  { outcome: 'oversized', fits: ({ error, isTooLarge }) => isTooLarge || says(error, OVERSIZED) },
  { outcome: 'throttled', fits: ({ error }) => saysAny(error, isRateLimit) },
  { outcome: 'failed', fits: ({ error }) => saysAny(error, isServerError) || saysNothing(error) },
  // A bad request, a content filter, a policy: the caller's to read.
  { outcome: 'answered', fits: () => true },
]

/** What an error in the place of an answer means. */
export function classifyInStream(evidence: StreamEvidence): OutcomeClass {
  return find(IN_STREAM, evidence)
}

/** Whether the answer's headers can change what its status means: only then are they worth reading. */
export function mayBeThrottled(status: number): boolean {
  return status === 429 || status === 403 || status >= 500
}

/** These reach the caller; all others are followed by another attempt where one is left. */
export function isDelivered(outcome: OutcomeClass): boolean {
  return outcome === 'success' || outcome === 'answered'
}

/** Statuses that another backend might not have answered, depending on what the error says: all that is read of 4xx, 429 apart. */
export function mayMeanMore(status: number): boolean {
  return status === 400 || status === 401 || status === 402 || status === 403 || status === 404 || status === 410 || status === 422
}

/** The error is about the model that the request names: the deployment is at fault, and no account. */
export function namesModel(error: AnswerError | undefined): boolean {
  return error?.param === 'model'
}

/** What another backend's callers have asked of a deployment that serves: it exists, though not for this operation. */
export function isWrongOperation(error: AnswerError | undefined): boolean {
  return error?.code === 'OperationNotSupported'
}

/** Told to the caller as it is, and yet no backend is to let it in on a credential of ours. */
export function isRefusal(status: number, ownsCredential: boolean): boolean {
  return !ownsCredential && (status === 401 || status === 403)
}

function find<E>(rows: readonly Row<E>[], evidence: E): OutcomeClass {
  // The last row fits everything.
  return rows.find(({ fits }) => fits(evidence))!.outcome
}

function says(error: AnswerError | undefined, words: ReadonlySet<string>): boolean {
  return error !== undefined && saysAny(error, (word) => words.has(word))
}

function saysAny({ code, type }: AnswerError, fits: (word: string) => boolean): boolean {
  return (code !== undefined && fits(code)) || (type !== undefined && fits(type))
}

function saysNothing({ code, type }: AnswerError): boolean {
  return code === undefined && type === undefined
}

/** OpenAI, Azure OpenAI and, with the status as a number, gateways such as OpenRouter and LiteLLM (2026-11). */
function isRateLimit(word: string): boolean {
  return word.startsWith('rate_limit') || word === 'too_many_requests' || word === 'slow_down' || word === '429'
}

function isServerError(word: string): boolean {
  return word === 'server_error' || word === 'internal_server_error' || word === 'internal_error' || word === 'vector_store_timeout'
    || word.endsWith('overloaded') || word === 'overloaded_error' || word === '408' || /^5\d\d$/.test(word)
}

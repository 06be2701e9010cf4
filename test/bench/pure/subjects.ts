/** What stands in front of the null dispatcher. */
import { Dispatcher, interceptors, RetryAgent } from 'undici'
import { PriorityBalancer } from '../../../src/balancer.js'
import { priorityInterceptor } from '../../../src/interceptor.js'
import type { BackendOptions } from '../../../src/options/index.js'
import type { DispatchOptions } from '../../../src/request/undici.js'
import type { Answer } from './null-dispatcher.js'
import { ANSWER, ANSWER_WITH_LIMITS, DEPLOYMENT_PATH, makeIterable, makeRequest, ORIGIN, V1_PATH } from './requests.js'

export interface Subject {
  readonly label: string
  readonly make: (inner: Dispatcher) => Dispatcher
  readonly answer: Answer
  readonly request: DispatchOptions
  /** The body for each request anew, where it is good for one reading only. */
  readonly makeBody?: () => AsyncIterable<unknown>
}

export const SUBJECTS = {
  'bare': simple('bare', (inner) => inner),
  'function': simple('pass-through dispatcher', (inner) => new PassThrough(inner)),
  'compose': simple('pass-through function, `compose`', (inner) => inner.compose((dispatch) => (opts, handler) => dispatch(opts, handler))),
  'retry': simple('`interceptors.retry`', (inner) => inner.compose(interceptors.retry())),
  'retry-agent': simple('`RetryAgent`', (inner) => new RetryAgent(inner)),
  'outside': ours('ours, outside `intercept`', 1, { request: makeRequest('/v1/embeddings', { origin: 'https://elsewhere.example' }) }),
  'one': ours('ours, one backend', 1),
  'five': ours('ours, five backends', 5),
  'key': ours('ours, with the backend\'s own key', 1, {}, { apiKey: 'fedcba9876543210fedcba9876543210' }),
  'model': ours('ours, model in the JSON body', 1, { request: makeRequest(V1_PATH) }),
  'limits': ours('ours, rate-limit headers on the answer', 1, { answer: ANSWER_WITH_LIMITS }),
  'composed': simple('ours as interceptor, `compose`', (inner) => inner.compose(priorityInterceptor({ backends: [{ url: ORIGIN, priority: 1 }] }))),
  'bare-iterable': { ...simple('bare, iterable body', (inner) => inner), makeBody: makeIterable },
  'iterable': ours('ours, iterable body to replay', 1, { makeBody: makeIterable }),
} as const satisfies Record<string, Subject>

export type SubjectName = keyof typeof SUBJECTS

function simple(label: string, make: Subject['make']): Subject {
  return { label, make, answer: ANSWER, request: makeRequest(DEPLOYMENT_PATH) }
}

function ours(label: string, count: number, more: Partial<Subject> = {}, backend: Partial<BackendOptions> = {}): Subject {
  const backends = Array.from({ length: count }, (_, index) => ({ url: index === 0 ? ORIGIN : `https://other-${index}.openai.azure.com`, priority: 1, ...backend }))
  return { ...simple(label, (dispatcher) => new PriorityBalancer({ backends, dispatcher })), ...more }
}

/** What anything in front of a dispatcher costs at least. */
class PassThrough extends Dispatcher {
  readonly #inner: Dispatcher

  constructor(inner: Dispatcher) {
    super()
    this.#inner = inner
  }

  override dispatch(opts: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    return this.#inner.dispatch(opts, handler)
  }
}

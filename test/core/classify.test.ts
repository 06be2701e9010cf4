/** The table of outcomes, row by row, in the order of the rows: for a reader who has the table itself beside it. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  classify, classifyInStream, isDelivered, isWrongOperation, mayBeThrottled, mayMeanMore, namesModel, type Evidence,
} from '../../src/core/classify.js'
import type { AnswerError, OutcomeClass } from '../../src/core/types.js'
import { SEED } from '../support/seed.js'

const retryAfter = { ms: 1_000, source: 'retry-after' } as const
const reset = { ms: 1_000, source: 'x-ratelimit-reset-tokens' } as const

const said = (code?: string, type?: string, param?: string): AnswerError => ({ code, type, param })

/** Nothing but a status, to the caller's own credential, with no backend marked as larger, unless said. */
const mean = (status: number, more: Partial<Evidence> = {}): OutcomeClass =>
  classify({ status, hint: undefined, error: undefined, ownsCredential: false, isTooLarge: false, hasLarger: false, ...more })

const ours = { ownsCredential: true } as const

type Case = readonly [status: number, more?: Partial<Evidence>]

const rows: readonly (readonly [row: string, outcome: OutcomeClass, cases: readonly Case[]])[] = [
  ['429', 'throttled', [[429], [429, { error: said('429') }], [429, { error: said('rate_limit_exceeded', 'requests') }], [429, ours], [429, { hint: retryAfter }]]],
  ['403, 503 or another 5xx with a retry header', 'throttled', [403, 500, 502, 503, 504, 529].flatMap((status): Case[] => [
    [status, { hint: retryAfter }], [status, { hint: retryAfter, ...ours }], [status, { hint: { ms: 9, source: 'retry-after-ms' } }],
    [status, { hint: { ms: 9, source: 'x-ms-retry-after-ms' } }],
  ])],
  ['429 that can never fit', 'oversized', [
    [429, { isTooLarge: true }], [429, { isTooLarge: true, ...ours }], [429, { isTooLarge: true, hint: reset }],
    [429, { error: said('request_too_large') }], [429, { error: said('tokens_limit_reached') }],
  ]],
  ['5xx, 408', 'failed', [[408], [500], [501], [502], [503], [504], [520], [529], [599], [503, { hint: reset }], [408, { hint: retryAfter }], [500, { error: said('insufficient_quota') }]]],
  ['401, 403 to a credential of ours', 'misconfigured', [
    [401, ours], [403, ours], [401, { ...ours, error: said('invalid_api_key') }], [401, { ...ours, error: said('PermissionDenied') }],
    [403, { ...ours, error: said(undefined, undefined, 'model') }], [403, { ...ours, hint: reset }],
  ]],
  ['403, or 401 with PermissionDenied, to the caller\'s credential', 'refused', [
    [403], [403, { error: said('PermissionDenied') }], [401, { error: said('PermissionDenied') }], [401, { error: said(undefined, 'PermissionDenied') }],
  ]],
  ['402 and what the account lacks', 'exhausted', [
    [402], [402, ours], [402, { error: said('whatever') }],
    ...[
      'insufficient_quota', 'billing_hard_limit_reached', 'billing_not_active', 'credit_balance_exhausted', 'organization_spend_limit_exceeded',
      'project_spend_limit_exceeded', 'spend_limit_exceeded',
    ].flatMap((code): Case[] => [
      [429, { error: said(code) }], [429, { error: said(undefined, code) }], [429, { error: said(code), hint: retryAfter }], [400, { error: said(code) }],
      [403, { error: said(code), ...ours }], [429, { error: said(code), isTooLarge: true }],
    ]),
  ]],
  ['what this backend does not have', 'missing', [
    [404, { error: said('DeploymentNotFound') }], [404, { error: said('model_not_found') }], [403, { error: said('model_not_found') }],
    [403, { error: said('model_not_found'), ...ours }], [403, { error: said('model_not_found'), hint: retryAfter }], [410], [410, ours],
    [400, { error: said('OperationNotSupported') }], [400, { error: said('ModelDeprecated') }], [404, { error: said(undefined, 'model_not_found') }],
  ]],
  ['400 context_length_exceeded with a larger backend', 'overlong', [
    [400, { error: said('context_length_exceeded'), hasLarger: true }], [422, { error: said('context_length_exceeded'), hasLarger: true }],
  ]],
  ['2xx, 3xx', 'success', [[101], [200], [201], [204], [206], [302], [304], [307], [200, { hint: retryAfter }]]],
  ['other 4xx, the content filter\'s 400 among them', 'answered', [
    [400], [401], [404], [405], [409], [413], [418], [422], [424], [499], [404, ours], [400, { error: said('content_filter') }],
    [400, { error: said('content_filter'), hasLarger: true }], [400, { error: said('context_length_exceeded') }], [401, { hint: retryAfter }],
    [401, { error: said('invalid_api_key') }], [401, { error: said('model_not_found') }], [413, { error: said('tokens_limit_reached') }],
    [400, { isTooLarge: true }], [404, { error: said('DeploymentNotFound ') }], [404, { error: said('deploymentnotfound') }],
  ]],
]

describe('what an answer means', () => {
  for (const [row, outcome, cases] of rows) {
    test(`${row}: ${outcome}`, () => {
      for (const [status, more] of cases) assert.equal(mean(status, more), outcome, `${status} ${JSON.stringify(more ?? {})}`)
    })
  }

  test('a word counts whole: with anything before or after it, it is another one', () => {
    const words = ['insufficient_quota', 'model_not_found', 'DeploymentNotFound', 'context_length_exceeded', 'PermissionDenied', 'request_too_large', 'OperationNotSupported']
    fc.assert(fc.property(
      fc.constantFrom(...words), fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 }), fc.constantFrom(400, 401, 403, 404, 422, 429), fc.boolean(),
      (word, before, after, status, ownsCredential) => {
        if (before + after === '') return
        const code = before + word + after
        const more = { ownsCredential, hasLarger: true }
        assert.equal(mean(status, { ...more, error: said(code, code, code) }), mean(status, more))
      },
    ), { seed: SEED })
  })

  test('a message, a model\'s name and a param decide nothing', () => {
    for (const word of ['insufficient_quota', 'model_not_found', 'PermissionDenied', 'request_too_large']) {
      for (const status of [400, 401, 403, 404, 429]) assert.equal(mean(status, { error: said(undefined, undefined, word) }), mean(status))
    }
  })

  test('headers are read for a retry where they can change what the status means', () => {
    assert.deepEqual([200, 400, 401, 403, 404, 408, 429, 500, 503].filter(mayBeThrottled), [403, 429, 500, 503])
  })

  test('bodies are read where another backend might answer better', () => {
    assert.deepEqual([200, 302, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 418, 422, 424, 429, 500, 503].filter(mayMeanMore), [400, 401, 402, 403, 404, 410, 422])
  })

  test('success and answered are delivered, nothing else is', () => {
    const all: OutcomeClass[] = ['success', 'answered', 'throttled', 'oversized', 'failed', 'misconfigured', 'refused', 'exhausted', 'missing', 'overlong', 'ignored']
    assert.deepEqual(all.filter(isDelivered), ['success', 'answered'])
  })

  test('an error names a model, or an operation, by its param and its code', () => {
    assert.deepEqual([undefined, said('model'), said(undefined, undefined, 'model')].map(namesModel), [false, false, true])
    assert.deepEqual([undefined, said('DeploymentNotFound'), said('OperationNotSupported')].map(isWrongOperation), [false, false, true])
  })
})

describe('what an error in the place of an answer means', () => {
  const inStream: readonly (readonly [outcome: OutcomeClass, errors: readonly AnswerError[]])[] = [
    ['exhausted', [said('insufficient_quota'), said(undefined, 'insufficient_quota'), said('billing_hard_limit_reached'), said('402')]],
    ['oversized', [said('request_too_large')]],
    ['throttled', [
      said('rate_limit_exceeded'), said(undefined, 'rate_limit_error'), said('rate_limits_exceeded'), said('too_many_requests'), said('slow_down'), said('429'),
    ]],
    ['failed', [
      said('server_error'), said(undefined, 'server_error'), said('internal_server_error'), said('internal_error'), said('vector_store_timeout'),
      said('server_is_overloaded'), said('engine_overloaded'), said(undefined, 'overloaded_error'), said('408'), said('500'), said('529'), said(),
    ]],
    ['answered', [
      said('content_filter'), said('invalid_prompt'), said(undefined, 'invalid_request_error'), said('context_length_exceeded'), said('5000'), said('x500'),
      said('model_not_found'), said('slow_down_please'),
    ]],
  ]
  const look = (error: AnswerError, more: { isTooLarge?: boolean; hasLarger?: boolean } = {}): OutcomeClass =>
    classifyInStream({ error, isTooLarge: false, hasLarger: false, ...more })
  for (const [outcome, errors] of inStream) {
    test(outcome, () => {
      for (const error of errors) assert.equal(look(error), outcome, JSON.stringify(error))
    })
  }

  test('context_length_exceeded is overlong where a backend takes more, and the request too large for its limit oversized', () => {
    assert.equal(look(said('context_length_exceeded'), { hasLarger: true }), 'overlong')
    assert.equal(look(said('rate_limit_exceeded', 'tokens'), { isTooLarge: true }), 'oversized')
  })
})

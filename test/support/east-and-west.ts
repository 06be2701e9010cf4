/** The smallest pool that can fail over, over real sockets and on the test's own clock, with a client of the `openai` package in front. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type OpenAI from 'openai'
import type { BackendStatus } from '../../src/core/types.js'
import type { BackendOptions, BalancerOptions } from '../../src/options/index.js'
import { apiError, azureClient, completion } from './openai-clients.js'
import { startScriptedBackend, type HeaderInput, type ScriptedBackend, type ScriptedCall } from './scripted-backend.js'
import { VirtualBalancer } from './virtual-balancer.js'

/** Answers one call. */
export type Answer = (call: ScriptedCall) => unknown

/** A chat completion with this text. */
export const says = (text: string): Answer => (call) => { call.respond(200, {}, completion(text)) }

/** This status; an error body of OpenAI's shape unless another one is given. */
export const answers = (status: number, headers: HeaderInput = {}, body: string | object = apiError(`status_${status}`)): Answer =>
  (call) => { call.respond(status, headers, body) }

export interface EastAndWest {
  readonly east: ScriptedBackend
  readonly west: ScriptedBackend
  readonly balancer: VirtualBalancer
  /** For Azure's deployments, and set up for east. */
  readonly client: OpenAI
  /** Of east, then of west. */
  status (): [BackendStatus, BackendStatus]
  /** How often each was called so far. */
  calls (): [east: number, west: number]
}

/** East has priority 1, west 2 and answers well from the start. Neither has a credential of its own unless told to. */
export async function startEastAndWest (
  t: TestContext, options: Partial<BalancerOptions> = {}, ofEach: [east: Partial<BackendOptions>, west: Partial<BackendOptions>] = [{}, {}],
): Promise<EastAndWest> {
  const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
  const balancer = new VirtualBalancer({
    backends: [{ url: east.url, priority: 1, name: 'east', ...ofEach[0] }, { url: west.url, priority: 2, name: 'west', ...ofEach[1] }],
    logger: false, ...options,
  })
  t.after(async () => { await Promise.all([balancer.destroy(), east.close(), west.close()]) })
  west.always(says('west'))
  return {
    east, west, balancer, client: azureClient(east.url, balancer),
    status: () => balancer.status().backends as [BackendStatus, BackendStatus],
    calls: () => [east.calls.length, west.calls.length],
  }
}

/** What a promise rejects with; it must. */
export async function failure (promise: Promise<unknown>): Promise<unknown> {
  return promise.then((value) => assert.fail(`should have failed, but gave ${JSON.stringify(value)}`), (error: unknown) => error)
}

/** `assert.ok(value instanceof type)`, also for the compiler. */
export function assertIsA<T extends Error> (value: unknown, type: abstract new (...args: never[]) => T): asserts value is T {
  assert.ok(value instanceof type, `should be a ${type.name}, is ${String(value)}`)
}

/**
 * Seen: the README and the events said of a request without a known deployment or model that it concerns "the whole backend". It
 * never did: such requests are one more scope, beside those that have a name.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { answers, says, startEastAndWest } from '../support/east-and-west.js'
import { chat } from '../support/openai-clients.js'

const list = (url: string, dispatcher: unknown): Promise<number> => fetch(`${url}/openai/v1/models`, { dispatcher } as unknown as RequestInit).then(async (response) => {
  await response.text()
  return response.status
})

test('a 429 to a request without a model keeps none away that has one', async (t) => {
  const { east, client, balancer, calls } = await startEastAndWest(t)
  east.always(answers(429, { 'retry-after': '30' }))
  assert.equal(await list(east.url, balancer), 200, 'by west')
  east.always(says('east'))
  assert.equal(await chat(client), 'east')
  assert.deepEqual(calls(), [2, 1])
})

test('a 429 to one with a model keeps none away that has none', async (t) => {
  const { east, client, balancer, calls } = await startEastAndWest(t)
  east.always(answers(429, { 'retry-after': '30' }))
  assert.equal(await chat(client), 'west')
  east.always(says('east'))
  assert.equal(await list(east.url, balancer), 200)
  assert.deepEqual(calls(), [2, 1])
})

test('all requests without a model are of one scope', async (t) => {
  const { east, balancer, calls, status } = await startEastAndWest(t)
  east.always(answers(429, { 'retry-after': '30' }))
  for (let i = 0; i < 3; i++) assert.equal(await list(east.url, balancer), 200)
  assert.deepEqual(calls(), [1, 3])
  assert.deepEqual(status()[0].scopes.map(({ scope, state }) => [scope, state]), [['', 'cooldown']])
})

test('a backend that cannot be reached is out for both', async (t) => {
  const { east, client, balancer, calls } = await startEastAndWest(t)
  east.always((call) => { call.reset() })
  assert.equal(await list(east.url, balancer), 200)
  assert.equal(await chat(client), 'west')
  assert.deepEqual(calls(), [1, 2])
})

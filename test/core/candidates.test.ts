import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Survey } from '../../src/core/candidates.js'
import { VirtualSystem } from '../support/virtual-system.js'

function survey(...shares: number[]): Survey {
  const found = new Survey()
  shares.forEach((share, position) => found.add(position, share))
  return found
}

describe('a draw', () => {
  test('asks chance only when there is a choice', () => {
    assert.equal(survey(3).draw(() => assert.fail('there is no choice')), 0)
  })

  test('gives each its share, from the first point to the last', () => {
    const four = survey(1, 2, 3, 4)
    const drawn = [0, 0.099, 0.1, 0.299, 0.3, 0.599, 0.6, 0.999].map((point) => four.draw(() => point))
    assert.deepEqual(drawn, [0, 0, 1, 1, 2, 2, 3, 3])
  })

  test('starts anew after a reset', () => {
    const two = survey(1, 1)
    two.throttledMs = 1
    two.ejectedMs = 1
    two.reset()
    two.add(7, 1)
    assert.equal(two.draw(() => assert.fail()), 7)
    assert.equal(two.throttledMs, Infinity)
    assert.equal(two.ejectedMs, Infinity)
  })

  test('a hundred thousand draws match the weights', () => {
    const weights = [1, 2, 3, 10, 0.5]
    const total = weights.reduce((sum, weight) => sum + weight)
    const found = survey(...weights)
    const system = new VirtualSystem(7)
    const counts = new Uint32Array(weights.length)
    for (let i = 0; i < 100_000; i++) {
      const drawn = found.draw(() => system.random())
      counts[drawn] = (counts[drawn] ?? 0) + 1
    }
    counts.forEach((count, position) => {
      const weight = weights[position] ?? 0
      const expected = 100_000 * weight / total
      // Four standard deviations.
      assert.ok(Math.abs(count - expected) < 4 * Math.sqrt(expected * (1 - weight / total)), `${position}: ${count}`)
    })
  })
})

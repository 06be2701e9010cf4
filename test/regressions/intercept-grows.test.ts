/**
 * Seen: a balancer whose hosts change with every update intercepted all that there had ever been; after 1,000 updates
 * `intercept` had 1,001 entries, each of them compared with every request.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Dispatcher } from 'undici'
import type { BackendOptions, BalancerOptions } from '../../src/options/index.js'
import { wholeHandler } from '../support/recording-handler.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'

const HOUR_MS = 3_600_000

const host = (name: string | number): BackendOptions => ({ url: `https://${name}.example/openai/v1`, priority: 1 })

/** Takes note of where requests go, and lets them end there. */
class Noting extends Dispatcher {
  readonly hosts: string[] = []

  override dispatch({ origin }: Dispatcher.DispatchOptions): boolean {
    this.hosts.push(new URL(String(origin)).host.replace('.example', ''))
    return true
  }
}

function start(options: Partial<BalancerOptions> = {}) {
  const dispatcher = new Noting()
  const balancer = new VirtualBalancer({ backends: [host('a')], logger: false, dispatcher, ...options })
  const { engine, system } = balancer
  return {
    engine,
    advance: (ms: number) => { system.advance(ms) },
    /** Short names, in alphabetic order. */
    intercept: (): string[] => engine.options.intercept.map(({ href }) => href.replace('https://', '').replace('.example/openai/v1', '')).sort(),
    /** Where a request to this host goes in the end. */
    send: (name: string): string | undefined => {
      balancer.dispatch({ origin: `https://${name}.example`, path: '/openai/v1/models', method: 'GET' }, wholeHandler({ onRequestStart() {} }) as never)
      return dispatcher.hosts.at(-1)
    },
  }
}

describe('the base URL of a backend that is gone', () => {
  test('does not stay for good: 1,000 updates in 1,000 hours leave two', () => {
    const { engine, advance, intercept } = start()
    for (let n = 0; n < 1_000; n++) {
      advance(HOUR_MS)
      engine.update({ backends: [host(n)] })
    }
    assert.deepEqual(intercept(), ['998', '999'])
  })

  test('stays for an hour, so that its clients are balanced on, and then goes without another update', () => {
    const { engine, advance, intercept, send } = start()
    engine.update({ backends: [host('b')] })
    advance(HOUR_MS - 1)
    assert.deepEqual(intercept(), ['a', 'b'])
    assert.equal(send('a'), 'b')
    advance(1)
    assert.equal(send('a'), 'a', 'passed through')
    assert.equal(send('b'), 'b')
    assert.deepEqual(intercept(), ['b'])
  })

  test('stays when the backend comes back within the hour, and has a whole hour when it goes again', () => {
    const { engine, advance, intercept } = start()
    engine.update({ backends: [host('b')] })
    advance(HOUR_MS - 1)
    engine.update({ backends: [host('a'), host('b')] })
    advance(2 * HOUR_MS)
    assert.deepEqual(intercept(), ['a', 'b'])
    engine.update({ backends: [host('b')] })
    advance(HOUR_MS - 1)
    assert.deepEqual(intercept(), ['a', 'b'])
    advance(1)
    assert.deepEqual(intercept(), ['b'])
  })

  test('is not kept longer by updates that have nothing to do with it, each has its own hour', () => {
    const { engine, advance, intercept } = start()
    engine.update({ backends: [host('b')] })
    advance(HOUR_MS / 2)
    engine.update({ backends: [host('c')] })
    advance(HOUR_MS / 2 - 1)
    engine.update({ maxAttempts: 3 })
    assert.deepEqual(intercept(), ['a', 'b', 'c'])
    advance(1)
    assert.deepEqual(intercept(), ['b', 'c'])
    advance(HOUR_MS / 2)
    assert.deepEqual(intercept(), ['c'])
  })

  test('is not in an intercept that was given, which stays as it is', () => {
    const { engine, advance, intercept } = start({ intercept: ['https://chat.example/openai/v1'] })
    for (let n = 0; n < 10; n++) {
      advance(HOUR_MS)
      engine.update({ backends: [host(n)] })
      assert.deepEqual(intercept(), ['chat'])
    }
    engine.update({ intercept: undefined })
    assert.deepEqual(intercept(), ['9', 'chat'], 'taken back, it goes as those of backends do')
    advance(HOUR_MS)
    assert.deepEqual(intercept(), ['9'])
  })

  test('is taken back by an intercept that is given later', () => {
    const { engine, intercept } = start()
    engine.update({ backends: [host('b')] })
    engine.update({ intercept: ['https://b.example/openai/v1'] })
    assert.deepEqual(intercept(), ['b'])
  })

  test('is not forgotten by an update that is refused', () => {
    const { engine, advance, intercept } = start()
    assert.throws(() => { engine.update({ backends: [] }) })
    assert.throws(() => { engine.update({ backends: [host('b')] }, () => { throw new Error('not approved') }) })
    assert.deepEqual(intercept(), ['a'])
    advance(2 * HOUR_MS)
    assert.deepEqual(intercept(), ['a'])
  })
})

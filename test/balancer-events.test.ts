import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Dispatcher } from 'undici'
import { PriorityBalancer } from '../src/balancer.js'

class Silent extends Dispatcher {
  override dispatch(): boolean {
    return true
  }
}

function setUp(): { inner: Dispatcher, balancer: PriorityBalancer } {
  const inner = new Silent()
  return { inner, balancer: new PriorityBalancer({ backends: [{ url: 'https://east.example', priority: 1 }], dispatcher: inner }) }
}

test('listeners on the balancer hear what its inner dispatcher says of connections', () => {
  const { inner, balancer } = setUp()
  const heard: unknown[] = []
  balancer.on('connect', (...args) => heard.push(args))
  balancer.once('drain', (...args) => heard.push(args))
  balancer.on('drain', () => heard.push('again'))
  const url = new URL('https://east.example')
  inner.emit('connect', url, [inner])
  inner.emit('drain', url)
  ;(inner as NodeJS.EventEmitter).emit('disconnect', url)
  assert.deepEqual(heard, [[url, [inner]], [url], 'again'])
})

test('an inner dispatcher has no listener of ours but for connections before the balancer has one, and none after its end', async () => {
  const { inner, balancer } = setUp()
  ;(balancer as NodeJS.EventEmitter).on('something else', () => {})
  assert.deepEqual(inner.eventNames(), ['connect'])
  balancer.on('drain', () => {})
  assert.equal(inner.listenerCount('drain'), 1)
  await balancer.close()
  balancer.on('connect', () => {})
  assert.deepEqual(inner.eventNames(), [])
})

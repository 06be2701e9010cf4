/**
 * Seen: inside a RetryAgent, or `interceptors.retry()`, a backend is asked again and again while another one would answer at
 * once, and nothing said so. Where it can be seen from outside, a warning says it when the balancer is made.
 */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import * as undici from 'undici'
import { Agent, EnvHttpProxyAgent, MockAgent, RetryAgent, getGlobalDispatcher, setGlobalDispatcher, type Dispatcher } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import { install } from '../../src/install.js'
import { priorityInterceptor } from '../../src/interceptor.js'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
/** The other major: 8, or 7 where 8 is the one that is tested. */
const other = major > 22 || (major === 22 && minor >= 19) ? await import('undici8') as unknown as typeof undici : undefined

const backends = [{ url: 'https://east.example', priority: 1 }]

function recorder(): { lines: string[]; logger: { debug(): void; info(): void; warn(fields: object, message: string): void; error(): void } } {
  const lines: string[] = []
  return { lines, logger: { debug() {}, info() {}, warn(_fields, message) { lines.push(message) }, error() {} } }
}

const ways: readonly [name: string, open: (t: TestContext, dispatcher: Dispatcher) => string[]][] = [
  ['install, where it was global', (t, dispatcher) => {
    const before = getGlobalDispatcher()
    const { lines, logger } = recorder()
    setGlobalDispatcher(dispatcher)
    const balancer = install({ backends, logger })
    t.after(async () => {
      await balancer.uninstall()
      setGlobalDispatcher(before)
    })
    return lines
  }],
  ['install, where it is an option', (t, dispatcher) => {
    const { lines, logger } = recorder()
    const balancer = install({ backends, logger, dispatcher })
    t.after(() => balancer.uninstall())
    return lines
  }],
  ['PriorityBalancer', (t, dispatcher) => {
    const { lines, logger } = recorder()
    const balancer = new PriorityBalancer({ backends, logger, dispatcher })
    t.after(() => balancer.close())
    balancer.update({ maxAttempts: 3 })
    return lines
  }],
]

class Derived extends RetryAgent {}

const dispatchers: readonly [name: string, retries: boolean, make: () => Dispatcher][] = [
  ['a RetryAgent', true, () => new RetryAgent(new Agent())],
  ['a class that is derived from it', true, () => new Derived(new Agent())],
  ['a RetryAgent that is composed', true, () => new RetryAgent(new Agent()).compose((dispatch) => (opts, handler) => dispatch(opts, handler))],
  ...(other === undefined ? [] : [['a RetryAgent of another copy of undici', true, () => new other.RetryAgent(new other.Agent())] as [string, boolean, () => Dispatcher]]),
  ['an Agent', false, () => new Agent({ connections: 2 })],
  ['an EnvHttpProxyAgent', false, () => new EnvHttpProxyAgent()],
  ['a MockAgent', false, () => new MockAgent()],
]

for (const [way, open] of ways) {
  describe(way, () => {
    for (const [name, retries, make] of dispatchers) {
      test(`${retries ? 'warns once of' : 'says nothing of'} ${name}`, (t) => {
        const lines = open(t, make())
        assert.equal(lines.length, retries ? 1 : 0, lines.join('\n'))
        if (retries) assert.match(lines[0] ?? '', /retries by itself \(RetryAgent or interceptors\.retry\(\)\).*Use one that does not retry/)
      })
    }
  })
}

test('the interceptor warns of retry() right below it, where undici hands it over as it is', () => {
  const undici8 = [undici, other].find((one) => one !== undefined && 'Dispatcher1Wrapper' in one)
  if (undici8 !== undefined) {
    const { lines, logger } = recorder()
    new undici8.Agent().compose(undici8.interceptors.retry(), priorityInterceptor({ backends, logger }))
    assert.equal(lines.length, 1)
  }
  const { lines, logger } = recorder()
  new Agent().compose(priorityInterceptor({ backends, logger }))
  assert.deepEqual(lines, [])
})

test('a dispatcher without a class or with a name of its own is no reason to warn, or to fail', (t) => {
  const { lines, logger } = recorder()
  for (const dispatcher of [Object.assign(Object.create(null) as object, { dispatch: () => true }), { dispatch: () => true, name: 'mine' }]) {
    const balancer = new PriorityBalancer({ backends, logger, dispatcher: dispatcher as unknown as Dispatcher })
    t.after(() => balancer.close())
  }
  assert.deepEqual(lines, [])
})

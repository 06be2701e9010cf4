/** Of what stands under the two symbols, which one to send through: see also regressions/agent-of-another-copy.test.ts, in processes of their own. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Agent, EnvHttpProxyAgent, MockAgent, Pool, ProxyAgent, RetryAgent, type Dispatcher } from 'undici'
import { usableGlobal } from '../src/global-dispatcher.js'

/** What undici 8 puts under `.1`. */
class Dispatcher1Wrapper {
  dispatch(): boolean { return true }
}

const plain = (): Dispatcher => new Agent()
const dispatch = (): boolean => true

describe('the dispatcher to send through', () => {
  test('is none where none stands there', () => {
    for (const slots of [[undefined, undefined], [null, 'x'], [{}, { dispatch: 1 }], [7, () => true]] as const) assert.equal(usableGlobal(slots), undefined)
  })

  const chosen: readonly [name: string, make: () => object][] = [
    ['a ProxyAgent', () => new ProxyAgent('http://127.0.0.1:1')],
    ['an EnvHttpProxyAgent', () => new EnvHttpProxyAgent()],
    ['a MockAgent', () => new MockAgent()],
    ['a RetryAgent', () => new RetryAgent(plain())],
    ['a Pool', () => new Pool('http://127.0.0.1:1')],
    ['an Agent with a CA', () => new Agent({ connect: { ca: 'x' } })],
    ['an Agent with a connector', () => new Agent({ connect: () => {} })],
    ['an Agent with a limit', () => new Agent({ connections: 2 })],
    ['an Agent with a timeout', () => new Agent({ headersTimeout: 5 })],
    ['an Agent with a factory', () => new Agent({ factory: (origin) => new Pool(origin) })],
    ['a composed Agent', () => new Agent().compose((next) => (opts, handler) => next(opts, handler))],
    ['a patched Agent', () => Object.assign(new Agent(), { dispatch })],
    ['a class of the user\'s own that is called Agent', () => new (class Agent { dispatch(): boolean { return true } })()],
    ['a class of that name that needs something to be made', () => new (class Agent { readonly keys: string[]; constructor(options: object) { this.keys = Object.keys(options) } dispatch(): boolean { return true } })({})],
    ['a class that is derived from undici\'s', () => new (class extends Agent { override dispatch(): boolean { return true } })()],
    ['an object without a class', () => Object.assign(Object.create(null) as object, { dispatch })],
  ]
  for (const [name, make] of chosen) {
    test(`is ${name}, wherever it stands, beside a plain Agent or a wrapper`, () => {
      const dispatcher = make()
      for (const other of [undefined, plain(), new Dispatcher1Wrapper()]) {
        assert.equal(usableGlobal([dispatcher, other]), dispatcher)
        assert.equal(usableGlobal([other, dispatcher]), dispatcher)
      }
    })
  }

  test('is of two that were chosen that of Node\'s own fetch', () => {
    const [first, second] = [new MockAgent(), new ProxyAgent('http://127.0.0.1:1')]
    const readsSecond = Number(process.versions.node.split('.')[0]) >= 26
    assert.equal(usableGlobal([first, second]), readsSecond ? second : first)
  })

  test('is a plain Agent of our undici where nothing was chosen', () => {
    const agent = plain()
    assert.equal(usableGlobal([agent, undefined]), agent)
    assert.equal(usableGlobal([new Dispatcher1Wrapper(), agent]), agent)
  })

  test('constructs no class but undici\'s own, to find out', () => {
    let made = 0
    class OfTheUser extends Agent {
      constructor() {
        super()
        made++
      }
    }
    Object.defineProperty(OfTheUser, 'name', { value: 'Agent' })
    const agent = new OfTheUser()
    assert.equal(usableGlobal([agent, undefined]), agent)
    assert.equal(made, 1)
  })
})

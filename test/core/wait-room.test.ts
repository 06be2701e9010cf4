import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Backend } from '../../src/core/backend.js'
import { Lane } from '../../src/core/scopes.js'
import type { Shortage } from '../../src/core/pick.js'
import type { BackendConfig } from '../../src/core/types.js'
import { WaitRoom } from '../../src/core/wait-room.js'
import { backend, TestRequest } from '../support/pool-kit.js'
import { VirtualSystem } from '../support/virtual-system.js'

const FREE = new Backend(backend('a'))
const LATER: Shortage = { kind: 'shortage', throttledMs: 5_000, changeMs: 5_000 }

/** A room in which the test says what each request is told; time starts at 0. */
class RoomKit {
  readonly system = new VirtualSystem(1, 0)
  readonly lane = new Lane('')
  /** Whoever is not in here is told `otherwise`. */
  readonly answers = new Map<TestRequest, Backend<BackendConfig> | Shortage>()
  otherwise: Backend<BackendConfig> | Shortage = LATER
  asked = 0
  readonly room = new WaitRoom<BackendConfig>(this.system, (_lane, request) => {
    this.asked++
    return this.answers.get(request as TestRequest) ?? this.otherwise
  })

  enter(count: number, { deadline = 10_000, forgiveAt = 0, lookAt = 10_000 } = {}): TestRequest[] {
    return Array.from({ length: count }, () => {
      const request = new TestRequest()
      this.room.enter(this.lane, request, deadline, forgiveAt, lookAt, this.system.now())
      return request
    })
  }

  /** Takes a request out as served when it is woken, as the pool does. */
  serveOnWake(requests: readonly TestRequest[]): void {
    for (const request of requests) {
      request.onWake = () => {
        const waiter = this.room.find(request)
        if (waiter !== undefined) this.room.serve(waiter, this.system.now())
      }
    }
  }

  leave(request: TestRequest | undefined): void {
    const waiter = request === undefined ? undefined : this.room.find(request)
    if (waiter === undefined) assert.fail('does not wait')
    this.room.leave(waiter, this.system.now())
  }

  look(): void {
    this.room.wakeBy(this.system.now(), this.system.now())
    this.system.advance(0)
  }
}

const woken = (requests: readonly TestRequest[]): number[] => requests.flatMap((request, at) => (request.wakes > 0 ? [at] : []))

describe('the waiting room', () => {
  test('lets a request that fits pass fifteen that do not, and no more', () => {
    const kit = new RoomKit()
    const crowd = kit.enter(20)
    for (const at of [15, 16, 19]) kit.answers.set(crowd[at] ?? assert.fail(), FREE)
    kit.look()
    assert.deepEqual(woken(crowd), [15])
  })

  test('looks at once at those who move up into the window', () => {
    const kit = new RoomKit()
    const crowd = kit.enter(18)
    for (const at of [16, 17]) kit.answers.set(crowd[at] ?? assert.fail(), FREE)
    kit.look()
    assert.deepEqual(woken(crowd), [])
    kit.leave(crowd[3])
    kit.system.advance(0)
    assert.deepEqual(woken(crowd), [16])
    kit.leave(crowd[0])
    kit.system.advance(0)
    assert.deepEqual(woken(crowd), [16, 17])
  })

  test('has no reason to look when somebody leaves a queue that is all within the window', () => {
    const kit = new RoomKit()
    const crowd = kit.enter(16)
    kit.leave(crowd[0])
    kit.system.advance(1)
    assert.equal(kit.asked, 0)
  })

  test('serves in one go all who can go, beyond the window too, for each that goes makes room', () => {
    const kit = new RoomKit()
    const crowd = kit.enter(40)
    kit.serveOnWake(crowd)
    kit.otherwise = FREE
    kit.look()
    assert.deepEqual(woken(crowd), [...crowd.keys()])
    assert.equal(kit.asked, 40)
    assert.equal(kit.room.size, 0)
    assert.equal(kit.system.pending, 0)
  })

  test('wakes whoever has waited long enough, wherever it stands and at that very moment', () => {
    const kit = new RoomKit()
    const patient = kit.enter(20)
    const [hasty] = kit.enter(1, { deadline: 700 })
    const also = kit.enter(1, { deadline: 10_000 })
    kit.system.advance(699.9)
    assert.equal(hasty?.wakes, 0)
    kit.system.advance(0.2)
    assert.equal(hasty?.wakes, 1)
    kit.leave(hasty)
    assert.deepEqual(woken([...patient, ...also]), [])
    kit.system.advance(10_000)
    assert.equal(woken([...patient, ...also]).length, 21)
  })

  test('wakes nobody twice who has not asked again, and sets no timer for it', () => {
    const kit = new RoomKit()
    const [request] = kit.enter(1, { deadline: 500 })
    kit.answers.set(request ?? assert.fail(), FREE)
    kit.look()
    kit.look()
    kit.system.advance(2_000)
    assert.equal(request?.wakes, 1)
    assert.equal(kit.system.pending, 0)
  })

  test('does not count those who left, and does count those who were woken and still stand there', () => {
    const kit = new RoomKit()
    const crowd = kit.enter(18)
    for (const at of [0, 16]) kit.answers.set(crowd[at] ?? assert.fail(), FREE)
    kit.look()
    kit.look()
    assert.deepEqual(woken(crowd), [0])
  })

  test('goes on where a walk wakes somebody who takes others with it', () => {
    const kit = new RoomKit()
    const crowd = kit.enter(4)
    kit.serveOnWake(crowd)
    const [first, second, third] = crowd
    if (first === undefined) assert.fail()
    const serve = first.onWake
    first.onWake = () => {
      serve?.()
      kit.leave(second)
      kit.leave(third)
    }
    kit.otherwise = FREE
    kit.look()
    assert.deepEqual(woken(crowd), [0, 3])
    assert.equal(kit.room.size, 0)
  })

  test('does not look in the same walk at those who came during it', () => {
    const kit = new RoomKit()
    const [first] = kit.enter(1)
    let late: TestRequest[] = []
    if (first === undefined) assert.fail()
    first.onWake = () => { late = kit.enter(1) }
    kit.otherwise = FREE
    kit.look()
    assert.deepEqual(woken(late), [])
  })

  test('looks again when the first of all says so, a millisecond later at the soonest', () => {
    const kit = new RoomKit()
    kit.enter(2)
    kit.otherwise = { kind: 'shortage', throttledMs: 1e-9, changeMs: 1e-9 }
    kit.look()
    assert.equal(kit.asked, 2)
    kit.system.advance(0.99)
    assert.equal(kit.asked, 2)
    kit.system.advance(0.02)
    assert.equal(kit.asked, 4)
    kit.otherwise = { kind: 'shortage', throttledMs: 5_000, changeMs: 40 }
    kit.system.advance(1)
    const { asked } = kit
    kit.system.advance(38)
    assert.equal(kit.asked, asked)
    kit.system.advance(3)
    assert.equal(kit.asked, asked + 2)
  })

  test('lets go at once whose turn would come after its wait is over, and not who makes it just in time', () => {
    const kit = new RoomKit()
    const [late] = kit.enter(1, { deadline: 4_999 })
    const [just] = kit.enter(1, { deadline: 5_000 })
    kit.look()
    assert.deepEqual([late?.wakes, just?.wakes], [1, 0])
  })

  test('keeps whom nobody can take at all: that may change before its wait is over', () => {
    const kit = new RoomKit()
    const [request] = kit.enter(1)
    kit.otherwise = { kind: 'shortage', throttledMs: Infinity, changeMs: Infinity }
    kit.look()
    assert.equal(request?.wakes, 0)
  })

  test('opens the backends that a request has tried when its time has come, and looks then', () => {
    const kit = new RoomKit()
    const [request] = kit.enter(1, { forgiveAt: 300 })
    if (request === undefined) assert.fail()
    request.tried = ['an attempt']
    kit.look()
    assert.equal(kit.asked, 1)
    kit.system.advance(299)
    assert.deepEqual(request.tried, ['an attempt'])
    kit.system.advance(1)
    assert.equal(kit.asked, 2)
    assert.equal(request.tried, undefined)
  })

  test('looks at the time it was asked to when somebody entered, or earlier', () => {
    const kit = new RoomKit()
    kit.enter(1, { lookAt: 200 })
    kit.enter(1, { lookAt: 400 })
    kit.system.advance(199)
    assert.equal(kit.asked, 0)
    kit.enter(1, { lookAt: 199.5 })
    kit.system.advance(0.6)
    assert.equal(kit.asked, 3)
    assert.equal(kit.system.pending, 1)
  })

  test('an empty one has no timer', () => {
    const kit = new RoomKit()
    kit.room.wakeBy(5, 0)
    assert.equal(kit.system.pending, 0)
  })
})

import * as undici7 from 'undici'

export { undici7 }

/** The functions that are alike in both majors; the types are 7's. */
export type Undici = typeof undici7

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)

/** undici 8 needs Node 22.19. */
const takesUndici8 = major > 22 || (major === 22 && minor >= 19)

/** Every undici that runs here. Its callers and its dispatchers are to work with a balancer that was loaded with 7. */
export const MAJORS: readonly (readonly [name: string, undici: Undici])[] = [
  undici7,
  ...(takesUndici8 ? [await import('undici8') as unknown as Undici] : []),
  // By what it is: `npm run test:undici8` exchanges the two.
].map((undici) => ['Dispatcher1Wrapper' in undici ? 'undici 8' : 'undici 7', undici])

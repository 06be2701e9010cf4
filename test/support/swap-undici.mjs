/**
 * With `--import ./test/support/swap-undici.mjs` undici 8 is the peer, and undici 7 the other one: `undici` means
 * `undici8` and the other way round, for the sources and the tests alike. Needs Node 22.19, as undici 8 does.
 */
import { registerHooks } from 'node:module'

const OTHER = { undici: 'undici8', undici8: 'undici' }

registerHooks({
  resolve (specifier, context, next) {
    const [name] = specifier.split('/', 1)
    const other = OTHER[name]
    return next(other === undefined ? specifier : other + specifier.slice(name.length), context)
  },
})

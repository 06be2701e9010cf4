/**
 * With `--import ./test/support/swap-openai.mjs` the tests' client is the `openai` package 7: `openai` means `openai7`. The project's
 * own is 6, for 7 needs Node 22. The hook itself needs Node 22.15.
 */
import { registerHooks } from 'node:module'

registerHooks({
  resolve (specifier, context, next) {
    const [name] = specifier.split('/', 1)
    return next(name === 'openai' ? `openai7${specifier.slice(name.length)}` : specifier, context)
  },
})

// `npm run test:mutation`: does a test fail when the code is wrong? Stryker changes one thing at a time in src/core and
// src/request and runs the unit tests that pass there. Not part of CI: it takes minutes. One file:
// `npm run test:mutation -- --mutate src/core/health.ts`. With INTEGRATION=1 in the environment the tests over sockets run as
// well, which takes an hour. Needs Node 22.15 or newer. The report is in reports/mutation.
import { cpus } from 'node:os'

// Every mutant meets the same examples.
process.env.SEED ??= '1'

const unit = ['test/core/!(pool-properties).test.ts', 'test/core/pool-properties.test.ts', 'test/request/**/*.test.ts', 'test/balancer-events.test.ts']
const sockets = [
  'compliance/abort', 'compliance/bodies', 'compliance/dispatchers', 'compliance/handler-contract', 'clients/outcomes', 'clients/python-parity',
  'integration/faults', 'integration/observability', 'integration/security',
].map((name) => `test/${name}.test.ts`)

export default {
  mutate: ['src/core/**/*.ts', 'src/request/**/*.ts'],
  testRunner: 'mocha',
  plugins: ['@stryker-mutator/mocha-runner'],
  mochaOptions: {
    // Run in this order until one fails: the quick ones first.
    spec: process.env.INTEGRATION === '1' ? [...unit, ...sockets] : unit,
    'no-config': true,
    'no-package': true,
  },
  testRunnerNodeArgs: ['--import', 'tsx', '--import', './.config/node-test-on-mocha.mjs'],
  coverageAnalysis: 'perTest',
  concurrency: Math.max(1, cpus().length - 1),
  // tsx needs no rewritten tsconfig.json, and to rewrite it Stryker would need a TypeScript of its own.
  tsconfigFile: 'none',
  ignorePatterns: ['coverage', 'dist', 'examples'],
  tempDirName: '.stryker-tmp',
  timeoutMS: 10_000,
  reporters: ['clear-text', 'progress', 'html', 'json'],
  clearTextReporter: { allowEmojis: false, reportTests: false },
}

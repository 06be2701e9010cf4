import { runDemo } from './demo.js'

/**
 * The keypress that npm, its shell and the terminal may each pass on counts once. No person presses Ctrl-C twice within this time.
 */
const SAME_KEYPRESS_MS = 300

const interruption = new AbortController()
let interruptedAt = -Infinity
process.on('SIGINT', () => {
  const now = performance.now()
  if (!interruption.signal.aborted) {
    interruptedAt = now
    interruption.abort()
  } else if (now - interruptedAt > SAME_KEYPRESS_MS) {
    process.exit(130)
  }
})
// A reader that has seen enough (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => { process.exit(error.code === 'EPIPE' ? 0 : 1) })

const code = await runDemo(process.argv.slice(2), process.env, process.stdout, process.stderr, interruption.signal)
// The openai package may still sleep before a retry that has been called off: it is not waited for.
process.stdout.write('', () => { process.exit(code) })

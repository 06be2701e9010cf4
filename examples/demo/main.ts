/** `npm start`: the demo with this process's arguments, streams, signals and end, which a test of it must not touch. */
import { runDemo, watchInterruption } from './demo.js'

const signal = watchInterruption(process, () => performance.now(), () => process.exit(130))
// A reader that has seen enough (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => { process.exit(error.code === 'EPIPE' ? 0 : 1) })

const code = await runDemo(process.argv.slice(2), process.env, process.stdout, process.stderr, signal)
// The openai package may still sleep before a retry that has been called off: it is not waited for.
process.stdout.write('', () => { process.exit(code) })

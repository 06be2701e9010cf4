// Asks from the main thread, then from another one.
import { Worker, isMainThread } from 'node:worker_threads'

const response = await fetch(process.env.PROGRAM_URL, { method: 'POST', body: 'hello' })
await response.text()
console.log(isMainThread ? 'main' : 'worker', response.status)
if (isMainThread) new Worker(new URL(import.meta.url))

// Installs, asks once, says the status, and has nothing more to do.
import { install } from 'openai-priority-loadbalancer'

install({
  backends: process.env.PROGRAM_BACKENDS.split(' ').map((url, i) => ({ url, priority: i + 1 })),
  intercept: ['https://chat.balanced'],
  maxWaitMs: Number(process.env.PROGRAM_WAIT ?? 0),
  ...(process.env.PROGRAM_LOGGER !== 'default' && { logger: false }),
})
const response = await fetch('https://chat.balanced/x', { method: 'POST', body: 'hello' })
await response.text()
console.log(response.status)

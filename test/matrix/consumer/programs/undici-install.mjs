// undici's own install() puts its fetch, and the classes that go with it, in place of Node's.
import * as undici from 'undici'
import { install } from 'openai-priority-loadbalancer'

undici.install()
install({
  backends: process.env.PROGRAM_BACKENDS.split(' ').map((url, i) => ({ url, priority: i + 1 })),
  intercept: ['https://chat.balanced'],
  logger: false,
})
const form = new FormData()
form.set('a', 'b')
const response = await fetch('https://chat.balanced/x', { method: 'POST', body: form })
await response.text()
console.log(response instanceof undici.Response, response.status)

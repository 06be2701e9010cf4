/** A program that knows nothing of any balancer. */
import OpenAI from 'openai'

const client = new OpenAI({ baseURL: 'https://contoso-east.openai.azure.com/openai/v1', apiKey: 'not used' })
const { status } = await client.responses.create({ model: 'gpt-4o', input: 'Say hello.' })
console.log(`the program's answer: ${status}`)

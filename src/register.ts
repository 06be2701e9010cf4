/**
 * `node --import openai-priority-loadbalancer/register app.js`: balancing without a line of code. The options come from
 * the JSON file that the environment variable OPENAI_LOADBALANCER_CONFIG names.
 */
import { readConfigFile } from './options/config-file.js'
import { InvalidOptionsError } from './errors.js'
import { installResolved } from './install.js'

const VARIABLE = 'OPENAI_LOADBALANCER_CONFIG'

const file = process.env[VARIABLE]
if (file === undefined || file === '') {
  throw new InvalidOptionsError(`The environment variable ${VARIABLE}`, 'must name a JSON file with the options', 'nothing')
}
installResolved(readConfigFile(file, process.env).resolved)

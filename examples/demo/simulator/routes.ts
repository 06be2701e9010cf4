/** What a path asks for, and of which deployment; `undefined`: the body's `model` says. */
export interface Route {
  readonly operation: 'chat' | 'responses' | 'embeddings'
  readonly deployment: string | undefined
}

const OPERATIONS: Readonly<Record<string, Route['operation']>> = {
  'chat/completions': 'chat',
  'responses': 'responses',
  'embeddings': 'embeddings',
}

/** Azure by deployment, Azure by model, and OpenAI's own paths. A prefix in front, as a gateway adds one, is accepted. */
const BY_DEPLOYMENT = /\/openai\/deployments\/([^/]+)\/(chat\/completions|embeddings)$/
const BY_MODEL = /\/v1\/(chat\/completions|responses|embeddings)$/

/** The route of a path without query, or `undefined` when the service has no such path. */
export function matchRoute(path: string): Route | undefined {
  const byDeployment = BY_DEPLOYMENT.exec(path)
  if (byDeployment !== null) return build(byDeployment[2], byDeployment[1])
  const byModel = BY_MODEL.exec(path)
  return byModel === null ? undefined : build(byModel[1], undefined)
}

function build(name: string | undefined, deployment: string | undefined): Route | undefined {
  const operation = OPERATIONS[name ?? '']
  return operation === undefined ? undefined : { operation, deployment: deployment === undefined ? undefined : decode(deployment) }
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

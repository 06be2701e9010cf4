/** Sends one attempt: with the backend's credential, which may have to be fetched first. */
import type { AttemptHandler } from './attempt.js'
import { toError } from './failure.js'
import type { OutgoingRequest } from './outgoing-request.js'
import type { Inner } from './request-context.js'

/** The result is that of `dispatch`. All that goes wrong is the handler's to hear. */
export function sendAttempt(inner: Inner, request: OutgoingRequest, handler: AttemptHandler): boolean {
  let credential: string | Promise<string> | undefined
  try {
    credential = handler.attempt.backend.credential?.resolve()
  } catch (error) {
    handler.cancel(toError(error))
    return true
  }
  if (typeof credential !== 'object') return dispatch(inner, request, handler, credential)
  credential.then((value) => { dispatch(inner, request, handler, value) }, (error: unknown) => { handler.cancel(toError(error)) })
  return true
}

function dispatch(inner: Inner, request: OutgoingRequest, handler: AttemptHandler, credential: string | undefined): boolean {
  // Given up while the credential was fetched.
  if (handler.phase !== 'waiting') return true
  try {
    return inner.dispatch(request.make(handler.attempt.backend, credential, inner.isMockActive), handler)
  } catch (error) {
    handler.refuse(toError(error))
    return true
  }
}

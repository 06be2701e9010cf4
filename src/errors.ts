/**
 * Every error of our own. What a backend or the network answers is never wrapped: callers get the real response, or
 * undici's real error, so that the types their SDK knows still hold.
 */

const PREFIX = 'openai-priority-loadbalancer.'

/**
 * Gives a class its name and a brand from the global symbol registry, and lets `instanceof` ask for the brand. A
 * process may hold two copies of this package (two dependants, ESM beside CJS); their errors are of the same kind.
 */
function brand(type: { readonly prototype: object }, name: string): void {
  const symbol = Symbol.for(PREFIX + name)
  Object.defineProperty(type.prototype, symbol, { value: true })
  Object.defineProperty(type.prototype, 'name', { value: name, configurable: true, writable: true })
  Object.defineProperty(type, Symbol.hasInstance, {
    value(this: unknown, value: unknown): boolean {
      // A user's subclass inherits this method, but not the brand's meaning.
      if (this !== type) return Function.prototype[Symbol.hasInstance].call(this, value)
      return typeof value === 'object' && value !== null && symbol in value
    },
  })
}

/** What all errors of this package have in common: a `code` that stays when a message is reworded. */
export class LoadBalancerError extends Error {
  static { brand(this, 'LoadBalancerError') }

  /** `ERR_OPLB_...` */
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** An option is wrong. Thrown at once, before anything was installed or sent. */
export class InvalidOptionsError extends LoadBalancerError {
  static { brand(this, 'InvalidOptionsError') }

  /** Where: `backends[0].url`. */
  readonly option: string
  /** What holds there: `must be an integer of 1 or more`. */
  readonly rule: string
  /** What came instead, shortened. Never a secret: of those only the kind is told. */
  readonly received: string
  /** The file that the options were read from, where they were. */
  readonly file: string | undefined

  constructor(option: string, rule: string, received: string, options?: ErrorOptions & { readonly file?: string }) {
    const where = options?.file === undefined ? '' : `${options.file}: `
    super('ERR_OPLB_INVALID_OPTIONS', `${where}${option} ${rule}. Received: ${received}.`, options)
    this.option = option
    this.rule = rule
    this.received = received
    this.file = options?.file
  }
}

/** The balancer could not be put in the way of the process's requests, or is already there. */
export class InstallError extends LoadBalancerError {
  static { brand(this, 'InstallError') }

  constructor(message: string, options?: ErrorOptions) {
    super('ERR_OPLB_INSTALL', message, options)
  }
}

/** A request came after `close()`, `destroy()` or `uninstall()`. */
export class BalancerClosedError extends LoadBalancerError {
  static { brand(this, 'BalancerClosedError') }

  constructor(message = 'The balancer is closed: it takes no more requests.', options?: ErrorOptions) {
    super('ERR_OPLB_CLOSED', message, options)
  }
}

/**
 * A backend's `apiKey` or `bearerToken` function failed, or gave something that cannot be sent. Counts as a failure
 * of that backend. What the function threw is the `cause`; its text is not repeated here, since it may hold secrets.
 */
export class CredentialError extends LoadBalancerError {
  static { brand(this, 'CredentialError') }

  /** Name of the backend whose credential is missing. */
  readonly backend: string

  constructor(backend: string, problem: string, options?: ErrorOptions) {
    super('ERR_OPLB_CREDENTIAL', `No credential for backend ${JSON.stringify(backend)}: ${problem}.`, options)
    this.backend = backend
  }
}

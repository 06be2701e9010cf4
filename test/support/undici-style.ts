import * as undici from 'undici'

/** Undici 7 still speaks handlers of the old style (raw headers, `onHeaders`); 8 wants the new ones and ships a wrapper for old callers. */
export const PEER_TAKES_LEGACY_HANDLERS = !('Dispatcher1Wrapper' in undici)

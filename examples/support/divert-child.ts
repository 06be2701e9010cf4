/** Loaded by a child process before all else: its requests go to the servers of its parent. */
import { divert, type LocalOrigins } from './divert.js'

divert(JSON.parse(process.env.LOCAL_ORIGINS ?? '{}') as LocalOrigins)

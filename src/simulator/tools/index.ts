/** Every simulated tool, in the order of the documentation. */
import { callTools } from './calls.ts'
import { messageTools } from './messages.ts'
import type { Tool } from './tool.ts'

export const TOOLS: readonly Tool[] = [...callTools, ...messageTools]

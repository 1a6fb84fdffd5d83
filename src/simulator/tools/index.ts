/** Every simulated tool, in the order of the documentation. */
import { messageTools } from './messages.ts'
import type { Tool } from './tool.ts'

export const TOOLS: readonly Tool[] = [...messageTools]

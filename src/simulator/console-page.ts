/** The console's page; see console.ts. */
export const STYLE = ''
export const SCRIPT = ''
export const PAGE = `<!doctype html><html lang="en"><title>Chamade simulator</title><style>${STYLE}</style><script>${SCRIPT}</script></html>`

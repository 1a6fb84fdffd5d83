/** The options of a command as the Markdown table that stands in the README. */
import type { OptionSpec } from '../../src/options.ts'

export function optionTable(options: readonly OptionSpec[]): string {
  const rows = options.map((option) => {
    const flags = option.flags.replace('...>', '>')
    const repeat = option.flags.includes('...') ? ' (repeatable)' : ''
    const fallback = option.fallback === undefined ? '' : `; default \`${option.fallback}\``
    const env = option.env === undefined ? '–' : `\`${option.env}\``
    return `| \`${flags}\` | ${env} | ${option.description}${repeat}${fallback} |`
  })
  return ['| option | environment | meaning |', '|---|---|---|', ...rows].join('\n')
}

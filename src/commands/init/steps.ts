/**
 * What a person has still to do once the entry is written, as numbered steps.
 *
 * Nothing is done here. The one rule: each step can be followed as it stands, in this shell or that client.
 */
import { PLACEHOLDER } from '../../credentials.ts'
import type { Io } from '../command.ts'
import { shellLine } from '../shell-line.ts'
import type { Palette } from '../terminal.ts'
import type { Client, Scope } from './clients.ts'
import { keyVariable, SIMULATOR_URL, type Wish } from './entry.ts'
import { launchLines } from './launch.ts'

/** What the flags and the answers come to, but for the parts that differ from client to client. */
export interface Plan {
  readonly system: Wish['system']
  /** The simulator's key; undefined for anything else. */
  readonly simulatorKey: string | undefined
  readonly name: string
  readonly url: string | undefined
  readonly allowHttp: boolean
  readonly space: string | undefined
  readonly installed: boolean
  readonly stateful: boolean | undefined
  readonly keyFile: string | undefined
  readonly scope: Scope | undefined
}

/** The text under what was written; `channels`: the names of the entries in that file that push. */
export function nextSteps(
  client: Client,
  plan: Plan,
  wish: Wish,
  channels: readonly string[],
  { paint, io }: { readonly paint: Palette; readonly io: Io },
): string {
  const steps = [...keySteps(client, plan, wish, io)]
  switch (client.name) {
    case 'claude-code':
      steps.push(...claudeCodeSteps(channels, plan.scope !== 'user', paint))
      break
    case 'claude-desktop':
      steps.push('Quit Claude Desktop and start it again.')
      break
    case 'cursor':
      steps.push(`Switch "${plan.name}" on under Settings > MCP.`)
      break
    case 'vscode':
      steps.push(`Run "MCP: List Servers" and start "${plan.name}"; VS Code asks for the key once.`)
      break
  }
  steps.push(`See that it works: ${paint.bold(checkLine(plan, wish))}${checkNeeds(client, plan, wish, io)}`)
  return ['\nNext:', ...steps.map((step, at) => `  ${at + 1}. ${step}`)].join('\n')
}

/** What shows that events come: doctor knows Chamade only, so for moot it is the events themselves. */
function checkLine(plan: Plan, wish: Wish): string {
  return shellLine(`${plan.system === 'chamade' ? 'doctor' : 'listen'} --entry ${plan.name}`, wish.installed)
}

/** What that line cannot read in the entry: what the client takes from its shell, or asks for. */
function checkNeeds(client: Client, plan: Plan, wish: Wish, io: Io): string {
  const variable = keyVariable(plan.system)
  const isThere = wish.key.kind !== 'variable' || client.reference(variable) === undefined || io.env[variable]
  return isThere ? '' : `\n     with ${variable} set in that shell`
}

function keySteps(client: Client, plan: Plan, wish: Wish, io: Io): string[] {
  const variable = keyVariable(plan.system)
  const steps: string[] = []
  if (plan.simulatorKey !== undefined && wish.key.kind === 'value') {
    const port = portOf(plan.url ?? SIMULATOR_URL)
    // (A variable of this shell may say another.)
    const isUsual = port === portOf(SIMULATOR_URL) && !io.env.CHAMADE_SIMULATOR_PORT
    const at = isUsual ? '' : ` --port ${port}`
    const line = shellLine(`simulate --key ${wish.key.value}${at}`, wish.installed)
    steps.push(`Start the simulator: ${line}`)
  } else if (wish.key.kind === 'variable' && client.reference(variable) === undefined) {
    steps.push(`Put your key in the place of ${PLACEHOLDER} (${client.title} cannot read variables).`)
  } else if (wish.key.kind === 'variable' && client.name !== 'vscode' && !io.env[variable]) {
    steps.push(`Set ${variable} where ${client.title} is started; it is not set in this shell.`)
  } else if (wish.key.kind === 'value' && client.reference(variable) !== undefined) {
    steps.push(
      `The entry holds your key as it is. To have ${client.reference(variable)} there, take it out and run init again.`,
    )
  } else if (wish.key.kind === 'value' && wish.key.value === io.env[variable]) {
    steps.push(`Mind that the file now holds your key (${client.title} cannot read variables).`)
  }
  return steps
}

function portOf(url: string): string {
  return new URL(url).port || '80'
}

/** Claude Code asks about what a project's file says, not about what its user told it; its preselected answer is no. */
function claudeCodeSteps(channels: readonly string[], ofProject: boolean, paint: Palette): string[] {
  const question = 'asks once about the entry: choose to use it, which is not preselected.'
  if (channels.length === 0) return [`Start Claude Code here${ofProject ? `; it ${question}` : '.'}`]
  const [start, ...others] = launchLines(channels)
  return [
    `Start Claude Code here, with this flag each time: without it pushed events are dropped without a word.
${ofProject ? `     It ${question}\n` : ''}
       ${paint.bold(start?.line ?? '')}

${others.map(({ when, line }) => `     ${when}:\n       ${line}`).join('\n')}
`,
  ]
}

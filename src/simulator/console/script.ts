/**
 * What the console does: follows the timeline, shows the state, sends what is typed and pressed.
 *
 * It is text for the browser, so the compiler does not look into it; the page's end-to-end test does.
 * The one rule: what comes from outside is shown with textContent, never as markup.
 */
export const SCRIPT = `
'use strict'
const $ = (id) => document.getElementById(id)
const make = (tag, className, text) => {
  const element = document.createElement(tag)
  if (className) element.className = className
  if (text !== undefined) element.textContent = text
  return element
}
let token = sessionStorage.getItem('token') || ''
let seq = 0
let state
let shown = ''
let refreshing = false
let again = false
const events = new Map()
const KEEPS_ROWS = 400

// The token at the end of the address: true when there is one.
const takeToken = () => {
  if (!/^#[0-9a-f]{32}$/.test(location.hash)) return false
  token = location.hash.slice(1)
  history.replaceState(null, '', location.pathname)
  return true
}
takeToken()

const ask = async (path, body) => {
  const init = { headers: { authorization: 'Bearer ' + token } }
  if (body !== undefined) {
    init.method = 'POST'
    init.headers['content-type'] = 'application/json'
    init.body = JSON.stringify(body)
  }
  const response = await fetch('/control/' + path, init)
  if (response.status === 401) {
    $('door').hidden = false
    throw new Error('the control token is missing or wrong')
  }
  return response
}

const tell = (problem) => {
  $('problem').textContent = problem
  $('problem').hidden = problem === ''
}

const send = async (path, body) => {
  try {
    const response = await ask(path, body)
    const answer = await response.json()
    tell(response.ok ? '' : answer.error)
    return response.ok
  } catch (error) {
    tell(error instanceof TypeError ? 'The simulator does not answer just now.' : error.message)
    return false
  }
}

const emit = (happening) => {
  const agent = $('agent').value
  return send('emit', agent ? { ...happening, agent } : happening)
}

// ---- what comes

const follow = async () => {
  const response = await ask('timeline?after=' + seq)
  $('door').hidden = true
  sessionStorage.setItem('token', token)
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    const lines = (rest + value).split('\\n')
    rest = lines.pop()
    for (const line of lines) if (line !== '') add(JSON.parse(line))
    refresh().catch(() => undefined)
  }
}

const live = async () => {
  for (;;) {
    try {
      await refresh()
      await follow()
    } catch (error) {
      $('status').className = 'bad'
      $('status').textContent = $('door').hidden ? 'the simulator does not answer; trying again' : 'locked'
      if (!$('door').hidden) {
        if (token !== '') tell('This is not the token of the simulator that runs now: it makes a new one at each start.')
        return
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 700))
  }
}

const clock = (at) => {
  const date = new Date(at)
  return date.toLocaleTimeString('en-GB') + '.' + String(date.getMilliseconds()).padStart(3, '0')
}
const length = (ms) => (ms < 1 ? '< 1 ms' : ms < 1000 ? ms + ' ms' : (ms / 1000).toFixed(1) + ' s')

const row = (entry, kind, tag, text) => {
  const item = make('li', kind)
  item.append(make('time', '', clock(entry.at)))
  const what = make('div', 'what')
  what.append(make('span', 'tag', tag), document.createTextNode(text))
  item.append(what)
  return item
}

const route = (item) => {
  const found = item.querySelector('.route')
  if (found) return found
  const made = make('div', 'route')
  item.append(made)
  return made
}

const add = (entry) => {
  seq = entry.seq
  const item = rowOf(entry)
  $('timeline').prepend(item)
  while ($('timeline').childElementCount > KEEPS_ROWS) $('timeline').lastElementChild.remove()
}

// Another simulator has taken the place of the one before.
const forget = () => {
  seq = 0
  events.clear()
  $('timeline').replaceChildren()
}

const rowOf = (entry) => {
  const whose = state && state.agents.length > 1 && entry.agent ? ' · ' + entry.agent : ''
  switch (entry.kind) {
    case 'event': {
      const item = row(entry, 'event', entry.event.type, entry.event.content)
      const nobody = entry.routes.length === 0
      const to = nobody ? 'nobody listens: it waits in the inbox' : '→ pushed to ' + entry.routes.join(', ')
      route(item).append(make('span', nobody ? 'no' : 'ok', to + whose))
      events.set(entry.event.id, item)
      if (events.size > KEEPS_ROWS) events.delete(events.keys().next().value)
      return item
    }
    case 'tool': {
      const item = row(entry, entry.ok ? 'tool' : 'tool bad', entry.tool, toolText(entry))
      const from = entry.session === 'stateless' ? 'without a session' : 'from ' + entry.session
      route(item).append(make('span', '', from + ', took ' + length(entry.tookMs) + whose))
      const asked = entry.answers && events.get(entry.answers)
      if (asked) {
        const text = ' → answered by ' + entry.tool + ' after ' + length(entry.afterMs)
        route(asked).append(make('span', 'answer', text))
      }
      return item
    }
    case 'session':
      return row(entry, 'link' + (entry.state === 'opened' ? ' up' : ' bad'), 'session', entry.session + ' ' + entry.state + ' (' + entry.client + ')')
    case 'stream':
      return row(entry, 'link' + (entry.state === 'open' ? ' up' : ' bad'), 'stream', entry.session + ' ' + entry.state)
    case 'call':
      return row(entry, 'link', 'call', entry.callId + ' is ' + entry.state)
    default:
      return row(entry, 'fault', 'fault', entry.text)
  }
}

const toolText = (entry) => {
  const args = Object.entries(entry.args).map(([name, value]) => name + ': ' + (typeof value === 'string' ? value : JSON.stringify(value)))
  return args.join(', ') + (entry.ok ? '' : ' ✗ ' + entry.text)
}

// Once: a second reader would show everything twice.
const enter = () => {
  tell('')
  if ($('door').hidden) return
  $('door').hidden = true
  void live()
}

// ---- what is

const refresh = async () => {
  if (refreshing) {
    again = true
    return
  }
  refreshing = true
  try {
    do {
      again = false
      const before = state && state.instance
      state = await (await ask('state')).json()
      if (before && before !== state.instance) forget()
      draw()
    } while (again)
  } finally {
    refreshing = false
  }
}

const draw = () => {
  const names = state.agents.map((agent) => agent.name)
  const choice = $('agent')
  if (choice.options.length !== names.length) choice.replaceChildren(...names.map((name) => new Option(name, name)))
  $('agent-choice').hidden = names.length < 2
  const agent = state.agents.find((each) => each.name === choice.value) || state.agents[0]
  const streams = state.sessions.filter((session) => session.streamOpen).length
  const faults = Object.keys(state.faults)
  $('status').className = faults.length > 0 ? 'bad' : ''
  $('status').replaceChildren(
    make('b', '', streams === 0 ? 'nobody listens' : streams === 1 ? '1 stream listens' : streams + ' streams listen'),
    document.createTextNode(' · ' + state.mcpUrl + '?stateful' + (faults.length > 0 ? ' · broken: ' + faults.join(', ') : '')),
  )
  for (const button of document.querySelectorAll('[data-fault]'))
    button.toggleAttribute('data-on', faults.includes(button.dataset.fault))
  drawChat(agent)
  drawCalls(agent)
  drawSessions()
}

const fill = (list, items, empty) => {
  list.replaceChildren(...(items.length > 0 ? items : [make('li', 'empty', empty)]))
}

const drawChat = (agent) => {
  const latest = (conversation) => conversation.lines.at(-1)?.at ?? 0
  const all = [...agent.conversations].sort((a, b) => latest(b) - latest(a))
  const current = all.find((each) => each.id === shown) || all[0]
  const held = document.activeElement?.dataset?.id
  $('people').replaceChildren(...all.map((each) => {
    const button = make('button', '', each.name + ' · ' + each.platform)
    button.type = 'button'
    button.dataset.id = each.id
    button.setAttribute('aria-pressed', String(each === current))
    button.onclick = () => {
      shown = each.id
      $('dm').elements.from.value = each.name
      $('dm').elements.platform.value = each.platform
      draw()
    }
    return button
  }))
  if (held) $('people').querySelector('[data-id="' + CSS.escape(held) + '"]')?.focus()
  const lines = (current ? current.lines : []).map((line) => {
    const item = make('li', line.from + (line.queued ? ' queued' : ''), line.text)
    for (const file of line.attachments) item.append(make('small', '', '📎 ' + file.name))
    const who = line.from === 'agent' ? 'agent' : current.name
    item.append(make('small', '', who + ' · ' + clock(line.at).slice(0, 8) + (line.queued ? ' · queued until they write again' : '')))
    return item
  })
  if (current && current.typing) lines.push(make('li', 'agent', '…'))
  fill($('chat'), lines, 'Nothing was said yet.')
  $('chat').scrollTop = $('chat').scrollHeight
}

const drawCalls = (agent) => {
  const items = agent.calls.slice(0, 5).map((call) => {
    const item = make('li')
    item.append(make('b', call.state, call.state), document.createTextNode(' ' + call.platform + ' · ' + call.peer))
    for (const line of call.lines.slice(-6)) item.append(make('p', line.fromAgent ? 'agent' : '', line.speaker + ': ' + line.text))
    return item
  })
  fill($('calls'), items, 'No calls yet.')
  const active = agent.calls.filter((call) => call.state === 'active')
  const select = $('line').elements.call
  const before = select.value
  select.replaceChildren(...active.map((call) => new Option(call.platform + ' · ' + call.peer, call.id)))
  if (active.some((call) => call.id === before)) select.value = before
  $('no-call').hidden = active.length > 0
  $('no-call').textContent = agent.calls.some((call) => call.state === 'ringing')
    ? 'It rings: the agent has to accept it (chamade_call_accept).'
    : 'No call is active: ring the phone, or ask the agent to join a meeting.'
  $('line').querySelector('.main').disabled = active.length === 0
  $('hangup').disabled = !agent.calls.some((call) => ['active', 'ringing', 'connecting'].includes(call.state))
}

const drawSessions = () => {
  const items = state.sessions.map((session) => {
    const item = make('li')
    item.append(
      make('b', session.streamOpen ? 'open' : 'shut', session.name),
      document.createTextNode(' ' + session.client + ' · ' + (session.streamOpen ? 'listens, ' + session.pushed + ' pushed' : 'no stream')),
    )
    return item
  })
  fill($('sessions'), items, 'No session. Connect an agent to the address above.')
}

// ---- what is typed and pressed

const enclose = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader()
  reader.onload = () => resolve({ name: file.name, ...(file.type ? { mime: file.type } : {}), bytes_b64: reader.result.split(',')[1] || '' })
  reader.onerror = () => reject(reader.error)
  reader.readAsDataURL(file)
})

const fields = (form) => Object.fromEntries(new FormData(form))

$('dm').onsubmit = async (event) => {
  event.preventDefault()
  const { from, platform, text } = fields(event.target)
  const attachments = await Promise.all([...event.target.elements.files.files].map(enclose))
  const more = attachments.length > 0 ? { attachments } : {}
  if (!(await emit({ type: 'dm', from, platform, text, ...more }))) return
  event.target.elements.files.value = ''
  shown = ''
  event.target.elements.text.value = ''
  event.target.elements.text.focus()
}
$('dm').elements.text.onkeydown = (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
  event.preventDefault()
  $('dm').requestSubmit()
}
$('ring').onsubmit = (event) => {
  event.preventDefault()
  void emit({ type: 'call', ...fields(event.target) })
}
$('line').onsubmit = async (event) => {
  event.preventDefault()
  if (!(await emit({ type: 'transcript', ...fields(event.target) }))) return
  event.target.elements.text.value = ''
  event.target.elements.text.focus()
}
$('hangup').onclick = () => {
  const call = $('line').elements.call.value
  void emit(call ? { type: 'hangup', call } : { type: 'hangup' })
}
// Left empty, each fault that lasts has its own length.
const seconds = () => ($('seconds').value === '' ? {} : { seconds: Number($('seconds').value) })
for (const button of document.querySelectorAll('[data-fault]')) {
  const length = () => ('lasts' in button.dataset ? seconds() : {})
  button.onclick = () => send('fault', { fault: button.dataset.fault, ...length() })
  const explain = () => { $('fault-hint').textContent = button.textContent + ': ' + button.title }
  button.onfocus = explain
  button.onmouseenter = explain
}
for (const box of document.querySelectorAll('[data-show]')) {
  box.onchange = () => $('timeline').classList.toggle('no-' + box.dataset.show, !box.checked)
}
$('agent').onchange = () => draw()
$('door').onsubmit = (event) => {
  event.preventDefault()
  token = $('token').value.trim().split('#').at(-1)
  enter()
}
// The address of a simulator that was started again, in this same tab.
window.onhashchange = () => { if (takeToken()) enter() }
// Faults end and calls ring out without an entry of their own.
setInterval(() => { if (state && Object.keys(state.faults).length > 0) refresh().catch(() => undefined) }, 1000)
void live()
`

/**
 * The console's page: its structure and words.
 *
 * Not its behaviour (script.ts) or looks (style.ts). The one rule: everything works by keyboard and reads well aloud;
 * nothing is loaded from anywhere.
 */
import { DM_PLATFORMS, PLATFORMS } from '../events.ts'
import { amountsOf, FAULTS, type FaultName } from '../faults.ts'
import { SCRIPT } from './script.ts'
import { STYLE } from './style.ts'

/** In the order of the page: what everybody tries first comes first. */
const FAULT_LABELS: readonly (readonly [FaultName, string])[] = [
  ['restart', 'Restart'],
  ['down', 'Down'],
  ['drop', 'Drop streams'],
  ['half-open', 'Half-open'],
  ['slow', 'Slow'],
  ['503', '503'],
  ['429', '429'],
  ['502', '502 HTML'],
  ['bad-key', 'Bad key'],
  ['forget-404', 'Forget (404)'],
  ['forget-400', 'Forget (400)'],
  ['hold-stream', 'Hold stream (409)'],
  ['refuse', 'Refuse'],
  ['clear', 'Clear all'],
]

function options(names: readonly (keyof typeof PLATFORMS)[]): string {
  return names.map((name) => `<option value="${name}">${PLATFORMS[name]}</option>`).join('')
}

/** As on the command line, but for the length: that stands in a field of the page. */
function whatItDoes(name: FaultName): string {
  return FAULTS[name].replace(/ \(for \d+ s\)$/, '').replace('--ms later', '2 s later')
}

function lasts(name: FaultName): string {
  return amountsOf(name).includes('seconds') ? ' data-lasts' : ''
}

const faultButtons = FAULT_LABELS.map(
  ([name, label]) =>
    `<button type="button" data-fault="${name}"${lasts(name)} title="${whatItDoes(name)}">${label}</button>`,
).join('\n')

export const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Chamade simulator</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<a class="skip" href="#log">Skip to the timeline</a>
<header>
  <h1>Chamade <span>simulator</span></h1>
  <p id="status" role="status">connecting…</p>
  <label id="agent-choice" hidden>Agent <select id="agent"></select></label>
</header>
<form id="door" hidden>
  <label for="token">Control token <small>(the end of the address that <code>chamade-mcp simulate</code> prints behind <code>console:</code>, from the # on)</small></label>
  <input id="token" autocomplete="off" required>
  <button>Open</button>
</form>
<p id="problem" role="alert" hidden></p>
<main>
  <div class="column controls">
    <section aria-labelledby="h-dm">
      <h2 id="h-dm">Write to the agent</h2>
      <form id="dm">
        <div class="pair">
          <label>From <input name="from" value="Alice" required autocomplete="off"></label>
          <label>On <select name="platform">${options(DM_PLATFORMS)}</select></label>
        </div>
        <label>Message <textarea name="text" rows="2" required placeholder="Can you check the test results?"></textarea></label>
        <label>Files <input name="files" type="file" multiple></label>
        <button class="main">Send <kbd>Enter</kbd></button>
      </form>
    </section>
    <section aria-labelledby="h-call">
      <h2 id="h-call">Ring the phone</h2>
      <form id="ring" class="inline">
        <label>Caller <input name="from" value="+33 1 23 45 67 89" required autocomplete="off"></label>
        <button class="main">Ring</button>
      </form>
    </section>
    <section aria-labelledby="h-line">
      <h2 id="h-line">Speak in the meeting</h2>
      <form id="line">
        <div class="pair">
          <label>Speaker <input name="speaker" value="Alice" required autocomplete="off"></label>
          <label>Call <select name="call" required></select></label>
        </div>
        <label>Line <input name="text" required autocomplete="off" placeholder="OK let's start the sprint review."></label>
        <div class="pair">
          <button class="main">Say</button>
          <button type="button" id="hangup">Hang up</button>
        </div>
        <p class="hint" id="no-call"></p>
      </form>
    </section>
    <section aria-labelledby="h-fault">
      <h2 id="h-fault">Break something</h2>
      <label class="seconds">for <input id="seconds" type="number" min="0" max="3600" value="5"> seconds</label>
      <div id="faults" role="group" aria-labelledby="h-fault">${faultButtons}</div>
      <p class="hint" id="fault-hint" aria-live="polite">Point at a fault to see what it does.</p>
    </section>
  </div>
  <section class="column" aria-labelledby="h-timeline">
    <div class="title">
      <h2 id="h-timeline">Timeline</h2>
      <div role="group" aria-label="Show">
        <label><input type="checkbox" data-show="event" checked> events</label>
        <label><input type="checkbox" data-show="tool" checked> tools</label>
        <label><input type="checkbox" data-show="link" checked> connections</label>
      </div>
    </div>
    <div id="log" role="log" tabindex="0" aria-label="Timeline, newest first"><ol id="timeline"></ol></div>
  </section>
  <div class="column">
    <section aria-labelledby="h-chat">
      <h2 id="h-chat">Chat</h2>
      <div id="people" role="group" aria-label="Conversations"></div>
      <ol id="chat" aria-live="polite"></ol>
    </section>
    <section aria-labelledby="h-calls">
      <h2 id="h-calls">Calls</h2>
      <ul id="calls"></ul>
    </section>
    <section aria-labelledby="h-sessions">
      <h2 id="h-sessions">Sessions</h2>
      <ul id="sessions"></ul>
    </section>
  </div>
</main>
<script>${SCRIPT}</script>
</body>
</html>
`

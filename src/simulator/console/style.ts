/** How the console looks: light and dark, wide and narrow. The one rule: text keeps a contrast of 4.5 in both. */
export const STYLE = `
:root {
  --back: #f4f5f7; --card: #ffffff; --ink: #1b2230; --dim: #5b6475; --edge: #d9dde5;
  --blue: #1d4fbf; --green: #176b3a; --red: #b3261e; --amber: #8a5300; --violet: #6a2fb0;
  --mine: #dfe9ff; --theirs: #eceef2; --main: #1d4fbf; --on-main: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #10141b; --card: #191f29; --ink: #e7eaf0; --dim: #a0a9b8; --edge: #313a48;
    --blue: #8db4ff; --green: #7fd6a0; --red: #ff9d94; --amber: #f3be6a; --violet: #c9a6ff;
    --mine: #24406f; --theirs: #2a3240; --main: #3b6fe0; --on-main: #ffffff;
  }
}
* { box-sizing: border-box }
[hidden] { display: none !important }
body {
  margin: 0; background: var(--back); color: var(--ink);
  font: 14px/1.45 system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif;
}
input[type=file] { font-size: 12px; padding: 3px 6px }
header label select { width: auto; display: inline-block }
.skip { position: absolute; left: -999px }
.skip:focus { left: 8px; top: 8px; background: var(--card); padding: 6px 10px; z-index: 1 }
header { display: flex; gap: 18px; align-items: baseline; padding: 10px 20px; flex-wrap: wrap }
h1 { font-size: 18px; margin: 0; letter-spacing: .01em }
h1 span { color: var(--dim); font-weight: 400 }
h2 { font-size: 12px; margin: 0 0 8px; text-transform: uppercase; letter-spacing: .06em; color: var(--dim) }
header p { margin: 0; color: var(--dim) }
header p b { color: var(--green) } header p.bad b, header p.bad { color: var(--red) }
#problem { margin: 0 20px 10px; padding: 8px 12px; border: 1px solid var(--red); color: var(--red); border-radius: 8px }
#door { margin: 20px; display: flex; gap: 10px; align-items: end; flex-wrap: wrap }
main {
  display: grid; gap: 14px; padding: 0 20px 20px; align-items: start;
  grid-template-columns: minmax(260px, 300px) minmax(340px, 1fr) minmax(280px, 360px);
}
.column { display: grid; gap: 12px; min-width: 0 }
section { background: var(--card); border: 1px solid var(--edge); border-radius: 10px; padding: 10px 14px; min-width: 0 }
section.column { gap: 6px }
label { display: block; font-size: 12px; color: var(--dim) }
input, select, textarea {
  width: 100%; font: inherit; color: var(--ink); background: var(--back);
  border: 1px solid var(--edge); border-radius: 6px; padding: 5px 8px; margin-top: 2px;
}
textarea { resize: vertical; display: block }
form { display: grid; gap: 7px }
form .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 8px }
form.inline { grid-template-columns: 1fr auto; align-items: end }
button {
  font: inherit; color: var(--ink); background: var(--back); border: 1px solid var(--edge);
  border-radius: 6px; padding: 5px 10px; cursor: pointer; min-height: 30px;
}
button.main { background: var(--main); border-color: var(--main); color: var(--on-main); font-weight: 600 }
button:disabled { opacity: .5; cursor: default }
button:hover:not(:disabled) { border-color: var(--blue) }
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px }
kbd { font: 11px ui-monospace, monospace; opacity: .8 }
.hint { margin: 4px 0 0; color: var(--dim); font-size: 12px; min-height: 2.9em }
#no-call { min-height: 0 }
#faults { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 8px }
#faults button { font-size: 13px; padding: 3px 8px; min-height: 28px }
#faults button[data-on] { border-color: var(--red); color: var(--red) }
.seconds input { width: 5em; display: inline-block }
.title { display: flex; justify-content: space-between; gap: 10px; flex-wrap: wrap }
.title label { display: inline-block; margin-left: 10px }
.title input { width: auto; margin: 0 2px 0 0; vertical-align: -2px }
ol, ul { list-style: none; margin: 0; padding: 0 }
#log { max-height: calc(100vh - 130px); overflow: auto }
#timeline > li {
  display: grid; grid-template-columns: 88px 1fr; gap: 0 10px; padding: 7px 2px; border-top: 1px solid var(--edge);
}
#timeline time { color: var(--dim); font: 12px/1.7 ui-monospace, 'DejaVu Sans Mono', monospace }
#timeline .what { overflow-wrap: anywhere; white-space: pre-wrap }
#timeline .what b { font-weight: 600 }
#timeline .route { grid-column: 2; font-size: 12px; color: var(--dim); overflow-wrap: anywhere }
#timeline .route .ok { color: var(--green) } #timeline .route .no { color: var(--amber) }
#timeline .route .answer { color: var(--blue) }
.tag { font: 600 11px ui-monospace, 'DejaVu Sans Mono', monospace; margin-right: 6px }
.event .tag { color: var(--violet) } .tool .tag { color: var(--blue) } .link .tag { color: var(--dim) }
.up .tag { color: var(--green) } .bad .tag, .fault .tag { color: var(--red) }
#timeline.no-event .event, #timeline.no-tool .tool, #timeline.no-link .link { display: none }
#people { display: flex; gap: 6px; flex-wrap: wrap; margin-bottom: 8px }
#people button[aria-pressed=true] { border-color: var(--blue); color: var(--blue) }
#chat { display: grid; gap: 6px; max-height: 300px; overflow: auto }
#chat li { padding: 6px 10px; border-radius: 10px; max-width: 88%; overflow-wrap: anywhere; white-space: pre-wrap }
#chat .them { background: var(--theirs); justify-self: start }
#chat .agent { background: var(--mine); justify-self: end }
#chat small { display: block; color: var(--dim) }
#chat .queued small { color: var(--amber) }
#calls li, #sessions li { padding: 6px 0; border-top: 1px solid var(--edge) }
#calls li:first-child, #sessions li:first-child, #timeline > li:first-child { border-top: 0 }
#calls b.active, #sessions b.open { color: var(--green) }
#calls b.ringing, #calls b.connecting { color: var(--amber) }
#sessions b.shut { color: var(--red) }
#calls p { margin: 2px 0; font-size: 13px; overflow-wrap: anywhere } #calls p.agent { color: var(--blue) }
.empty { color: var(--dim) }
@media (max-width: 1080px) { main { grid-template-columns: minmax(250px, 300px) 1fr } main > :last-child { grid-column: 1 / -1 } }
@media (max-width: 720px) {
  main { grid-template-columns: 1fr; padding: 0 10px 14px }
  header { padding: 10px 12px }
  input, select, textarea, button, #faults button { font-size: 16px; min-height: 40px }
  .title input { min-height: 0 }
  #log { max-height: 60vh }
  #timeline > li { grid-template-columns: 1fr } #timeline .route { grid-column: 1 }
}
`

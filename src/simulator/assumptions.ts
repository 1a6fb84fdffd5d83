/**
 * What nobody outside knows of the real product, and what the simulator does instead. All of it, on this page.
 *
 * Not the documented facts: those stand in the code that keeps them. The one rule: a guess lives here or nowhere,
 * so that whoever can look at a real account corrects one file.
 */

/** Limits and periods; milliseconds unless the name says otherwise. */
export const ASSUMED = {
  /** Comment ping on an idle stream. Documented is only that dead streams are found "within ~25 s". */
  pingMs: 15_000,
  /** A `wait` above the documented maximum is cut to it, not refused. */
  inboxMaxWaitS: 55,
  inboxDefaultLimit: 50,
  inboxMaxLimit: 200,
  /** The inbox remembers this many events for each agent. */
  inboxKeeps: 1_000,
  /** A ringing call is missed after a minute (documented), scaled by `--speed`. */
  ringMs: 60_000,
  /** A joined call is connecting this long before it is active. */
  connectMs: 800,
  /** Time the hosted voice takes to say one character; what `chamade_call_stop_speaking` cuts off. */
  speakMsPerCharacter: 60,
  /** WhatsApp's customer-care window after the last message of the other side. */
  whatsappWindowMs: 24 * 60 * 60_000,
  /** A pre-signed upload address is good for this long. */
  uploadMs: 10 * 60_000,
  maxFileBytes: 25 * 1024 * 1024,
} as const

/** Event type names: the three without a mark are documented, the other two are guesses. */
export const EVENT_TYPES = {
  dm: 'dm_chat', // assumed
  callState: 'call_state', // assumed
  callInvite: 'call_invite',
  transcript: 'call_transcript',
  delivered: 'dm_delivered',
} as const

/** Shown by `--help`. */
export const ASSUMPTIONS: readonly string[] = [
  'event meta: flat strings event_type, event_id, ts, platform, then conversation_id, message_id, sender_id, sender_name (messages), call_id, state, caller (calls), call_id, speaker, index (transcripts), conversation_id, count, message_ids (delivered batches)',
  'event names dm_chat and call_state (call_invite, call_transcript, dm_delivered are documented)',
  'chamade_inbox takes wait, cursor, limit and gives {events, cursor}; with a cursor it does not consume; nothing new is an empty list',
  'tool results are one text block of JSON; a refusal is isError with a sentence',
  'a second push stream for one session is refused with 409; an idle stream carries a comment every 15 s',
  'a restart wipes sessions and cuts connections; inbox and calls survive; nothing is replayed without --replay',
  'files of a message stand in its content as lines "[file: name, type, address]"',
  'resources chamade://calls and chamade://conversations (documented is only that there are some)',
  'chamade_account is the name of the account tool; a refused call ends in the state "refused"',
  'an unknown session is 404, a missing one 400, GET without ?stateful 405',
]

/* What a message changes in the state of the page, which is a snapshot from the portal and what came since. */
import { counted, wordOf } from "./cards.js";
import { withFlagged } from "./flagged.js";
import { isMoving } from "./label.js";
import { addPoint } from "./points.js";
import { ENDED } from "./sentences.js";

const CHECK = -1; // the number of the round in which devices check themselves
const MOST_CARDS = 24; // of a large round
const UNFINISHED = new Set(["offered", "training"]);
const TROUBLE = new Set(["refused", "late", "dropped", "declined"]);

function sameRound(state, data) {
  return state.round && state.round.number === data.number && state.round.attempt === data.attempt;
}

/* Of a large round most devices have no card here: the portal counts them. */
export function isLarge(state) {
  return counted(state.participants, state.tally).large;
}

function cardOf(state, data) {
  return state.participants.find((one) => one.device.id === data.device.id);
}

function mayControl(state) {
  return Object.values(state.actions).some(Boolean);
}

function publishedBest(state, version) {
  state.best_version = version;
  state.actions.publish_best = false;
}

/* Whose part in the last round came to nothing, says so on the card of the next. */
function remembered(state, cards) {
  const before = new Map(state.participants.map((card) => [card.device.id, wordOf(card)]));
  const number = state.round?.number;
  return cards.map((card) => {
    const word = before.get(card.device.id);
    return { ...card, before: TROUBLE.has(word) && number >= 0 ? { number, word } : null };
  });
}

/* kind → what the message does to the state; `ask` gets from the portal what no message tells. */
const CHANGES = {
  "round.opened": (state, data, ask, moment) => {
    const cards = data.participants ?? [];
    const total = data.count ?? cards.length;
    state.participants = remembered(state, total > cards.length ? cards.slice(0, MOST_CARDS) : cards);
    state.tally = { total, words: { waiting: total }, groups: [] };
    state.round = { number: data.number, attempt: data.attempt, kind: data.kind, state: "open", word: "collecting updates",
      opened_at: moment, deadline: data.deadline, waiting: data.waiting, asynchronous: data.asynchronous ?? false, buffer: data.buffer ?? 0 };
    if (isMoving(state.label)) ask.again(); // whose budget is not enough, and what is reserved
    if (data.asynchronous) ask.recount(); // some of these have been at work for long
  },
  "round.joined": (state, data, ask) => {
    if (isLarge(state)) ask.recount();
    else {
      state.participants = state.participants.filter((card) => card.device.id !== data.participant.device.id);
      state.participants.push(data.participant);
    }
    if (state.round) state.round.waiting = data.waiting;
  },
  "assignment.changed": (state, data, ask) => {
    const card = cardOf(state, data);
    ask.recount();
    if (state.round?.kind === "check" || data.number === CHECK) ask.again(); // what it found stands in the list
    if (!card) return;
    if (!sameRound(state, data) && !data.asynchronous) {
      if (TROUBLE.has(data.word)) card.before = { number: data.number, word: data.word };
      return;
    }
    Object.assign(card, { state: data.state, word: data.word, reason: data.reason,
      samples: data.samples, seconds: data.seconds, devices: data.devices, effort: data.effort });
  },
  "check.asked": (state, data, ask) => ask.again(),
  "assignment.refused": (state, data, ask) => {
    const card = (sameRound(state, data) || data.asynchronous) && cardOf(state, data);
    if (card) card.refusal = data.refusal;
    if (card) ask.again(); // whether the round waits for it in vain
  },
  "assignments.closed": (state, data, ask) => {
    if (data.asynchronous || data.number === CHECK) ask.again(); // only some had not answered; what it says of checks
    if (data.asynchronous) return;
    if (!sameRound(state, data)) return;
    ask.recount();
    for (const card of state.participants) {
      if (UNFINISHED.has(card.state)) Object.assign(card, { state: "expired", word: data.word, reason: data.reason, refusal: null });
    }
  },
  "round.enough": (state, data) => {
    if (sameRound(state, data)) Object.assign(state.round, { deadline: data.deadline, waiting: null });
  },
  "round.aggregating": (state, data) => {
    if (sameRound(state, data)) Object.assign(state.round, { state: "aggregating", word: "aggregating", waiting: null });
  },
  "round.masking": (state, data) => {
    if (sameRound(state, data)) Object.assign(state.round, { state: "masking", word: data.word, waiting: null });
  },
  "round.part": (state, data) => {
    if (sameRound(state, data)) Object.assign(state.round, { state: "aggregating", word: data.word });
  },
  "round.done": (state, data, ask) => {
    if (sameRound(state, data)) Object.assign(state.round, { state: "done", word: "done", waiting: null });
    state.run.current_round = data.current_round ?? state.run.current_round;
    const before = state.run.best_round;
    state.run.best_round = data.best_round ?? before;
    state.run.best_loss = data.best_loss ?? state.run.best_loss;
    state.run.best_value = data.best_value ?? state.run.best_value;
    if (state.run.best_round !== before) {
      state.best_version = null;
      state.actions.publish_best = mayControl(state) && state.run.best_round > 0;
    }
    state.run.progress = Math.min(state.run.current_round / state.run.total_rounds, 1);
    if (data.contributions) state.contributions = data.contributions;
    if (isMoving(state.label)) ask.again();
    if (data.preflight) state.preflight = data.preflight;
    for (const point of [...(data.points ?? []), data.point]) if (point) addPoint(state, point);
    if (data.flagged) state.flagged = withFlagged(state.flagged, data.flagged);
    for (const one of data.flagged ?? []) {
      const card = sameRound(state, data) && cardOf(state, one);
      if (card) card.unusual = one.reason;
    }
    // How its model does only the next round says; what it took is known now.
    if (data.kind === "train") addPoint(state, { number: data.number, organizations: {}, seconds: data.seconds, bytes_up: data.bytes_up, bytes_down: data.bytes_down, drift: data.drift,
      staleness: data.staleness, staleness_most: data.staleness_most });
  },
  "version.published": (state, data) => {
    if (data.round === state.run.best_round) publishedBest(state, data.version);
  },
  "round.failed": (state, data) => {
    if (sameRound(state, data)) Object.assign(state.round, { state: "failed", word: "failed", waiting: null });
  },
};

function endOfRun(state, kind, data, moment, words) {
  const word = { started: "running", resumed: "running" }[kind] ?? kind;
  if (kind === "kept") Object.assign(state, { run: { ...state.run, result_version: data.version }, actions: { ...state.actions, keep: false } });
  if (!(word in words)) return;
  state.run.state = word;
  state.run.word = words[word];
  state.paused = word === "paused" ? { by: data.by?.name ?? "", at: moment } : null;
  if (state.paused && state.round) state.round.waiting = null;
  if (data.reason) state.run.reason = data.reason;
  if (data.version) state.run.result_version = data.version;
  const mine = mayControl(state);
  if (word === "completed") state.run.progress = 1;
  if (word === "completed" && state.run.best_round === state.run.total_rounds) publishedBest(state, data.version);
  if (ENDED.has(word) && state.round) state.round.waiting = null;
  if (ENDED.has(word)) state.barred = [];
  if (word === "stopped" || word === "failed") callOff(state);
  state.actions = { ...state.actions, pause: mine && word === "running", resume: mine && word === "paused", stop: mine && !ENDED.has(word),
    asynchronous: state.actions.asynchronous && !ENDED.has(word), synchronous: state.actions.synchronous && !ENDED.has(word),
    keep: mine && (word === "failed" || word === "stopped") && state.run.current_round > 0 };
}

/* Whoever could change the schedule can change it back. */
function rescheduled(state, data, ask) {
  const { plan } = state.run;
  if (data.schedule !== plan.schedule) {
    for (const way of ["asynchronous", "synchronous"]) state.actions[way] = mayControl(state) && way !== data.schedule;
  }
  Object.assign(plan, { schedule: data.schedule, buffer: data.buffer, sentence: data.sentence ?? plan.sentence });
  ask.again(); // what has become of the open round
}

/* Who had not answered when the run ended is not to blame. */
function callOff(state) {
  for (const card of state.participants) {
    if (!UNFINISHED.has(card.state)) continue;
    Object.assign(card, { state: "expired", word: "called off", reason: `the run ${state.run.state === "failed" ? "failed" : "was stopped"}`, refusal: null });
  }
}

/* `words`: what the states of a run are called. `ask` has `again()`, for how the run stands, and `recount()`, for how
   the devices of a large round do. */
export function change(state, message, words, ask) {
  const { kind, data, at } = message;
  const [noun, verb] = kind.split(".");
  state.sequence = message.sequence;
  if (kind === "run.rescheduled") rescheduled(state, data, ask);
  else if (noun === "run") endOfRun(state, verb, data, at, words);
  else CHANGES[kind]?.(state, data, ask, at);
  if (data.waiting && !data.waiting.missing) ask.again(); // who is missing and what one can do only a snapshot says
  if (state.paused && noun === "run") ask.again(); // which colleague it was
}

/* The cards of a large round that the page shows stay; what the portal says of them is newer. */
export function kept(state, data) {
  if (!(data.tally.total > data.participants.length)) return data.participants;
  if (!isLarge(state) || !data.round || !sameRound(state, data.round)) return data.participants.slice(0, MOST_CARDS);
  const fresh = new Map(data.participants.map((card) => [card.device.id, card]));
  return state.participants.map((card) => fresh.get(card.device.id) ?? card);
}

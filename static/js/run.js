/* A run as it happens. The page is a snapshot; from its number on, every message comes once and in order. */
import { drawCharts } from "./charts.js";
import { showTimes } from "./page.js";

const MOST_NEWS = 100;
const MOST_HELD = 500;
const QUIET_MS = 10000;
const ENDED = new Set(["completed", "failed", "stopped"]);
const REFUSED = new Set([4401, 4403, 4404, 4429, 1008]);
const { snapshot: first, words, socket: address } = JSON.parse(document.getElementById("live").textContent);
const at = (name) => document.querySelector(`[data-${name}]`);
let state = first;
let dirty = false;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/* --- what a message changes --- */

function sameRound(data) {
  return state.round && state.round.number === data.number && state.round.attempt === data.attempt;
}

const CHANGES = {
  "round.opened": (data, moment) => {
    state.round = { number: data.number, attempt: data.attempt, kind: data.kind, state: "open", opened_at: moment,
      deadline: data.deadline, waiting: data.waiting };
    state.participants = data.participants ?? [];
  },
  "round.joined": (data) => {
    state.participants = state.participants.filter((card) => card.device.id !== data.participant.device.id);
    state.participants.push(data.participant);
    if (state.round) state.round.waiting = data.waiting;
  },
  "assignment.changed": (data) => {
    if (!sameRound(data)) return;
    const card = state.participants.find((one) => one.device.id === data.device.id);
    if (card) Object.assign(card, { state: data.state, word: data.word, reason: data.reason,
      samples: data.samples, seconds: data.seconds });
  },
  "assignment.refused": (data) => {
    if (!sameRound(data)) return;
    const card = state.participants.find((one) => one.device.id === data.device.id);
    if (card) card.refusal = data.refusal;
  },
  "round.aggregating": (data) => { if (sameRound(data)) Object.assign(state.round, { state: "aggregating", waiting: null }); },
  "round.done": (data) => {
    if (sameRound(data)) Object.assign(state.round, { state: "done", waiting: null });
    state.run.current_round = data.current_round ?? state.run.current_round;
    state.run.progress = Math.min(state.run.current_round / state.run.total_rounds, 1);
    if (data.contributions) state.contributions = data.contributions;
    if (data.point) {
      state.curves = state.curves.filter((point) => point.number !== data.point.number);
      state.curves.push(data.point);
      state.curves.sort((one, other) => one.number - other.number);
    }
  },
  "round.failed": (data) => { if (sameRound(data)) Object.assign(state.round, { state: "failed", waiting: null }); },
};

function endOfRun(kind, data) {
  const word = { started: "running", resumed: "running" }[kind] ?? kind;
  if (!(word in words)) return;
  state.run.state = word;
  state.run.word = words[word];
  if (data.reason) state.run.reason = data.reason;
  if (data.version) state.run.result_version = data.version;
  const mine = state.actions.pause || state.actions.resume || state.actions.stop;
  if (word === "completed") state.run.progress = 1;
  if (ENDED.has(word) && state.round) state.round.waiting = null;
  state.actions = { pause: mine && word === "running", resume: mine && word === "paused", stop: mine && !ENDED.has(word) };
}

function apply(message) {
  state.sequence = message.sequence;
  const [noun, verb] = message.kind.split(".");
  if (noun === "run") endOfRun(verb, message.data);
  else CHANGES[message.kind]?.(message.data, message.at);
  log(message);
  paint();
}

/* --- the log --- */

function log(message) {
  const list = at("log");
  const item = element("li");
  const time = element("time");
  time.dateTime = message.at;
  time.dataset.clock = "";
  time.textContent = message.at.slice(11, 19);
  item.append(time, " ", message.text);
  list.prepend(item);
  while (list.children.length > MOST_NEWS) list.lastElementChild.remove();
}

/* --- the page, at most once per frame --- */

function paint() {
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(() => { dirty = false; draw(); });
}

function show(target, text) {
  target.hidden = !text;
  if (target.textContent !== (text ?? "")) target.textContent = text ?? "";
}

function title() {
  const { run, round } = state;
  if (ENDED.has(run.state) || !round) return `Round ${run.current_round} of ${run.total_rounds}`;
  if (round.kind === "statistics") return "Before round 1: statistics for standardisation";
  if (round.kind === "evaluate") return "After the last round: evaluation";
  return `Round ${round.number} of ${run.total_rounds}${round.attempt > 1 ? `, attempt ${round.attempt}` : ""}`;
}

function draw() {
  const { run } = state;
  const badge = at("run-state");
  badge.className = `badge state-${run.state}`;
  badge.textContent = run.word;
  at("round-title").textContent = title();
  at("progress").value = Math.round(100 * run.progress);
  show(at("reason"), run.reason);
  drawWaiting();
  at("result").hidden = !run.result_version;
  if (run.result_version) {
    at("version").textContent = `version ${run.result_version}`;
    at("version").href = `/models/${run.model.id}/versions/${run.result_version}`;
  }
  for (const part of document.querySelectorAll("[data-action]")) part.hidden = !state.actions[part.dataset.action];
  drawParticipants();
  drawContributions();
  drawCharts(document, state.curves, state.names);
  showTimes(at("log"));
}

function drawWaiting() {
  const waiting = state.round?.waiting;
  if (!waiting) return show(at("waiting"), "");
  if (!waiting.until) return show(at("waiting"), waiting.sentence);
  const left = Math.max(0, Math.round((new Date(waiting.until) - Date.now()) / 1000));
  show(at("waiting"), `${waiting.sentence} ${left >= 60 ? `${Math.floor(left / 60)} min ` : ""}${left % 60} s left.`);
}

function drawParticipants() {
  const list = at("participants");
  const cards = state.participants.map((card) => {
    const item = element("li", `card part part-${card.state}`);
    const note = card.reason || (card.samples ? `${card.samples} rows` : "");
    item.append(element("strong", "", card.device.identifier), element("span", "soft", card.organization.name),
      element("span", "badge part-badge", card.word), element("span", "small soft", note));
    return item;
  });
  list.replaceChildren(...(cards.length ? cards : [element("li", "soft", "No device takes part yet.")]));
}

function cell(label, className, content) {
  const made = element("td", className);
  made.dataset.label = label;
  made.append(content);
  return made;
}

function drawContributions() {
  const rows = state.contributions.map((given) => {
    const row = element("tr");
    const bar = element("progress");
    bar.max = 1;
    bar.value = given.share;
    const share = element("div", "share");
    share.append(bar, element("span", "", `${Math.round(100 * given.share)} %`));
    row.append(cell("Organization", "", given.organization.name), cell("Devices", "number", given.devices),
      cell("Updates", "number", `${given.updates} of ${given.expected}`), cell("Rows", "number", given.samples), cell("Share", "", share));
    return row;
  });
  if (rows.length) at("contributions").replaceChildren(...rows);
}

/* --- the connection --- */

let wait = 500;
let socket = null;
const early = new Map();
let asked = false;
let heard = Date.now();

function tell(text, name) {
  const badge = at("live");
  badge.textContent = text;
  badge.className = `badge ${name}`;
}

function hear(message) {
  heard = Date.now();
  if (message.kind === "snapshot") {
    asked = false;
    for (const sequence of early.keys()) if (sequence <= message.sequence) early.delete(sequence);
    if (message.sequence >= state.sequence) { state = message.data; paint(); }
  } else if (message.sequence > state.sequence) early.set(message.sequence, message);
  while (early.has(state.sequence + 1)) {
    const next = early.get(state.sequence + 1);
    early.delete(next.sequence);
    asked = false;
    apply(next);
  }
  if (early.size > MOST_HELD) early.clear();
  if (early.size && !asked) {
    asked = true;
    socket.send(JSON.stringify({ ask: "since", sequence: state.sequence }));
  }
}

/* Whom a round waits for changes with the clock, of which no message tells. */
function askAgain() {
  if (socket.readyState !== WebSocket.OPEN || document.hidden || ENDED.has(state.run.state)) return;
  if (Date.now() - heard >= QUIET_MS) {
    heard = Date.now();
    socket.send(JSON.stringify({ ask: "snapshot" }));
  }
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${address}`);
  socket.addEventListener("open", () => { wait = 500; asked = false; early.clear(); tell("live", "live"); });
  socket.addEventListener("message", (event) => hear(JSON.parse(event.data)));
  socket.addEventListener("close", (event) => {
    if (REFUSED.has(event.code)) return tell("not live: reload the page", "lost");
    tell("reconnecting…", "lost");
    setTimeout(connect, wait * (0.5 + Math.random()));
    wait = Math.min(wait * 2, 8000);
  });
}

draw();
connect();
setInterval(() => { drawWaiting(); askAgain(); }, 1000);

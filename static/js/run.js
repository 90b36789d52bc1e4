/* A run as it happens. The page is a snapshot; from its number on, every message comes once and in order. */
import { cell, element, show, time } from "./build.js";
import { counted, drawDevices, drawWaiting, listen, wordOf } from "./cards.js";
import { drawCharts, listenToChoices } from "./charts.js";
import { drawFairness } from "./fairness.js";
import { drawFlagged, withFlagged } from "./flagged.js";
import { follow } from "./following.js";
import { drawOwn } from "./own.js";
import { showTimes } from "./page.js";
import { drawPreflight } from "./preflight.js";

const MOST_NEWS = 100;
const MOST_POINTS = 600; // twice what a fresh snapshot holds; then every second one goes
const CHARTS_MS = 200;
const WONDER_MS = 500;
const RECOUNT_MS = 2000;
const MOST_CARDS = 24; // of a large round
const UNFINISHED = new Set(["offered", "training"]);
const ENDED = new Set(["completed", "failed", "stopped"]);
const TROUBLE = new Set(["refused", "late", "dropped", "declined"]);
const { snapshot: first, words, socket: address } = JSON.parse(document.getElementById("live").textContent);
const at = (name) => document.querySelector(`[data-${name}]`);
let state = first;
let ahead = Date.parse(first.now) - Date.now(); // the portal's clock against this one
let wondering = null;
let recounting = null;
let dirty = false;
let chartsDirty = true;
let chartsAt = 0;

/* --- what a message changes --- */

function sameRound(data) {
  return state.round && state.round.number === data.number && state.round.attempt === data.attempt;
}

function isLarge() {
  return counted(state.participants, state.tally).large;
}

/* Of a large round most devices have no card here: the portal counts them anew, now and then. */
function recount() {
  if (!isLarge() || recounting) return;
  recounting = setTimeout(() => { recounting = null; connection.ask({ ask: "snapshot" }); }, RECOUNT_MS);
}

function cardOf(data) {
  return state.participants.find((one) => one.device.id === data.device.id);
}

/* Whose part in the last round came to nothing, says so on the card of the next. */
function remembered(cards) {
  const before = new Map(state.participants.map((card) => [card.device.id, wordOf(card)]));
  const number = state.round?.number;
  return cards.map((card) => {
    const word = before.get(card.device.id);
    return { ...card, before: TROUBLE.has(word) && number >= 0 ? { number, word } : null };
  });
}

const CHANGES = {
  "round.opened": (data, moment) => {
    const cards = data.participants ?? [];
    const total = data.count ?? cards.length;
    state.participants = remembered(total > cards.length ? cards.slice(0, MOST_CARDS) : cards);
    state.tally = { total, words: { waiting: total }, groups: [] };
    state.round = { number: data.number, attempt: data.attempt, kind: data.kind, state: "open", word: "collecting updates",
      opened_at: moment, deadline: data.deadline, waiting: data.waiting, asynchronous: data.asynchronous ?? false, buffer: data.buffer ?? 0 };
    if (data.asynchronous) recount(); // some of these have been at work for long
  },
  "round.joined": (data) => {
    if (isLarge()) recount();
    else {
      state.participants = state.participants.filter((card) => card.device.id !== data.participant.device.id);
      state.participants.push(data.participant);
    }
    if (state.round) state.round.waiting = data.waiting;
  },
  "assignment.changed": (data) => {
    const card = cardOf(data);
    recount();
    if (state.round?.kind === "check") askAgain(); // what it found stands in the list
    if (!card) return;
    if (!sameRound(data) && !data.asynchronous) {
      if (TROUBLE.has(data.word)) card.before = { number: data.number, word: data.word };
      return;
    }
    Object.assign(card, { state: data.state, word: data.word, reason: data.reason,
      samples: data.samples, seconds: data.seconds, devices: data.devices, effort: data.effort });
  },
  "assignment.refused": (data) => {
    const card = (sameRound(data) || data.asynchronous) && cardOf(data);
    if (card) card.refusal = data.refusal;
    if (card) askAgain(); // whether the round waits for it in vain
  },
  "assignments.closed": (data) => {
    if (data.asynchronous) { askAgain(); return; } // only some of those that had not answered
    if (!sameRound(data)) return;
    recount();
    for (const card of state.participants) {
      if (UNFINISHED.has(card.state)) Object.assign(card, { state: "expired", word: data.word, reason: data.reason, refusal: null });
    }
  },
  "round.enough": (data) => {
    if (sameRound(data)) Object.assign(state.round, { deadline: data.deadline, waiting: null });
  },
  "round.aggregating": (data) => {
    if (sameRound(data)) Object.assign(state.round, { state: "aggregating", word: "aggregating", waiting: null });
  },
  "round.part": (data) => {
    if (sameRound(data)) Object.assign(state.round, { state: "aggregating", word: data.word });
  },
  "round.done": (data) => {
    if (sameRound(data)) Object.assign(state.round, { state: "done", word: "done", waiting: null });
    state.run.current_round = data.current_round ?? state.run.current_round;
    const before = state.run.best_round;
    state.run.best_round = data.best_round ?? before;
    state.run.best_loss = data.best_loss ?? state.run.best_loss;
    state.run.best_value = data.best_value ?? state.run.best_value;
    if (state.run.best_round !== before) {
      state.best_version = null;
      state.actions.publish_best = mayControl() && state.run.best_round > 0;
    }
    state.run.progress = Math.min(state.run.current_round / state.run.total_rounds, 1);
    if (data.contributions) state.contributions = data.contributions;
    if (data.preflight) state.preflight = data.preflight;
    for (const point of [...(data.points ?? []), data.point]) if (point) addPoint(point);
    if (data.flagged) state.flagged = withFlagged(state.flagged, data.flagged);
    for (const one of data.flagged ?? []) {
      const card = sameRound(data) && cardOf(one);
      if (card) card.unusual = one.reason;
    }
    // How its model does only the next round says; what it took is known now.
    if (data.kind === "train") addPoint({ number: data.number, organizations: {}, seconds: data.seconds, bytes_up: data.bytes_up, bytes_down: data.bytes_down, drift: data.drift,
      staleness: data.staleness, staleness_most: data.staleness_most });
  },
  "version.published": (data) => {
    if (data.round === state.run.best_round) publishedBest(data.version);
  },
  "round.failed": (data) => {
    if (sameRound(data)) Object.assign(state.round, { state: "failed", word: "failed", waiting: null });
  },
};

/* Whoever measures something for the first time comes behind those that did before, so that these keep their colours. */
function arrange(organizations) {
  const { names } = state;
  for (const { organization } of state.contributions) names[organization.id] ??= organization.name;
  const before = new Set(state.curves.flatMap((point) => Object.keys(point.organizations)));
  const rows = Object.keys(names).filter((key) => !before.has(key));
  const lower = (key) => names[key].toLowerCase();
  rows.sort((one, other) => (other in organizations) - (one in organizations) || (lower(one) < lower(other) ? -1 : 1));
  const order = [...Object.keys(names).filter((key) => before.has(key)), ...rows];
  state.names = Object.fromEntries(order.map((key) => [key, names[key]]));
}

function mayControl() {
  return Object.values(state.actions).some(Boolean);
}

function publishedBest(version) {
  state.best_version = version;
  state.actions.publish_best = false;
}

function addPoint(point) {
  if (Object.keys(point.organizations).some((key) => !state.curves.some((one) => key in one.organizations))) arrange(point.organizations);
  let curves = state.curves.filter((one) => one.number !== point.number);
  curves.push(point);
  curves.sort((one, other) => one.number - other.number);
  if (curves.length > MOST_POINTS) {
    const last = curves.length - 1;
    curves = curves.filter((one, index) => index % 2 === 0 || index === last || one.number === state.run.best_round);
  }
  state.curves = curves;
  chartsDirty = true;
}

function endOfRun(kind, data, moment) {
  const word = { started: "running", resumed: "running" }[kind] ?? kind;
  if (kind === "kept") Object.assign(state, { run: { ...state.run, result_version: data.version }, actions: { ...state.actions, keep: false } });
  if (!(word in words)) return;
  state.run.state = word;
  state.run.word = words[word];
  state.paused = word === "paused" ? { by: data.by?.name ?? "", at: moment } : null;
  if (state.paused && state.round) state.round.waiting = null;
  if (data.reason) state.run.reason = data.reason;
  if (data.version) state.run.result_version = data.version;
  const mine = mayControl();
  if (word === "completed") state.run.progress = 1;
  if (word === "completed" && state.run.best_round === state.run.total_rounds) publishedBest(data.version);
  if (ENDED.has(word) && state.round) state.round.waiting = null;
  if (ENDED.has(word)) state.barred = [];
  if (word === "stopped" || word === "failed") callOff();
  state.actions = { ...state.actions, pause: mine && word === "running", resume: mine && word === "paused", stop: mine && !ENDED.has(word),
    asynchronous: state.actions.asynchronous && !ENDED.has(word), synchronous: state.actions.synchronous && !ENDED.has(word),
    keep: mine && (word === "failed" || word === "stopped") && state.run.current_round > 0 };
}

/* Whoever could change the schedule can change it back. */
function rescheduled(data) {
  const { plan } = state.run;
  if (data.schedule !== plan.schedule) {
    for (const way of ["asynchronous", "synchronous"]) state.actions[way] = mayControl() && way !== data.schedule;
    chartsDirty = true;
  }
  Object.assign(plan, { schedule: data.schedule, buffer: data.buffer, sentence: data.sentence ?? plan.sentence });
  askAgain(); // what has become of the open round
}

/* Who had not answered when the run ended is not to blame. */
function callOff() {
  for (const card of state.participants) {
    if (!UNFINISHED.has(card.state)) continue;
    Object.assign(card, { state: "expired", word: "called off", reason: `the run ${state.run.state === "failed" ? "failed" : "was stopped"}`, refusal: null });
  }
}

/* A message says that the round waits; who is missing and what one can do only a snapshot says. */
function askWhoIsMissing(waiting) {
  if (waiting && !waiting.missing) askAgain();
}

function askAgain() {
  if (wondering) return;
  wondering = setTimeout(() => { wondering = null; connection.ask({ ask: "snapshot" }); }, WONDER_MS);
}

function apply(message) {
  state.sequence = message.sequence;
  const [noun, verb] = message.kind.split(".");
  if (message.kind === "run.rescheduled") rescheduled(message.data);
  else if (noun === "run") endOfRun(verb, message.data, message.at);
  else CHANGES[message.kind]?.(message.data, message.at);
  askWhoIsMissing(message.data.waiting);
  if (state.paused && noun === "run") askAgain(); // which colleague it was
  log(message);
  paint();
}

/* The cards of a large round that this page shows stay; what the portal says of them is newer. */
function kept(data) {
  if (!(data.tally.total > data.participants.length)) return data.participants;
  if (!isLarge() || !data.round || !sameRound(data.round)) return data.participants.slice(0, MOST_CARDS);
  const fresh = new Map(data.participants.map((card) => [card.device.id, card]));
  return state.participants.map((card) => fresh.get(card.device.id) ?? card);
}

function adopt(data) {
  state = { ...data, participants: kept(data) };
  ahead = Date.parse(data.now) - Date.now();
  chartsDirty = true;
  paint();
}

/* --- the log; on a page of older events it stands still --- */

function log(message) {
  const list = at("log");
  if (!list) return;
  const prefixes = list.dataset.log.split(",");
  if (list.dataset.log && !prefixes.some((prefix) => message.kind.startsWith(prefix))) return;
  const item = element("li");
  item.dataset.sequence = message.sequence;
  item.append(time(message.at, "clock"), " ", message.text);
  list.prepend(item);
  at("log-empty").hidden = true;
  while (list.children.length > MOST_NEWS) {
    list.lastElementChild.remove();
    at("older-box").hidden = false;
  }
}

function gap() {
  at("log")?.prepend(element("li", "soft", "What happened while this page was away is too much to show here; reload it, and look under Older."));
}

function drawOlder() {
  const link = at("older");
  const last = at("log")?.lastElementChild?.dataset.sequence;
  if (!link || !last) return;
  const query = new URLSearchParams(link.search);
  query.set("before", last);
  link.search = query;
}

/* --- the page, at most once per frame --- */

function paint() {
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(() => { dirty = false; draw(); });
}

function title() {
  const { run, round } = state;
  if (ENDED.has(run.state)) return ended(run, round);
  if (!round) return `Round ${run.current_round} of ${run.total_rounds}`;
  if (round.kind === "check") return "Before round 1: the devices check themselves";
  if (round.kind === "statistics") return "Before round 1: statistics for standardisation";
  if (round.kind === "evaluate") return "After the last round: evaluation";
  return `Round ${round.number} of ${run.total_rounds}${round.asynchronous ? ", asynchronous" : ""}${round.attempt > 1 ? `, attempt ${round.attempt}` : ""}`;
}

function ended(run, round) {
  const rounds = run.total_rounds;
  if (run.state === "completed") return rounds > 1 ? `All ${rounds} rounds are done` : "The round is done";
  const word = run.state[0].toUpperCase() + run.state.slice(1);
  if (!round || round.kind === "check" || round.kind === "statistics") return `${word} before round 1 of ${rounds}`;
  if (round.kind === "evaluate") return `${word} after round ${rounds} of ${rounds}`;
  return `${word} ${round.state === "done" ? "after" : "in"} round ${round.number} of ${rounds}`;
}

function best(run) {
  if (run.best_round == null) return "";
  const which = run.best_round ? `the model of round ${run.best_round}` : "the version that the run began with";
  const told = run.best_value == null ? "" : ` (${bestBy(run)} ${run.best_value.toFixed(4)})`;
  if (ENDED.has(run.state)) return `Best of this run: ${which}${told}.`;
  return `Best so far: ${which}${told}. A new model has to do better for the organizations that measured both.`;
}

function earlier(run) {
  if (run.best_round == null || run.best_round === run.total_rounds) return "";
  const measured = (number) => state.curves.find((one) => one.number === number)?.organizations ?? {};
  if (!Object.keys(measured(run.best_round)).some((key) => key in measured(run.total_rounds))) {
    return " No organization measured both it and the best one, so the two do not compare.";
  }
  if (run.best_round === 0) return ` By ${bestBy(run)}, no round did better than the version that the run began with.`;
  const kept = state.best_version ? "is an earlier one." : "is an earlier one; it is kept with the run and can be published too.";
  return ` The best by ${bestBy(run)}, that of round ${run.best_round}, ${kept}`;
}

function draw() {
  const { run } = state;
  const badge = at("run-state");
  const waits = run.state === "running" && state.round?.waiting?.word;
  badge.className = `badge state-${waits || run.state}`;
  badge.textContent = waits || words[run.state];
  at("round-title").textContent = title();
  at("progress").value = Math.round(100 * run.progress);
  show(at("reason"), run.reason);
  show(at("best"), best(run));
  drawRound();
  drawPaused();
  if (ENDED.has(run.state)) drawEnd();
  at("result").hidden = !run.result_version;
  if (run.result_version) {
    at("version").textContent = `version ${run.result_version}`;
    show(at("earlier"), earlier(run));
    at("version").href = `/models/${run.model.id}/versions/${run.result_version}`;
  }
  drawBest(run, state.best_version);
  at("plan").textContent = run.plan.sentence;
  for (const part of document.querySelectorAll("[data-action]")) part.hidden = !state.actions[part.dataset.action];
  drawBarred();
  drawDevices(state.participants, state.tally, ENDED.has(state.run.state));
  drawFlagged(state.flagged, state.manages);
  drawPreflight(state.preflight ?? []);
  drawContributions();
  drawCurves();
  drawOlder();
  for (const part of [at("log"), at("participants"), at("waiting-box"), at("paused")]) if (part) showTimes(part);
}

function bestBy(run) {
  return run.config.best?.metric ?? "loss";
}

/* The best model beside the last: a version, or kept with the run until somebody publishes it. */
function drawBest(run, version) {
  const link = at("best-version");
  at("best-version-box").hidden = !version || version === run.result_version;
  at("best-round").textContent = run.best_round ?? "";
  link.textContent = `version ${version ?? ""}`;
  link.href = `/models/${run.model.id}/versions/${version ?? ""}`;
}

/* Pictures are costly; a run may close many rounds in a second. */
function drawCurves() {
  if (!chartsDirty) return;
  const wait = chartsAt + CHARTS_MS - performance.now();
  if (wait > 0) { setTimeout(paint, wait); return; }
  chartsDirty = false;
  chartsAt = performance.now();
  drawCharts(document, state.curves, state.names, state.run.plan.schedule === "asynchronous");
  drawFairness(state.curves, state.names);
  drawOwn(state.curves, state.names);
}

function secondsLeft(moment) {
  const left = Math.max(0, Math.round((Date.parse(moment) - Date.now() - ahead) / 1000));
  if (left >= 7200) return `${Math.floor(left / 3600)} h`;
  return `${left >= 60 ? `${Math.floor(left / 60)} min ` : ""}${left % 60} s`;
}

/* What the clock changes is drawn every second. */
function drawRound() {
  const { round } = state;
  at("round").hidden = !round || ENDED.has(state.run.state);
  if (round) {
    const { total, counts } = counted(state.participants, state.tally);
    const sent = counts.get("sent") ?? 0;
    const wanted = round.buffer || total;
    show(at("answers"), total ? `${sent} of ${wanted} answers` : "");
    at("left").textContent = round.state === "open" ? `${secondsLeft(round.deadline)} left` : round.word;
    at("round-progress").value = wanted ? Math.min(Math.round((100 * sent) / wanted), 100) : 0;
  }
  drawWaiting(round?.waiting);
}

function drawPaused() {
  const { paused } = state;
  at("paused").hidden = !paused;
  if (!paused) return;
  const when = at("paused").querySelector("time");
  when.dateTime = paused.at;
  at("paused-by").textContent = paused.by ? ` by ${paused.by}` : "";
  at("going").hidden = state.round?.state !== "open";
  at("press").hidden = !state.actions.resume;
}

/* Nothing more is to come. */
function drawEnd() {
  if (at("nothing-given")) at("nothing-given").textContent = "Nothing: no round was done.";
  for (const one of document.querySelectorAll(".chart.blank [data-summary]")) one.textContent = "Nothing was measured.";
}

function drawBarred() {
  const barred = state.barred ?? [];
  at("barred-box").hidden = !barred.length;
  at("barred").replaceChildren(...barred.map((one) => {
    const item = element("li");
    item.append(element("strong", "", one.organization.name), `: ${one.reason}.`);
    return item;
  }));
}

function drawContributions() {
  const rows = state.contributions.map((given) => {
    const row = element("tr");
    const bar = element("progress");
    bar.max = 1;
    bar.value = given.share;
    bar.setAttribute("aria-label", `Share of ${given.organization.name}`);
    const share = element("div", "share");
    share.append(bar, element("span", "", `${Math.round(100 * given.share)} %`));
    row.append(cell("Organization", "", given.organization.name), cell("Devices", "number", given.devices),
      cell("Updates", "number", `${given.updates} of ${given.expected}`), cell("Rows, all rounds", "number", given.samples), cell("Share", "", share));
    return row;
  });
  if (rows.length) at("contributions").replaceChildren(...rows);
}

function tell(text, name) {
  const badge = at("live");
  badge.textContent = text;
  badge.className = `badge ${name}`;
}

listen(() => drawDevices(state.participants, state.tally, ENDED.has(state.run.state)), isLarge);
listenToChoices(document, () => [state.curves, state.names]);
draw();
const connection = follow(address, {
  number: () => state.sequence,
  over: () => ENDED.has(state.run.state),
  apply, adopt, gap, tell,
});
setInterval(drawRound, 1000);

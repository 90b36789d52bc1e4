/* A run as it happens. The page is a snapshot; from its number on, every message comes once and in order. */
import { at } from "./build.js";
import { drawDevices, listen } from "./cards.js";
import { drawCharts, listenToChoices } from "./charts.js";
import { drawFairness } from "./fairness.js";
import { drawFlagged } from "./flagged.js";
import { follow } from "./following.js";
import { drawGiven } from "./given.js";
import { drawLabel } from "./label.js";
import { drawOlder, gap, log } from "./log.js";
import { change, isLarge, kept } from "./messages.js";
import { drawOwn } from "./own.js";
import { showTimes } from "./page.js";
import { drawPreflight } from "./preflight.js";
import { drawProgress, drawRound } from "./progress.js";
import { ENDED } from "./sentences.js";
import { turner } from "./turning.js";

const CHARTS_MS = 200;
const WONDER_MS = 500;
const RECOUNT_MS = 2000;
const { snapshot: first, words, socket: address } = JSON.parse(document.getElementById("live").textContent);
let state = first;
let ahead = Date.parse(first.now) - Date.now(); // the portal's clock against this one
let wondering = null;
let recounting = null;
let dirty = false;
let chartsOf = null; // the points and the schedule that the pictures show
let chartsAt = 0;

/* --- what comes from the portal --- */

const ask = {
  again() {
    wondering ??= setTimeout(() => { wondering = null; connection.ask({ ask: "snapshot" }); }, WONDER_MS);
  },
  /* Now and then: of a large round every answer would be a reason. */
  recount() {
    if (!isLarge(state)) return;
    recounting ??= setTimeout(() => { recounting = null; connection.ask({ ask: "snapshot" }); }, RECOUNT_MS);
  },
};

function apply(message) {
  change(state, message, words, ask);
  log(message);
  paint();
}

function adopt(data) {
  state = { ...data, participants: kept(state, data) };
  ahead = Date.parse(data.now) - Date.now();
  paint();
}

function tell(text, name) {
  const badge = at("live");
  badge.textContent = text;
  badge.className = `badge ${name}`;
}

/* --- the page, at most once per frame --- */

function paint() {
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(() => { dirty = false; draw(); });
}

function draw() {
  drawProgress(state, words, ahead);
  if (ENDED.has(state.run.state)) drawEnd();
  at("plan").textContent = state.run.plan.sentence;
  for (const part of document.querySelectorAll("[data-action]")) part.hidden = !state.actions[part.dataset.action];
  drawCards();
  drawFlagged(state);
  drawPreflight(state.preflight ?? []);
  drawGiven(state.contributions);
  drawLabel(state.label);
  drawCurves();
  drawOlder();
  for (const part of [at("log"), at("participants"), at("waiting-box"), at("paused")]) if (part) showTimes(part);
}

function drawCards() {
  drawDevices(state.participants, state.tally, ENDED.has(state.run.state));
  if (isLarge(state)) turn();
}

/* Nothing more is to come. */
function drawEnd() {
  if (at("nothing-given")) at("nothing-given").textContent = "Nothing: no round was done.";
  for (const one of document.querySelectorAll(".chart.blank [data-summary]")) one.textContent = "Nothing was measured.";
}

/* Pictures are costly; a run may close many rounds in a second. */
function drawCurves() {
  const { curves, names, run: { plan } } = state;
  if (chartsOf?.curves === curves && chartsOf.schedule === plan.schedule) return;
  const wait = chartsAt + CHARTS_MS - performance.now();
  if (wait > 0) { setTimeout(paint, wait); return; }
  chartsOf = { curves, schedule: plan.schedule };
  chartsAt = performance.now();
  drawCharts(document, curves, names, plan.schedule === "asynchronous");
  drawFairness(curves, names);
  drawOwn(curves, names);
}

const turn = turner(() => state, (participants, tally) => {
  Object.assign(state, { participants, tally });
  paint();
});
listen(drawCards, () => isLarge(state));
listenToChoices(document, () => [state.curves, state.names]);
draw();
const connection = follow(address, {
  number: () => state.sequence,
  over: () => ENDED.has(state.run.state),
  apply, adopt, gap, tell,
});
setInterval(() => drawRound(state, ahead), 1000);

/* How far the run is: its state, its open round, for whom it waits, and what came of it; the same as
   templates/training/run/progress.html. */
import { at, element, show } from "./build.js";
import { counted, drawWaiting } from "./cards.js";
import { ENDED, best, earlier, title } from "./sentences.js";

function secondsLeft(moment, ahead) {
  const left = Math.max(0, Math.round((Date.parse(moment) - Date.now() - ahead) / 1000));
  if (left >= 7200) return `${Math.floor(left / 3600)} h`;
  return `${left >= 60 ? `${Math.floor(left / 60)} min ` : ""}${left % 60} s`;
}

/* What the clock changes is drawn every second. */
export function drawRound(state, ahead) {
  const { round } = state;
  at("round").hidden = !round || ENDED.has(state.run.state);
  if (round) {
    const { total, counts } = counted(state.participants, state.tally);
    const sent = counts.get("sent") ?? 0;
    const wanted = round.buffer || total;
    show(at("answers"), total ? `${sent} of ${wanted} answers` : "");
    at("left").textContent = round.state === "open" ? `${secondsLeft(round.deadline, ahead)} left` : round.word;
    at("round-progress").value = wanted ? Math.min(Math.round((100 * sent) / wanted), 100) : 0;
  }
  drawWaiting(round?.waiting);
}

function drawPaused({ paused, round, actions }) {
  at("paused").hidden = !paused;
  if (!paused) return;
  const when = at("paused").querySelector("time");
  when.dateTime = paused.at;
  at("paused-by").textContent = paused.by ? ` by ${paused.by}` : "";
  at("going").hidden = round?.state !== "open";
  at("press").hidden = !actions.resume;
}

function drawBarred(barred) {
  at("barred-box").hidden = !barred.length;
  at("barred").replaceChildren(...barred.map((one) => {
    const item = element("li");
    item.append(element("strong", "", one.organization.name), `: ${one.reason}.`);
    return item;
  }));
}

/* The best model beside the last: a version, or kept with the run until somebody publishes it. */
function drawBest(run, version) {
  const link = at("best-version");
  at("best-version-box").hidden = !version || version === run.result_version;
  at("best-round").textContent = run.best_round ?? "";
  link.textContent = `version ${version ?? ""}`;
  link.href = `/models/${run.model.id}/versions/${version ?? ""}`;
}

function drawState({ run, round }, words) {
  const badge = at("run-state");
  const waits = run.state === "running" && round?.waiting?.word;
  badge.className = `badge state-${waits || run.state}`;
  badge.textContent = waits || words[run.state];
}

function drawResult(state) {
  const { run } = state;
  at("result").hidden = !run.result_version;
  if (run.result_version) {
    at("version").textContent = `version ${run.result_version}`;
    show(at("earlier"), earlier(state));
    at("version").href = `/models/${run.model.id}/versions/${run.result_version}`;
  }
  drawBest(run, state.best_version);
}

/* `words`: what the states of a run are called; `ahead`: the portal's clock against this one. */
export function drawProgress(state, words, ahead) {
  const { run } = state;
  drawState(state, words);
  at("round-title").textContent = title(state);
  at("progress").value = Math.round(100 * run.progress);
  show(at("reason"), run.reason);
  show(at("best"), best(run));
  drawRound(state, ahead);
  drawPaused(state);
  drawResult(state);
  drawBarred(state.barred ?? []);
}

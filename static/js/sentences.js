/* How far a run is and which of its models is the best, in words; the same as training/web/page_of_run.py. */
export const ENDED = new Set(["completed", "failed", "stopped"]);

export function title({ run, round }) {
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

export function best(run) {
  if (run.best_round == null) return "";
  const which = run.best_round ? `the model of round ${run.best_round}` : "the version that the run began with";
  const told = run.best_value == null ? "" : ` (${bestBy(run)} ${run.best_value.toFixed(4)})`;
  if (ENDED.has(run.state)) return `Best of this run: ${which}${told}.`;
  return `Best so far: ${which}${told}. A new model has to do better for the organizations that measured both.`;
}

export function earlier({ run, curves, best_version: version }) {
  if (run.best_round == null || run.best_round === run.total_rounds) return "";
  const measured = (number) => curves.find((one) => one.number === number)?.organizations ?? {};
  if (!Object.keys(measured(run.best_round)).some((key) => key in measured(run.total_rounds))) {
    return " No organization measured both it and the best one, so the two do not compare.";
  }
  if (run.best_round === 0) return ` By ${bestBy(run)}, no round did better than the version that the run began with.`;
  const kept = version ? "is an earlier one." : "is an earlier one; it is kept with the run and can be published too.";
  return ` The best by ${bestBy(run)}, that of round ${run.best_round}, ${kept}`;
}

function bestBy(run) {
  return run.config.best?.metric ?? "loss";
}

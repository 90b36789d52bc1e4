/* How far organizations and slices of the data are apart; the same tables as training/web/fairness.py. */
import { at, cell, element } from "./build.js";
import { shown } from "./charts.js";

const MEASURES = [["accuracy", "Accuracy"], ["auc", "AUC"], ["loss", "Loss"]];

function newest(curves, name) {
  return curves.findLast((point) => Object.keys(point[name] ?? {}).length);
}

/* Whether one sees a difference, without which nobody is the worst. */
function apart(measure, spread) {
  return shown(measure, spread.least) !== shown(measure, spread.most);
}

function drawSpread(curves, names) {
  const point = newest(curves, "fairness");
  at("fairness-box").hidden = !point;
  if (!point) return;
  at("fairness-round").textContent = point.number;
  at("fairness").replaceChildren(...MEASURES.filter(([measure]) => point.fairness[measure]).map(([measure, title]) => {
    const spread = point.fairness[measure];
    const row = element("tr");
    const worst = apart(measure, spread) ? names[spread.worst] ?? spread.worst : "–";
    row.append(cell("Measure", "", title), cell("Worst", "", worst));
    for (const [label, name] of [["Gap", "gap"], ["Least", "least"], ["Most", "most"], ["Deviation", "deviation"]]) {
      row.append(cell(label, "number", shown(measure, spread[name])));
    }
    return row;
  }));
}

function gapOf(fairness) {
  const [measure, title] = MEASURES.find(([name]) => fairness[name] && apart(name, fairness[name])) ?? [];
  if (!measure) return "";
  const { gap, worst } = fairness[measure];
  return `${title} is ${measure === "loss" ? "higher" : "lower"} by ${shown(measure, gap)} for ${worst} than for all together.`;
}

function drawSlices(curves) {
  const point = newest(curves, "slices");
  at("slices-box").hidden = !point;
  if (!point) return;
  at("slices-round").textContent = point.number;
  at("slices").replaceChildren(...Object.entries(point.slices).flatMap(([name, found]) => {
    const [title, told, box] = [element("h3", "", `By ${name}`), element("p", "soft", gapOf(found.fairness)), element("div", "table")];
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", `Slices by ${name}`);
    const table = element("table", "stack");
    const head = element("tr");
    for (const label of [name, "Rows", ...MEASURES.map(([, measure]) => measure)]) {
      const made = element("th", label === name ? "" : "number", label);
      made.scope = "col";
      head.append(made);
    }
    const [top, body] = [element("thead"), element("tbody")];
    top.append(head);
    body.append(...Object.entries(found.parts).map(([value, ratios]) => {
      const row = element("tr");
      row.append(cell(name, "", value), cell("Rows", "number", ratios.samples));
      for (const [measure, label] of MEASURES) row.append(cell(label, "number", ratios[measure] == null ? "–" : shown(measure, ratios[measure])));
      return row;
    }));
    table.append(top, body);
    box.append(table);
    return [title, told, box];
  }));
}

export function drawFairness(curves, names) {
  drawSpread(curves, names);
  drawSlices(curves);
}

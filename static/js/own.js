/* Devices' own models beside the common one; the same table as training/web/own_models.py. */
import { at, cell, element } from "./build.js";
import { shown } from "./charts.js";

const MEASURES = [["accuracy", "Accuracy", false], ["auc", "AUC", false], ["loss", "Loss", true]];
const MODELS = [["common", "Common"], ["personal", "Own"]];
const MISSING = "–";

function worst(organizations, names, measure, less) {
  const there = Object.entries(organizations)
    .filter(([, row]) => row[measure] !== null)
    .map(([key, row]) => [row[measure], names[key] ?? key])
    .sort(([one, first], [other, second]) => (less ? other - one : one - other) || (first < second ? -1 : 1));
  return there.length ? `${shown(measure, there[0][0])} ${there[0][1]}` : MISSING;
}

export function drawOwn(curves, names) {
  if (!at("own-box")) return;
  const point = curves.findLast((one) => one.personal);
  at("own-none").hidden = Boolean(point);
  at("own-table").hidden = !point;
  if (!point) return;
  at("own-round").textContent = point.number;
  const rows = MEASURES.flatMap(([measure, title, less]) => MODELS.map(([which, label]) => {
    const ratios = which === "personal" ? point.personal : point;
    if (ratios[measure] === null) return null;
    const apart = point.devices?.[which]?.[measure];
    const row = element("tr");
    row.append(
      cell("Measure", "", title), cell("Model", "", label), cell("All rows", "number", shown(measure, ratios[measure])),
      cell("Worst organization", "", worst(ratios.organizations, names, measure, less)),
      cell("Mean of devices", "number", apart ? shown(measure, apart.mean) : MISSING),
      cell("Worst device", "", apart ? `${shown(measure, apart[less ? "most" : "least"])} ${apart.worst}` : MISSING),
    );
    return row;
  }).filter(Boolean));
  at("own").replaceChildren(...rows);
}

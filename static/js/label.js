/* What is protected, and what it costs each organization; the same as templates/training/run/label.html. */
import { at, cell, element } from "./build.js";

export function drawLabel(label) {
  const list = at("protected");
  const text = JSON.stringify(label);
  if (list.dataset.held === text) return;
  list.dataset.held = text;
  list.replaceChildren(...label.sentences.map((sentence) => element("li", "", sentence)));
  at("spent-box").hidden = !label.organizations.length;
  at("spent").replaceChildren(...label.organizations.map((one) => {
    const row = element("tr");
    row.append(
      cell("Organization", "", one.organization.name),
      cell("Rounds", "number", one.rounds),
      cell("ε", "number", one.epsilon === null ? "beyond use" : one.epsilon.toFixed(3)),
      cell("Compared are data", "", one.adjacency),
    );
    return row;
  }));
}

/* Whether what it says changes with each round. */
export function isMoving(label) {
  return label.sums.setting !== "plain" || label.noise.mechanism !== "none";
}

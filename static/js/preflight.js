/* What devices found out about themselves before round 1; the same list as templates/training/run/preflight.html. */
import { at, element } from "./build.js";

const LOOKS = { passed: "good", failed: "bad" };

export function drawPreflight(rows) {
  const list = at("preflight");
  const text = JSON.stringify(rows);
  if (list.dataset.held === text) return;
  list.dataset.held = text;
  at("preflight-box").hidden = !rows.length;
  list.replaceChildren(...rows.map((one) => {
    const item = element("li");
    item.append(element("span", `badge ${LOOKS[one.verdict] ?? "warn"}`, one.verdict), " ",
      element("strong", "", one.device.identifier), ` of ${one.organization.name}${one.late ? ", which came later" : ""}`);
    one.findings.forEach((found, index) => {
      item.append(`${index ? ";" : ":"} ${found.sentence}.`);
      if (found.next_step) item.append(" ", element("span", "soft", found.next_step));
    });
    return item;
  }));
}

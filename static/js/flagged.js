/* Updates that were unlike the others; the same list as templates/training/run/flagged.html. */
import { at, element } from "./build.js";

const MOST_SHOWN = 50;

export function withFlagged(before, found) {
  return [...found.toReversed(), ...before].slice(0, MOST_SHOWN);
}

export function drawFlagged({ flagged, manages }) {
  const text = flagged.map((one) => `${one.device.id} ${one.number} ${one.idle ?? ""}`).join();
  const list = at("flagged");
  if (list.dataset.held === text) return;
  list.dataset.held = text;
  at("flagged-box").hidden = !flagged.length;
  list.replaceChildren(...flagged.map((one) => {
    const item = element("li");
    const told = element("span");
    told.append(element("strong", "", one.device.identifier), ` of ${one.organization.name}, round ${one.number}: ${one.reason}.`);
    item.append(told);
    if (one.idle) item.append(" ", element("span", "badge warn", one.idle));
    else if (one.organization.id === manages) {
      const link = element("a", "button", `Quarantine ${one.device.identifier}`);
      link.href = `/devices/${one.device.id}/quarantine`;
      item.append(" ", link);
    }
    return item;
  }));
}

/* Devices with updates that were unlike the others; the same list as templates/training/run/flagged.html. */
import { at, element } from "./build.js";

const MOST_SHOWN = 50;
const MOST_ROUNDS = 10;

/* The devices with what was found now: those flagged last come first. */
export function withFlagged(before, found) {
  const known = new Map(before.map((one) => [one.device.id, one]));
  const now = found.map((one) => joined(known.get(one.device.id), one));
  const flagged = new Set(now.map((one) => one.device.id));
  return [...now.toReversed(), ...before.filter((one) => !flagged.has(one.device.id))].slice(0, MOST_SHOWN);
}

function joined(before, one) {
  if (!before) return { ...one, count: 1, rounds: [one.number] };
  const highest = one.score > before.score ? one : before;
  const rounds = [...before.rounds, one.number].slice(-MOST_ROUNDS);
  return { ...before, score: highest.score, number: highest.number, reason: highest.reason, count: before.count + 1, rounds };
}

/* The same as `flagged` in training/wording.py. */
function where({ count, rounds, score, number }) {
  if (count === 1) return `round ${number}, score ${score.toFixed(1)}`;
  const named = [...(count > rounds.length ? ["…"] : []), ...rounds].join(", ");
  return `${count} rounds (${named}), highest score ${score.toFixed(1)} in round ${number}`;
}

export function drawFlagged({ flagged, manages }) {
  const text = flagged.map((one) => `${one.device.id} ${one.count} ${one.idle ?? ""}`).join();
  const list = at("flagged");
  if (list.dataset.held === text) return;
  list.dataset.held = text;
  at("flagged-box").hidden = !flagged.length;
  list.replaceChildren(...flagged.map((one) => {
    const item = element("li");
    const told = element("span");
    told.append(element("strong", "", one.device.identifier), ` of ${one.organization.name}, ${where(one)}: ${one.reason}.`);
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

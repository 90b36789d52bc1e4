/* Shows how a rollout goes: asks for the part of its page that changes while the page is seen, and takes over what did. */
import { showTimes } from "./page.js";

const EVERY_MS = 2500;
const AWAY_MS = 8000; // the portal did not answer: it is asked less often
const box = document.querySelector("[data-rollout]");
const taken = new Map(); // part → what the portal last said of it

/* The reader stays where they are: the focus, and what they have begun to type. */
function takeOver(here, fresh) {
  const active = here.contains(document.activeElement) ? document.activeElement : null;
  for (const field of here.querySelectorAll("input")) {
    const same = field.value === field.defaultValue ? null : fresh.querySelector(`#${CSS.escape(field.id)}`);
    if (same) same.value = field.value;
  }
  here.replaceWith(fresh);
  showTimes(fresh);
  if (!active) return;
  const href = active.getAttribute("href");
  const again = active.id ? fresh.querySelector(`#${CSS.escape(active.id)}`) : href && fresh.querySelector(`a[href="${CSS.escape(href)}"]`);
  (again ?? fresh.querySelector("a, button, input"))?.focus({ preventScroll: true });
}

async function look() {
  const answer = await fetch(box.dataset.rollout + location.search, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) throw new Error("not told");
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("[data-rollout]");
  if (!fresh) throw new Error("not told");
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const said = part.outerHTML;
    const here = document.getElementById(part.id);
    if (here && taken.get(part.id) !== said) takeOver(here, document.adoptNode(part));
    taken.set(part.id, said);
  }
  box.toggleAttribute("data-over", fresh.hasAttribute("data-over"));
  dispatchEvent(new Event("resize")); // what scrolls sideways is found anew
}

async function go() {
  let wait = EVERY_MS;
  if (!document.hidden) await look().catch(() => { wait = AWAY_MS; });
  if (!box.hasAttribute("data-over")) setTimeout(go, wait);
}

if (box && !box.hasAttribute("data-over")) setTimeout(go, EVERY_MS);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !box.hasAttribute("data-over")) look().catch(() => {});
});

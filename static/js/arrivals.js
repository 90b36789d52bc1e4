/* Shows a device as soon as it has registered: asks the page of arrivals again and takes its section over. */
import { showTimes } from "./page.js";

const EVERY_MS = 2000;
const LONGEST_MS = 60 * 60 * 1000; // a page that was forgotten stops asking
const began = Date.now();
let section = document.querySelector("[data-arrivals]");

async function look() {
  const answer = await fetch(section.dataset.arrivals, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("[data-arrivals]");
  if (!fresh) return;
  // The same devices as before are left alone, so that nothing is read out twice.
  const names = (one) => [...one.querySelectorAll("a[href^='/devices/dev_']")].map((a) => a.href).join();
  if (names(fresh) === names(section) && fresh.hasAttribute("data-waiting") === section.hasAttribute("data-waiting")) return;
  section.replaceChildren(...fresh.childNodes);
  section.toggleAttribute("data-waiting", fresh.hasAttribute("data-waiting"));
  showTimes(section);
}

async function go() {
  if (!section?.hasAttribute("data-waiting") || Date.now() - began > LONGEST_MS) return;
  if (!document.hidden) await look().catch(() => {}); // the portal may be away for a moment
  setTimeout(go, EVERY_MS);
}

setTimeout(go, EVERY_MS);

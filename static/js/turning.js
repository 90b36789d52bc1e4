/* Of a large round the portal has the cards. A page of them that is not the first, or that shows those that are called
   something, is fetched again when the next round begins, and when there are more to show than are here. */
import { at } from "./build.js";
import { elsewhere, lacking } from "./cards.js";

const SOON_MS = 500;
const LATER_MS = 2000; // one fetch at a time, and the next one only then

const keyOf = (round) => (round ? `${round.number}.${round.attempt}` : "");

/* `now()` is the state of the page, `take` takes participants and tally. Call what it returns whenever cards are drawn. */
export function turner(now, take) {
  let shown = keyOf(now().round);
  let waiting = null;
  let lastAt = 0;

  async function fetched() {
    const answer = await fetch(location.pathname + location.search);
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const { snapshot } = JSON.parse(page.getElementById("live").textContent);
    // An older one would undo what messages told meanwhile, and one of another round is not what is shown.
    if (keyOf(snapshot.round) !== keyOf(now().round) || snapshot.sequence < now().sequence) return;
    shown = keyOf(snapshot.round);
    at("find").dataset.find = page.querySelector("[data-find]").dataset.find;
    take(snapshot.participants, snapshot.tally);
  }

  return () => {
    const { round, participants, tally } = now();
    if (!elsewhere()) shown = keyOf(round);
    if (waiting || (shown === keyOf(round) && !lacking(participants, tally))) return;
    const wait = shown === keyOf(round) ? LATER_MS : SOON_MS;
    waiting = setTimeout(async () => {
      lastAt = Date.now();
      await fetched().catch(() => {}); // the network is away: the next time it may be back
      waiting = null;
    }, Math.max(wait, lastAt + LATER_MS - Date.now()));
  };
}

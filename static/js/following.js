/* The connection: messages by number, once and in order, through cuts and restarts.

   `run.number()` is the number of the last message that was applied. Whoever connects says it, and gets what came after. */
const MOST_HELD = 500;
const QUIET_MS = 10000; // then the page asks how the run stands: whom it waits for changes with the clock
const DEAD_MS = 25000; // a connection on which nothing came for so long, although something was asked, is given up
const CONNECTING_MS = 10000; // a connection that does not come about is given up
const GAP_MS = 200; // messages overtake one another: a gap that closes by itself is not asked about
const AGAIN_MS = 1000; // one question at a time
const REFUSED = new Set([4401, 4403, 4404, 1008]);
const TOO_MUCH = 4429; // asked too often, or too many pages: later it may do
const LATER_MS = 4000;

export function follow(address, run) {
  let wait = 500;
  let socket = null;
  let retry = null;
  let mending = null;
  let known = run.number(); // the highest number that was heard of
  let heard = Date.now();
  let begun = Date.now();
  let askedAt = 0;
  let owed = false; // how the run stands was asked for, and the answer could not be taken
  const early = new Map();

  function ask(what) {
    if (socket?.readyState !== WebSocket.OPEN) {
      owed ||= what.ask === "snapshot";
      return;
    }
    askedAt = Date.now();
    socket.send(JSON.stringify(what));
  }

  function mend(wait = GAP_MS) {
    mending ??= setTimeout(() => {
      mending = null;
      if (known <= run.number()) return;
      ask({ ask: "since", sequence: run.number() });
      mend(AGAIN_MS);
    }, wait);
  }

  function snapshot(message) {
    for (const sequence of early.keys()) if (sequence <= message.sequence) early.delete(sequence);
    if (message.sequence === run.number()) return run.adopt(message.data);
    // The portal cannot tell all that is missing, or it was put back to an earlier state.
    if (message.instead || message.sequence < run.number()) {
      known = message.sequence;
      early.clear();
      run.adopt(message.data);
      return run.gap();
    }
    known = Math.max(known, message.sequence);
    owed = true; // it holds messages that are still under way: once they are here, one more
  }

  function hear(message) {
    heard = Date.now();
    wait = 500;
    if (message.kind === "snapshot") snapshot(message);
    else if (message.sequence > run.number()) early.set(message.sequence, message);
    if (message.kind !== "snapshot") known = Math.max(known, message.sequence);
    while (early.has(run.number() + 1)) {
      const next = early.get(run.number() + 1);
      early.delete(next.sequence);
      run.apply(next);
    }
    if (early.size > MOST_HELD) early.clear();
    if (known > run.number()) mend();
    else if (owed) settle();
  }

  function settle() {
    owed = false;
    setTimeout(() => ask({ ask: "snapshot" }), AGAIN_MS);
  }

  function connect() {
    clearTimeout(retry);
    const here = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${address}?since=${run.number()}`);
    socket = here;
    askedAt = 0;
    begun = Date.now();
    here.addEventListener("open", () => {
      if (socket !== here) return;
      heard = Date.now();
      known = run.number();
      early.clear();
      run.tell("live", "live");
      if (owed) settle();
    });
    here.addEventListener("message", (event) => { if (socket === here) hear(JSON.parse(event.data)); });
    here.addEventListener("close", (event) => { if (socket === here) lost(event.code); });
  }

  function lost(code) {
    socket = null;
    if (REFUSED.has(code)) return run.tell("not live: reload the page", "lost");
    if (code === TOO_MUCH) wait = Math.max(wait, LATER_MS);
    run.tell("reconnecting…", "lost");
    retry = setTimeout(connect, wait * (0.5 + Math.random()));
    wait = Math.min(wait * 2, 8000);
  }

  function abandon() {
    const dead = socket;
    lost(0);
    dead.close();
  }

  /* A cut line does not say so: who asks and hears nothing, begins anew. */
  function look() {
    if (socket?.readyState === WebSocket.CONNECTING && Date.now() - begun > CONNECTING_MS) return abandon();
    if (socket?.readyState !== WebSocket.OPEN || run.over()) return;
    if (askedAt > heard && Date.now() - askedAt > DEAD_MS - QUIET_MS) return abandon();
    if (askedAt <= heard && Date.now() - heard >= QUIET_MS && !document.hidden) ask({ ask: "snapshot" });
  }

  window.addEventListener("online", () => { if (!socket && retry) { wait = 500; connect(); } });
  connect();
  setInterval(look, 1000);
  return { ask };
}

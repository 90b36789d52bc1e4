/* The connection: messages by number, once and in order, through cuts and restarts.

   `run.number()` is the number of the last message that was applied. Whoever connects says it, and gets what came after. */
const MOST_HELD = 500;
const QUIET_MS = 10000; // then the page asks how the run stands: whom it waits for changes with the clock
const DEAD_MS = 25000; // a connection on which nothing came for so long, although something was asked, is given up
const REFUSED = new Set([4401, 4403, 4404, 4429, 1008]);

export function follow(address, run) {
  let wait = 500;
  let socket = null;
  let retry = null;
  let asked = false;
  let heard = Date.now();
  let askedAt = 0;
  const early = new Map();

  function ask(what) {
    if (socket?.readyState !== WebSocket.OPEN) return;
    askedAt = Date.now();
    socket.send(JSON.stringify(what));
  }

  function askSince() {
    if (asked) return;
    asked = true;
    ask({ ask: "since", sequence: run.number() });
  }

  function snapshot(message) {
    asked = false;
    for (const sequence of early.keys()) if (sequence <= message.sequence) early.delete(sequence);
    if (message.sequence === run.number()) return run.adopt(message.data);
    // The portal cannot tell all that is missing, or it was put back to an earlier state.
    if (message.instead || message.sequence < run.number()) {
      run.adopt(message.data);
      return run.gap();
    }
    return askSince();
  }

  function hear(message) {
    heard = Date.now();
    if (message.kind === "snapshot") snapshot(message);
    else if (message.sequence > run.number()) early.set(message.sequence, message);
    while (early.has(run.number() + 1)) {
      const next = early.get(run.number() + 1);
      early.delete(next.sequence);
      asked = false;
      run.apply(next);
    }
    if (early.size > MOST_HELD) { early.clear(); asked = false; askSince(); }
    if (early.size) askSince();
  }

  function connect() {
    clearTimeout(retry);
    const here = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${address}?since=${run.number()}`);
    socket = here;
    askedAt = 0;
    here.addEventListener("open", () => { wait = 500; asked = false; heard = Date.now(); early.clear(); run.tell("live", "live"); });
    here.addEventListener("message", (event) => { if (socket === here) hear(JSON.parse(event.data)); });
    here.addEventListener("close", (event) => { if (socket === here) lost(event.code); });
  }

  function lost(code) {
    socket = null;
    if (REFUSED.has(code)) return run.tell("not live: reload the page", "lost");
    run.tell("reconnecting…", "lost");
    retry = setTimeout(connect, wait * (0.5 + Math.random()));
    wait = Math.min(wait * 2, 8000);
  }

  /* A cut line does not say so: who asks and hears nothing, begins anew. */
  function look() {
    if (socket?.readyState !== WebSocket.OPEN || run.over()) return;
    if (askedAt > heard && Date.now() - askedAt > DEAD_MS - QUIET_MS) {
      const dead = socket;
      lost(0);
      return dead.close();
    }
    if (askedAt <= heard && Date.now() - heard >= QUIET_MS && !document.hidden) ask({ ask: "snapshot" });
  }

  window.addEventListener("online", () => { if (!socket && retry) { wait = 500; connect(); } });
  connect();
  setInterval(look, 1000);
}

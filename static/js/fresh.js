/* Parts of a page that wait for something ([data-fresh]): asked for again until nothing waits any more. */
const pause = (seconds) => new Promise((done) => { setTimeout(done, seconds * 1000); });

for (let tries = 0; tries < 60 && document.querySelector("[data-fresh]"); tries += 1) {
  await pause(tries < 10 ? 1 : 5);
  try {
    const answer = await fetch(location.pathname + location.search);
    if (!answer.ok) break;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-fresh]")) {
      const now = page.getElementById(part.id);
      if (now && !now.hasAttribute("data-fresh")) part.replaceWith(now);
    }
  } catch { /* the network is away: the next try may find it back */ }
}

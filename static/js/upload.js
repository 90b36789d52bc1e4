/* A model file from the browser, through the same door as the command line's: hashed and announced, sent in pieces that
   continue after a break, and made a version. */
import { Sha256 } from "./sha256.js";

const PIECE = 4 << 20;
const PATIENCE = [1, 2, 4, 8, 15, 30];
const pause = (seconds) => new Promise((done) => { setTimeout(done, seconds * 1000); });
const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} KB` : `${(bytes / 1e6).toFixed(1)} MB`);

class Refused extends Error {}

async function refusal(answer) {
  const body = await answer.json().catch(() => ({}));
  return new Refused([body.message ?? `The portal answered with status ${answer.status}.`, body.next_step].filter(Boolean).join(" "));
}

async function hashed(file, tell) {
  const sha = new Sha256();
  for (let at = 0; at < file.size; at += PIECE) {
    sha.update(new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer()));
    tell(Math.min(at + PIECE, file.size), "read");
  }
  return sha.hex();
}

class Sender {
  constructor(form) {
    this.model = form.dataset.upload;
    this.token = form.elements.csrfmiddlewaretoken.value;
  }

  async post(path, body) {
    const headers = { "Content-Type": "application/json", "X-CSRFToken": this.token };
    const answer = await fetch(`/api/v1/models/${this.model}/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
  }

  async stored(url) {
    const answer = await fetch(url, { method: "HEAD" });
    if (!answer.ok && answer.status < 500 && ![408, 429].includes(answer.status)) throw await refusal(answer);
    if (!answer.ok) throw new Error("away");
    return Number(answer.headers.get("Upload-Offset"));
  }

  /* Sends what is missing; a break is waited out, and what the portal kept is not sent again. */
  async send(url, file, tell) {
    for (let tries = 0; ; tries += 1) {
      try {
        let at = await this.stored(url);
        while (at < file.size) {
          tell(at, "sent");
          const stop = Math.min(at + PIECE, file.size);
          const headers = { "Upload-Offset": String(at), "Upload-Complete": stop === file.size ? "?1" : "?0", "X-CSRFToken": this.token };
          const answer = await fetch(url, { method: "PUT", headers, body: file.slice(at, stop) });
          // 408 and 409: the pieces did not fit together, because an older connection still wrote. Ask again.
          if (!answer.ok && answer.status < 500 && ![408, 409].includes(answer.status)) throw await refusal(answer);
          if (!answer.ok) throw new Error("away");
          at = stop;
          tries = 0;
        }
        return tell(file.size, "sent");
      } catch (error) {
        if (error instanceof Refused || tries >= PATIENCE.length) throw error;
        tell(null, `The connection broke; going on in ${PATIENCE[tries]} s.`);
        await pause(PATIENCE[tries]);
      }
    }
  }
}

for (const form of document.querySelectorAll("form[data-upload]")) {
  form.hidden = false;
  const [state, bar, words, wrong] = ["[data-state]", "progress", "[data-words]", "[data-error]"].map((one) => form.querySelector(one));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const file = form.querySelector("input[type=file]").files[0];
    const [number, notes] = ["#number", "#notes"].map((one) => form.querySelector(one).value.trim());
    const button = form.querySelector("button");
    const tell = (at, what) => {
      if (at === null) { words.textContent = what; return; }
      bar.value = file.size ? at / file.size : 1;
      words.textContent = `${size(at)} of ${size(file.size)} ${what}`;
    };
    [button.disabled, state.hidden, wrong.hidden] = [true, false, true];
    try {
      const sender = new Sender(form);
      const upload = await sender.post("uploads", { size: file.size, sha256: await hashed(file, tell) });
      if (!upload.complete) await sender.send(upload.url, file, tell);
      words.textContent = "Checking the file…";
      const made = await sender.post("versions", { upload: upload.id, notes, ...(number ? { version: number } : {}) });
      location.assign(`/models/${sender.model}/versions/${made.version}`);
    } catch (error) {
      wrong.textContent = error instanceof Refused ? error.message : "The portal cannot be reached. Choose the same file again later: it goes on where it broke.";
      [button.disabled, state.hidden, wrong.hidden] = [false, true, false];
    }
  });
}

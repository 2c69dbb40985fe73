// What makes the live page live: everything else works without script.
"use strict";
(() => {
  const list = document.getElementById("live");
  if (!list) return;
  const state = document.getElementById("live-state");
  const pause = document.getElementById("live-pause");
  const MOST = 200; // How many events are shown, and kept while paused.
  const PATIENCE = 3000; // How long to wait before a refused stream is asked for again, in milliseconds.
  let held = [];
  let dropped = 0; // Of those that came while paused, how many are kept no more.
  let paused = false;
  let source;
  let refusals = 0; // How often in a row the stream was refused while the page was not.
  let way = ["not live", ""]; // How the stream fares: words and colour.

  const tell = () => {
    const waiting = held.length ? `, ${held.length} waiting` : "";
    const lost = dropped ? `, ${dropped} older ones passed over` : "";
    const [words, kind] = way;
    const aside = kind === "good" ? "" : ` (${words})`;
    state.textContent = paused ? `paused${waiting}${lost}${aside}` : `${words}${lost}`;
    state.className = `state ${paused && kind === "good" ? "warn" : kind}`;
  };
  const fares = (words, kind) => { way = [words, kind]; tell(); };

  const put = (item) => {
    list.prepend(item);
    while (list.children.length > MOST) list.lastElementChild.remove();
    document.getElementById("live-empty").hidden = true;
  };
  const show = (html) => {
    const shell = document.createElement("template");
    shell.innerHTML = html; // Made and escaped by the gateway.
    shell.content.firstElementChild.classList.add("fresh");
    put(shell.content.firstElementChild);
  };
  const remark = (text) => {
    const item = document.createElement("li");
    item.className = "soft";
    item.textContent = text;
    put(item);
  };
  const signedOut = () => {
    source.close();
    fares("signed out: sign in again", "bad");
    const link = document.createElement("a");
    link.href = `${list.dataset.login}?next=${encodeURIComponent(location.pathname + location.search)}`;
    link.textContent = "Sign in again";
    const item = document.createElement("li");
    item.append(link);
    put(item);
  };

  // The stream was refused: because one is signed out, or because the gateway is starting.
  const refused = async () => {
    fares("reconnecting", "warn");
    const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" }).catch(() => null);
    if (answer && answer.type === "opaqueredirect") return signedOut();
    if (answer && answer.ok) refusals += 1;
    if (refusals > 3) return fares("load this page again", "bad");
    setTimeout(connect, PATIENCE);
  };
  const connect = () => {
    const url = new URL(list.dataset.source, location.href);
    const behind = list.dataset.after;
    if (behind) url.searchParams.set("after", behind);
    source = new EventSource(url);
    const hear = (name, act) => source.addEventListener(name, (message) => {
      if (message.lastEventId) list.dataset.after = message.lastEventId;
      act(message.data);
    });
    source.addEventListener("open", () => { refusals = 0; fares("live", "good"); });
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) refused();
      else fares("reconnecting", "warn");
    });
    hear("alive", () => {});
    hear("event", (html) => {
      if (!paused) return show(html);
      held.push(html);
      if (held.length > MOST) { held.shift(); dropped += 1; }
      tell();
    });
    hear("gap", remark);
    hear("signed-out", signedOut);
    hear("failed", (text) => { source.close(); fares(text, "bad"); });
  };
  connect();

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) {
      if (dropped) remark(`${dropped} events before these came while the page was paused, and are not shown`);
      held.forEach(show);
      held = [];
      dropped = 0;
    }
    tell();
  });
})();

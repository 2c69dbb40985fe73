// What makes the live page live: everything else works without script.
"use strict";
(() => {
  const list = document.getElementById("live");
  if (!list) return;
  const state = document.getElementById("live-state");
  const pause = document.getElementById("live-pause");
  const MOST = 200;
  let held = [];
  let paused = false;

  const show = (html) => {
    const shell = document.createElement("template");
    shell.innerHTML = html; // Made and escaped by the gateway.
    const item = shell.content.firstElementChild;
    item.classList.add("fresh");
    list.prepend(item);
    while (list.children.length > MOST) list.lastElementChild.remove();
    document.getElementById("live-empty")?.remove();
  };
  const say = (text, kind) => {
    state.textContent = text;
    state.className = `state ${kind}`;
  };

  const source = new EventSource(list.dataset.source);
  source.addEventListener("open", () => { if (!paused) say("live", "good"); });
  source.addEventListener("error", () => say("reconnecting", "warn"));
  source.addEventListener("event", (message) => {
    if (!paused) return show(message.data);
    held.push(message.data);
    if (held.length > MOST) held.shift();
    say(`paused, ${held.length} waiting`, "warn");
  });
  source.addEventListener("failed", (message) => { say(message.data, "bad"); source.close(); });

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    if (paused) return say("paused", "warn");
    held.forEach(show);
    held = [];
    say("live", "good");
  });
})();

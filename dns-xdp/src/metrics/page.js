// Replaces what the page shows every three seconds, and says so when no answer comes. Without it the page reloads itself.
"use strict";

const EVERY_MS = 3000;
let heard = new Date();

async function refresh() {
  const silence = document.getElementById("silence");
  try {
    const response = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(EVERY_MS) });
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    document.querySelector("main").replaceWith(fresh.querySelector("main"));
    document.body.dataset.refreshed = response.headers.get("date");
    document.title = fresh.title;
    heard = new Date();
    silence.hidden = true;
  } catch {
    silence.textContent = `✗ No answer since ${heard.toLocaleTimeString()}: what is below is old.`;
    silence.hidden = false;
  }
  setTimeout(refresh, EVERY_MS);
}

setTimeout(refresh, EVERY_MS);

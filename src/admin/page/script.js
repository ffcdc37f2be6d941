
"use strict";
// Everything that comes from the server is inserted as text, never as markup.
const POLL_MS = 1000, HISTORY = 120;
const $ = (id) => document.getElementById(id);
const CHAIN = [
  ["Starting", "waits for the app"], ["Serving", "takes traffic"], ["Shedding", "asks clients to go; can be undone"],
  ["Draining", "the pod goes away"], ["Drained", "the app may stop"],
];
const MEANING = {
  Starting: "The app has not been ready yet. Requests are passed on if it answers, and every response closes its connection.",
  Serving: "The app takes traffic. There is nothing to do.",
  Shedding: "Requests are still served, but clients are asked, one response at a time, to connect elsewhere.",
  Draining: "The pod is going away. Requests are still accepted and served; each response closes its connection. "
    + "The app is stopped once nothing is in flight and nobody comes any more, and at the latest when the time is up.",
  Drained: "The drain is over: the app may be stopped. This process stays until it is told to end.",
};
const BECAUSE = {
  AppNotReady: "The app fails its readiness probe; this ends by itself when the app is ready again.",
  ContainerRestart: "The app's container is being restarted; this ends by itself when it is ready again.",
  Manual: "Somebody asked for it with “lameduck drain”; “lameduck undrain” ends it.",
};
const REASON = {
  AppNotReady: "app not ready", ContainerRestart: "container restart", Manual: "by hand",
  PreStop: "pod deletion (preStop hook)", SIGTERM: "pod deletion (SIGTERM)", SIGINT: "interrupted (SIGINT)",
};
const TILES = [
  ["connections", "connections"], ["in_flight", "requests in flight"], ["parked", "of them parked"],
  ["tunnels", "tunnels"], ["rate", "requests/s"],
];
const ERRORS = /^error_/;
const CLIENTS_FAULT = ["error_bad_request", "error_method", "error_request_timeout", "error_target_too_long",
  "error_expectation", "error_headers_too_large"];
const STALE_MS = 5000; // an older answer of the app says nothing of now
const history = [];
let failures = 0, answered = false;

function el(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}
function number(value) { return Number(value).toLocaleString("en-US"); }
function duration(ms) {
  const s = Math.floor(ms / 1000);
  if (ms < 1000) return Math.round(ms) + " ms";
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}
function row(label, value, className) {
  const tr = el("tr"), th = el("th", label);
  th.scope = "row";
  tr.append(th, el("td", value, className));
  return tr;
}

for (const [name, hint] of CHAIN) {
  const li = el("li", name);
  li.append(el("small", hint));
  $("chain").append(li);
}
const tiles = new Map(TILES.map(([key, label]) => {
  const tile = el("div", undefined, "tile"), value = el("dd", "–");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 " + (HISTORY - 1) + " 28");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.append(line);
  tile.append(el("dt", label), value, svg);
  $("tiles").append(tile);
  return [key, { value, line }];
}));
$("host").textContent = location.host;

function showPhase(s) {
  document.body.dataset.phase = s.phase;
  document.title = s.phase + " · lameduck";
  if ($("name").textContent !== s.phase) $("name").textContent = s.phase;
  $("since").textContent = "for " + duration(s.since_ms);
  const because = s.reasons.map((reason) => BECAUSE[reason]).filter(Boolean);
  $("meaning").textContent = [MEANING[s.phase] || "", ...because].join(" ");
  $("reasons").replaceChildren(...s.reasons.map((reason) => el("li", REASON[reason] || reason)));
  $("reasons").hidden = s.reasons.length === 0;
  for (const li of $("chain").children) {
    if (li.firstChild.textContent === s.phase) li.setAttribute("aria-current", "step");
    else li.removeAttribute("aria-current");
  }
  const draining = s.phase === "Draining" && s.deadline_in_ms !== null;
  $("budget").hidden = !draining;
  if (!draining) return;
  const share = 100 * s.since_ms / Math.max(1, s.since_ms + s.deadline_in_ms);
  $("left").textContent = s.deadline_in_ms === 0 ? "none: the time is up" : duration(s.deadline_in_ms) + " of " + duration(s.since_ms + s.deadline_in_ms);
  $("used").style.width = share + "%";
  $("used").parentNode.setAttribute("aria-valuenow", String(Math.round(share)));
}

function showLoad(s) {
  const last = history[history.length - 1];
  // Over a stretch shorter than this a rate would be noise.
  const span = last ? s.uptime_ms - last.at : 0;
  const rate = span > 200 ? Math.max(0, Math.round(1000 * (s.counts.requests - last.requests) / span)) : null;
  history.push({ at: s.uptime_ms, requests: s.counts.requests, connections: s.connections, in_flight: s.in_flight,
    parked: s.parked, tunnels: s.tunnels, rate });
  if (history.length > HISTORY) history.shift();
  for (const [key, { value, line }] of tiles) {
    const now = history[history.length - 1][key];
    value.textContent = now === null ? "–" : number(now);
    // The first poll has no rate yet; there the line starts one poll later.
    const points = history.map((h) => h[key]), top = Math.max(1, ...points);
    const steps = points.map((y, x) => y === null ? "" : "L" + x + " " + (26 - 24 * y / top).toFixed(1)).join("");
    line.setAttribute("d", steps.replace("L", "M"));
  }
}

function showApp(s) {
  const r = s.last_readiness;
  $("verdict").className = !r || r.age_ms > STALE_MS ? "quiet" : r.ready ? "good" : "bad";
  if (!r) {
    $("verdict").textContent = "nothing yet";
    $("asked").textContent = "Its readiness probe has not been asked.";
    return;
  }
  $("verdict").textContent = r.ready ? "ready" : "not ready";
  const answer = r.error !== null ? r.error : "status " + r.status;
  $("asked").textContent = r.container + ": " + answer + ", " + duration(r.age_ms) + " ago";
}

function showTotals(s) {
  const c = s.counts, sum = (names) => names.reduce((total, name) => total + (c[name] || 0), 0);
  const clients = sum(CLIENTS_FAULT);
  const own = sum(Object.keys(c).filter((name) => ERRORS.test(name))) - clients;
  const cut = sum(["abandoned_requests", "abandoned_responses", "abandoned_tunnels"]);
  const rows = [
    row("running for", duration(s.uptime_ms)),
    row("requests", number(c.requests)),
    row("answered 5xx", number(c.status_5xx), c.status_5xx ? "bad" : ""),
    row("errors answered here, app or proxy at fault", number(own), own ? "bad" : ""),
    row("errors answered here, client at fault", number(clients)),
    row("tries to reach the app that failed", number(c.upstream_connect_failures), c.upstream_connect_failures ? "bad" : ""),
    row("arrived while leaving", number(c.late_requests)),
    row("cut at the deadline", number(cut), cut ? "bad" : ""),
  ];
  if (s.hooks_waiting) rows.push(row("preStop hooks held", number(s.hooks_waiting)));
  $("totals").replaceChildren(...rows);
}

const OUTCOME = { drained: "drained: nothing was cut", forced: "forced: the time was up", aborted: "aborted by a second signal" };
const WORDS = {
  duration_ms: "took", late_requests: "arrived while draining", connections_at_start: "connections at the start",
  parked_at_start: "parked at the start", parked_answered: "parked, answered by the app",
  parked_released: "parked, released early", closed_by_peer: "closed by the peer", closed_idle: "closed while idle",
  peers_ignoring_close: "peers that ignored the close", requests_served: "requests served",
};
function reportRows(value, path) {
  return Object.entries(value).flatMap(([key, entry]) => {
    const name = path.concat(WORDS[key] || key.replaceAll("_", " ")).join(": ");
    if (key === "phases") {
      return [row("the way here", entry.map((step) => step.phase + " at " + duration(step.at_ms)).join(" → "), "words")];
    }
    if (entry !== null && typeof entry === "object") return reportRows(entry, path.concat(key.replaceAll("_", " ")));
    if (key === "outcome") return [row(name, OUTCOME[entry] || String(entry), entry === "drained" ? "good" : "bad")];
    if (key === "reason") return [row(name, REASON[entry] || String(entry))];
    if (key.endsWith("_ms")) return [row(WORDS[key] ? name : name.replace(/ ms$/, ""), entry === null ? "–" : duration(entry))];
    const bad = path[0] === "abandoned" && entry > 0;
    return [row(name, typeof entry === "number" ? number(entry) : entry === null ? "–" : String(entry), bad ? "bad" : "")];
  });
}
function showReport(s) {
  $("last").hidden = !s.report;
  if (s.report) $("report").replaceChildren(...reportRows(s.report, []));
}

function live(lost) {
  document.body.classList.toggle("stale", lost);
  $("link").classList.toggle("lost", lost);
  $("link").textContent = !lost ? "live"
    : answered ? "no answer for " + failures + " s: the process has ended or can't be reached" : "no answer";
}

async function poll() {
  if (!document.hidden) {
    try {
      const response = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(3000) });
      if (!response.ok) throw new Error("status " + response.status);
      const s = await response.json();
      failures = 0;
      answered = true;
      $("version").textContent = "version " + s.version;
      showPhase(s);
      showLoad(s);
      showApp(s);
      showTotals(s);
      showReport(s);
      live(false);
    } catch (error) {
      failures += 1;
      if (failures > 1) live(true);
    }
  }
  setTimeout(poll, POLL_MS);
}
poll();

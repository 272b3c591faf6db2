/** The live page: follows GET /events and shows what it says. All that a thread's id says is shown as text. */

const END = 10; // How many characters of a long id are always shown at its end.
const MAX_THREADS = 20_000;
const MAX_FEED = 200;
const CLIENTS_EVERY = 10_000;
const REORDER_EVERY = 1_000;
const SILENCE = 40_000; // The server says something every 15 seconds.
const TOKEN = "thread-budget-admin-token";
const THEME = "thread-budget-theme";

const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const formatter = new Intl.NumberFormat("en");
const format = (tokens) => formatter.format(tokens);
const counted = (count, name) => `${format(count)} ${name}${Number(count) === 1 ? "" : "s"}`;

/** An id that is shortened in its middle where there is no room for it: those of one kind differ at their ends. */
function named(id) {
  const characters = [...id];
  const name = make("span", { class: "name", title: id });
  if (characters.length <= 2 * END) name.append(make("span", { class: "start" }, id));
  else {
    name.append(make("span", { class: "start" }, characters.slice(0, -END).join("")));
    name.append(make("span", { class: "end" }, characters.slice(-END).join("")));
  }
  return name;
}

/** Numbers that a double cannot keep stay exact. */
function parse(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^\d+$/.test(context?.source) ? BigInt(context.source) : value,
  );
}

// What is known.

/** By id, those that changed last at the end. */
const threads = new Map();
/** Those whose children are listed. */
const unfolded = new Set();
let thresholds = [];
let selected = null;
let refusals = 0;
let totals = null;

/** How far a thread is: the severity of the highest threshold it has reached, or that nothing is left. */
function stateOf(thread) {
  if (Number(thread.total_tokens) >= Number(thread.max_tokens)) return "exhausted";
  return thresholds.findLast(({ percent }) => thread.percent_used >= percent)?.severity ?? "";
}

function describe(thread) {
  const held = Number(thread.held_tokens) > 0 ? `, ${format(thread.held_tokens)} held` : "";
  return `${Math.round(thread.percent_used)} % used, ${format(thread.total_tokens)} of ${format(thread.max_tokens)} tokens${held}`;
}

function keep(thread) {
  threads.delete(thread.thread_id);
  threads.set(thread.thread_id, thread);
  if (threads.size > MAX_THREADS) {
    const oldest = threads.keys().next().value;
    if (oldest !== selected) threads.delete(oldest);
  }
}

// The tree. Only the rows in view are in the page.

/** A row has another line where it is narrow; pixels. */
const narrow = matchMedia("(max-width: 520px)");
const rowHeight = () => (narrow.matches ? 84 : 62);

const tree = byId("tree");
const scroller = byId("scroller");
const filter = byId("filter");
const order = byId("order");

let lines = [];
let lineOf = new Map();
let orderedAt = 0;
let orderIsDue = false;
const rows = new Map();

const comparisons = {
  total: (a, b) => Number(b.total_tokens) - Number(a.total_tokens),
  percent: (a, b) => b.percent_used - a.percent_used,
  latest: () => 0,
  name: () => 0,
};

/** All that match and those above them, each below its parent. */
function arrange() {
  const wanted = filter.value.trim().toLowerCase();
  const found = new Set();
  let matches = 0;
  for (const id of threads.keys()) {
    if (!id.toLowerCase().includes(wanted)) continue;
    matches += 1;
    for (let next = id; next !== null && threads.has(next) && !found.has(next); next = threads.get(next).parent) found.add(next);
  }
  const compare = comparisons[order.value];
  const byName = (a, b) => (a.thread_id < b.thread_id ? -1 : 1);
  const all = [...threads.values()].filter((thread) => found.has(thread.thread_id));
  if (order.value === "latest") all.reverse();
  else all.sort((a, b) => compare(a, b) || byName(a, b));
  const below = new Map();
  for (const thread of all) {
    const parent = threads.has(thread.parent) ? thread.parent : null;
    if (!below.has(parent)) below.set(parent, []);
    below.get(parent).push(thread.thread_id);
  }
  const sizes = new Map();
  for (const { parent } of all) {
    for (let next = parent; threads.has(next); next = threads.get(next).parent) sizes.set(next, (sizes.get(next) ?? 0) + 1);
  }
  lines = [];
  const rest = [{ ids: below.get(null) ?? [], at: 0, depth: 1 }];
  while (rest.length > 0) {
    const level = rest.at(-1);
    if (level.at === level.ids.length) {
      rest.pop();
      continue;
    }
    const id = level.ids[level.at];
    level.at += 1;
    const children = below.get(id) ?? [];
    const isOpen = children.length > 0 && (wanted !== "" || unfolded.has(id));
    lines.push({ id, depth: level.depth, place: level.at, of: level.ids.length, below: sizes.get(id) ?? 0, isOpen });
    if (isOpen) rest.push({ ids: children, at: 0, depth: level.depth + 1 });
  }
  lineOf = new Map(lines.map(({ id }, at) => [id, at]));
  const known = totals && Number(totals.threads) > threads.size ? ` of ${format(totals.threads)}; the largest, and what changed since` : "";
  byId("shown").textContent =
    wanted === "" ? `${counted(threads.size, "thread")}${known}` : `${format(matches)} of ${counted(threads.size, "thread")} here match`;
}

function makeRow(id) {
  const row = make("div", { class: "row", role: "treeitem", id: `row-${nextRow++}` });
  const parts = {
    row,
    says: make("span", { class: "visually-hidden" }),
    twisty: make("span", { class: "twisty" }),
    name: named(id),
    below: make("span", { class: "below" }),
    badge: make("span", { class: "badge" }),
    percent: make("b"),
    numbers: make("span"),
    used: make("div", { class: "used" }),
    held: make("div", { class: "held" }),
    gauge: make("div", { class: "gauge", "aria-hidden": "true" }),
  };
  parts.gauge.append(make("div", { class: "bar" }, parts.used, parts.held), ...makeMarks());
  row.append(
    parts.says,
    make("div", { class: "row-head", "aria-hidden": "true" }, parts.twisty, parts.name, parts.below, parts.badge, make("span", { class: "numbers" }, parts.percent, parts.numbers)),
    parts.gauge,
  );
  parts.twisty.addEventListener("click", (event) => {
    event.stopPropagation();
    fold(id, unfolded.has(id));
  });
  row.addEventListener("click", () => {
    select(id);
    tree.focus({ preventScroll: true });
  });
  tree.append(row);
  return parts;
}
let nextRow = 0;

function makeMarks() {
  return thresholds.map(({ percent }) => {
    const mark = make("div", { class: "tick" });
    mark.style.left = `${percent}%`;
    return mark;
  });
}

function showRow(line, at) {
  const thread = threads.get(line.id);
  let parts = rows.get(line.id);
  if (!parts) {
    parts = makeRow(line.id);
    rows.set(line.id, parts);
  }
  const { row } = parts;
  const state = stateOf(thread);
  row.style.top = `${at * rowHeight()}px`;
  row.style.setProperty("--depth", String(line.depth - 1));
  row.dataset.state = state;
  parts.badge.dataset.state = state;
  parts.badge.textContent = state;
  parts.twisty.textContent = line.below === 0 ? "" : line.isOpen ? "▾" : "▸";
  const below = line.below === 0 ? "" : `${format(line.below)} below`;
  parts.below.textContent = below;
  parts.percent.textContent = `${Math.round(thread.percent_used)} %`;
  parts.numbers.textContent = `${format(thread.total_tokens)} of ${format(thread.max_tokens)}`;
  const usedShare = Math.min(100, thread.percent_used);
  const limit = Number(thread.max_tokens);
  parts.used.style.width = `${usedShare}%`;
  parts.held.style.width = `${limit === 0 ? 0 : Math.min(100 - usedShare, (Number(thread.held_tokens) / limit) * 100)}%`;
  parts.says.textContent = `${line.id}: ${describe(thread)}${state && `, ${state}`}${below && `, with ${below}`}`;
  row.setAttribute("aria-level", String(line.depth));
  row.setAttribute("aria-posinset", String(line.place));
  row.setAttribute("aria-setsize", String(line.of));
  row.setAttribute("aria-selected", String(line.id === selected));
  if (line.below > 0) row.setAttribute("aria-expanded", String(line.isOpen));
  else row.removeAttribute("aria-expanded");
}

function showTree() {
  const now = performance.now();
  if (orderIsDue && now - orderedAt >= REORDER_EVERY) {
    arrange();
    orderedAt = now;
    orderIsDue = false;
  }
  const height = rowHeight();
  tree.style.setProperty("--row", `${height}px`);
  tree.style.height = `${lines.length * height}px`;
  const first = Math.max(0, Math.floor(scroller.scrollTop / height) - 2);
  const last = Math.min(lines.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / height) + 2);
  const inView = new Set();
  for (let at = first; at < last; at++) {
    if (!threads.has(lines[at].id)) continue;
    inView.add(lines[at].id);
    showRow(lines[at], at);
  }
  for (const [id, { row }] of rows) {
    if (inView.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  const active = rows.get(selected);
  if (active) tree.setAttribute("aria-activedescendant", active.row.id);
  else tree.removeAttribute("aria-activedescendant");
}

/** Put all into order now. */
function rearrange() {
  orderedAt = 0;
  orderIsDue = true;
  draw();
}

function fold(id, shut) {
  if (shut) unfolded.delete(id);
  else unfolded.add(id);
  rearrange();
}

function select(id) {
  if (selected !== id) {
    selected = id;
    byId("problem").hidden = true;
    limitField.value = "";
  }
  draw();
}

/** Select a thread and bring it into view. */
function goTo(id) {
  if (!lineOf.has(id)) {
    filter.value = "";
    for (let next = threads.get(id)?.parent; threads.has(next); next = threads.get(next).parent) unfolded.add(next);
    arrange();
  }
  const at = lineOf.get(id);
  if (at === undefined) return;
  const height = rowHeight();
  tree.style.height = `${lines.length * height}px`;
  if (at * height < scroller.scrollTop) scroller.scrollTop = at * height;
  const end = (at + 1) * height - scroller.clientHeight;
  if (end > scroller.scrollTop) scroller.scrollTop = end;
  select(id);
}

tree.addEventListener("keydown", (event) => {
  if (lines.length === 0) return;
  const at = lineOf.get(selected) ?? -1;
  const page = Math.max(1, Math.floor(scroller.clientHeight / rowHeight()) - 1);
  const line = lines[at];
  const steps = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: lines.length - 1 };
  if (event.key in steps) goTo(lines[Math.min(lines.length - 1, Math.max(0, steps[event.key]))].id);
  else if (event.key === "ArrowLeft" && line?.isOpen) fold(line.id, true);
  else if (event.key === "ArrowLeft" && line?.depth > 1) goTo(threads.get(line.id).parent);
  else if (event.key === "ArrowRight" && line?.below > 0 && !line.isOpen) fold(line.id, false);
  else if (event.key === "ArrowRight" && line?.isOpen) goTo(lines[at + 1].id);
  else if (event.key === "Enter" && line) limitField.focus();
  else return;
  event.preventDefault();
});
scroller.addEventListener("scroll", draw, { passive: true });
new ResizeObserver(draw).observe(scroller);
filter.addEventListener("input", rearrange);
order.addEventListener("change", rearrange);

byId("find").addEventListener("submit", async (event) => {
  event.preventDefault();
  const id = filter.value;
  if (id === "" || threads.has(id)) return id && goTo(id);
  const answer = await ask("GET", pathOf(id));
  if (answer.error) byId("shown").textContent = `${id}: ${answer.error.message}`;
  else {
    keep(answer);
    rearrange();
    goTo(id);
  }
});

// The selected thread.

const limitField = byId("limit");

function showSelected() {
  const thread = threads.get(selected);
  byId("selected-title").textContent = selected ?? "No thread selected";
  byId("selected-body").hidden = !thread;
  byId("selected-hint").hidden = Boolean(thread);
  byId("selected-hint").textContent =
    selected === null ? "Choose a thread to see more of it, to give it another limit or to clean it up." : "This thread is gone.";
  const state = thread ? stateOf(thread) : "";
  byId("selected-state").textContent = state;
  byId("selected-state").dataset.state = state;
  if (!thread) return;
  const pending = thread.pending_thresholds.map(({ percent }) => `${percent} %`).join(", ");
  figures(byId("figures"), [
    ["used", format(thread.total_tokens)],
    ["held", format(thread.held_tokens)],
    ["left", format(thread.remaining)],
    ["prompt", format(thread.prompt_tokens)],
    ["completion", format(thread.completion_tokens)],
    ["requests", format(thread.request_count)],
    ["runway", thread.runway === null ? "unknown" : counted(thread.runway, "request")],
    ["crossed", thread.triggered_thresholds.map((percent) => `${percent} %`).join(", ") || "none"],
    ["not yet told", pending || "none"],
  ]);
  byId("place").textContent = thread.parent === null ? "" : `Below ${thread.parent}: what it uses and holds counts there, too.`;
  limitField.placeholder = format(thread.max_tokens);
}

function figures(list, pairs) {
  if (list.children.length !== pairs.length) {
    list.replaceChildren(...pairs.map(([term]) => make("div", {}, make("dt", {}, term), make("dd"))));
  }
  pairs.forEach(([, figure, kind], at) => {
    const pair = list.children[at];
    pair.dataset.kind = kind ?? "";
    if (pair.lastChild.textContent !== figure) pair.lastChild.textContent = figure;
  });
}

byId("limit-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const id = selected;
  const thread = threads.get(id);
  const digits = limitField.value.replace(/[\s,._']/g, "");
  if (!thread) return;
  if (!/^\d{1,20}$/.test(digits) || BigInt(digits) >= 1n << 64n) return complain("A limit is a whole number of tokens, below 2^64.");
  const limit = BigInt(digits);
  const exhausts = limit <= BigInt(thread.total_tokens) ? " It has used that up: its requests will be refused." : "";
  const text = `From ${format(thread.max_tokens)} to ${format(limit)} tokens.${exhausts}`;
  if (!(await confirmed(`Another limit for ${id}?`, text, "Set limit"))) return;
  const answer = await ask("POST", `${pathOf(id)}/limit`, `{"max_tokens":${limit}}`);
  if (answer.error) return complain(answer.error.message);
  byId("problem").hidden = true;
  limitField.value = "";
});

byId("clean-up").addEventListener("click", async () => {
  const id = selected;
  const thread = threads.get(id);
  if (!thread) return;
  const text = `${describe(thread)}. The thread and all below it are forgotten; those above it keep what was used.`;
  if (!(await confirmed(`Clean up ${id}?`, text, "Clean up"))) return;
  const answer = await ask("DELETE", pathOf(id));
  if (answer.error) complain(answer.error.message);
});

function complain(message) {
  byId("problem").textContent = message;
  byId("problem").hidden = false;
}

function confirmed(title, text, yes) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  dialog.showModal();
  // `close` comes later, when the next question may be open already; these come at once.
  return new Promise((resolve) => {
    dialog.firstElementChild.onsubmit = (event) => resolve(event.submitter.value === "yes");
    dialog.oncancel = () => resolve(false);
  });
}

// The feed.

const feed = byId("feed");
let news = [];

function announce(kind, id, text, at) {
  const name = make("button", { type: "button", class: "link", "aria-label": id }, named(id));
  name.addEventListener("click", () => goTo(id));
  const time = new Date(at).toLocaleTimeString("en-GB");
  news.push(make("li", { class: "message", "data-kind": kind }, name, make("em", {}, `${kind}, ${time}`), make("span", { class: "text" }, text)));
  if (news.length > MAX_FEED) news.shift();
}

function showFeed() {
  if (news.length === 0) return;
  feed.prepend(...news.reverse());
  news = [];
  while (feed.children.length > MAX_FEED) feed.lastChild.remove();
  byId("feed-empty").hidden = true;
}

// All of it, once a frame.

let isDrawing = false;

function draw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    showTree();
    showSelected();
    showFeed();
    showTotals();
  });
}
setInterval(() => orderIsDue && draw(), REORDER_EVERY);

function showTotals() {
  if (!totals) return;
  const count = (number, kind) => [format(number), Number(number) > 0 ? kind : ""];
  figures(byId("stats"), [
    ["threads", format(totals.threads)],
    ["prompt tokens", format(totals.prompt_tokens)],
    ["completion tokens", format(totals.completion_tokens)],
    ["exhausted", ...count(totals.exhausted_threads, "final")],
    ["warnings not yet told", ...count(totals.pending_warnings, "warning")],
    ["refused", ...count(refusals, "refused")],
  ]);
}

// What the server says.

const told = {
  snapshot(event) {
    ({ thresholds, totals } = event);
    feed.replaceChildren();
    news = [];
    for (const { at_ms, what } of event.news) told[what.event]?.(what, at_ms);
    refusals = event.refused;
    showClients(event.unidentified);
    threads.clear();
    // The largest came first and are kept longest.
    for (const thread of event.threads.reverse()) keep(thread);
    for (const { row } of rows.values()) row.remove();
    rows.clear();
    const percents = thresholds.map(({ percent }) => percent).join(", ");
    byId("marks").textContent = percents ? `warned at ${percents} %` : "never warned";
    orderedAt = 0;
    orderIsDue = true;
  },
  thread(event) {
    keep(event);
    orderIsDue = true;
  },
  totals(event) {
    totals = event;
  },
  removed(event) {
    const gone = new Set([event.thread_id]);
    for (let before = 0; before < gone.size; ) {
      before = gone.size;
      for (const { thread_id, parent } of threads.values()) if (gone.has(parent)) gone.add(thread_id);
    }
    for (const id of gone) {
      threads.delete(id);
      unfolded.delete(id);
    }
    orderIsDue = true;
    orderedAt = 0;
  },
  warning(event, at) {
    announce(event.severity, event.thread_id, event.message, at);
  },
  delivered(event, at) {
    for (const { message } of event.warnings) announce("told", event.thread_id, message, at);
  },
  refused(event, at) {
    refusals = Number(refusals) + 1;
    announce("refused", event.thread_id, event.message, at);
  },
};

function showClients(clients) {
  byId("unidentified").hidden = clients.length === 0;
  byId("clients").replaceChildren(
    ...clients.map(({ client, requests }) => make("div", {}, make("dt", {}, client || "without a name"), make("dd", {}, counted(requests, "request")))),
  );
}

function take(frame) {
  const data = frame.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
  if (data.length === 0) return;
  const event = parse(data.join("\n"));
  told[event.event]?.(event, Date.now());
  draw();
}

const pathOf = (id) => `/threads/${encodeURIComponent(id)}`;

function headers() {
  const token = recall(sessionStorage, TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** An answer of the admin side, or an object with an error. */
async function ask(method, path, body) {
  try {
    const type = body === undefined ? {} : { "Content-Type": "application/json" };
    const response = await fetch(path, { method, body, headers: { ...headers(), ...type } });
    return parse(await response.text());
  } catch (error) {
    return { error: { message: `No answer: ${error.message}` } };
  }
}

function showStatus(state, text) {
  byId("status").dataset.state = state;
  byId("status").textContent = text;
}

/** Follow the events until the stream ends. */
async function follow() {
  const stop = new AbortController();
  let silence;
  let clients;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => stop.abort(), SILENCE);
  };
  heard();
  try {
    const response = await fetch("/events", { headers: headers(), signal: stop.signal });
    if (response.status === 401) return "token";
    if (!response.ok) throw new Error((await response.json()).error.message);
    showStatus("live", "live");
    clients = setInterval(askForClients, CLIENTS_EVERY);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return "ended";
      heard();
      const frames = (text + value).split("\n\n");
      text = frames.pop();
      frames.forEach(take);
    }
  } catch (error) {
    return error.message;
  } finally {
    clearTimeout(silence);
    clearInterval(clients);
  }
}

async function askForClients() {
  const answer = await ask("GET", "/unidentified");
  if (answer.clients) showClients(answer.clients);
}

async function askForToken() {
  const dialog = byId("ask-token");
  if (recall(sessionStorage, TOKEN)) byId("token-text").textContent = "That is not this router's admin token. Try again.";
  byId("token").value = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  remember(sessionStorage, TOKEN, byId("token").value);
}

async function followForever() {
  for (let pause = 500; ; pause = Math.min(pause * 2, 10_000)) {
    const started = performance.now();
    const end = await follow();
    if (end === "token") {
      showStatus("lost", "wants a token");
      await askForToken();
      pause = 250;
      continue;
    }
    if (performance.now() - started > 10_000) pause = 500;
    showStatus("lost", "connection lost, trying again");
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

// The theme. A page without storage follows the system.

function remember(storage, name, value) {
  try {
    storage.setItem(name, value);
  } catch {
    return;
  }
}

function recall(storage, name) {
  try {
    return storage.getItem(name);
  } catch {
    return null;
  }
}

const dark = byId("dark");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (systemDark.matches ? "dark" : "light")) === "dark";
const showTheme = () => dark.setAttribute("aria-checked", String(isDark()));

dark.addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  remember(localStorage, THEME, theme);
  showTheme();
});
systemDark.addEventListener("change", showTheme);
const remembered = recall(localStorage, THEME);
if (remembered) document.documentElement.dataset.theme = remembered;
showTheme();

followForever();

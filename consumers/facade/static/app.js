/** Puts the parts of the page together: the feed fills the fleet, the fleet's changes go to the table, people's wishes to the view. */
import "./column-menu.js";
import "./connection-status.js";
import "./filter-box.js";
import "./fleet-trend.js";
import "./login-form.js";
import "./machine-drawer.js";
import "./machine-table.js";
import "./summary-bar.js";
import "./theme-toggle.js";
import "./toast-stack.js";
import { formatAddress, readAddress } from "./address.js";
import { mayOperate, Problem, whenSignedOut, whoami } from "./api.js";
import { element } from "./dom.js";
import { Feed } from "./feed.js";
import { Fleet } from "./fleet.js";
import { ACTION_NAMES } from "./power.js";
import { PowerOrders } from "./power-orders.js";
import { SECOND, ServerClock } from "./time.js";
import { sortedBy, View } from "./view.js";

/** Rows change their order at most this often, however many changes a second come in: a person must be able to read. */
const REORDER_MS = SECOND;

/** Browsers open six connections to a server at most, for all tabs together: one that nobody looks at gives its stream up. */
const HIDDEN_MS = 60 * SECOND;

const part = (name) => document.querySelector(name);
const table = part("machine-table");
const drawer = part("machine-drawer");
const filter = part("filter-box");
const summary = part("summary-bar");
const menu = part("column-menu");
const connection = part("connection-status");
const toasts = part("toast-stack");
const trend = part("fleet-trend");
const loginForm = part("login-form");

const clock = new ServerClock();
const fleet = new Fleet();
const view = new View(fleet);
const orders = new PowerOrders(fleet, powerEnded);
let hidden = null;
let fresh = new Set();
let reordered = -Infinity;
let reorderTimer = null;
let hiddenTimer = null;

const feed = new Feed("/api/v1/machines/watch", {
  machine: (description) => fleet.put(description),
  deleted: (id) => fleet.remove(id),
  reset: () => fleet.reset(),
  synced: () => fleet.synced(),
  live: () => heard(),
  lost: () => lost(),
  refused: () => identify(),
});

function heard() {
  clock.thaw();
  document.body.classList.remove("stale");
  showConnection();
}

function lost() {
  if (!document.body.classList.contains("stale")) clock.freeze();
  document.body.classList.add("stale");
  showConnection();
}

function showConnection() {
  if (document.body.classList.contains("stale")) connection.lost(fleet.loaded ? clock.now() : null);
  else if (fleet.loaded) connection.live();
  else connection.loading(fleet.size);
}

/** Ask the server who we are; where it does not know, ask for a token. */
async function identify() {
  try {
    const { user, date } = await whoami();
    clock.sync(date);
    if (user === null) askForToken();
    else if (user.role === "machine") askForToken(`The token of machine ${user.user} is not good for this page.`);
    else showUser(user);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    // The server cannot be reached: the feed keeps trying, and the page says so.
  }
}

function pause() {
  feed.close();
  trend.close();
  lost();
}

function askForToken(why = "") {
  feed.close();
  trend.close();
  connection.signedOut();
  loginForm.open(why);
}

/** Start listening, unless we have to sign in first. */
async function begin() {
  await identify();
  if (!loginForm.hidden) return;
  feed.open();
  trend.open();
}

function showUser({ user, role }) {
  loginForm.hidden = true;
  part("#who").textContent = user;
  part("#who").title = `${user}, ${role}`;
  drawer.showRole(role);
  document.body.classList.toggle("operator", mayOperate(role));
}

function powerEnded(id, { command, status, text }) {
  const what = `${id}: ${ACTION_NAMES[command.action].toLowerCase()} ${status}`;
  if (status === "done" || status === "cancelled") toasts.news(`${what}.`);
  else toasts.error(text ? `${what}: ${text}` : `${what}.`);
}

fleet.addEventListener("change", ({ detail }) => {
  if (fleet.loaded) for (const id of detail.added) fresh.add(id);
  table.update(detail.changed);
  summary.show((state) => fleet.count(state), view.states);
  showConnection();
  showCount();
  drawer.refresh();
  orders.heed(detail.changed);
  if (detail.removed.size > 0) reorder(); // at once: the table must not ask for a machine that is gone
  else if (view.disturbedBy(detail)) reorderSoon();
});

fleet.addEventListener("loaded", () => {
  showConnection();
  reorder();
  drawer.refresh();
  if (drawer.machineId !== null) table.select(drawer.machineId);
});

function reorderSoon() {
  if (reorderTimer !== null) return;
  const wait = reordered + REORDER_MS - performance.now();
  if (wait <= 0) reorder();
  else reorderTimer = setTimeout(reorder, wait);
}

function reorder() {
  clearTimeout(reorderTimer);
  reorderTimer = null;
  reordered = performance.now();
  view.rebuild();
  table.show(view.ids, fresh);
  fresh = new Set();
  showCount();
  table.say(...emptyMessage());
}

function showCount() {
  filter.showCount(view.ids.length, fleet.size);
}

function emptyMessage() {
  if (view.ids.length > 0) return [];
  if (!fleet.loaded) return [element("p", {}, "Loading machines…")];
  if (fleet.size === 0) {
    return [
      element("h2", {}, "No machines yet"),
      element("p", {}, "A machine appears here as soon as its monitor sends its first report."),
    ];
  }
  const clear = element("button", { type: "button" }, "Clear filters");
  clear.addEventListener("click", () => {
    filter.text = "";
    choose({ search: "", states: new Set() });
  });
  return [element("h2", {}, "No machine matches"), clear];
}

/** Someone wants to see something else: show it at once, and keep it in the address. */
function choose({ search = filter.text, states = view.states, sort = view.sort }) {
  view.search = search;
  view.states = states;
  view.sort = sort;
  table.scrollToTop();
  showChoice();
  keepAddress();
}

function showChoice() {
  table.showSort(view.sort);
  summary.show((state) => fleet.count(state), view.states);
  reorder();
}

function keepAddress({ newEntry = false } = {}) {
  const choice = { search: filter.text, states: view.states, sort: view.sort, hidden, machine: drawer.machineId };
  const address = formatAddress(choice);
  if (newEntry) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

function followAddress() {
  const choice = readAddress();
  filter.text = choice.search;
  view.search = choice.search;
  view.states = choice.states;
  view.sort = choice.sort;
  hideColumns(choice.hidden);
  showChoice();
  if (choice.machine === null) closeDrawer();
  else openDrawer(choice.machine);
}

function hideColumns(keys) {
  hidden = keys;
  table.hideColumns(keys);
  menu.show(table.shownColumns, hidden !== null);
}

function openDrawer(id, options) {
  drawer.open(id, options);
  document.body.classList.add("with-drawer");
  table.select(id);
}

function closeDrawer() {
  drawer.close();
  document.body.classList.remove("with-drawer");
  table.select(null);
}

table.addEventListener("sort-by", ({ detail }) => choose({ sort: sortedBy(view.sort, detail.key) }));
table.addEventListener("columns-change", () => menu.show(table.shownColumns, hidden !== null));
table.addEventListener("machine-open", ({ detail: { id, focus } }) => {
  const newEntry = drawer.machineId === null; // so that "back" closes it
  openDrawer(id, { focus });
  keepAddress({ newEntry });
});
table.addEventListener("machine-cycle", ({ detail: { id } }) => {
  const newEntry = drawer.machineId === null;
  openDrawer(id);
  keepAddress({ newEntry });
  drawer.askCycle();
});
drawer.addEventListener("machine-close", () => {
  closeDrawer();
  keepAddress();
  table.focus();
});
drawer.addEventListener("done", ({ detail: { text, machine } }) => {
  if (machine !== null) fleet.put(machine);
  toasts.news(text);
});
drawer.addEventListener("ordered", ({ detail: { id, record } }) => orders.add(id, record));
drawer.addEventListener("failed", ({ detail }) => toasts.error(detail.text));
filter.addEventListener("search", ({ detail }) => choose({ search: detail.text }));
summary.addEventListener("states", ({ detail }) => choose({ states: detail.states }));
menu.addEventListener("hide-columns", ({ detail }) => {
  hideColumns(detail.hidden);
  keepAddress();
});
loginForm.addEventListener("signed-in", begin);
whenSignedOut(() => askForToken());

addEventListener("popstate", followAddress);
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenTimer);
  if (document.visibilityState === "hidden") hiddenTimer = setTimeout(pause, HIDDEN_MS);
  else if (!feed.isOpen) begin();
});
addEventListener("online", begin);
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea");
  const slash = event.key === "/" && !typing && !event.ctrlKey && !event.metaKey;
  const oldShortcut = event.ctrlKey && event.shiftKey && event.key.toLowerCase() === "s";
  if (slash || oldShortcut) {
    event.preventDefault();
    filter.focus();
  } else if (event.key === "Escape" && drawer.machineId !== null && !typing && !part(":popover-open")) {
    drawer.dispatchEvent(new CustomEvent("machine-close"));
  }
});

setInterval(() => {
  table.tick();
  drawer.tick();
}, SECOND);

table.connect({ fleet, clock });
drawer.connect({ fleet, clock });
followAddress();
await begin();

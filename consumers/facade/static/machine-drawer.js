/**
 * Everything about one machine, kept up to date while it is open. Fires `machine-close`; lets the events of
 * `machine-actions` and `machine-power` through: `done`, `failed` and `ordered`.
 */
import "./machine-actions.js";
import "./machine-history.js";
import "./machine-power.js";
import { batteryText, stateReason } from "./columns.js";
import { element, icon, textWriter } from "./dom.js";
import { parseMaintenance } from "./machine.js";
import { age, duration, moment, parseTime } from "./time.js";

class MachineDrawer extends HTMLElement {
  #fleet;
  #clock;
  #id = null;
  #shown = null;
  #title = element("h2", { tabindex: -1, id: "drawer-title" });
  #states = element("p", { class: "states" });
  #annotation = element("p", { class: "annotation" });
  #note = element("div", { class: "note" });
  #facts = element("dl", { class: "facts" });
  #temperatures = element("table", { class: "pairs numbers" });
  #dimensions = element("table", { class: "pairs" });
  #sections = new Map();
  #actions = document.createElement("machine-actions");
  #power = document.createElement("machine-power");
  #history = document.createElement("machine-history");
  #gone = element("p", { class: "gone", role: "status", hidden: true }, "This machine is not in the lab: it has been deleted, or has never reported.");
  /** Texts that age, and what rewrites them. */
  #ageing = [];

  connect({ fleet, clock }) {
    this.#fleet = fleet;
    this.#clock = clock;
    this.#history.connect({ clock });
    this.setAttribute("role", "complementary");
    this.setAttribute("aria-labelledby", this.#title.id);
    const close = element("button", { type: "button", class: "icon-button", "aria-label": "Close details" }, icon("close"));
    close.addEventListener("click", () => this.#close());
    this.addEventListener("keydown", (event) => event.key === "Escape" && this.#close());
    for (const name of ["done", "failed", "ordered"]) {
      for (const part of [this.#actions, this.#power]) {
        part.addEventListener(name, ({ detail }) => this.dispatchEvent(new CustomEvent(name, { detail })));
      }
    }
    this.append(
      element("header", {}, element("div", {}, this.#title, this.#states), close),
      element(
        "div",
        { class: "body" },
        this.#gone,
        this.#annotation,
        this.#note,
        this.#actions,
        this.#section("Power", this.#power),
        this.#facts,
        this.#section("Temperatures, °C", this.#temperatures),
        this.#section("History", this.#history),
        this.#section("Dimensions", this.#dimensions),
      ),
    );
  }

  showRole(role) {
    this.#actions.showRole(role);
    this.#power.showRole(role);
  }

  /** Ask whether the power of the machine that is open shall be cycled. */
  askCycle() {
    this.#power.ask("cycle");
  }

  /** The machine that is open, or null. */
  get machineId() {
    return this.#id;
  }

  open(id, { focus = false } = {}) {
    this.hidden = false;
    if (id !== this.#id) {
      this.#id = id;
      this.#shown = null;
      this.querySelector(".body").scrollTop = 0;
      this.refresh();
    }
    if (focus) this.#title.focus();
  }

  close() {
    this.hidden = true;
    this.#id = null;
    this.#shown = null;
  }

  /** The machine may have changed. */
  refresh() {
    if (this.#id === null) return;
    const machine = this.#fleet.get(this.#id);
    this.#title.textContent = this.#id;
    this.classList.toggle("without-machine", !machine);
    this.#gone.hidden = Boolean(machine) || !this.#fleet.loaded;
    if (!machine) {
      this.#states.replaceChildren();
      this.#shown = null;
      return;
    }
    if (machine === this.#shown) return;
    const before = this.#shown;
    this.#shown = machine;
    this.#showStates(machine);
    this.#showTexts(machine, before);
    this.#showFacts(machine);
    this.#showPairs("Temperatures, °C", this.#temperatures, temperaturePairs, machine, before);
    this.#showPairs("Dimensions", this.#dimensions, dimensionPairs, machine, before);
    this.#actions.show(machine);
    this.#sections.get("Power").hidden = !this.#power.show(machine);
    if (happenings(machine) !== happenings(before)) this.#history.show(machine.id);
  }

  tick() {
    for (const write of this.#ageing) write();
  }

  #close() {
    this.dispatchEvent(new CustomEvent("machine-close"));
  }

  #section(title, content) {
    const section = element("section", {}, element("h3", {}, title), content);
    this.#sections.set(title, section);
    return section;
  }

  #showStates(machine) {
    const words = machine.states.map((state) => element("span", { class: "state", "data-state": state }, state));
    const reason = element("span", { class: "detail", dir: "auto" });
    const write = textWriter(reason);
    this.#ageing = [() => write(stateReason(machine, this.#clock.now()))];
    this.#ageing[0]();
    this.#states.replaceChildren(...words, reason);
  }

  #showTexts(machine, before) {
    const { Annotation: annotation, Note: note } = machine.description;
    const texts = ({ description }) => JSON.stringify([description.Annotation, description.Note]);
    if (before !== null && texts(machine) === texts(before)) return;
    this.#annotation.replaceChildren(...signed(annotation));
    this.#note.replaceChildren(...signed(note));
  }

  #showFacts(machine) {
    const { description } = machine;
    const maintenance = parseMaintenance(description.MaintenanceMode ?? "");
    this.#facts.replaceChildren();
    this.#fact("Device", [machine.deviceName, machine.deviceTypes, machine.deviceKind].filter(Boolean).join(" · "));
    this.#fact("Address", description.SSHUserIP);
    this.#fact("Pool", machine.pool);
    this.#fact("System", (description.Dimensions?.os ?? []).join(" | "));
    this.#fact("Task", machine.task);
    this.#fact("Battery", batteryText(machine.battery));
    this.#fact("Uptime", machine.uptime === null ? "" : duration(machine.uptime));
    this.#fact("Monitor", machine.monitorVersion);
    this.#factSince("Last seen", machine.lastSeen);
    this.#factSince("Down since", machine.downSince);
    this.#factSince("In maintenance since", maintenance.since, maintenance.user);
    this.#factSince("Recovering since", machine.states.includes("recovering") ? parseTime(description.RecoveryStart) : null);
    this.#factSince("Monitor started", parseTime(description.MonitorStart));
  }

  #fact(name, text) {
    if (text) this.#facts.append(element("div", {}, element("dt", {}, name), element("dd", { dir: "auto" }, text)));
  }

  #factSince(name, time, by = "") {
    if (time === null) return;
    const value = element("dd");
    const write = textWriter(value);
    const show = () => write(`${age(this.#clock.now() - time)} ago · ${moment(time)}${by ? ` · ${by}` : ""}`);
    show();
    this.#ageing.push(show);
    this.#facts.append(element("div", {}, element("dt", {}, name), value));
  }

  #showPairs(title, table, pairsOf, machine, before) {
    const pairs = pairsOf(machine);
    this.#sections.get(title).hidden = pairs.length === 0;
    if (before !== null && JSON.stringify(pairs) === JSON.stringify(pairsOf(before))) return;
    const rows = pairs.map(([name, text]) =>
      element("tr", {}, element("th", { scope: "row" }, name), element("td", { dir: "auto" }, text)),
    );
    table.replaceChildren(element("tbody", {}, ...rows));
  }
}

/** A message, and who said it when. */
function signed(annotation) {
  if (!annotation?.Message) return [];
  const time = parseTime(annotation.Timestamp);
  const when = time === null ? "" : ` · ${moment(time)}`;
  return [
    element("span", { class: "message-text", dir: "auto" }, annotation.Message),
    element("span", { class: "signature" }, `${annotation.User}${when}`),
  ];
}

function temperaturePairs(machine) {
  const sensors = Object.entries(machine.description.Temperature ?? {});
  return sensors.map(([sensor, degrees]) => [sensor, degrees.toFixed(1)]);
}

function dimensionPairs(machine) {
  const dimensions = Object.entries(machine.description.Dimensions ?? {});
  return dimensions.map(([key, values]) => [key, (values ?? []).join(" | ")]);
}

/** Differs when something happened that the history has a line for. */
function happenings(machine) {
  if (machine === null) return null;
  const { description } = machine;
  return JSON.stringify([
    machine.id,
    machine.states,
    description.MaintenanceMode,
    description.Recovering,
    description.AttachedDevice,
    description.PowerCycle,
    description.PowerCycleState,
    description.PowerAction,
    description.PowerStatus,
    description.Healing,
    description.Annotation,
    description.Note,
    description.Dimensions,
  ]);
}

customElements.define("machine-drawer", MachineDrawer);

/**
 * A machine's power: where it comes from, what has been done with it, and buttons to do something. Dangerous things ask
 * first; what the server refuses can be forced, where that helps, with its reason in sight.
 *
 * Fires `done` ({text, machine: null}), `failed` ({text}) and `ordered` ({id, record}).
 */
import { machinePath, mayOperate, Problem, request } from "./api.js";
import { AskForm } from "./ask-form.js";
import { button, element, icon } from "./dom.js";
import { ACTION_NAMES, COMMANDS_PATH, gaveUp, healingText, idempotencyKey, isTrouble, powerText, silenceText } from "./power.js";
import { spinner } from "./power-cell.js";
import { moment, parseTime, timeOfDay, withLocalTimes } from "./time.js";

const COMMANDS = 5;
const QUESTIONS = {
  cycle: (id) => `Cycle the power of ${id}? It goes off, and on again.`,
  on: (id) => `Switch the power of ${id} on?`,
  off: (id) => `Switch the power of ${id} off? It stays off until somebody switches it on.`,
};
const SUBMIT = { cycle: "Cycle power", on: "Switch on", off: "Switch off" };
/** Reasons that force does not help against. */
const FINAL = new Set(["no_controller"]);

class MachinePower extends HTMLElement {
  #machine = null;
  #role = "viewer";
  #shown = "";
  #record = null;
  #status = element("p", { class: "power-status", role: "status", tabindex: -1 });
  #cycle = button("Cycle…");
  #on = button("On…");
  #off = button("Off…");
  #cancel = button("Cancel command");
  #row = element("div", { class: "buttons" }, this.#cycle, this.#on, this.#off, this.#cancel);
  #form = new AskForm(() => this.#focus());
  #facts = element("dl", { class: "facts" });
  #commands = element("ol", { class: "commands" });
  #hint = element("p", { class: "hint" });
  /** Answers to questions about another machine, or asked before the last one, are dropped. */
  #asked = 0;

  connectedCallback() {
    for (const [control, action] of [[this.#cycle, "cycle"], [this.#on, "on"], [this.#off, "off"]]) {
      control.addEventListener("click", () => this.ask(action));
    }
    this.#cancel.addEventListener("click", () => this.#withdraw());
    this.replaceChildren(this.#status, this.#row, this.#form.element, this.#facts, this.#commands, this.#hint);
  }

  showRole(role) {
    this.#role = role;
    this.#allow();
  }

  /** Another machine, or the same one, changed. Says whether there is anything to show. */
  show(machine) {
    const { id, power, description } = machine;
    if (id !== this.#machine?.id) this.#begin();
    this.#machine = machine;
    this.#showStatus();
    this.#allow();
    const worth = power.able || power.action !== "" || Boolean(description.Healing);
    const shown = JSON.stringify([id, power, description.PowerCycleState, description.Healing]);
    if (worth && shown !== this.#shown) this.#load();
    this.#shown = shown;
    return worth;
  }

  /** Ask whether this shall really be done. */
  ask(action) {
    const { id, power } = this.#machine;
    if (!mayOperate(this.#role) || !power.able || power.pending) return;
    const key = idempotencyKey();
    this.#form.open({
      question: QUESTIONS[action](id),
      label: "Why? (optional)",
      submit: SUBMIT[action],
      danger: action !== "on",
      act: (why) => this.#order({ action, why }, key),
    });
  }

  #begin() {
    this.#form.close();
    this.#record = null;
    this.#facts.replaceChildren();
    this.#commands.replaceChildren();
    this.#hint.textContent = "";
  }

  #allow() {
    if (this.#machine === null) return;
    const may = mayOperate(this.#role);
    const { able, pending, status } = this.#machine.power;
    const focused = document.activeElement;
    for (const control of [this.#cycle, this.#on, this.#off]) {
      control.hidden = !able;
      control.disabled = !may || pending;
    }
    this.#cancel.hidden = status !== "queued";
    this.#cancel.disabled = !may;
    if (focused?.parentElement === this.#row && (focused.disabled || focused.hidden)) this.#focus();
  }

  /** The keyboard never stays on what cannot be pressed. */
  #focus() {
    const controls = [this.#cycle, this.#cancel].filter(({ disabled, hidden }) => !disabled && !hidden);
    (controls[0] ?? this.#status).focus();
  }

  #showStatus() {
    const { power, description } = this.#machine;
    const { action, status, pending, trouble, inError } = power;
    const matches = this.#record?.command.action === action && this.#record?.status === status;
    const text = [powerText(power), matches ? withLocalTimes(this.#record.text) : ""].filter(Boolean).join(": ");
    const key = JSON.stringify([text, pending, inError, description.Healing]);
    if (this.#status.dataset.key === key) return; // what is read aloud must not be written again
    this.#status.dataset.key = key;
    this.#status.replaceChildren(
      ...(text ? [element("span", { "data-level": trouble ? "bad" : null, dir: "auto" }, ...(pending ? [spinner()] : []), text)] : []),
      ...(inError ? [element("span", { "data-level": "warn" }, icon("warning"), "The controller does not answer")] : []),
      ...(description.Healing
        ? [element("span", { class: "healing", "data-level": gaveUp(description) ? "bad" : null, dir: "auto" }, healingText(description))]
        : []),
    );
  }

  async #order(wish, key) {
    const { id } = this.#machine;
    try {
      const headers = { "Idempotency-Key": key };
      const record = await request("PUT", machinePath(id, "power"), wish, headers);
      const given = record.command.action === wish.action;
      const text = given
        ? `${id}: ${ACTION_NAMES[wish.action].toLowerCase()} is ${record.status}.`
        : `${id}: another command is ${record.status}: ${ACTION_NAMES[record.command.action].toLowerCase()}.`;
      this.#fire("done", { text, machine: null });
      this.#fire("ordered", { id, record });
      if (id === this.#machine.id) this.#load();
      return true;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (id === this.#machine.id && problem.reason && !wish.force && !FINAL.has(problem.reason)) {
        this.#askForce(wish, problem.message);
      } else {
        this.#fire("failed", { text: problem.message });
      }
      return false;
    }
  }

  #askForce(wish, refused) {
    const key = idempotencyKey();
    this.#form.open({
      question: refused,
      submit: `Force: ${SUBMIT[wish.action].toLowerCase()}`,
      danger: true,
      act: () => this.#order({ ...wish, force: true }, key),
    });
  }

  async #withdraw() {
    const { id } = this.#machine;
    try {
      await request("DELETE", machinePath(id, "power"));
      this.#fire("done", { text: `${id}: the command is withdrawn.`, machine: null });
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.#fire("failed", { text: problem.message });
    }
  }

  async #load() {
    this.#asked += 1;
    const asked = this.#asked;
    const { id } = this.#machine;
    const query = new URLSearchParams({ machine: id, limit: COMMANDS });
    try {
      const [now, { commands }] = await Promise.all([
        request("GET", machinePath(id, "power")),
        request("GET", `${COMMANDS_PATH}?${query}`),
      ]);
      if (asked !== this.#asked || id !== this.#machine.id) return;
      this.#record = now.record;
      this.#showStatus();
      this.#showOutlet(now);
      this.#commands.replaceChildren(...commands.map(lineOf));
      this.#hint.textContent = "";
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (asked === this.#asked) this.#hint.textContent = `What was done could not be read. ${problem.message}`;
    }
  }

  #showOutlet(now) {
    const { outlet } = now;
    const silence = silenceText(now);
    const facts = outlet === null ? [] : [
      ["Controller", outlet.controller],
      ["Port", outlet.port],
      ["Agent", outlet.agent],
      ["Trouble", withLocalTimes(outlet.text)],
      ["Away", silence, "warn"],
    ];
    const shown = facts.filter(([, text]) => text);
    this.#facts.replaceChildren(
      ...shown.map(([name, text, level = null]) =>
        element("div", {}, element("dt", {}, name), element("dd", { dir: "auto", "data-level": level }, text)),
      ),
    );
  }

  #fire(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** A command: what became of it, who wished it and why, and when it was how far. */
function lineOf({ command, status, steps, text, agent }) {
  const why = withLocalTimes([command.why, text].filter(Boolean).join(" · "));
  return element(
    "li",
    {},
    element("span", { class: "kind" }, ACTION_NAMES[command.action] ?? command.action),
    element("span", { class: "outcome", "data-level": isTrouble(status) ? "bad" : null }, status),
    element("span", { class: "who" }, [command.who, agent].filter(Boolean).join(" → ")),
    element("p", { class: "steps" }, ...steps.flatMap(stepOf)),
    ...(why ? [element("p", { class: "why", dir: "auto" }, why)] : []),
  );
}

function stepOf({ status, at }, index) {
  const time = parseTime(at);
  const attributes = { datetime: at, title: time === null ? "" : moment(time) };
  const shown = element("time", attributes, time === null ? "" : timeOfDay(time));
  return [...(index > 0 ? [" → "] : []), `${status} `, shown];
}

customElements.define("machine-power", MachinePower);

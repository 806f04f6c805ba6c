/** The table's cell for power: a button to cycle it, or how far a command is. What went wrong is asked for under the pointer. */
import { machinePath, Problem, request } from "./api.js";
import { element, icon } from "./dom.js";
import { powerText, silenceText } from "./power.js";
import { withLocalTimes } from "./time.js";

export function bindPower(cell) {
  let shown = "";
  let machine = null;
  cell.addEventListener("pointerenter", () => explain(cell, machine));
  return (current) => {
    machine = current;
    const key = JSON.stringify([machine.id, machine.power]);
    if (key === shown) return false;
    shown = key;
    cell.title = titleOf(machine.power);
    cell.replaceChildren(...contentOf(machine));
    return true;
  };
}

function contentOf({ id, power }) {
  if (power.pending) {
    return [spinner(), element("span", { class: "main" }, power.status)];
  }
  const parts = [];
  if (power.able) {
    const label = { "aria-label": `Cycle power of ${id}` };
    parts.push(element("button", { type: "button", class: "cycle", tabindex: "-1", ...label }, "Cycle"));
  }
  if (power.off) parts.push(element("span", { class: "detail switched-off" }, "off"));
  if (power.trouble) parts.push(sign("bad", powerText(power)));
  else if (power.inError) parts.push(sign("warn", "Its controller does not answer"));
  return parts;
}

function sign(level, label) {
  return element("span", { class: "sign", "data-level": level, role: "img", "aria-label": label }, icon("warning"));
}

export function spinner() {
  return element("span", { class: "spinner", "aria-hidden": "true" });
}

function titleOf(power) {
  const controller = power.inError ? "The power controller does not answer." : "";
  return [powerText(power), controller].filter(Boolean).join(" · ");
}

/** Add the reason to the title, as long as the cell shows the same machine. Also of an agent that does not begin. */
async function explain(cell, machine) {
  if (machine === null || !(machine.power.inError || machine.power.trouble || machine.power.pending)) return;
  const title = cell.title;
  try {
    const now = await request("GET", machinePath(machine.id, "power"));
    if (cell.title !== title) return;
    const reasons = [
      machine.power.trouble ? now.record?.text : "",
      machine.power.inError ? now.outlet?.text : "",
      silenceText(now),
    ];
    cell.title = withLocalTimes([titleOf(machine.power), ...reasons].filter(Boolean).join(" · "));
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem; // the title says less, then
  }
}

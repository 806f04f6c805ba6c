/** One row of the table, bound to one machine at a time. Rows that scroll out of sight are used again for others. */
import { element } from "./dom.js";

const FLASH = [{ backgroundColor: "var(--flash)" }, { backgroundColor: "transparent" }];
const FLASH_MS = 1500;
const stillness = matchMedia("(prefers-reduced-motion: reduce)");

/** Machine ids hold nothing that an element's id could not. */
export function rowId(machineId) {
  return `machine-${machineId}`;
}

export function cellClass(column) {
  return [`column-${column.key}`, column.numeric ? "numeric" : ""].filter(Boolean).join(" ");
}

export class MachineRow {
  element = element("tr", { class: "machine" });
  machineId = "";
  #cells;
  #flashes = [];

  constructor(columns) {
    this.#cells = columns.map((column) => {
      const cell = element("td", { class: cellClass(column) });
      this.element.append(cell);
      return { column, cell, show: column.bind(cell) };
    });
  }

  /** Become the row of another machine. */
  bind(machine, now) {
    for (const animation of this.#flashes.splice(0)) animation.cancel();
    this.machineId = machine.id;
    this.element.id = rowId(machine.id);
    for (const { show } of this.#cells) show(machine, now);
  }

  /** Show the same machine's new state. What a person would call news flashes, the figures of a heartbeat do not. */
  update(machine, now) {
    for (const { column, cell, show } of this.#cells) if (show(machine, now) && !column.quiet) this.#flash(cell);
  }

  /** A second has passed. */
  tick(machine, now) {
    for (const { column, show } of this.#cells) if (column.ticks) show(machine, now);
  }

  /** This machine has just come. */
  welcome() {
    for (const { cell } of this.#cells) this.#flash(cell);
  }

  place(index, { active, selected }) {
    this.element.setAttribute("aria-rowindex", index + 2); // they count from 1, and the header is the first
    this.element.classList.toggle("active", active);
    this.element.setAttribute("aria-selected", selected);
  }

  #flash(cell) {
    if (stillness.matches) return;
    const animation = cell.animate(FLASH, { duration: FLASH_MS, easing: "ease-out" });
    this.#flashes.push(animation);
    animation.onfinish = () => this.#flashes.splice(this.#flashes.indexOf(animation), 1);
  }
}

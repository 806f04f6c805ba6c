/**
 * The live table. Only the rows in sight, and some above and below, are in the page, however many machines there are; two
 * spacers stand for the rest. It is one stop for the Tab key: the arrow keys move between rows, Enter opens one,
 * and C asks whether its power shall be cycled.
 *
 * Fires `sort-by` ({key}), `machine-open` ({id, focus: whether the keyboard should follow}) and `machine-cycle` ({id}).
 */
import { COLUMNS, fittingColumns, widthsOf } from "./columns.js";
import { element } from "./dom.js";
import { cellClass, MachineRow, rowId } from "./machine-row.js";

const OVERSCAN = 10;

class MachineTable extends HTMLElement {
  #fleet;
  #clock;

  #heading = element("tr", { "aria-rowindex": 1 });
  #widths = element("colgroup");
  #above = element("td");
  #below = element("td");
  #body = element("tbody");
  #table = element("table", { role: "grid", "aria-label": "Machines", tabindex: 0 });
  #message = element("div", { class: "message", role: "status" });
  #viewport = element("div", { class: "viewport" });

  #ids = [];
  #indexes = new Map();
  #columns = [];
  #hidden = null;
  #sort = [];
  /** machine id → its row, of those that are in the page */
  #rows = new Map();
  #spare = [];
  #active = null;
  #selected = null;
  #size = { width: 0, height: 0, heading: 0, row: 1 };
  #drawing = false;

  /** Once, before anything else. */
  connect({ fleet, clock }) {
    this.#fleet = fleet;
    this.#clock = clock;
    this.#table.append(
      this.#widths,
      element("thead", {}, this.#heading),
      spacer(this.#above),
      this.#body,
      spacer(this.#below),
    );
    this.#viewport.append(this.#table, this.#message);
    this.replaceChildren(this.#viewport);
    this.#viewport.addEventListener("scroll", () => this.#drawSoon(), { passive: true });
    this.#table.addEventListener("keydown", (event) => this.#pressed(event));
    this.#body.addEventListener("click", (event) => this.#clicked(event));
    new ResizeObserver(() => this.#resized()).observe(this.#viewport);
    this.#resized();
  }

  /** These machines, in this order. Those in `fresh` have just come. */
  show(ids, fresh = new Set()) {
    this.#ids = ids;
    this.#indexes = new Map(ids.map((id, index) => [id, index]));
    this.#table.setAttribute("aria-rowcount", ids.length + 1);
    if (!this.#indexes.has(this.#active)) this.#active = null;
    this.#draw(fresh);
  }

  /** These machines have changed, and stay where they are. */
  update(ids) {
    const now = this.#clock.now();
    for (const id of ids) {
      const machine = this.#fleet.get(id);
      if (machine) this.#rows.get(id)?.update(machine, now);
    }
  }

  /** A second has passed. */
  tick() {
    const now = this.#clock.now();
    for (const [id, row] of this.#rows) {
      const machine = this.#fleet.get(id);
      if (machine) row.tick(machine, now);
    }
  }

  showSort(sort) {
    this.#sort = sort;
    this.#markSort();
  }

  /** Keys of the columns to hide; null: show those that fit. */
  hideColumns(hidden) {
    this.#hidden = hidden;
    this.#resized();
  }

  /** Mark the machine whose details are open; null: none. */
  select(id) {
    this.#selected = id;
    if (id !== null && this.#indexes.has(id)) this.#activate(id);
    this.#draw();
  }

  /** What to say where there are no rows: some nodes, or none. */
  say(...nodes) {
    this.#message.replaceChildren(...nodes);
  }

  focus(options) {
    this.#table.focus({ preventScroll: true, ...options });
  }

  scrollToTop() {
    this.#viewport.scrollTop = 0;
  }

  get shownColumns() {
    return this.#columns;
  }

  #resized() {
    const width = this.#viewport.clientWidth;
    const row = Number.parseFloat(getComputedStyle(this).getPropertyValue("--row-height"));
    const columns = this.#chooseColumns(width);
    const rebuilt = columns.map(({ key }) => key).join() !== this.#columns.map(({ key }) => key).join();
    if (rebuilt) this.#rebuild(columns);
    this.#setWidths(width);
    this.#size = { width, height: this.#viewport.clientHeight, heading: this.#heading.offsetHeight, row };
    this.#draw();
  }

  #chooseColumns(width) {
    if (this.#hidden === null) return fittingColumns(width);
    return COLUMNS.filter(({ key }) => !this.#hidden.has(key));
  }

  #rebuild(columns) {
    this.#columns = columns;
    this.#rows.clear();
    this.#spare = [];
    this.#body.replaceChildren();
    this.#heading.replaceChildren(...columns.map((column) => this.#headingOf(column)));
    for (const cell of [this.#above, this.#below]) cell.colSpan = columns.length;
    this.#markSort();
    this.dispatchEvent(new CustomEvent("columns-change"));
  }

  #setWidths(available) {
    const widths = widthsOf(this.#columns, available);
    this.#widths.replaceChildren(...widths.map(columnOf));
    this.#table.style.width = `${widths.reduce((sum, width) => sum + width, 0)}px`;
  }

  #headingOf(column) {
    const button = element("button", { type: "button", title: column.hint ?? null }, column.title);
    button.addEventListener("click", () => this.#fire("sort-by", { key: column.key }));
    return element("th", { scope: "col", class: cellClass(column), "data-key": column.key }, button);
  }

  #markSort() {
    const [first] = this.#sort;
    for (const heading of this.#heading.children) {
      if (heading.dataset.key === first?.key) {
        heading.setAttribute("aria-sort", first.descending ? "descending" : "ascending");
      } else {
        heading.removeAttribute("aria-sort");
      }
    }
  }

  #drawSoon() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#draw();
    });
  }

  /** Bring the rows in the page into line with what is in sight. */
  #draw(fresh = new Set()) {
    const { height, row } = this.#size;
    const count = this.#ids.length;
    const top = Math.min(this.#viewport.scrollTop, Math.max(0, count * row - 1));
    const first = Math.max(0, Math.floor(top / row) - OVERSCAN);
    const last = Math.min(count, Math.ceil((top + height) / row) + OVERSCAN);
    const wanted = this.#ids.slice(first, last);
    this.#retire(new Set(wanted));
    this.#fill(wanted, first, fresh);
    this.#above.style.height = `${first * row}px`;
    this.#below.style.height = `${(count - last) * row}px`;
    this.#pointToActive();
  }

  #retire(wanted) {
    for (const [id, row] of this.#rows) {
      if (wanted.has(id)) continue;
      row.element.remove();
      this.#rows.delete(id);
      this.#spare.push(row);
    }
  }

  #fill(wanted, first, fresh) {
    const now = this.#clock.now();
    let next = this.#body.firstChild;
    wanted.forEach((id, offset) => {
      const row = this.#rows.get(id) ?? this.#take(id, now);
      if (row.element === next) next = next.nextSibling;
      else this.#body.insertBefore(row.element, next);
      row.place(first + offset, { active: id === this.#active, selected: id === this.#selected });
      if (fresh.has(id)) row.welcome();
    });
  }

  #take(id, now) {
    const row = this.#spare.pop() ?? new MachineRow(this.#columns);
    row.bind(this.#fleet.get(id), now);
    this.#rows.set(id, row);
    return row;
  }

  /** The keyboard stays on the table itself; this tells assistive technology which row it is on. */
  #pointToActive() {
    if (this.#rows.has(this.#active)) this.#table.setAttribute("aria-activedescendant", rowId(this.#active));
    else this.#table.removeAttribute("aria-activedescendant");
  }

  #pressed(event) {
    if (event.target !== this.#table || event.altKey || event.metaKey) return;
    const page = Math.max(1, Math.floor((this.#size.height - this.#size.heading) / this.#size.row) - 1);
    const at = this.#indexes.get(this.#active) ?? -1;
    const targets = {
      ArrowDown: at + 1,
      ArrowUp: Math.max(at - 1, 0),
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: this.#ids.length - 1,
    };
    if (event.key in targets) this.#move(targets[event.key]);
    else if (event.key === "Enter" && this.#active !== null) this.#open(this.#active, { focus: true });
    else if (event.key === "c" && !event.ctrlKey && this.#active !== null) this.#fire("machine-cycle", { id: this.#active });
    else return;
    event.preventDefault();
  }

  #move(index) {
    if (this.#ids.length === 0) return;
    const id = this.#ids[Math.min(Math.max(index, 0), this.#ids.length - 1)];
    this.#activate(id);
    this.#draw();
    if (this.#selected !== null && this.#selected !== id) this.#open(id, { focus: false });
  }

  /** Make a machine's row the active one, and bring it into sight. */
  #activate(id) {
    this.#active = id;
    const { height, heading, row } = this.#size;
    const top = this.#indexes.get(id) * row;
    const seen = this.#viewport.scrollTop;
    if (top < seen) this.#viewport.scrollTop = top;
    else if (top + row > seen + height - heading) this.#viewport.scrollTop = top + row - height + heading;
  }

  #clicked(event) {
    const opensElsewhere = event.ctrlKey || event.metaKey || event.shiftKey;
    const row = event.target.closest("tr.machine");
    if (!row || opensElsewhere || !getSelection().isCollapsed) return;
    event.preventDefault(); // the link in the row would load the page anew
    const id = this.#ids[row.getAttribute("aria-rowindex") - 2];
    if (event.target.closest("button.cycle")) {
      this.#active = id;
      this.#fire("machine-cycle", { id });
      return;
    }
    this.#open(id, { focus: false });
    this.focus();
  }

  #open(id, { focus }) {
    this.#active = id;
    this.#fire("machine-open", { id, focus });
  }

  #fire(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function columnOf(width) {
  const column = element("col");
  column.style.width = `${width}px`;
  return column;
}

function spacer(cell) {
  return element("tbody", { class: "spacer", "aria-hidden": "true" }, element("tr", {}, cell));
}

customElements.define("machine-table", MachineTable);

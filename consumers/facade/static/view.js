/** Which machines are shown, and in which order. Pure: it knows the fleet's machines, but neither page nor time. */
import { COLUMNS_BY_KEY } from "./columns.js";
import { searchText } from "./machine.js";

/** A sort is a list of `{key, descending}`: later ones break the ties of earlier ones. */
export const DEFAULT_SORT = [{ key: "machine", descending: false }];
const SORT_DEPTH = 3;

/** Words of a search, in lower case. */
export function wordsOf(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean);
}

/** Whether every word occurs in the machine. */
export function matches(machine, words) {
  const text = words.length > 0 ? searchText(machine) : "";
  return words.every((word) => text.includes(word));
}

/** The sort after a click on a column: it comes first, or, where it was first already, turns round. */
export function sortedBy(sort, key) {
  const turned = sort[0].key === key;
  const first = { key, descending: turned ? !sort[0].descending : false };
  return [first, ...sort.filter((one) => one.key !== key)].slice(0, SORT_DEPTH);
}

/** `machine` or `-battery,state`. */
export function formatSort(sort) {
  return sort.map(({ key, descending }) => (descending ? "-" : "") + key).join(",");
}

/** The other way round; what names an unknown column, or nothing, is the default. */
export function parseSort(text) {
  const sort = (text ?? "")
    .split(",")
    .filter(Boolean)
    .map((part) => ({ key: part.replace(/^-/, ""), descending: part.startsWith("-") }));
  const known = sort.length > 0 && sort.every(({ key }) => COLUMNS_BY_KEY.get(key)?.sortKey);
  return known ? sort.slice(0, SORT_DEPTH) : DEFAULT_SORT;
}

/** Compares two machines. Blanks come last whichever way a column is sorted; the id decides between equals. */
export function comparator(sort) {
  const steps = sort.map(({ key, descending }) => ({
    keyOf: COLUMNS_BY_KEY.get(key).sortKey,
    sign: descending ? -1 : 1,
  }));
  return (a, b) => {
    for (const { keyOf, sign } of steps) {
      const order = compareKeys(keyOf(a), keyOf(b), sign);
      if (order !== 0) return order;
    }
    return compareKeys(a.idKey, b.idKey, 1) || compareKeys(a.id, b.id, 1);
  };
}

function compareKeys(a, b, sign) {
  const blank = isBlank(a) - isBlank(b);
  if (blank !== 0 || isBlank(a)) return blank;
  if (a === b) return 0;
  return a < b ? -sign : sign;
}

function isBlank(key) {
  return Number(key === null || key === "" || Number.isNaN(key));
}

/** The ids that are shown, kept up to date with little work: most changes move no row. */
export class View {
  ids = [];
  /** Empty: all states. */
  states = new Set();
  #fleet;
  #words = [];
  #sort = DEFAULT_SORT;
  #compare = comparator(DEFAULT_SORT);
  /** id → the machine as it was when its row was put in its place */
  #placed = new Map();

  constructor(fleet) {
    this.#fleet = fleet;
  }

  get sort() {
    return this.#sort;
  }

  set sort(sort) {
    this.#sort = sort;
    this.#compare = comparator(sort);
  }

  get words() {
    return this.#words;
  }

  set search(text) {
    this.#words = wordsOf(text);
  }

  get filtered() {
    return this.#words.length > 0 || this.states.size > 0;
  }

  /** Whether these changes add, remove or move a row. */
  disturbedBy({ changed, added, removed }) {
    for (const id of added) if (this.#shows(this.#fleet.get(id))) return true;
    for (const id of removed) if (this.#placed.has(id)) return true;
    for (const id of changed) if (this.#moves(id)) return true;
    return false;
  }

  /** Choose and sort anew. */
  rebuild() {
    const kept = this.ids.filter((id) => this.#fleet.get(id));
    const known = new Set(kept);
    for (const id of this.#fleet.ids()) if (!known.has(id)) kept.push(id);
    const shown = kept.map((id) => this.#fleet.get(id)).filter((machine) => this.#shows(machine));
    shown.sort(this.#compare); // nearly sorted already, which the engine's sort is quick with
    this.#placed = new Map(shown.map((machine) => [machine.id, machine]));
    this.ids = [...this.#placed.keys()];
  }

  #shows(machine) {
    if (!machine) return false;
    return (this.states.size === 0 || this.states.has(machine.state)) && matches(machine, this.#words);
  }

  #moves(id) {
    const before = this.#placed.get(id);
    const now = this.#fleet.get(id);
    if (!now) return before !== undefined;
    if (this.#shows(now) !== (before !== undefined)) return true;
    return before !== undefined && this.#compare(before, now) !== 0;
  }
}

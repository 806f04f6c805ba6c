/** What the page's address keeps: search, states, sort, hidden columns, and the machine that is open. Only what differs from the default. */
import { COLUMNS_BY_KEY } from "./columns.js";
import { STATES } from "./machine.js";
import { DEFAULT_SORT, formatSort, parseSort } from "./view.js";

export function readAddress(query = location.search) {
  const parameters = new URLSearchParams(query);
  return {
    search: parameters.get("search") ?? "",
    states: new Set(listOf(parameters.get("state")).filter((state) => STATES.includes(state))),
    sort: parseSort(parameters.get("sort")),
    hidden: hiddenColumns(parameters),
    machine: parameters.get("machine") || null,
  };
}

export function formatAddress({ search, states, sort, hidden, machine }) {
  const parameters = new URLSearchParams();
  if (search !== "") parameters.set("search", search);
  if (states.size > 0) parameters.set("state", STATES.filter((state) => states.has(state)).join(","));
  if (formatSort(sort) !== formatSort(DEFAULT_SORT)) parameters.set("sort", formatSort(sort));
  if (hidden !== null) parameters.set("hidden", [...hidden].join(","));
  if (machine !== null) parameters.set("machine", machine);
  const query = parameters.toString().replaceAll("%2C", ",");
  return query === "" ? location.pathname : `?${query}`;
}

/** Null: nobody has chosen, so the columns that fit are shown. */
function hiddenColumns(parameters) {
  if (!parameters.has("hidden")) return null;
  return new Set(listOf(parameters.get("hidden")).filter((key) => COLUMNS_BY_KEY.has(key)));
}

function listOf(text) {
  return (text ?? "").split(",").filter(Boolean);
}

/**
 * The columns of the table: title, width in pixels, what they sort by, and how a cell shows a machine.
 *
 * `bind(cell)` builds a cell once and returns `show(machine, now)`, which writes what has changed and says whether anything
 * did. Columns that `tick` are shown again every second; those that are `quiet` change with every heartbeat, and do not flash.
 */
import { attributeWriter, element, textWriter } from "./dom.js";
import { naturalKey, shortUser, STATES } from "./machine.js";
import { healingText, powerRank } from "./power.js";
import { bindPower } from "./power-cell.js";
import { age, duration, HOUR, moment, SECOND } from "./time.js";

const LOW_BATTERY = 30;
const HOT = 35;
/** A monitor reports every 30 seconds. */
const STALE_AFTER = 60 * SECOND;
/** Devices are meant to reboot once a day. */
const LONG_UPTIME = 25 * HOUR;

const textKey = (of) => (machine) => naturalKey(of(machine));

export const COLUMNS = [
  {
    key: "machine",
    title: "Machine",
    width: 204,
    narrow: 170,
    priority: 0,
    sortKey: (machine) => machine.idKey,
    bind: bindMachine,
  },
  {
    key: "state",
    title: "State",
    width: 256,
    narrow: 140,
    grows: 1,
    priority: 1,
    ticks: true,
    sortKey: (machine) => STATES.indexOf(machine.state),
    bind: bindState,
  },
  {
    key: "device",
    title: "Device",
    width: 184,
    priority: 3,
    sortKey: textKey((machine) => machine.deviceName || machine.deviceKind),
    bind: (cell) => bindPair(cell, (machine) => [machine.deviceName || machine.deviceKind, deviceDetail(machine)]),
  },
  {
    key: "attached",
    title: "Attached",
    width: 82,
    priority: 11,
    sortKey: textKey((machine) => machine.attached),
    bind: (cell) => bindText(cell, (machine) => machine.attached),
  },
  {
    key: "task",
    title: "Task",
    width: 80,
    priority: 9,
    sortKey: textKey((machine) => machine.task),
    bind: (cell) => bindText(cell, (machine) => machine.task, { titled: true }),
  },
  {
    key: "power",
    title: "Power",
    hint: "Cycle a machine's power (key C), or see how far that is",
    width: 100,
    priority: 4,
    sortKey: (machine) => powerRank(machine.power),
    bind: bindPower,
  },
  {
    key: "battery",
    title: "Battery",
    width: 74,
    priority: 6,
    numeric: true,
    quiet: true,
    sortKey: (machine) => machine.battery,
    bind: bindBattery,
  },
  {
    key: "temperature",
    title: "Temp °C",
    hint: "Average and maximum of all sensors, in degrees Celsius",
    width: 102,
    priority: 7,
    numeric: true,
    quiet: true,
    sortKey: (machine) => machine.temperatureMaximum,
    bind: bindTemperature,
  },
  {
    key: "lastSeen",
    title: "Last seen",
    width: 86,
    narrow: 62,
    priority: 2,
    numeric: true,
    quiet: true,
    ticks: true,
    sortKey: (machine) => (machine.lastSeen === null ? null : -machine.lastSeen),
    bind: bindLastSeen,
  },
  {
    key: "uptime",
    title: "Uptime",
    width: 76,
    priority: 10,
    numeric: true,
    quiet: true,
    sortKey: (machine) => machine.uptime,
    bind: bindUptime,
  },
  {
    key: "pool",
    title: "Pool / OS",
    width: 146,
    priority: 8,
    sortKey: textKey((machine) => `${machine.pool} ${machine.os}`.trim()),
    bind: (cell) => bindPair(cell, (machine) => [machine.pool, machine.os]),
  },
  {
    key: "version",
    title: "Version",
    width: 120,
    priority: 12,
    sortKey: textKey((machine) => machine.monitorVersion),
    bind: (cell) => bindText(cell, (machine) => machine.monitorVersion, { titled: true }),
  },
  {
    key: "note",
    title: "Note",
    width: 150,
    grows: 2,
    priority: 5,
    sortKey: textKey((machine) => machine.note),
    bind: bindNote,
  },
];

export const COLUMNS_BY_KEY = new Map(COLUMNS.map((column) => [column.key, column]));

/** Narrower than this, columns start from their narrow widths: a phone held upright. */
const NARROW = 560;

function leastWidth(column, available) {
  return available < NARROW ? (column.narrow ?? column.width) : column.width;
}

/** Widths of these columns in `available` pixels. What is left over goes to those that can grow, by their shares. */
export function widthsOf(columns, available) {
  const least = columns.map((column) => leastWidth(column, available));
  const spare = Math.max(0, available - least.reduce((sum, width) => sum + width, 0));
  const shares = columns.reduce((sum, { grows = 0 }) => sum + grows, 0);
  return columns.map(({ grows = 0 }, index) => least[index] + (grows && (spare * grows) / shares));
}

/** The columns that fit into `available` pixels, the most important first to be chosen; in display order. */
export function fittingColumns(available) {
  let left = available;
  const fitting = new Set();
  for (const column of COLUMNS.toSorted((a, b) => a.priority - b.priority)) {
    left -= leastWidth(column, available);
    if (left < 0 && column.priority > 1) break;
    fitting.add(column);
  }
  return COLUMNS.filter((column) => fitting.has(column));
}

function deviceDetail(machine) {
  const kind = machine.deviceName ? machine.deviceKind : "";
  return [machine.deviceTypes, kind].filter(Boolean).join(" · ");
}

function bindText(cell, textOf, { titled = false } = {}) {
  const write = textWriter(cell);
  const title = attributeWriter(cell, "title");
  return (machine) => {
    const text = textOf(machine);
    if (titled) title(text);
    return write(text);
  };
}

function bindPair(cell, textsOf) {
  const main = element("span", { class: "main" });
  const detail = element("span", { class: "detail" });
  cell.append(main, detail);
  const [writeMain, writeDetail, title] = [textWriter(main), textWriter(detail), attributeWriter(cell, "title")];
  return (machine) => {
    const [first, second] = textsOf(machine);
    title([first, second].filter(Boolean).join(" · "));
    const changed = writeMain(first);
    return writeDetail(second) || changed;
  };
}

function bindMachine(cell) {
  // The whole row can be clicked and the table has keys of its own; the link is there to be copied or opened elsewhere.
  const link = element("a", { tabindex: "-1" });
  cell.append(link);
  const write = textWriter(link);
  return (machine) => {
    if (!write(machine.id)) return false;
    link.href = `?machine=${encodeURIComponent(machine.id)}`;
    link.title = machine.id;
    return true;
  };
}

function bindState(cell) {
  const word = element("span", { class: "state" });
  const badge = element("span", { class: "badge" });
  const power = element("span", { class: "badge power-badge" });
  const reason = element("span", { class: "detail", dir: "auto" });
  cell.append(word, badge, power, reason);
  const [writeBadge, writePower] = [textWriter(badge), textWriter(power)];
  const powerLevel = attributeWriter(power, "data-level");
  const [writeWord, writeReason] = [textWriter(word), textWriter(reason)];
  const [dataState, title] = [attributeWriter(word, "data-state"), attributeWriter(cell, "title")];
  return (machine, now) => {
    const text = stateReason(machine, now);
    dataState(machine.state);
    title([text, healingText({ Healing: machine.healing })].filter(Boolean).join(" · "));
    const { pending, trouble, off, status } = machine.power; // in sight where there is no room for the column
    powerLevel(trouble ? "bad" : "");
    writePower(pending || trouble ? status : off ? "off" : "");
    const changed = writeWord(machine.state);
    writeReason(text);
    return writeBadge(machine.gaveUp ? "gave up" : "") || changed;
  };
}

/** Why, and for a silent machine for how long; then what else holds. */
export function stateReason(machine, now) {
  const silence = machine.downSince === null ? "" : `silent for ${age(now - machine.downSince)}`;
  return [silence, machine.reason].filter(Boolean).join(" · ");
}

function bindBattery(cell) {
  const [write, level] = [textWriter(cell), attributeWriter(cell, "data-level")];
  return (machine) => {
    const { battery } = machine;
    level(battery !== null && battery < LOW_BATTERY ? "warn" : "");
    return write(batteryText(battery));
  };
}

export function batteryText(battery) {
  if (battery === null) return "";
  return Number.isNaN(battery) ? "unknown" : `${battery}%`;
}

function bindTemperature(cell) {
  const average = element("span");
  const maximum = element("span", { class: "maximum" });
  cell.append(average, maximum);
  const [writeAverage, writeMaximum] = [textWriter(average), textWriter(maximum)];
  const level = attributeWriter(maximum, "data-level");
  return (machine) => {
    const { temperatureAverage, temperatureMaximum } = machine;
    level(temperatureMaximum !== null && temperatureMaximum > HOT ? "warn" : "");
    writeMaximum(temperatureMaximum === null ? "" : temperatureMaximum.toFixed(1));
    return writeAverage(temperatureAverage === null ? "" : `${temperatureAverage.toFixed(1)} / `);
  };
}

function bindLastSeen(cell) {
  const [write, level, title] = [textWriter(cell), attributeWriter(cell, "data-level"), attributeWriter(cell, "title")];
  let titled = null;
  return (machine, now) => {
    const { lastSeen } = machine;
    const since = lastSeen === null ? null : now - lastSeen;
    if (lastSeen !== titled) {
      titled = lastSeen;
      title(lastSeen === null ? "" : moment(lastSeen));
    }
    level(since !== null && since > STALE_AFTER ? "bad" : "");
    return write(since === null ? "never" : age(since));
  };
}

function bindUptime(cell) {
  const [write, level] = [textWriter(cell), attributeWriter(cell, "data-level")];
  return (machine) => {
    const { uptime } = machine;
    level(uptime !== null && uptime > LONG_UPTIME ? "warn" : "");
    return write(uptime === null ? "" : duration(uptime));
  };
}

function bindNote(cell) {
  const who = element("span", { class: "detail" });
  const message = element("span", { class: "main", dir: "auto" });
  cell.append(message, who);
  const [writeMessage, writeWho, title] = [textWriter(message), textWriter(who), attributeWriter(cell, "title")];
  return (machine) => {
    title(machine.note);
    writeWho(machine.note ? shortUser(machine.noteUser) : "");
    return writeMessage(machine.note);
  };
}

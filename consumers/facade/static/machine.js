/** What the page says about a machine, derived from its Description. Pure: no clock, no page. */
import { aliasOf, attachedLabel, kindLabel } from "./devices.js";
import { gaveUp, powerOf } from "./power.js";
import { parseTime } from "./time.js";

/** From worst to best. A machine is shown in the first that holds. */
export const STATES = ["down", "quarantined", "maintenance", "recovering", "busy", "available"];

const UNREADABLE_BATTERY = -99;
/** A cycle counter that some phones report among their temperatures. */
const NOT_A_TEMPERATURE = "battery_cycle";

/** Null for a Description without an id: nothing can be shown or done with it. */
export function toMachine(description) {
  const dimensions = description.Dimensions ?? {};
  const id = dimensions.id?.[0];
  if (!id) return null;
  const states = statesOf(description);
  const types = dimensions.device_type ?? [];
  const [temperatureAverage, temperatureMaximum] = temperaturesOf(description.Temperature);
  return {
    id,
    idKey: naturalKey(id),
    description,
    version: description.RowVersion ?? 0,
    state: states[0],
    states,
    downSince: parseTime(description.DownSince),
    reason: reasonOf(description, states),
    deviceKind: kindLabel(description.DeviceKind ?? ""),
    deviceName: aliasOf(types) || types.join(" | ") || standaloneName(description, dimensions),
    deviceTypes: aliasOf(types) ? types.join(" | ") : "",
    attached: description.AttachedDevice === "nodevice" ? "" : attachedLabel(description.AttachedDevice ?? ""),
    task: taskOf(description),
    power: powerOf(description),
    healing: description.Healing ?? "",
    gaveUp: gaveUp(description),
    battery: batteryOf(description),
    temperatureAverage,
    temperatureMaximum,
    lastSeen: parseTime(description.LastUpdated),
    uptime: description.DeviceUptime > 0 ? description.DeviceUptime * 1000 : null,
    pool: (dimensions.pool ?? []).join(" | "),
    os: (dimensions.os ?? []).at(-1) ?? "",
    monitorVersion: description.Version ?? "",
    note: description.Note?.Message ?? "",
    noteUser: description.Note?.User ?? "",
    noteTime: parseTime(description.Note?.Timestamp),
  };
}

/** Every state that holds, worst first; never empty. */
function statesOf(description) {
  const holds = {
    down: parseTime(description.DownSince) !== null,
    quarantined: description.IsQuarantined === true,
    maintenance: Boolean(description.MaintenanceMode),
    recovering: Boolean(description.Recovering),
    busy: description.RunningSwarmingTask === true || Boolean(description.TaskRequest),
  };
  const states = STATES.filter((state) => holds[state]);
  return states.length > 0 ? states : ["available"];
}

/** Why the machine is not simply available. For how long it has been down is left to whoever has a clock. */
function reasonOf(description, states) {
  const reasons = [];
  if (states.includes("quarantined")) reasons.push("forced by a task");
  if (states.includes("maintenance")) reasons.push(maintenanceText(description.MaintenanceMode));
  if (states.includes("recovering")) reasons.push(description.Recovering.trim());
  return reasons.join(" · ");
}

/** `MaintenanceMode` is `<user> <RFC 3339 time>`, then perhaps a reason. */
export function parseMaintenance(text) {
  const [, user, since, reason] = /^(\S*)(?: (\S+))?(?: (.*))?$/s.exec(text) ?? [];
  return { user: user ?? "", since: parseTime(since), reason: reason ?? "" };
}

function maintenanceText(text) {
  const { user, reason } = parseMaintenance(text);
  return reason ? `${reason} (${shortUser(user)})` : `by ${shortUser(user)}`;
}

/** An e-mail address without its domain. */
export function shortUser(user) {
  return user.split("@")[0] || user;
}

function standaloneName(description, dimensions) {
  if (description.DeviceKind !== "standalone") return "";
  return dimensions.machine_type?.[0] ?? (dimensions.cpu ?? []).at(-1) ?? "";
}

function taskOf(description) {
  if (description.TaskRequest) return description.TaskRequest.Name || "task";
  return description.RunningSwarmingTask ? "Swarming" : "";
}

/** Percent; `NaN` when the device did not tell; null when there is no device that could. */
function batteryOf(description) {
  const hasBattery = description.DeviceKind === "android" || description.DeviceKind === "ios";
  if (!hasBattery || !description.Battery) return null;
  return description.Battery === UNREADABLE_BATTERY ? NaN : description.Battery;
}

function temperaturesOf(temperature) {
  const sensors = Object.entries(temperature ?? {}).filter(([sensor]) => sensor !== NOT_A_TEMPERATURE);
  if (sensors.length === 0) return [null, null];
  const degrees = sensors.map(([, value]) => value);
  return [degrees.reduce((sum, value) => sum + value, 0) / degrees.length, Math.max(...degrees)];
}

/** Text that sorts as people count: `rack-9` before `rack-10`, in any case. */
export function naturalKey(text) {
  return text.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));
}

const searchTexts = new WeakMap();

/** Everything of a machine that can be searched, in lower case; what is not of one piece is on lines of its own. */
export function searchText(machine) {
  let text = searchTexts.get(machine);
  if (text === undefined) {
    text = searchable(machine).join("\n").toLowerCase();
    searchTexts.set(machine, text);
  }
  return text;
}

function searchable(machine) {
  const { description } = machine;
  const dimensions = Object.entries(description.Dimensions ?? {});
  return [
    machine.id,
    ...machine.states,
    description.MaintenanceMode ?? "",
    description.Recovering ?? "",
    machine.deviceName,
    machine.deviceKind,
    machine.attached,
    machine.task,
    machine.healing,
    machine.monitorVersion,
    machine.noteUser,
    machine.note,
    description.Annotation?.User ?? "",
    description.Annotation?.Message ?? "",
    description.SSHUserIP ?? "",
    ...dimensions.flatMap(([key, values]) => (values ?? []).map((value) => `${key}:${value}`)),
  ];
}

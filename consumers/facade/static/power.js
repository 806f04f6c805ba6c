/** What the page says about a machine's power, derived from its Description. Pure. */

import { duration, parseTime, SECOND, withLocalTimes } from "./time.js";

const PENDING = new Set(["queued", "accepted", "off", "on"]);
const TROUBLE = new Set(["failed", "expired", "refused"]);

export const COMMANDS_PATH = "/api/v1/power/commands";

/** What each action is called where people read it. */
export const ACTION_NAMES = { cycle: "Power cycle", on: "Power on", off: "Power off" };

/** Whether a command of this status has not ended. */
export function isPending(status) {
  return PENDING.has(status);
}

/** Whether it came to no good end. One that was cancelled did: somebody wished so. */
export function isTrouble(status) {
  return TROUBLE.has(status);
}

/**
 * `able`: some controller has the machine; `inError`: but it does not answer; `action` and `status`: of the latest command;
 * `off`: it was switched off, is silent, and nobody has ordered it on since. (Some are switched on by hand.)
 */
export function powerOf(description) {
  const { PowerCycleState: state, PowerAction: action = "", PowerStatus: status = "" } = description;
  const pending = isPending(status) || (description.PowerCycle === true && status === "");
  return {
    able: state === "available" || state === "in_error",
    inError: state === "in_error",
    action: action || (pending ? "cycle" : ""),
    status: status || (pending ? "queued" : ""),
    pending,
    trouble: isTrouble(status),
    off: action === "off" && status === "done" && parseTime(description.DownSince) !== null,
  };
}

/** `Power cycle: off`, `Power cycle failed`; empty when there was no command. */
export function powerText({ action, status, pending }) {
  const name = ACTION_NAMES[action] ?? action;
  if (!name) return "";
  return pending ? `${name}: ${status}` : `${name} ${status}`;
}

/** Of an agent that has not been heard of for too long; empty: it is there. */
export function silenceText({ outlet, agent_silent_s: seconds }) {
  return outlet === null || seconds === null ? "" : `Agent ${outlet.agent} was last heard of ${duration(seconds * SECOND)} ago`;
}

/** What is worth a look comes first; null: nothing to say. */
export function powerRank({ able, inError, pending, trouble, off }) {
  if (pending) return 0;
  if (trouble) return 1;
  if (inError) return 2;
  if (off) return 3;
  return able ? 4 : null;
}

const HEALING = {
  waiting: "Self-healing waits",
  held: "Self-healing holds back",
  cycling: "Self-healing is cycling it",
  "gave up": "Self-healing gave up",
  healed: "Self-healing has healed it",
};

/** What self-healing says, as a sentence; empty when it says nothing. */
export function healingText({ Healing: said = "" }) {
  if (!said) return "";
  const [state, ...reason] = said.split(": ");
  const words = HEALING[state] ?? `Self-healing ${state}`;
  return [words, withLocalTimes(reason.join(": "))].filter(Boolean).join(": ");
}

/** Whether self-healing has given a machine up: then a person must look. */
export function gaveUp(description) {
  return (description.Healing ?? "").startsWith("gave up:");
}

/** Digits that no other request has: sending the same again under them does the same once. */
export function idempotencyKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Requests to the server. What fails is thrown as a `Problem`, whose message is a sentence for people. */

const TIMEOUT_MS = 20_000;
const LONGEST_EXPLANATION = 500;

export class Problem extends Error {
  /** HTTP status; 0 when there was no answer. */
  status;
  /** The server's word for why, where it has one. */
  reason;

  constructor(message, status, reason = "") {
    super(message);
    this.name = "Problem";
    this.status = status;
    this.reason = reason;
  }
}

/** Called when the server no longer knows who we are. */
let onSignedOut = () => {};

export function whenSignedOut(callback) {
  onSignedOut = callback;
}

/** The answer's JSON, or null where there is none. */
export async function request(method, path, body = undefined, headers = {}) {
  const response = await send(path, {
    method,
    headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401) onSignedOut();
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

/** Who we are, or null when the server wants us to sign in; and the server's `Date`. */
export async function whoami() {
  const response = await send("/api/v1/whoami", {});
  const date = response.headers.get("Date");
  if (response.status === 401) return { user: null, date };
  if (!response.ok) throw await problemOf(response);
  return { user: await response.json(), date };
}

/** Whether somebody of this role may change machines. */
export function mayOperate(role) {
  return role === "operator" || role === "admin";
}

/** Trades a token for a cookie. Throws a `Problem` when the server does not take it. */
export async function login(token) {
  const response = await send("/login", { method: "POST", body: new URLSearchParams({ token }) });
  if (!response.ok) throw await problemOf(response);
}

export function machinePath(id, ...rest) {
  return ["/api/v1/machines", encodeURIComponent(id), ...rest].join("/");
}

async function send(path, options) {
  try {
    return await fetch(path, {
      ...options,
      headers: { Accept: "application/json", ...options.headers },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    const why = error.name === "TimeoutError" ? "did not answer in time" : "cannot be reached";
    throw new Problem(`The server ${why}.`, 0);
  }
}

/** What the answer says of itself, as a sentence; where it says nothing, what its status means. */
async function problemOf(response) {
  const problem = (text, reason) => new Problem(text, response.status, reason);
  const fallback = `The server answered ${response.status} ${response.statusText}`.trim() + ".";
  const type = response.headers.get("Content-Type") ?? "";
  try {
    if (type.startsWith("text/plain")) return problem(sentence(await response.text()) || fallback);
    if (!type.includes("json")) return problem(fallback);
    const { title, detail, reason } = await response.json();
    return problem(sentence(detail || title) || fallback, reason);
  } catch {
    return problem(fallback); // cut off, or it called itself JSON and was not
  }
}

function sentence(text = "") {
  const words = text.trim().slice(0, LONGEST_EXPLANATION);
  if (words === "") return "";
  const first = /^[a-z]+[\s,:;.]/.test(words) ? words[0].toUpperCase() : words[0]; // a machine keeps its name
  return first + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
}

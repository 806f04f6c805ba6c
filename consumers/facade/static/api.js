/** Requests to the server. What fails is thrown as a `Problem`, whose message is a sentence for people. */

const TIMEOUT_MS = 20_000;
const LONGEST_EXPLANATION = 500;

export class Problem extends Error {
  /** HTTP status; 0 when there was no answer. */
  status;

  constructor(message, status) {
    super(message);
    this.name = "Problem";
    this.status = status;
  }
}

/** Called when the server no longer knows who we are. */
let onSignedOut = () => {};

export function whenSignedOut(callback) {
  onSignedOut = callback;
}

/** The answer's JSON, or null where there is none. */
export async function request(method, path, body = undefined) {
  const response = await send(path, {
    method,
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401) onSignedOut();
  if (!response.ok) throw new Problem(await explanation(response), response.status);
  return response.status === 204 ? null : response.json();
}

/** Who we are, or null when the server wants us to sign in; and the server's `Date`. */
export async function whoami() {
  const response = await send("/api/v1/whoami", {});
  const date = response.headers.get("Date");
  if (response.status === 401) return { user: null, date };
  if (!response.ok) throw new Problem(await explanation(response), response.status);
  return { user: await response.json(), date };
}

/** Trades a token for a cookie. Throws a `Problem` when the server does not take it. */
export async function login(token) {
  const response = await send("/login", { method: "POST", body: new URLSearchParams({ token }) });
  if (!response.ok) throw new Problem(await explanation(response), response.status);
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
async function explanation(response) {
  const fallback = `The server answered ${response.status} ${response.statusText}`.trim() + ".";
  const type = response.headers.get("Content-Type") ?? "";
  try {
    if (type.startsWith("text/plain")) return sentence(await response.text()) || fallback;
    if (!type.includes("json")) return fallback;
    const { title, detail } = await response.json();
    return sentence(detail || title) || fallback;
  } catch {
    return fallback; // cut off, or it called itself JSON and was not
  }
}

function sentence(text = "") {
  const words = text.trim().slice(0, LONGEST_EXPLANATION);
  if (words === "") return "";
  return words[0].toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
}

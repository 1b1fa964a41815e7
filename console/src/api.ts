// The API, called with a key that lives in this object and nowhere else.
//
// Must never happen here: a key in an address, in storage, or in an error's text.

/** What went wrong, in the API's words or in ours where it did not answer. */
export class ApiError extends Error {
  constructor(
    /** Of the answer; 0 if there was none. */
    readonly status: number,
    message: string,
    readonly requestId?: string,
  ) {
    super(message);
  }
}

/** Why a text cannot be a key; empty if it may be one. */
export function keyFault(text: string): string {
  if (text === "") return "Paste an API key.";
  if (!/^[\x21-\x7e]+$/.test(text)) return "A key has no spaces or special characters in it.";
  if (!text.startsWith("fleeks_")) return "Keys begin with fleeks_.";
  return "";
}

/** An error's text for people, from a body of any shape. */
export function detailOf(body: unknown, status: number): string {
  const detail = (body as { detail?: unknown } | null)?.detail;
  if (typeof detail === "string" && detail !== "") return detail;
  const message = (detail as { message?: unknown } | null)?.message;
  if (typeof message === "string") return message;
  return `the platform answered ${status}`;
}

export type Query = Record<string, string | number | boolean | undefined>;

/** A path with a query; what is undefined is left out. */
export function withQuery(path: string, query: Query): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) search.set(name, String(value));
  }
  const text = search.toString();
  return text === "" ? path : `${path}?${text}`;
}

/** Path segments, escaped. */
export function path(...segments: string[]): string {
  return segments.map((segment) => `/${encodeURIComponent(segment)}`).join("");
}

export class Api {
  readonly #key: string;
  readonly #refused: () => void;

  /** `refused` is called when the key is not good any more. */
  constructor(key: string, refused: () => void = () => {}) {
    this.#key = key;
    this.#refused = refused;
  }

  /** The first message of a websocket. */
  introduction(): string {
    return JSON.stringify({ type: "auth", key: this.#key });
  }

  async get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return this.#json<T>("GET", path, undefined, signal);
  }

  async post<T>(path: string, body: unknown = {}): Promise<T> {
    return this.#json<T>("POST", path, body);
  }

  async put<T>(path: string, body: unknown): Promise<T> {
    return this.#json<T>("PUT", path, body);
  }

  async delete<T>(path: string): Promise<T> {
    return this.#json<T>("DELETE", path);
  }

  /** A file's bytes. */
  async bytes(path: string): Promise<Blob> {
    return (await this.file(path)).blob;
  }

  /** A file's bytes, and the tag that another content of it would not have. */
  async file(path: string, signal?: AbortSignal): Promise<{ blob: Blob; tag: string | null }> {
    const answer = await this.#fetch(path, { signal: signal ?? null });
    return { blob: await answer.blob(), tag: answer.headers.get("etag") };
  }

  /** The tag of a file as it is now; undefined if there is no such file. */
  async tag(path: string): Promise<string | null | undefined> {
    try {
      return (await this.#fetch(path, { method: "HEAD" })).headers.get("etag");
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** Sends a file; `progress` hears of the part that is sent, from 0 to 1. */
  upload(path: string, file: Blob, progress: (part: number) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("PUT", path);
      request.setRequestHeader("x-api-key", this.#key);
      request.upload.onprogress = (event) => {
        if (event.lengthComputable) progress(event.loaded / event.total);
      };
      request.onerror = () => reject(unanswered());
      request.onload = () => {
        if (request.status < 300) return resolve();
        let body: unknown = null;
        try {
          body = JSON.parse(request.responseText);
        } catch {
          // Then the status has to do.
        }
        reject(new ApiError(request.status, detailOf(body, request.status)));
      };
      request.send(file);
    });
  }

  async #json<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const init: RequestInit = { method, signal: signal ?? null };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      init.headers = { "content-type": "application/json" };
    }
    const answer = await this.#fetch(path, init);
    const text = await answer.text();
    return (text === "" ? {} : JSON.parse(text)) as T;
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set("x-api-key", this.#key);
    headers.set("accept", "application/json");
    let answer: Response;
    try {
      answer = await fetch(path, { ...init, headers, credentials: "omit", cache: "no-store" });
    } catch (error) {
      if ((error as Error).name === "AbortError") throw error;
      throw unanswered();
    }
    if (answer.ok) return answer;
    const body: unknown = await answer.json().catch(() => null);
    if (answer.status === 401) this.#refused();
    const id = answer.headers.get("x-request-id");
    throw new ApiError(answer.status, detailOf(body, answer.status), id ?? undefined);
  }
}

function unanswered(): ApiError {
  return new ApiError(0, "the platform does not answer");
}

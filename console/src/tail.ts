// A job's output, put together from the parts that polls bring. Pure.

import type { OutputPart, OutputSince } from "./types";

/** The page keeps the newest of these many letters. */
const LETTERS = 200_000;

export class Tail {
  readonly #decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  next = { stdout: 0, stderr: 0 };
  text = "";
  /** It says nothing more. */
  isOver = false;

  add(output: OutputSince): void {
    const before = this.next;
    for (const stream of ["stdout", "stderr"] as const) this.#take(stream, output.since[stream]);
    const nothingNew = before.stdout === this.next.stdout && before.stderr === this.next.stderr;
    this.isOver = output.status !== "running" && nothingNew;
    if (this.text.length > LETTERS) this.text = this.text.slice(-LETTERS);
  }

  #take(stream: "stdout" | "stderr", part: OutputPart): void {
    if (part.skipped > 0) this.text += `\n[… ${part.skipped} bytes were dropped …]\n`;
    const bytes = Uint8Array.from(atob(part.base64), (letter) => letter.charCodeAt(0));
    // A letter may be cut in two by the end of a part.
    this.text += this.#decoders[stream].decode(bytes, { stream: true });
    this.next = { ...this.next, [stream]: part.next };
  }
}

// The ends of a text's lines. Pure.
//
// Must never happen here: a file that is saved with other ends of line than it had.

export type End = "\n" | "\r\n";

/** How all lines of a text end; undefined if not all end alike, or some as no text area can keep. */
export function endOf(text: string): End | undefined {
  if (!text.includes("\r")) return "\n";
  return /[\r\n]/.test(text.replaceAll("\r\n", "")) ? undefined : "\r\n";
}

/** A text as a text area has it, which knows one end of line. */
export function toTyped(text: string): string {
  return text.replace(/\r\n?/g, "\n");
}

/** What was typed, as the file has its lines. */
export function fromTyped(typed: string, end: End): string {
  return end === "\n" ? typed : typed.replaceAll("\n", end);
}

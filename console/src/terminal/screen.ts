// What a terminal is drawn with. Loaded with the first terminal, not with the page.
//
// Must never happen here: output that is kept without a bound, or an answer to a question that a
// program asked long ago.

import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { keepThePolicy } from "./styles";

export interface Screen {
  readonly cols: number;
  readonly rows: number;
  write(bytes: Uint8Array): void;
  /** Words that are not the program's, on a line of their own. */
  remark(text: string): void;
  focus(): void;
  /** For who hears it instead of seeing it. */
  setSpoken(spoken: boolean): void;
  close(): void;
}

export interface Events {
  input: (bytes: Uint8Array<ArrayBuffer>) => void;
  resize: (cols: number, rows: number) => void;
  /** Somebody wants to leave by keyboard. */
  leave: () => void;
}

export interface Options {
  /** Nothing was said before: what a program asks of the terminal, it asks now. */
  fresh: boolean;
  /** The id of what tells how to leave. */
  hint: string;
}

/** Output that waits to be drawn, in bytes; what comes faster is missed. */
const UNDRAWN_MAX = 4 * 1024 * 1024;

/** What somebody does who uses a terminal and does not only look at it. */
const DEEDS = ["keydown", "paste", "compositionstart", "mousedown", "wheel", "drop"] as const;

const LIGHT = {
  background: "#ffffff",
  foreground: "#0f1a18",
  cursor: "#0f766e",
  cursorAccent: "#ffffff",
  selectionBackground: "#99f6e4",
  black: "#0f1a18",
  red: "#b91c1c",
  green: "#15803d",
  yellow: "#a16207",
  blue: "#1d4ed8",
  magenta: "#a21caf",
  cyan: "#0e7490",
  white: "#52605d",
  brightBlack: "#52605d",
  brightRed: "#dc2626",
  brightGreen: "#15803d",
  brightYellow: "#a16207",
  brightBlue: "#2563eb",
  brightMagenta: "#c026d3",
  brightCyan: "#0e7490",
  brightWhite: "#0f1a18",
};

const DARK = {
  background: "#0e1413",
  foreground: "#e6edeb",
  cursor: "#2dd4bf",
  cursorAccent: "#042f2e",
  selectionBackground: "#134e4a",
  black: "#23302d",
  red: "#f87171",
  green: "#4ade80",
  yellow: "#facc15",
  blue: "#60a5fa",
  magenta: "#e879f9",
  cyan: "#22d3ee",
  white: "#e6edeb",
  brightBlack: "#98a6a2",
  brightRed: "#fca5a5",
  brightGreen: "#86efac",
  brightYellow: "#fde047",
  brightBlue: "#93c5fd",
  brightMagenta: "#f0abfc",
  brightCyan: "#67e8f9",
  brightWhite: "#ffffff",
};

/** Waits until the style sheet of the library is there. */
function styled(): Promise<void> {
  const href = document.querySelector<HTMLMetaElement>("meta[name=terminal-style]")?.content ?? "";
  if (document.querySelector(`link[href="${href}"]`)) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = href;
    link.onload = () => resolve();
    link.onerror = () => reject(new Error("the terminal's style cannot be loaded"));
    document.head.append(link);
  });
}

/** Words of others, without what would steer the terminal. */
function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, " ");
}

export async function openScreen(place: HTMLElement, events: Events, options: Options): Promise<Screen> {
  await styled();
  keepThePolicy();
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const terminal = new Terminal({
    theme: dark.matches ? DARK : LIGHT,
    fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
    fontSize: 14,
    lineHeight: 1.2,
    cursorBlink: !still,
    scrollback: 5000,
    minimumContrastRatio: 4.5,
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(place);
  terminal.textarea?.setAttribute("aria-describedby", options.hint);
  fit.fit();

  // A program's questions (what are you, where is the cursor) are in the scrollback too, and an
  // answer to an old one would be typed into whatever runs now. So who only looks on answers none.
  let isUsed = options.fresh;
  const used = () => {
    isUsed = true;
  };
  for (const deed of DEEDS) place.addEventListener(deed, used, { capture: true, passive: true });
  const encoder = new TextEncoder();
  const said = (bytes: Uint8Array<ArrayBuffer>) => {
    if (isUsed) events.input(bytes);
  };
  terminal.onData((text) => said(encoder.encode(text)));
  terminal.onBinary((text) => said(Uint8Array.from(text, (letter) => letter.charCodeAt(0) & 255)));
  terminal.onResize(({ cols, rows }) => events.resize(cols, rows));
  terminal.attachCustomKeyEventHandler((event) => {
    if (!event.ctrlKey || !event.shiftKey) return true;
    const isDown = event.type === "keydown";
    if (event.key === "ArrowUp") {
      // Tab belongs to the shell, so there is another way out.
      if (isDown) events.leave();
      return false;
    }
    if (event.code === "KeyC" && terminal.hasSelection()) {
      event.preventDefault();
      if (isDown) document.execCommand("copy");
      return false;
    }
    return true;
  });
  const recolour = () => {
    terminal.options.theme = dark.matches ? DARK : LIGHT;
  };
  dark.addEventListener("change", recolour);
  const sized = new ResizeObserver(() => {
    if (place.clientWidth > 0) fit.fit();
  });
  sized.observe(place);

  const remark = (text: string) => terminal.write(`\r\n\x1b[0;2m[${printable(text)}]\x1b[0m\r\n`);
  let undrawn = 0;
  let missed = 0;
  const write = (bytes: Uint8Array) => {
    if (undrawn + bytes.length > UNDRAWN_MAX) {
      missed += bytes.length;
      return;
    }
    undrawn += bytes.length;
    terminal.write(bytes, () => {
      undrawn -= bytes.length;
      if (undrawn > 0 || missed === 0) return;
      remark(`${missed} bytes came too fast to be shown`);
      missed = 0;
    });
  };

  return {
    get cols() {
      return terminal.cols;
    },
    get rows() {
      return terminal.rows;
    },
    write,
    remark,
    focus: () => terminal.focus(),
    setSpoken: (spoken) => {
      terminal.options.screenReaderMode = spoken;
    },
    close: () => {
      sized.disconnect();
      dark.removeEventListener("change", recolour);
      terminal.dispose();
    },
  };
}

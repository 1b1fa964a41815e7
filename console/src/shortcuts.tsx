// Single keys that lead somewhere, where nobody types; and the list of them.

import { useEffect, useRef, useState } from "preact/hooks";
import { Check, Dialog } from "./ui";

/** Two keys after one another: this one, and then one of the places. */
const GO = "g";
const PLACES: Record<string, string> = { w: "#/", k: "#/keys", p: "#/pools", r: "#/wakes" };
/** How long the first of two waits for the second. */
const PATIENCE_MILLIS = 1200;

/** Whether keys pressed here are text. */
function isTyping(target: EventTarget | null): boolean {
  const element = target instanceof Element ? target : null;
  return element?.closest("input, textarea, select, [contenteditable], .terminal") != null;
}

export function useShortcuts(help: () => void): { on: boolean; setOn: (on: boolean) => void } {
  const [on, setOn] = useState(true);
  const going = useRef(0);
  const asked = useRef(help);
  asked.current = help;
  useEffect(() => {
    if (!on) return;
    const pressed = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      if (document.querySelector("dialog[open]")) return;
      const place = PLACES[event.key];
      if (place !== undefined && Date.now() - going.current < PATIENCE_MILLIS) {
        location.hash = place;
        going.current = 0;
        return;
      }
      going.current = event.key === GO ? Date.now() : 0;
      if (event.key === "?") asked.current();
      const wanted = document.querySelector<HTMLElement>(`[data-shortcut="${CSS.escape(event.key)}"]`);
      if (wanted === null) return;
      event.preventDefault();
      if (wanted instanceof HTMLInputElement) wanted.focus();
      else wanted.click();
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, [on]);
  return { on, setOn };
}

interface Props {
  on: boolean;
  onSwitch: (on: boolean) => void;
  admin: boolean;
  onClose: () => void;
}

export function Shortcuts({ on, onSwitch, admin, onClose }: Props) {
  const rows: [string[], string][] = [
    [["?"], "This list"],
    [["/"], "Search workspaces"],
    [["n"], "New workspace, or a new key"],
    [["g", "w"], "Workspaces"],
    [["g", "k"], "Keys"],
    ...(admin ? ([[["g", "p"], "Pools"], [["g", "r"], "Recent wakes"]] as [string[], string][]) : []),
    [["1", "…", "5"], "Tabs of a workspace"],
    [["Ctrl", "S"], "Save the file in the editor"],
    [["Ctrl", "Shift", "↑"], "Leave the terminal"],
    [["Esc"], "Close a dialog"],
  ];
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <dl class="shortcuts">
        {rows.map(([keys, text]) => (
          <div key={text}>
            <dt>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
      <Check label="Single-key shortcuts" hint="Off until the page is loaded again" checked={on} onChange={onSwitch} />
    </Dialog>
  );
}

// Parts of which views are made.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { ApiError } from "./api";
import { dialogs } from "./hooks";
import { Icon, type IconName } from "./icons";
import { plot } from "./plot";
import type { State } from "./types";

interface ButtonProps {
  children?: ComponentChildren;
  icon?: IconName;
  /** What it is called where only its icon is seen. */
  label?: string;
  kind?: "plain" | "primary" | "danger" | "quiet";
  busy?: boolean;
  disabled?: boolean;
  submit?: boolean;
  autofocus?: boolean;
  onClick?: () => void;
}

export function Button(props: ButtonProps) {
  const { children, icon, label, kind = "plain", busy = false, disabled = false } = props;
  return (
    <button
      type={props.submit ? "submit" : "button"}
      class={`button ${kind} ${children === undefined ? "bare" : ""} ${busy ? "busy" : ""}`}
      aria-label={label}
      title={label}
      aria-busy={busy}
      aria-disabled={busy || disabled}
      disabled={disabled}
      autofocus={props.autofocus}
      onClick={(event) => {
        if (busy) event.preventDefault();
        else props.onClick?.();
      }}
    >
      {icon && <Icon name={icon} />}
      {children !== undefined && <span>{children}</span>}
    </button>
  );
}

/** What people call a state, and whether it is as it should be. */
export const STATES: Record<State, { word: string; tone: string }> = {
  running: { word: "Running", tone: "good" },
  frozen: { word: "Frozen", tone: "cool" },
  hibernated: { word: "Asleep", tone: "sleep" },
  stopped: { word: "Stopped", tone: "off" },
  failed: { word: "Failed", tone: "bad" },
  starting: { word: "Starting", tone: "moving" },
  waking: { word: "Waking", tone: "moving" },
  freezing: { word: "Freezing", tone: "moving" },
  hibernating: { word: "Falling asleep", tone: "moving" },
  deleted: { word: "Deleted", tone: "off" },
};

export function StatePill({ state }: { state: State }) {
  const { word, tone } = STATES[state];
  return (
    <span class={`pill ${tone}`}>
      <span class="dot" aria-hidden="true" />
      {word}
    </span>
  );
}

interface SparkProps {
  values: number[];
  top: number;
  /** What is plotted, for who does not see it. */
  label: string;
  tone: "cpu" | "memory";
}

const SPARK = { width: 120, height: 28 };

export function Spark({ values, top, label, tone }: SparkProps) {
  const drawn = plot(values, SPARK.width, SPARK.height, top);
  return (
    <svg
      class={`spark ${tone}`}
      viewBox={`0 -1 ${SPARK.width} ${SPARK.height + 2}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      {drawn ? (
        <>
          <path class="area" d={drawn.area} />
          <path class="line" d={drawn.line} />
        </>
      ) : (
        <path class="line none" d={`M0 ${SPARK.height}H${SPARK.width}`} />
      )}
    </svg>
  );
}

interface DialogProps {
  title: string;
  children: ComponentChildren;
  onClose: () => void;
  wide?: boolean;
}

/** A modal dialog; Escape and a press beside it close it, and focus goes back where it was. Complaints are shown in it. */
export function Dialog({ title, children, onClose, wide = false }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  const [fault, setFault] = useState("");
  const alert = useRef<HTMLParagraphElement>(null);
  useEffect(() => {
    element.current?.showModal();
    dialogs.push(setFault);
    return () => {
      dialogs.splice(dialogs.indexOf(setFault), 1);
    };
  }, []);
  // With another title it is about another thing.
  useEffect(() => setFault(""), [title]);
  useEffect(() => alert.current?.scrollIntoView({ block: "nearest" }), [fault]);
  return (
    <dialog
      ref={element}
      class={wide ? "dialog wide" : "dialog"}
      aria-labelledby={id}
      onClose={onClose}
      onMouseDown={(event) => {
        if (event.target === element.current) element.current?.close();
      }}
    >
      <div class="dialog-body">
        <header>
          <h2 id={id}>{title}</h2>
          <Button kind="quiet" icon="close" label="Close" onClick={() => element.current?.close()} />
        </header>
        {children}
        {fault !== "" && (
          <p class="banner bad" role="alert" ref={alert}>
            {fault}
          </p>
        )}
      </div>
    </dialog>
  );
}

interface ConfirmProps {
  title: string;
  children: ComponentChildren;
  deed: string;
  danger?: boolean;
  busy: boolean;
  onDo: () => void;
  onClose: () => void;
}

export function Confirm(props: ConfirmProps) {
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <div class="prose">{props.children}</div>
      <footer>
        <Button onClick={props.onClose} autofocus>
          Cancel
        </Button>
        <Button kind={props.danger ? "danger" : "primary"} busy={props.busy} onClick={props.onDo}>
          {props.deed}
        </Button>
      </footer>
    </Dialog>
  );
}

interface FieldProps {
  label: string;
  hint?: string;
  error?: string | undefined;
  children: (ids: { id: string; describedBy: string | undefined; invalid: boolean }) => ComponentChildren;
}

/** A labelled control with what one should know of it. */
export function Field({ label, hint, error, children }: FieldProps) {
  const id = useId();
  const describedBy = error || hint ? `${id}-hint` : undefined;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children({ id, describedBy, invalid: Boolean(error) })}
      {(error || hint) && (
        <p id={`${id}-hint`} class={error ? "hint wrong" : "hint"}>
          {error || hint}
        </p>
      )}
    </div>
  );
}

interface CheckProps {
  label: string;
  hint?: string;
  checked: boolean;
  disabled?: boolean;
  onChange: (checked: boolean) => void;
}

export function Check({ label, hint, checked, disabled = false, onChange }: CheckProps) {
  return (
    <label class="check">
      <input
        type="checkbox"
        checked={checked}
        disabled={disabled}
        onChange={(event) => onChange(event.currentTarget.checked)}
      />
      <span>
        {label}
        {hint && <small>{hint}</small>}
      </span>
    </label>
  );
}

/** A text with a button that copies it. */
export function Copyable({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    window.setTimeout(() => setCopied(false), 2000);
  };
  return (
    <div class="copyable">
      <code>{text}</code>
      <Button kind="quiet" icon="copy" onClick={() => void copy().catch(() => setCopied(false))} label={`Copy ${label}`}>
        {copied ? "Copied" : "Copy"}
      </Button>
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <p class="loading" role="status">
      <span class="spinner" aria-hidden="true" /> Loading {what}…
    </p>
  );
}

/** What could not be looked up; what was known stays beside it. */
export function Trouble({ error }: { error: ApiError | undefined }) {
  if (error === undefined) return null;
  const text = error.status === 0 ? "The platform does not answer. Trying again…" : error.message;
  return (
    <p class="banner bad" role="alert">
      {text}
    </p>
  );
}

export function External({ href, children }: { href: string; children: ComponentChildren }) {
  return (
    <a href={href} target="_blank" rel="noopener noreferrer" class="external">
      {children}
      <Icon name="open" />
      <span class="unseen"> (opens in a new tab)</span>
    </a>
  );
}

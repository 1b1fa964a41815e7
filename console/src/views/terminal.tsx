// Shells in a workspace. What draws them is loaded with the first one.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { path, withQuery } from "../api";
import { textOf, useDeed, useNotices, useSession } from "../hooks";
import { Link, type Standing } from "../terminal/link";
import type { Screen } from "../terminal/screen";
import type { TerminalInfo, Workspace } from "../types";
import { Button, Check, Empty, Loading } from "../ui";

/** The id of what tells how to leave a terminal. */
const HINT = "terminal-hint";

export function Terminal({ workspace }: { workspace: Workspace }) {
  const { api } = useSession();
  const { complain } = useNotices();
  const [known, setKnown] = useState<string[]>();
  const [chosen, setChosen] = useState<string>();
  const [spoken, setSpoken] = useState(false);
  /** Opened by this page. */
  const own = useRef(new Set<string>());
  const [busy, run] = useDeed();
  const base = `/api/v1/sdk/workspaces${path(workspace.project_id)}/terminals`;
  // Looking for terminals would wake who sleeps: that is for the user to decide.
  const [wanted, setWanted] = useState(workspace.lifecycle_state === "running");

  const add = useCallback(async () => {
    const { terminal_id: id } = await api.post<TerminalInfo>(base, {});
    own.current.add(id);
    setKnown((known) => [...(known ?? []), id]);
    setChosen(id);
  }, [api, base]);
  useEffect(() => {
    if (!wanted) return;
    const look = async () => {
      const { terminals } = await api.get<{ terminals: TerminalInfo[] }>(base);
      const running = terminals.filter((one) => one.status === "running").map((one) => one.terminal_id);
      setKnown(running);
      setChosen(running.at(-1));
      if (running.length === 0) await add();
    };
    look().catch((error) => {
      complain(error);
      setWanted(false);
    });
  }, [api, base, wanted, add, complain]);
  const close = (id: string) =>
    run(async () => {
      await api.delete(`${base}${path(id)}`);
      const left = known?.filter((other) => other !== id) ?? [];
      setKnown(left);
      setChosen(left.at(-1));
    });

  if (!wanted) {
    return (
      <Empty title="It does not run now.">
        <p>A terminal wakes it, and finds its shells as they were.</p>
        <Button kind="primary" onClick={() => setWanted(true)}>
          Open a terminal
        </Button>
      </Empty>
    );
  }
  if (known === undefined) return <Loading what="terminals" />;
  return (
    <section class="terminals" aria-label="Terminals">
      <header>
        <div class="terminal-tabs" role="group" aria-label="Terminals">
          {known.map((id, index) => (
            <button key={id} type="button" class="chip" aria-pressed={id === chosen} onClick={() => setChosen(id)}>
              Terminal {index + 1}
            </button>
          ))}
          <Button kind="quiet" icon="plus" label="New terminal" busy={busy} onClick={() => void run(add)} />
        </div>
        <span class="grow" />
        <span class="soft small terminal-hint" id={HINT}>
          <kbd>Ctrl</kbd>
          <kbd>Shift</kbd>
          <kbd>
            <span aria-hidden="true">↑</span>
            <span class="unseen">Up</span>
          </kbd>{" "}
          leaves
        </span>
        <Check label="Screen reader" checked={spoken} onChange={setSpoken} />
        {chosen !== undefined && (
          <Button kind="quiet" icon="close" label="End this terminal" busy={busy} onClick={() => void close(chosen)} />
        )}
      </header>
      {chosen === undefined ? (
        <Empty title="No terminal">
          <Button onClick={() => void run(add)}>Open one</Button>
        </Empty>
      ) : (
        <Pane
          key={chosen}
          address={`${base}${path(chosen)}/ws`}
          isFresh={() => own.current.delete(chosen)}
          spoken={spoken}
        />
      )}
    </section>
  );
}

const WORDS: Record<Standing, string> = {
  connecting: "Connecting…",
  live: "Connected",
  asleep: "Asleep; what you type wakes it",
  broken: "Not connected",
  ended: "Ended",
};

interface PaneProps {
  address: string;
  /** Whether nobody has seen it yet; true once. */
  isFresh: () => boolean;
  spoken: boolean;
}

/** One terminal, drawn. */
function Pane({ address, isFresh, spoken }: PaneProps) {
  const { api } = useSession();
  const place = useRef<HTMLDivElement>(null);
  const status = useRef<HTMLParagraphElement>(null);
  const screen = useRef<Screen | undefined>(undefined);
  const [standing, setStanding] = useState<Standing>("connecting");
  const [words, setWords] = useState("");
  const [attempt, setAttempt] = useState(0);

  useEffect(() => {
    let over = false;
    let link: Link | undefined;
    const begin = async () => {
      const { openScreen } = await import("../terminal/screen");
      if (over || place.current === null) return;
      const events = {
        input: (bytes: Uint8Array<ArrayBuffer>) => link?.input(bytes),
        resize: (cols: number, rows: number) => link?.resize(cols, rows),
        leave: () => status.current?.focus(),
      };
      const opened = await openScreen(place.current, events, { fresh: isFresh(), hint: HINT });
      if (over) return opened.close();
      screen.current = opened;
      link = new Link(
        {
          connect: (offset) => new WebSocket(withQuery(address, { offset })),
          introduction: api.introduction(),
          output: (bytes) => opened.write(bytes),
          remark: (text) => {
            setWords(text);
            opened.remark(text);
          },
          standing: (now, code) => {
            setStanding(now);
            if (now === "live") setWords("");
            if (now === "ended") setWords(code === -1 ? "with its container" : `with code ${code ?? 0}`);
          },
        },
        { cols: opened.cols, rows: opened.rows },
      );
      opened.focus();
    };
    begin().catch((error) => {
      setStanding("broken");
      setWords(textOf(error));
    });
    return () => {
      over = true;
      link?.close();
      screen.current?.close();
      screen.current = undefined;
    };
  }, [api, address, attempt]);
  useEffect(() => screen.current?.setSpoken(spoken), [spoken, standing]);

  return (
    <>
      <div class="terminal" ref={place} />
      <p class={`terminal-standing small ${standing}`} ref={status} tabIndex={-1} role="status">
        <span class="dot" aria-hidden="true" />
        {WORDS[standing]}
        {words !== "" && `: ${words}`}
        {standing === "broken" && (
          <Button kind="quiet" onClick={() => setAttempt(attempt + 1)}>
            Connect again
          </Button>
        )}
      </p>
    </>
  );
}

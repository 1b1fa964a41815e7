// One file: its text to read and change, an image to see, or bytes to take home.

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, withQuery } from "../api";
import { bytes } from "../format";
import { textOf, useDeed, useNotices, useSession } from "../hooks";
import { type End, endOf, fromTyped, toTyped } from "../lines";
import { kindOf } from "../tree";
import type { FileInfo } from "../types";
import { Button, Dialog, Empty, Loading } from "../ui";
import { setUnsaved } from "../unsaved";
import { Remove } from "./files";

/** Larger files are for downloading. */
const SHOWN_MAX = 2 << 20;

interface Props {
  base: string;
  path: string;
  /** Unknown while its directory is not loaded. */
  info: FileInfo | undefined;
  /** Changes when it is to be loaded again. */
  looks: number;
  onGone: (path: string) => Promise<void>;
  onSaved: () => void;
}

type Content =
  | { kind: "text"; text: string; end: End | undefined; tag: string | null }
  | { kind: "image"; url: string }
  | { kind: "other"; why: string };

export function File({ base, path, info, looks, onGone, onSaved }: Props) {
  const { api } = useSession();
  const { say, complain } = useNotices();
  const [content, setContent] = useState<Content>();
  const [text, setText] = useState<string>();
  const [busy, run] = useDeed();
  const editor = useRef<HTMLTextAreaElement>(null);
  const size = info?.size_bytes;
  const raw = withQuery(`${base}/raw`, { path });
  /** What happened to the file since it was loaded, when it is to be saved. */
  const [clash, setClash] = useState<"changed" | "deleted">();
  const [again, setAgain] = useState(0);
  const turn = looks + again;
  const lastTurn = useRef(turn);
  const changed = content?.kind === "text" && text !== undefined && text !== content.text;
  const isChanged = useRef(false);
  isChanged.current = changed;

  useEffect(() => {
    const control = new AbortController();
    let url = "";
    if (turn !== lastTurn.current) {
      lastTurn.current = turn;
      // Who has it loaded again was asked about the changes.
      if (content?.kind === "text") setText(content.text);
      isChanged.current = false;
    }
    // The list of the directory comes and goes; what is typed stays.
    if (isChanged.current) return;
    const load = async () => {
      if (size !== undefined && size > SHOWN_MAX) {
        return setContent({ kind: "other", why: "It is too large to be shown here." });
      }
      try {
        const { blob, tag } = await api.file(raw, control.signal);
        const found = await kindOf(path, blob);
        if (control.signal.aborted || isChanged.current) return;
        if (found.kind === "image") url = URL.createObjectURL(found.blob);
        setText(found.kind === "text" ? toTyped(found.text) : undefined);
        setContent(
          found.kind === "image"
            ? { kind: "image", url }
            : found.kind === "text"
              ? { kind: "text", text: toTyped(found.text), end: endOf(found.text), tag }
              : { kind: "other", why: "It is not text." },
        );
      } catch (error) {
        if (control.signal.aborted || isChanged.current) return;
        const gone = error instanceof ApiError && error.status === 404;
        setContent({ kind: "other", why: gone ? "There is no such file." : textOf(error) });
      }
    };
    void load();
    return () => {
      control.abort();
      URL.revokeObjectURL(url);
    };
    // Another file is another component; its size says only that the directory was loaded.
  }, [api, raw, size === undefined, turn]);

  useEffect(() => {
    setUnsaved(changed ? path : undefined);
    return () => setUnsaved(undefined);
  }, [changed, path]);
  useEffect(() => {
    const warn = (event: BeforeUnloadEvent) => event.preventDefault();
    if (changed) window.addEventListener("beforeunload", warn);
    return () => window.removeEventListener("beforeunload", warn);
  }, [changed]);

  const save = (isAnyway = false) =>
    run(async () => {
      if (content?.kind !== "text" || content.end === undefined) return;
      if (!isAnyway) {
        const tag = await api.tag(raw);
        if (tag !== content.tag) return setClash(tag === undefined ? "deleted" : "changed");
      }
      const typed = editor.current?.value ?? text ?? "";
      await api.upload(raw, new Blob([fromTyped(typed, content.end)]), () => {});
      setClash(undefined);
      // What was typed meanwhile stays, and is a change.
      setContent({ ...content, text: typed, tag: (await api.tag(raw)) ?? null });
      say("Saved.");
      onSaved();
    });
  const gone = (path: string) => {
    setUnsaved(undefined);
    return onGone(path);
  };
  const download = async () => {
    try {
      const url = URL.createObjectURL(await api.bytes(raw));
      const link = document.createElement("a");
      link.href = url;
      link.download = path.slice(path.lastIndexOf("/") + 1);
      link.click();
      window.setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      complain(error);
    }
  };

  const isEditable = content?.kind === "text" && content.end !== undefined;

  return (
    <section class="viewer" aria-label={path}>
      <header>
        <code class="grow">
          {path}
          {changed && <span class="soft"> (changed)</span>}
        </code>
        {size !== undefined && <span class="soft small">{bytes(size)}</span>}
        {isEditable && (
          <Button icon="save" busy={busy} disabled={!changed} onClick={() => void save()}>
            Save
          </Button>
        )}
        <Button kind="quiet" icon="download" label={`Download ${path}`} onClick={() => void download()} />
        <Remove base={base} path={path} onGone={gone} />
      </header>
      {content === undefined && <Loading what={path} />}
      {content?.kind === "text" && !isEditable && (
        <p class="read-only soft small">Its lines end in different ways, which would be lost here: it is only shown.</p>
      )}
      {content?.kind === "text" && (
        <textarea
          ref={editor}
          class="editor"
          aria-label={`Text of ${path}`}
          spellcheck={false}
          readOnly={!isEditable}
          autocapitalize="off"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if ((event.ctrlKey || event.metaKey) && event.key === "s") {
              event.preventDefault();
              if (changed && !busy) void save();
            }
          }}
        />
      )}
      {content?.kind === "image" && (
        <div class="picture">
          <img src={content.url} alt={path} />
        </div>
      )}
      {content?.kind === "other" && <Empty title={content.why} />}
      {clash && (
        <Clash
          path={path}
          isDeleted={clash === "deleted"}
          busy={busy}
          onSave={() => void save(true)}
          onLoad={() => {
            setClash(undefined);
            setAgain(again + 1);
          }}
          onClose={() => setClash(undefined)}
        />
      )}
    </section>
  );
}

interface ClashProps {
  path: string;
  isDeleted: boolean;
  busy: boolean;
  onSave: () => void;
  onLoad: () => void;
  onClose: () => void;
}

/** Asks what to do with changes of a file that others changed too. */
function Clash({ path, isDeleted, busy, onSave, onLoad, onClose }: ClashProps) {
  return (
    <Dialog title={`${path} was ${isDeleted ? "deleted" : "changed"} meanwhile`} onClose={onClose}>
      <p>
        {isDeleted
          ? "Saving makes it again."
          : "Overwriting it loses what others wrote; loading it again loses your changes."}
      </p>
      <footer>
        <Button onClick={onClose} autofocus>
          Cancel
        </Button>
        {!isDeleted && <Button onClick={onLoad}>Load again</Button>}
        <Button kind="danger" busy={busy} onClick={onSave}>
          {isDeleted ? "Save" : "Overwrite"}
        </Button>
      </footer>
    </Dialog>
  );
}

// One file: its text to read and change, an image to see, or bytes to take home.

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, withQuery } from "../api";
import { bytes } from "../format";
import { textOf, useDeed, useNotices, useSession } from "../hooks";
import { kindOf } from "../tree";
import type { FileInfo } from "../types";
import { Button, Empty, Loading } from "../ui";
import { Remove } from "./files";

/** Larger files are for downloading. */
const SHOWN_MAX = 2 << 20;

interface Props {
  base: string;
  path: string;
  /** Unknown while its directory is not loaded. */
  info: FileInfo | undefined;
  onGone: (path: string) => Promise<void>;
  onSaved: () => void;
}

type Content =
  | { kind: "text"; text: string }
  | { kind: "image"; url: string }
  | { kind: "other"; why: string };

export function File({ base, path, info, onGone, onSaved }: Props) {
  const { api } = useSession();
  const { say, complain } = useNotices();
  const [content, setContent] = useState<Content>();
  const [text, setText] = useState<string>();
  const [busy, run] = useDeed();
  const editor = useRef<HTMLTextAreaElement>(null);
  const size = info?.size_bytes;
  const raw = withQuery(`${base}/raw`, { path });

  useEffect(() => {
    const control = new AbortController();
    let url = "";
    const load = async () => {
      if (size !== undefined && size > SHOWN_MAX) {
        return setContent({ kind: "other", why: "It is too large to be shown here." });
      }
      try {
        const blob = await api.bytes(raw, control.signal);
        const found = await kindOf(path, blob);
        if (control.signal.aborted) return;
        if (found.kind === "image") url = URL.createObjectURL(found.blob);
        if (found.kind === "text") setText(found.text);
        setContent(
          found.kind === "image"
            ? { kind: "image", url }
            : found.kind === "text"
              ? found
              : { kind: "other", why: "It is not text." },
        );
      } catch (error) {
        if (control.signal.aborted) return;
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
  }, [api, raw, size === undefined]);

  const changed = content?.kind === "text" && text !== undefined && text !== content.text;
  useEffect(() => {
    const warn = (event: BeforeUnloadEvent) => event.preventDefault();
    if (changed) window.addEventListener("beforeunload", warn);
    return () => window.removeEventListener("beforeunload", warn);
  }, [changed]);

  const save = () =>
    run(async () => {
      // A text area knows one end of line; a file keeps its own.
      const typed = editor.current?.value ?? text ?? "";
      const isDos = content?.kind === "text" && content.text.includes("\r\n");
      const now = isDos ? typed.replace(/\r?\n/g, "\r\n") : typed;
      await api.upload(withQuery(`${base}/raw`, { path }), new Blob([now]), () => {});
      setContent({ kind: "text", text: now });
      setText(now);
      say("Saved.");
      onSaved();
    });
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

  return (
    <section class="viewer" aria-label={path}>
      <header>
        <code class="grow">
          {path}
          {changed && <span class="soft"> (changed)</span>}
        </code>
        {size !== undefined && <span class="soft small">{bytes(size)}</span>}
        {content?.kind === "text" && (
          <Button icon="save" busy={busy} disabled={!changed} onClick={save}>
            Save
          </Button>
        )}
        <Button kind="quiet" icon="download" label={`Download ${path}`} onClick={() => void download()} />
        <Remove base={base} path={path} onGone={onGone} />
      </header>
      {content === undefined && <Loading what={path} />}
      {content?.kind === "text" && (
        <textarea
          ref={editor}
          class="editor"
          aria-label={`Text of ${path}`}
          spellcheck={false}
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
    </section>
  );
}

// The files of a workspace: a tree beside what one of them has in it.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { path as segments, withQuery } from "../api";
import { plural } from "../format";
import { useDeed, useNotices, useSession } from "../hooks";
import { at } from "../router";
import { type Node, type Tree, ancestors, children, parent, withChildren, without } from "../tree";
import type { FileInfo, Workspace } from "../types";
import { Button, Dialog, Empty, Field, Loading } from "../ui";
import { mayLose } from "../unsaved";
import { File } from "./file";
import { Icon } from "../icons";

/** So many names of a directory are shown at first, and more by so many. */
const STEP = 200;

export function Files({ workspace, path }: { workspace: Workspace; path: string }) {
  const { api } = useSession();
  const { say, complain } = useNotices();
  const [tree, setTree] = useState<Tree>({});
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const [hidden, setHidden] = useState(false);
  const [naming, setNaming] = useState<"file" | "directory">();
  const [progress, setProgress] = useState<number>();
  const [dropping, setDropping] = useState(false);
  /** How often the file was to be looked at again. */
  const [looks, setLooks] = useState(0);
  const picker = useRef<HTMLInputElement>(null);
  const project = workspace.project_id;
  const base = `/api/v1/sdk/files${segments(project)}`;

  const load = useCallback(
    async (directory: string) => {
      try {
        const url = withQuery(base, { path: `/${directory}`, include_hidden: hidden });
        const { files } = await api.get<{ files: FileInfo[] }>(url);
        setTree((tree) => withChildren(tree, directory, files));
      } catch (error) {
        complain(error);
      }
    },
    [api, base, hidden, complain],
  );
  /** Opens the directories on the way to a path, as they are now. */
  const reveal = useCallback(
    async (path: string) => {
      const way = ancestors(path);
      setOpened((opened) => new Set([...opened, ...way]));
      for (const directory of way) await load(directory);
    },
    [load],
  );
  useEffect(() => {
    setTree({});
    void reveal(path);
  }, [reveal]);

  const open = (path: string) => {
    location.hash = at(project, "files", path);
  };
  const toggle = (directory: string) => {
    const next = new Set(opened);
    if (!next.delete(directory)) {
      next.add(directory);
      void load(directory);
    }
    setOpened(next);
    open(directory);
  };
  const node = path === "" ? undefined : find(tree, path);
  const directory = node?.type === "directory" ? path : parent(path);

  const upload = async (files: FileList | null) => {
    for (const file of files ?? []) {
      try {
        setProgress(0);
        const to = directory === "" ? file.name : `${directory}/${file.name}`;
        await api.upload(withQuery(`${base}/raw`, { path: to, overwrite: false }), file, setProgress);
        say(`${file.name} is there.`);
      } catch (error) {
        complain(error);
      }
    }
    setProgress(undefined);
    await reveal(`${directory}/`);
  };
  const lookAgain = () => {
    if (!mayLose()) return;
    setLooks(looks + 1);
    void load(directory);
  };
  const gone = async (path: string) => {
    setTree((tree) => without(tree, path));
    open("");
    await load(parent(path));
  };

  return (
    <div class="files">
      <section
        class={dropping ? "tree dropping" : "tree"}
        aria-label="Files"
        onDragOver={(event) => {
          event.preventDefault();
          setDropping(true);
        }}
        onDragLeave={() => setDropping(false)}
        onDrop={(event) => {
          event.preventDefault();
          setDropping(false);
          void upload(event.dataTransfer?.files ?? null);
        }}
      >
        <div class="tree-tools" role="toolbar" aria-label="Files">
          <Button kind="quiet" icon="file" label="New file" onClick={() => setNaming("file")} />
          <Button kind="quiet" icon="folder" label="New directory" onClick={() => setNaming("directory")} />
          <Button kind="quiet" icon="upload" label="Upload files" onClick={() => picker.current?.click()} />
          <Button kind="quiet" icon="restart" label="Look again" onClick={lookAgain} />
          <span class="grow" />
          <label class="check small">
            <input type="checkbox" checked={hidden} onChange={(event) => setHidden(event.currentTarget.checked)} />
            <span>hidden</span>
          </label>
          <input
            ref={picker}
            type="file"
            multiple
            hidden
            aria-label="Files to upload"
            onChange={(event) => {
              const input = event.currentTarget;
              void upload(input.files).then(() => {
                input.value = "";
              });
            }}
          />
        </div>
        {progress !== undefined && (
          <progress value={progress} max={1} aria-label="Upload">
            {Math.round(progress * 100)} %
          </progress>
        )}
        {children(tree, "") === undefined ? (
          <Loading what="files" />
        ) : (
          <Level tree={tree} opened={opened} directory="" chosen={path} onOpen={open} onToggle={toggle} />
        )}
      </section>
      {node?.type === "file" || (path !== "" && node === undefined) ? (
        <File
          key={path}
          base={base}
          path={path}
          info={node}
          looks={looks}
          onGone={gone}
          onSaved={() => void load(parent(path))}
        />
      ) : node !== undefined ? (
        <Directory base={base} node={node} count={children(tree, path)?.length} onGone={gone} />
      ) : (
        <Empty title="Choose a file to look at it, or drop files on the list to upload them." />
      )}
      {naming && (
        <Naming
          kind={naming}
          directory={directory}
          base={base}
          onClose={() => setNaming(undefined)}
          onMade={async (made) => {
            setNaming(undefined);
            await reveal(made);
            open(made);
          }}
        />
      )}
    </div>
  );
}

function find(tree: Tree, path: string): Node | undefined {
  return children(tree, parent(path))?.find((node) => node.path === path);
}

interface LevelProps {
  tree: Tree;
  opened: ReadonlySet<string>;
  directory: string;
  chosen: string;
  onOpen: (path: string) => void;
  onToggle: (directory: string) => void;
}

/** A directory's entries; those of an open one under it. Plain buttons, so that Tab and Enter do. */
function Level(props: LevelProps) {
  const { tree, opened, directory, chosen, onOpen, onToggle } = props;
  const [shown, setShown] = useState(STEP);
  const nodes = children(tree, directory);
  if (nodes === undefined) return <Loading what="a directory" />;
  return (
    <ul class="level">
      {nodes.slice(0, shown).map((node) => {
        const isOpen = opened.has(node.path);
        const isDirectory = node.type === "directory";
        return (
          <li key={node.path}>
            <button
              type="button"
              class="entry"
              aria-expanded={isDirectory ? isOpen : undefined}
              aria-current={node.path === chosen ? "true" : undefined}
              onClick={() => (isDirectory ? onToggle(node.path) : onOpen(node.path))}
            >
              <span class={isDirectory ? (isOpen ? "twist open" : "twist") : "twist none"}>
                <Icon name="chevron" />
              </span>
              <Icon name={isDirectory ? "folder" : "file"} />
              <span class="entry-name">{node.name}</span>
            </button>
            {isDirectory && isOpen && <Level {...props} directory={node.path} />}
          </li>
        );
      })}
      {nodes.length > shown && (
        <li>
          <Button kind="quiet" onClick={() => setShown(shown + STEP)}>
            {`Show ${Math.min(STEP, nodes.length - shown)} more of ${nodes.length}`}
          </Button>
        </li>
      )}
      {nodes.length === 0 && <li class="soft small nothing">empty</li>}
    </ul>
  );
}

interface DirectoryProps {
  base: string;
  node: Node;
  count: number | undefined;
  onGone: (path: string) => Promise<void>;
}

function Directory({ base, node, count, onGone }: DirectoryProps) {
  return (
    <section class="viewer" aria-label={node.path}>
      <header>
        <code class="grow">{node.path}</code>
        <Remove base={base} path={node.path} onGone={onGone} />
      </header>
      <Empty title={count === undefined ? node.type : plural(count, "entry", "entries")} />
    </section>
  );
}

interface RemoveProps {
  base: string;
  path: string;
  onGone: (path: string) => Promise<void>;
}

export function Remove({ base, path, onGone }: RemoveProps) {
  const { api } = useSession();
  const [asking, setAsking] = useState(false);
  const [busy, run] = useDeed();
  const remove = () =>
    run(async () => {
      await api.delete(withQuery(`${base}/content`, { path }));
      setAsking(false);
      await onGone(path);
    });
  return (
    <>
      <Button kind="quiet" icon="trash" label={`Delete ${path}`} onClick={() => setAsking(true)} />
      {asking && (
        <Dialog title={`Delete ${path}?`} onClose={() => setAsking(false)}>
          <p>It goes with all that is in it.</p>
          <footer>
            <Button onClick={() => setAsking(false)} autofocus>
              Cancel
            </Button>
            <Button kind="danger" busy={busy} onClick={remove}>
              Delete
            </Button>
          </footer>
        </Dialog>
      )}
    </>
  );
}

interface NamingProps {
  kind: "file" | "directory";
  directory: string;
  base: string;
  onClose: () => void;
  onMade: (path: string) => Promise<void>;
}

function Naming({ kind, directory, base, onClose, onMade }: NamingProps) {
  const { api } = useSession();
  const [busy, run] = useDeed();
  const [name, setName] = useState(directory === "" ? "" : `${directory}/`);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  const submit = (event: Event) => {
    event.preventDefault();
    const path = name.trim().replace(/^\/+|\/+$/g, "");
    if (path === "") return input.current?.focus();
    return run(async () => {
      if (kind === "directory") await api.post(`${base}/directories`, { path });
      else await api.upload(withQuery(`${base}/raw`, { path, overwrite: false }), new Blob([]), () => {});
      await onMade(path);
    });
  };
  return (
    <Dialog title={kind === "file" ? "New file" : "New directory"} onClose={onClose}>
      <form onSubmit={submit}>
        <Field label="Path" hint="Directories on the way are made.">
          {({ id, describedBy }) => (
            <input
              ref={input}
              id={id}
              class="mono"
              value={name}
              autocomplete="off"
              spellcheck={false}
              aria-describedby={describedBy}
              onInput={(event) => setName(event.currentTarget.value)}
            />
          )}
        </Field>
        <footer>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy}>
            Make it
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}

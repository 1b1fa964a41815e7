// What listens in a workspace, where it is seen from outside, and by whom.

import { useEffect, useState } from "preact/hooks";
import { path } from "../api";
import { moment } from "../format";
import { useDeed, useNotices, usePoll, useSession } from "../hooks";
import type { Access, NewShareLink, ShareLink, Workspace } from "../types";
import { Button, Check, Confirm, Copyable, Dialog, External, Field, Loading, Trouble } from "../ui";
import { previewOf } from "./workspace";

const EVERY_MILLIS = 3000;

export function Ports({ workspace }: { workspace: Workspace }) {
  const { api } = useSession();
  const { project_id: project, container_id: container, lifecycle_state: state } = workspace;
  const ports = usePoll(
    async (signal) => {
      const url = `/api/v1/sdk/containers${path(container)}/info`;
      const info = await api.get<{ ports: Record<string, number> }>(url, signal);
      return Object.values(info.ports).sort((a, b) => a - b);
    },
    EVERY_MILLIS,
    [api, container],
  );
  const access = usePoll(
    (signal) => api.get<Access>(`/api/v1/sdk/workspaces${path(project)}/access`, signal),
    10_000,
    [api, project],
  );
  return (
    <div class="overview">
      <section class="card" aria-labelledby="ports">
        <h2 id="ports">Ports</h2>
        <Trouble error={ports.error} />
        <ul class="list">
          <li>
            <div>
              <b>Main port</b>
              <p class="soft small">the app's own, whichever it is</p>
            </div>
            <External href={previewOf(workspace)}>{shortened(previewOf(workspace))}</External>
          </li>
          {ports.data?.map((port) => (
            <li key={port}>
              <b class="mono">{port}</b>
              <External href={atPort(previewOf(workspace), port)}>
                {shortened(atPort(previewOf(workspace), port))}
              </External>
            </li>
          ))}
        </ul>
        {ports.data?.length === 0 && (
          <p class="soft">
            {state === "running" ? "Nothing listens now." : "It does not run; opening an address brings it back."}
          </p>
        )}
      </section>
      {access.data ? (
        <Sharing workspace={workspace} access={access.data} refresh={access.refresh} ports={ports.data ?? []} />
      ) : (
        <section class="card">
          <Trouble error={access.error} />
          {access.error === undefined && <Loading what="who may see it" />}
        </section>
      )}
    </div>
  );
}

/** The same address for one port. */
export function atPort(url: string, port: number): string {
  return url.replace("://", `://${port}--`);
}

function shortened(url: string): string {
  return url.replace(/^https?:\/\//, "");
}

interface SharingProps {
  workspace: Workspace;
  access: Access;
  refresh: () => void;
  ports: number[];
}

function Sharing({ workspace, access, refresh, ports }: SharingProps) {
  const { api } = useSession();
  const { say } = useNotices();
  const [busy, run] = useDeed();
  const [making, setMaking] = useState(false);
  const [ending, setEnding] = useState<ShareLink>();
  const base = `/api/v1/sdk/workspaces${path(workspace.project_id)}`;
  // What was wished for is shown at once, until it is known or has failed.
  const [wish, setWish] = useState<boolean>();
  useEffect(() => setWish(undefined), [access]);
  const isPrivate = wish ?? access.visibility === "private";
  const show = async (hidden: boolean) => {
    setWish(hidden);
    const done = await run(async () => {
      await api.put(`${base}/access`, { visibility: hidden ? "private" : "public" });
      say(hidden ? "Only share links open it now." : "Whoever knows its address may look now.");
    });
    if (!done) setWish(undefined);
    refresh();
  };
  const revoke = (link: ShareLink) =>
    run(async () => {
      await api.delete(`${base}/share-links${path(link.link_id)}`);
      say("The link leads nowhere now.");
      setEnding(undefined);
    }).finally(refresh);
  return (
    <section class="card" aria-labelledby="sharing">
      <h2 id="sharing">Who may see it</h2>
      <Check
        label="Private"
        hint={
          isPrivate
            ? "Only who came by a share link."
            : "Off: whoever knows an address, which cannot be guessed."
        }
        checked={isPrivate}
        disabled={busy}
        onChange={(hidden) => void show(hidden)}
      />
      <h3>Share links</h3>
      {access.share_links.length === 0 && <p class="soft">None.</p>}
      <ul class="list">
        {access.share_links.map((link) => (
          <li key={link.link_id}>
            <div>
              <b>{link.label ?? "Unnamed"}</b>
              <p class="soft small">
                {link.port ? `port ${link.port}` : "main port"}, until {moment(link.expires_at)}
              </p>
            </div>
            <Button kind="quiet" label={`Revoke ${link.label ?? "the unnamed link"}`} onClick={() => setEnding(link)}>
              Revoke
            </Button>
          </li>
        ))}
      </ul>
      <Button icon="link" onClick={() => setMaking(true)}>
        New share link
      </Button>
      {making && <NewLink base={base} ports={ports} onClose={() => setMaking(false)} onMade={refresh} />}
      {ending && (
        <Confirm
          title="Revoke the link?"
          deed="Revoke"
          danger
          busy={busy}
          onDo={() => revoke(ending)}
          onClose={() => setEnding(undefined)}
        >
          <p>Who came by it is refused from now on.</p>
        </Confirm>
      )}
    </section>
  );
}

const LIFETIMES: [label: string, seconds: number][] = [
  ["an hour", 3600],
  ["a day", 86_400],
  ["a week", 7 * 86_400],
  ["30 days", 30 * 86_400],
];

interface NewLinkProps {
  base: string;
  ports: number[];
  onClose: () => void;
  onMade: () => void;
}

function NewLink({ base, ports, onClose, onMade }: NewLinkProps) {
  const { api } = useSession();
  const [busy, run] = useDeed();
  const [label, setLabel] = useState("");
  const [port, setPort] = useState("");
  const [seconds, setSeconds] = useState(86_400);
  const [made, setMade] = useState<NewShareLink>();
  const submit = (event: Event) => {
    event.preventDefault();
    return run(async () => {
      const link = await api.post<NewShareLink>(`${base}/share-links`, {
        port: port === "" ? undefined : Number(port),
        label: label.trim() || undefined,
        expires_in_seconds: seconds,
      });
      setMade(link);
      onMade();
    });
  };
  if (made !== undefined) {
    const url = (location.protocol === "http:" ? made.url_http : undefined) ?? made.url;
    return (
      <Dialog title="The share link" onClose={onClose} wide>
        <p>This is the only time that it is shown. It opens until {moment(made.expires_at)}.</p>
        <Copyable text={url} label="the link" />
        <footer>
          <Button kind="primary" onClick={onClose} autofocus>
            Done
          </Button>
        </footer>
      </Dialog>
    );
  }
  return (
    <Dialog title="New share link" onClose={onClose}>
      <form onSubmit={submit}>
        <Field label="For whom" hint="A note for yourself; it may be empty.">
          {({ id, describedBy }) => (
            <input
              id={id}
              value={label}
              maxLength={100}
              autocomplete="off"
              aria-describedby={describedBy}
              onInput={(event) => setLabel(event.currentTarget.value)}
            />
          )}
        </Field>
        <div class="pair">
          <Field label="Opens">
            {({ id }) => (
              <select id={id} value={port} onChange={(event) => setPort(event.currentTarget.value)}>
                <option value="">the main port</option>
                {ports.map((one) => (
                  <option key={one} value={one}>
                    port {one}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <Field label="For">
            {({ id }) => (
              <select id={id} value={seconds} onChange={(event) => setSeconds(Number(event.currentTarget.value))}>
                {LIFETIMES.map(([text, value]) => (
                  <option key={value} value={value}>
                    {text}
                  </option>
                ))}
              </select>
            )}
          </Field>
        </div>
        <footer>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy}>
            Make the link
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
